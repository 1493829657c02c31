"""Relabeling Module (Sec. 3.2): filter and relabel images, merge PIDs, report what happened."""

from dataclasses import asdict, dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dynamix.centroids import CentroidsMemory
from dynamix.similarity import components, nearest, rounding, unit
from dynamix.similarity.exact import working

Reading = Literal["all", "others", "own_filter"]
Scope = Literal["global", "video"]
QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)


class Relabeled(NamedTuple):
    """What became of each image; a removed image keeps its label."""

    labels: Int[Tensor, " n"]
    removed: Bool[Tensor, " n"]
    similarity: Float[Tensor, " n"]  # to the deciding centroid; -inf: there was none


@torch.no_grad()
def relabel(
    features: Float[Tensor, "n D"],
    labels: Int[Tensor, " n"],
    memory: CentroidsMemory,
    *,
    tau_rel: float | int = 0.6,
    tau_remove: float | int = 0.5,
    reading: Reading = "all",
    videos: Int[Tensor, " v"] | None = None,
    chunk: int | None = None,
) -> Relabeled:
    """Remove an image when s < tau_remove, else give it label j when s > tau_rel (Sec. 3.2).

    s = cos(f, mu_j), j the best centroid among those of `reading`: "all" (the own one wins ties),
    "others" (j != y, as printed), or "own_filter" (relabel to the best of all, else remove when the own
    similarity is low). All images are judged against the memory as it stands. Equality up to rounding
    neither removes nor relabels. With `videos` only PIDs of the image's video count. Without any
    candidate s = -inf, hence removed. Ignored images (label -1) stay as they are. Half precision is computed,
    and compared with the thresholds, in float32.

    Raises:
        ValueError: tau_remove > tau_rel, unknown reading, videos but none in the memory, NaN features.
    """
    if not tau_remove <= tau_rel:
        raise ValueError(f"tau_remove ({tau_remove}) exceeds tau_rel ({tau_rel}); lower tau_remove")
    if reading not in ("all", "others", "own_filter"):
        raise ValueError(f"unknown reading {reading!r}; there are all, others, own_filter")
    labels, features = labels.to(memory.labels.device), features.to(working(features.dtype))
    own = memory.index_of(labels)
    groups = {} if videos is None else {"feature_groups": videos, "centroid_groups": _videos(memory)}
    found = nearest(features, memory.searchable(), own=own, chunk=chunk, **groups)
    assert found.other_index is not None and found.other_similarity is not None
    assert found.own_similarity is not None
    slack = rounding(features.dtype)
    index, similarity = found.index, found.similarity
    if reading == "others":
        index, similarity = found.other_index, found.other_similarity
    moves = (index >= 0) & (index != own) & (similarity > tau_rel + slack)
    if reading == "own_filter":
        similarity = torch.where(moves, similarity, found.own_similarity)
    ignored = labels < 0
    removed = (similarity < tau_remove - slack) & ~ignored
    new = torch.where(moves & ~removed & ~ignored, memory.labels[index.clamp(min=0)], labels)
    return Relabeled(new, removed, similarity)


@torch.no_grad()
def merge_pids(
    memory: CentroidsMemory,
    *,
    tau_merge: float | int = 0.8,
    scope: Scope = "global",
    chunk: int | None = None,
) -> Int[Tensor, " P"]:
    """The root of each PID, row for row: the smallest label of its component (Sec. 3.2).

    Components of the graph with edges cos(mu_i, mu_j) >= tau_merge; scope "video": only within a video.
    """
    if scope not in ("global", "video"):
        raise ValueError(f"unknown scope {scope!r}; there are global, video")
    groups = _videos(memory) if scope == "video" else None
    return memory.labels[components(memory.searchable(), tau_merge, groups=groups, chunk=chunk)]


def map_labels(
    labels: Int[Tensor, " n"], memory: CentroidsMemory, mapping: Int[Tensor, " P"]
) -> Int[Tensor, " n"]:
    """Each label's root under `merge_pids`; labels without a centroid (and -1) stay."""
    if not len(mapping):
        return labels.clone()
    rows = memory.index_of(labels).to(labels.device)
    return torch.where(rows >= 0, mapping.to(labels.device)[rows.clamp(min=0)], labels)


@torch.no_grad()
def calibrate(memory: CentroidsMemory, *, limit: int = 4096) -> tuple[float, float]:
    """tau_rel and tau_merge as the 99 % and 99.9 % quantiles of cross-video centroid similarity.

    Ours, not the paper's: a person appears in one video only, so PIDs of two videos are two people.
    Exact up to `limit` PIDs, beyond that from `limit` evenly spaced ones; O(limit^2) memory.

    Raises:
        ValueError: a memory without videos, or all PIDs in one video.
    """
    videos = _videos(memory)
    count = min(limit, len(memory))
    rows = torch.arange(count, device=videos.device) * len(memory) // max(count, 1)
    centroids, videos = unit(memory.centroids[rows]), videos[rows]
    i, j = torch.triu_indices(count, count, 1, device=videos.device)
    other = videos[i] != videos[j]
    if not other.any():
        raise ValueError("all PIDs are in one video: there are no cross-video pairs to calibrate with")
    similarity = (centroids @ centroids.T)[i[other], j[other]]
    tau_rel, tau_merge = np.quantile(similarity.double().cpu().numpy(), (0.99, 0.999))
    return min(float(tau_rel), 1.0), min(float(tau_merge), 1.0)  # rounding may exceed a cosine's range


@dataclass(frozen=True, kw_only=True)
class RelabelingReport:
    """One epoch's refinement in numbers (Table 4)."""

    images_before: int
    images_after: int
    pids_before: int
    pids_after: int
    relabeled: int
    removed: int
    merged: int  # PIDs that vanished into another one
    largest_component: int
    similarity_quantiles: dict[float, float]

    @property
    def alarm(self) -> bool:
        """True when the merge graph percolates: a component above 1 % of the PIDs (and above 10)."""
        return self.largest_component > max(10, 0.01 * self.pids_before)

    def as_dict(self) -> dict[str, object]:
        """Plain numbers for JSON; quantiles keyed by their text."""
        out = asdict(self)
        out["similarity_quantiles"] = {f"{q:g}": v for q, v in self.similarity_quantiles.items()}
        return out | {"alarm": self.alarm}


BARS = " ▁▂▃▄▅▆▇█"


@torch.no_grad()
def explosion(
    found: RelabelingReport, memory: CentroidsMemory, tau_merge: float | int, *, limit: int = 2048
) -> str:
    """What to say, and how the similarities lie, when merging swallowed too many PIDs into one.

    The histogram is of the pairs of up to `limit` evenly spaced centroids, from 0 to 1 in steps of 0.05.
    """
    count = min(limit, len(memory))
    rows = torch.arange(count, device=memory.labels.device) * len(memory) // max(count, 1)
    some = unit(memory.centroids[rows].float())
    pairs = (some @ some.T)[tuple(torch.triu_indices(count, count, 1, device=some.device))].cpu().numpy()
    height = np.sqrt(np.histogram(pairs.clip(0, 1), bins=20, range=(0, 1))[0])
    drawn = "".join(BARS[round(8 * h / max(height.max(), 1))] for h in height)
    share = found.largest_component / found.pids_before
    return (
        f"merging exploded: {found.largest_component:,} of {found.pids_before:,} PIDs ({share:.0%}) became "
        f"one at rm.tau_merge = {tau_merge:g}\n  similarity of centroids 0 [{drawn}] 1, "
        f"{(pairs >= tau_merge).mean():.2%} of pairs above the threshold\n"
        "  raise rm.tau_merge, set rm.calibrate=cross_video, or merge within videos only (rm.scope=video)"
    )


def report(
    before: Int[Tensor, " n"],
    relabeled: Relabeled,
    memory: CentroidsMemory | None = None,
    mapping: Int[Tensor, " P"] | None = None,
) -> RelabelingReport:
    """Count what `relabel` did to the drawn images and `merge_pids` (mapping of `memory`) to the PIDs."""
    images = before >= 0
    kept = images & ~relabeled.removed
    labels = _present(relabeled.labels[kept])
    merged, largest = 0, int(images.any())
    if memory is not None and mapping is not None:
        labels = map_labels(labels, memory, mapping)
        sizes = mapping.unique(return_counts=True)[1]
        merged, largest = len(mapping) - len(sizes), int(sizes.max()) if len(sizes) else 0
    similarity = relabeled.similarity[images & relabeled.similarity.isfinite()].double().cpu().numpy()
    quantiles = np.quantile(similarity, QUANTILES) if len(similarity) else np.full(len(QUANTILES), np.nan)
    return RelabelingReport(
        images_before=int(images.sum()),
        images_after=int(kept.sum()),
        pids_before=len(_present(before[images])),
        pids_after=len(labels.unique()),
        relabeled=int((relabeled.labels != before)[images].sum()),
        removed=int(relabeled.removed.sum()),
        merged=merged,
        largest_component=largest,
        similarity_quantiles={q: float(v) for q, v in zip(QUANTILES, quantiles, strict=True)},
    )


def _present(labels: Int[Tensor, " n"]) -> Int[Tensor, " p"]:
    """The labels there are; counted, where they are numbered densely: no sort of millions of rows."""
    if len(labels) and int(labels.max()) < 8 * len(labels):
        return torch.bincount(labels).nonzero()[:, 0]
    return labels.unique()


def _videos(memory: CentroidsMemory) -> Int[Tensor, " P"]:
    if memory.videos is None:
        raise ValueError("scope video needs a memory with videos: pass CentroidsMemory(..., videos=...)")
    return memory.videos
