"""The objective of ReMix and DynaMix (Eq. 1): L = L_ins + L_aug + L_cen + gamma L_cc of one mini-batch."""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dynamix import distributed, losses
from dynamix.centroids import CentroidsMemory, MultiCentroids
from dynamix.config import Config
from dynamix.data.table import Table
from dynamix.data.views import send
from dynamix.methods.epoch import Refresh


class Objective(NamedTuple):
    """The loss terms of one mini-batch, unweighted, and the scale they work at."""

    terms: dict[str, Tensor]  # name -> 0-d
    logits: Tensor  # (2,) lowest and highest logit of the centroids loss, detached


def objective(
    encoder: nn.Module,
    momentum: nn.Module,
    views: dict[str, Tensor],
    rows: Tensor,
    epoch: "EpochTensors",
    config: Config,
    counts: tuple[int, ...] | None = None,
) -> Objective:
    """The terms of Eq. 1; `weights` has gamma. `views` maps "v0", "v1", "v2" to normalized images.

    Under several processes `views` is this rank's share of the batch, `rows` (on the host) are all of it
    and `counts` the rows of each rank: features are gathered, and the loss is the whole batch's everywhere.
    The host never waits for the device in here.
    """
    names = VIEWS[config.aug.views]
    features = {name: distributed.gather(_full(encoder(views[name])), counts) for name in names.encoder}
    with torch.no_grad():
        keys = {name: distributed.gather(_full(momentum(views[name])), counts) for name in names.momentum}
    f_ins, f_aug = features[names.instance[0]], features[names.augmentation[0]]
    m_ins, m_aug = keys[names.instance[1]], keys[names.augmentation[1]]
    batch = epoch.batch(rows)
    centroids, centroid_labels = epoch.centroids(
        epoch.labels[rows], config.cen.scope, config.cen.use_single != "off"
    )
    terms = {
        "ins": _instance(f_ins, m_ins, batch, config),
        "aug": _augmentation(f_aug, m_aug, batch, config),
        "cen": _centroids(f_ins, batch, centroids, centroid_labels, config),
        "cc": _camera(f_ins, batch, epoch.multi, config),
    }
    return Objective(terms, _logit_range(f_ins.detach(), batch.single, centroids, config))


def weights(config: Config) -> dict[str, float]:
    """Weights of the objective's terms (Eq. 1)."""
    return {"ins": 1.0, "aug": 1.0, "cen": 1.0, "cc": config.cc.weight}


@dataclass(frozen=True)
class Views:
    """Which views pass through which network, and which pair feeds which loss (method A, B, C)."""

    encoder: tuple[str, ...]
    momentum: tuple[str, ...]
    instance: tuple[str, str]
    augmentation: tuple[str, str]


VIEWS = {
    "A": Views(("v1",), ("v2", "v0"), ("v1", "v2"), ("v1", "v0")),
    "B": Views(("v1",), ("v1", "v0"), ("v1", "v1"), ("v1", "v0")),
    "C": Views(("v1", "v0"), ("v0",), ("v0", "v0"), ("v1", "v0")),
    "economy": Views(("v1",), ("v2",), ("v1", "v2"), ("v1", "v2")),
}


class Batch(NamedTuple):
    """The rows of one mini-batch on the training device.

    Which rows are of a kind is known on the host: a mask on the device would make the host wait for it.
    """

    labels: Tensor  # (B,)
    single: Tensor  # (B,) bool
    camids: Tensor  # (B,)
    multi: Tensor  # (m,) which rows are multi-camera
    seen: Tensor  # (c,) which rows have a known camera: neither single-camera rows nor some datasets'


@dataclass(frozen=True)
class EpochTensors:
    """One epoch's labels on the host, and its centroids on the training device."""

    labels: Tensor  # (N,)
    single: Tensor  # (N,) bool
    camids: Tensor  # (N,)
    multi: MultiCentroids
    memory: CentroidsMemory | None

    @classmethod
    def of(cls, done: Refresh, table: Table) -> "EpochTensors":
        labels, single, camids = map(torch.from_numpy, (done.labels, table.videos >= 0, table.camids))
        return cls(labels, single, camids, done.multi, done.single)

    def batch(self, rows: Tensor) -> Batch:
        """What the losses need to know of `rows` (B,)."""
        labels, single, camids = self.labels[rows], self.single[rows], self.camids[rows]
        device = self.multi.centroids.device
        multi, seen = np.flatnonzero(~single.numpy()), np.flatnonzero(camids.numpy() >= 0)
        columns = (labels, single, camids, torch.from_numpy(multi), torch.from_numpy(seen))
        return Batch(*(send(each, device) for each in columns))

    def centroids(self, labels: Tensor, scope: str, use_single: bool) -> tuple[Tensor, Tensor]:
        """Centroids (p, D) and their labels (p,): of the identities in the batch, or of all."""
        found = [(self.multi.labels, self.multi.centroids)]
        if self.memory is not None and use_single:
            found.append((self.memory.labels, self.memory.centroids))
        if scope == "batch":
            device = self.multi.centroids.device
            at = [
                send(torch.from_numpy(_found(labels.numpy(), own)), device)
                for own in self._own_labels[: len(found)]
            ]
            found = [
                (k.index_select(0, place), c.index_select(0, place))
                for (k, c), place in zip(found, at, strict=True)
            ]
        return torch.cat([c for _, c in found]), torch.cat([k for k, _ in found])

    @cached_property
    def _own_labels(self) -> list[np.ndarray]:
        """Which labels have centroids, on the host: multi-camera ones, then single-camera ones."""
        labels = [self.multi.labels] if self.memory is None else [self.multi.labels, self.memory.labels]
        return [each.cpu().numpy() for each in labels]


def _found(wanted: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Where those of `wanted` (repeats allowed) that the ascending `labels` hold stand in them, ascending."""
    at = np.searchsorted(labels, wanted).clip(max=len(labels) - 1)
    return np.unique(at[labels[at] == wanted])


def _instance(features: Tensor, keys: Tensor, batch: Batch, config: Config) -> Tensor:
    ins, labels, single = config.ins, batch.labels, batch.single
    if not ins.use_single:
        features, keys, labels, single = (
            x.index_select(0, batch.multi) for x in (features, keys, labels, single)
        )
    return losses.instance_loss(
        features, keys, labels, single, tau_multi=ins.tau_multi, tau_single=ins.tau_single,
        negatives=ins.negatives, denominator=ins.denominator, include_self=ins.include_self,
    )  # fmt: skip


def _augmentation(features: Tensor, keys: Tensor, batch: Batch, config: Config) -> Tensor:
    labels, single = batch.labels, batch.single
    if not config.aug.use_single:
        features, keys, labels, single = (
            x.index_select(0, batch.multi) for x in (features, keys, labels, single)
        )
    return losses.augmentation_loss(
        features, keys, labels, single, tau=config.aug.tau, negatives=config.aug.negatives
    )


def _centroids(
    features: Tensor, batch: Batch, centroids: Tensor, centroid_labels: Tensor, config: Config
) -> Tensor:
    cen, labels, single = config.cen, batch.labels, batch.single
    if cen.use_single != "on":
        features, labels, single = (x.index_select(0, batch.multi) for x in (features, labels, single))
    # With scope "batch" the gathered rows are the batch's; single centroids stay as negatives
    # under "centroids_only" although no single-camera anchor is left.
    return losses.centroids_loss(
        features, labels, single, centroids, centroid_labels, tau_multi=cen.tau_multi,
        tau_single=cen.tau_single, feature=cen.feature, centroid=cen.centroid, scope="all",
    )  # fmt: skip


def _camera(features: Tensor, batch: Batch, multi: MultiCentroids, config: Config) -> Tensor:
    cc, rows = config.cc, (features, batch.labels, batch.camids)
    features, labels, camids = (x.index_select(0, batch.seen) for x in rows)
    return losses.camera_centroids_loss(
        features, labels, camids, multi.camera_centroids, multi.camera_labels, multi.camera_camids,
        tau=cc.tau, hard_negatives=cc.hard_negatives, exclude_own=cc.exclude_own, denominator=cc.denominator,
        reduction=cc.reduction,
    )  # fmt: skip


def _full(features: Tensor) -> Tensor:
    return features.float() if features.dtype.itemsize < 4 else features  # losses compare in full precision


def _logit_range(features: Tensor, single: Tensor, centroids: Tensor, config: Config) -> Tensor:
    if config.cen.feature == "unit":
        features = F.normalize(features, dim=1)
    if config.cen.centroid == "unit":
        centroids = F.normalize(centroids, dim=1)
    tau = features.new_full((len(features), 1), config.cen.tau_multi)
    tau = tau.masked_fill(single[:, None], config.cen.tau_single)
    return torch.stack((features @ centroids.T / tau).aminmax())
