"""The four losses of Eq. 1: instance, augmentation, centroids, camera centroids.

Pure functions from tensors to a 0-d tensor; gradient flows through the first argument only. All four
contrast each anchor's positives with its negatives; an anchor that lacks them contributes nothing: the
mean is over the others, and a batch without any gives a 0 that can still be differentiated. Half precision
is computed in float32.
"""

from collections.abc import Iterable
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

Negatives = Literal["mixed", "same_type"]
Scale = Literal["raw", "unit"]


def instance_loss(
    features: Float[Tensor, "B D"],
    momentum_features: Float[Tensor, "B D"],
    labels: Int[Tensor, " B"],
    single: Bool[Tensor, " B"],
    *,
    tau_multi: float | int = 0.1,
    tau_single: float | int = 0.2,
    negatives: Negatives = "mixed",
    denominator: Literal["one_pos", "all_pos"] = "one_pos",
    include_self: bool = True,
) -> Float[Tensor, ""]:
    """Each image against the momentum features of its identity, by cosine (Eq. 1; ReMix Eqs. 4-5).

    tau goes by the anchor's type. `include_self` counts the anchor's own momentum feature among its
    positives. "one_pos": a positive competes with the negatives only; "all_pos": with the other positives
    too. "same_type": only identities of the anchor's type (single- or multi-camera) are negatives.

    Raises:
        ValueError: an unknown option, a tau that is not positive, sizes that disagree.
    """
    _check("denominator", denominator, ("one_pos", "all_pos"))
    _check_rows(features, momentum_features, labels, single)
    features, momentum_features = _precise(features), _precise(momentum_features)
    scores = _cosine(features, momentum_features) / _temperature(features, single, tau_multi, tau_single)
    positive = labels[:, None] == labels  # (B, B)
    negative = _negatives(labels, single, negatives)
    if not include_self:
        positive = positive & ~_diagonal(labels)
    return _mean(*_contrast(scores, positive, negative, joint=denominator == "all_pos"))


def augmentation_loss(
    features: Float[Tensor, "B D"],
    original_features: Float[Tensor, "B D"],
    labels: Int[Tensor, " B"],
    single: Bool[Tensor, " B"] | None = None,
    *,
    tau: float | int = 0.1,
    negatives: Negatives = "mixed",
) -> Float[Tensor, ""]:
    """Each augmented image against the momentum feature of its own original (Eq. 1; ReMix Eq. 6).

    Other images of the identity are neither positives nor negatives.

    Raises:
        ValueError: "same_type" without `single`, an unknown option, tau <= 0, sizes that disagree.
    """
    _check_rows(features, original_features, labels, *([] if single is None else [single]))
    features, original_features = _precise(features), _precise(original_features)
    scores = _cosine(features, original_features) / _positive("tau", tau)
    negative = _negatives(labels, single, negatives)
    return _mean(*_contrast(scores, _diagonal(labels), negative, joint=False))


def centroids_loss(
    features: Float[Tensor, "B D"],
    labels: Int[Tensor, " B"],
    single: Bool[Tensor, " B"],
    centroids: Float[Tensor, "P D"],
    centroid_labels: Int[Tensor, " P"],
    *,
    tau_multi: float | int = 0.5,
    tau_single: float | int = 0.6,
    feature: Scale = "raw",
    centroid: Literal["asis", "unit"] = "asis",
    scope: Literal["batch", "all"] = "batch",
) -> Float[Tensor, ""]:
    """Cross-entropy of each image over centroids, softmax(f . p / tau) (Eq. 1; ReMix Eq. 9).

    The product is a plain one; `feature` and `centroid` can make either side a unit vector. Scope "batch"
    leaves out the centroids of identities that are not in the batch before any product, O(B^2 D + P); on a
    GPU the host then waits for their number, which a caller that knows them spares by "all".

    Raises:
        ValueError: an unknown option, a tau that is not positive, sizes that disagree.
    """
    _check("feature", feature, ("raw", "unit"))
    _check("centroid", centroid, ("asis", "unit"))
    _check("scope", scope, ("batch", "all"))
    _check_rows(features, labels, single)
    _check_rows(centroids, centroid_labels)
    features, centroids = _precise(features), _precise(centroids)
    if scope == "batch":
        present = torch.isin(centroid_labels, labels)
        centroids, centroid_labels = centroids[present], centroid_labels[present]
    left = F.normalize(features, dim=1) if feature == "unit" else features
    right = F.normalize(centroids, dim=1) if centroid == "unit" else centroids
    scores = _products(left, right) / _temperature(features, single, tau_multi, tau_single)  # (B, P)
    positive = labels[:, None] == centroid_labels
    return _mean(*_contrast(scores, positive, ~positive, joint=True))


def camera_centroids_loss(
    features: Float[Tensor, "B D"],
    labels: Int[Tensor, " B"],
    camids: Int[Tensor, " B"],
    centroids: Float[Tensor, "C D"],
    centroid_labels: Int[Tensor, " C"],
    centroid_camids: Int[Tensor, " C"],
    *,
    tau: float | int = 0.07,
    hard_negatives: int = 50,
    exclude_own: bool = False,
    denominator: Literal["joint", "per_positive"] = "joint",
    reduction: Literal["mean", "camera_sum"] = "mean",
) -> Float[Tensor, ""]:
    """Each image against its identity's centroids in all cameras, by cosine (Eq. 1; ReMix Eqs. 7-8).

    One centroid per (identity, camera), C in all. Negatives: the `hard_negatives` most similar centroids
    of other identities. "joint" puts every positive in the denominator, "per_positive" only its own.
    `exclude_own` drops the centroid of the anchor's own camera. "camera_sum": the sum over the cameras in
    the batch of the mean over that camera's contributing anchors.

    Raises:
        ValueError: an unknown option, tau <= 0, hard_negatives < 0, sizes that disagree.
    """
    _check("denominator", denominator, ("joint", "per_positive"))
    _check("reduction", reduction, ("mean", "camera_sum"))
    _check_rows(features, labels, camids)
    _check_rows(centroids, centroid_labels, centroid_camids)
    features, centroids = _precise(features), _precise(centroids)
    scores = _cosine(features, centroids) / _positive("tau", tau)  # (B, C)
    same = labels[:, None] == centroid_labels
    positive = same & (camids[:, None] != centroid_camids) if exclude_own else same
    negative = _hardest(scores.detach(), ~same, hard_negatives)
    losses, contributes = _contrast(scores, positive, negative, joint=denominator == "joint")
    if reduction == "mean":
        return _mean(losses, contributes)
    peers = (camids[:, None] == camids) & contributes  # (B, B)
    return (losses / peers.sum(1).clamp(min=1)).sum()


def _contrast(
    scores: Float[Tensor, "B M"], positive: Bool[Tensor, "B M"], negative: Bool[Tensor, "B M"], *, joint: bool
) -> tuple[Float[Tensor, " B"], Bool[Tensor, " B"]]:
    """Mean over an anchor's positives of -log(e^s / denominator), 0 where it does not contribute.

    The denominator is that positive and all negatives, or with `joint` every positive and all negatives.
    """
    if joint:
        terms = _log_sum(scores, positive | negative)[:, None] - scores
        contributes = positive.any(1)
    else:
        terms = torch.logaddexp(scores, _log_sum(scores, negative)[:, None]) - scores
        contributes = positive.any(1) & negative.any(1)
    counted = positive & contributes[:, None]
    return terms.masked_fill(~counted, 0).sum(1) / counted.sum(1).clamp(min=1), contributes


def _log_sum(scores: Float[Tensor, "B M"], among: Bool[Tensor, "B M"]) -> Float[Tensor, " B"]:
    # A row with nothing to sum takes all: its value is never used, but -inf would make its gradient NaN.
    among = among | ~among.any(1, keepdim=True)
    return scores.masked_fill(~among, -torch.inf).logsumexp(1)


def _mean(losses: Float[Tensor, " B"], contributes: Bool[Tensor, " B"]) -> Float[Tensor, ""]:
    return losses.sum() / contributes.sum().clamp(min=1)


def _hardest(scores: Float[Tensor, "B C"], other: Bool[Tensor, "B C"], count: int) -> Bool[Tensor, "B C"]:
    if count < 0:
        raise ValueError(f"hard_negatives must be at least 0, got {count}")
    if count >= scores.shape[1]:
        return other
    top = scores.masked_fill(~other, -torch.inf).topk(count, dim=1).indices
    # With fewer negatives than `count` the top holds masked positives as well: not to be let in again.
    return torch.zeros_like(other).scatter(1, top, True) & other


def _precise(x: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    # A half's rounding, divided by tau, would be a loss of its own.
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _cosine(features: Float[Tensor, "B D"], others: Float[Tensor, "M D"]) -> Float[Tensor, "B M"]:
    return _products(F.normalize(features, dim=1), F.normalize(others, dim=1))


def _products(features: Float[Tensor, "B D"], others: Float[Tensor, "M D"]) -> Float[Tensor, "B M"]:
    dtype = torch.promote_types(features.dtype, others.dtype)
    with torch.autocast(features.device.type, enabled=False):  # a bfloat16 cosine over 0.07 is off by 0.05
        return features.to(dtype) @ others.detach().to(dtype).T


def _temperature(
    features: Float[Tensor, "B D"],
    single: Bool[Tensor, " B"],
    tau_multi: float | int,
    tau_single: float | int,
) -> Float[Tensor, "B 1"]:
    tau = features.new_full((len(features), 1), _positive("tau_multi", tau_multi))
    return tau.masked_fill(single[:, None], _positive("tau_single", tau_single))


def _negatives(
    labels: Int[Tensor, " B"], single: Bool[Tensor, " B"] | None, negatives: Negatives
) -> Bool[Tensor, "B B"]:
    _check("negatives", negatives, ("mixed", "same_type"))
    other = labels[:, None] != labels
    if negatives == "mixed":
        return other
    if single is None:
        raise ValueError("negatives='same_type' needs to know each row's type: pass single")
    return other & (single[:, None] == single)


def _diagonal(labels: Int[Tensor, " B"]) -> Bool[Tensor, "B B"]:
    return torch.eye(len(labels), dtype=torch.bool, device=labels.device)


def _positive(name: str, tau: float | int) -> float | int:
    if not tau > 0:
        raise ValueError(f"{name} must be positive, got {tau}")
    return tau


def _check(name: str, value: str, options: Iterable[str]) -> None:
    if value not in options:
        raise ValueError(f"unknown {name} {value!r}; there are {', '.join(options)}")


def _check_rows(first: Tensor, *others: Tensor) -> None:
    if any(len(other) != len(first) for other in others):
        raise ValueError(f"sizes disagree: {[len(x) for x in (first, *others)]} rows; pass one entry per row")
