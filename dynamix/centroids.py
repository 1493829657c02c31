"""Efficient Centroids Module (Sec. 3.3): one centroid per PID, refreshed from a few images an epoch.

Everything streams: sums and counts of O(P D), never the K P D features the paper keeps (Table 6).
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from dynamix.similarity import unit


class CentroidsMemory:
    """The centroids mu_k of the single-camera PIDs, M_s of Sec. 3.3.

    `labels` ascend; `centroids` and `videos` follow them row for row. `sums` and `counts` exist between
    `accumulate` and `apply` only (under several processes they are what must be summed over them).

    Raises:
        ValueError: repeated or negative labels, sizes that disagree.
    """

    def __init__(
        self,
        labels: Int[Tensor, " P"],
        centroids: Float[Tensor, "P D"],
        videos: Int[Tensor, " P"] | None = None,
    ):
        if len(labels) != len(centroids) or (videos is not None and len(videos) != len(labels)):
            raise ValueError(f"{len(labels)} labels, {len(centroids)} centroids, videos: sizes disagree")
        order = labels.argsort()
        self.labels = labels[order].to(centroids.device, torch.int64)
        self.centroids = centroids.detach()[order.to(centroids.device)]
        self.videos = None if videos is None else videos[order].to(centroids.device, torch.int64)
        self.sums: Tensor | None = None
        self.counts: Tensor | None = None
        repeated = self.labels[1:][self.labels[1:] == self.labels[:-1]]
        if len(repeated):
            raise ValueError(f"label {int(repeated[0])} has several centroids: pass each label once")
        if len(labels) and int(self.labels[0]) < 0:
            raise ValueError(f"label {int(self.labels[0])} is negative: ignored images have no centroid")

    @classmethod
    def empty(
        cls,
        labels: Int[Tensor, " P"],
        dim: int,
        videos: Int[Tensor, " P"] | None = None,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
    ) -> "CentroidsMemory":
        """Zero centroids, to be filled by accumulate ... apply(alpha=0) in the first epoch (Sec. 3.3)."""
        return cls(labels, torch.zeros(len(labels), dim, dtype=dtype, device=device), videos)

    def __len__(self) -> int:
        return len(self.labels)

    def copy(self) -> "CentroidsMemory":
        """The same centroids, independent of this memory; nothing accumulated."""
        return CentroidsMemory(self.labels, self.centroids, self.videos)

    def index_of(self, labels: Int[Tensor, " n"]) -> Int[Tensor, " n"]:
        """Row of each label's centroid, -1 where it has none."""
        labels = labels.to(self.labels)
        if not len(self.labels):
            return torch.full_like(labels, -1)
        place = torch.searchsorted(self.labels, labels.contiguous()).clamp(max=len(self.labels) - 1)
        return torch.where(self.labels[place] == labels, place, -1)

    @torch.no_grad()
    def accumulate(self, features: Float[Tensor, "n D"], labels: Int[Tensor, " n"]) -> "CentroidsMemory":
        """Add features, as given, to the sums of their labels: the mean in Eq. 3.

        Label -1 = ignored. The sums take O(P D) memory from the first call (even an empty one) to `apply`.

        Raises:
            ValueError: a label that has no centroid.
        """
        if self.sums is None or self.counts is None:
            self.sums = torch.zeros_like(self.centroids)
            self.counts = torch.zeros_like(self.labels)
        labels = labels.to(self.labels)
        used = labels >= 0
        rows = self.index_of(labels[used])
        if (rows < 0).any():
            raise ValueError(f"label {int(labels[used][rows < 0][0])} is not in the memory")
        self.sums.index_add_(0, rows, features[used.to(features.device)].to(self.sums))
        self.counts.index_add_(0, rows, torch.ones_like(rows))
        return self

    @torch.no_grad()
    def apply(self, alpha: float | int = 0.3, renorm: bool = False) -> "CentroidsMemory":
        """mu_k <- alpha mu_k + (1 - alpha) mean of the features added for k, once an epoch (Eq. 3).

        PIDs without features stay. `renorm` scales the changed centroids to length 1 (the paper does not).
        """
        if not 0 <= alpha <= 1:
            raise ValueError(f"alpha weighs the old centroid and must lie in [0, 1], got {alpha}")
        if self.sums is None or self.counts is None:
            return self
        rows = self.counts.nonzero()[:, 0]
        mean = self.sums[rows] / self.counts[rows, None]
        blended = alpha * self.centroids[rows] + (1 - alpha) * mean
        self.centroids[rows] = unit(blended) if renorm else blended
        self.sums = self.counts = None
        return self

    def update(
        self, features: Float[Tensor, "n D"], labels: Int[Tensor, " n"], alpha: float | int = 0.3
    ) -> "CentroidsMemory":
        """Eq. 3 in one call: `accumulate` all features, then `apply`; in place."""
        return self.accumulate(features, labels).apply(alpha)

    @torch.no_grad()
    def merged(
        self, mapping: Int[Tensor, " P"], counts: Int[Tensor, " P"] | Float[Tensor, " P"] | None = None
    ) -> "CentroidsMemory":
        """One centroid per root: the mean of its members, weighted by their image counts (Sec. 3.2).

        `mapping` is the root of each PID, row for row. Without `counts`, or where all of a group's are 0,
        members weigh the same. A merged PID lives in its root's video (its first member's if the root
        has no row). What was accumulated and not yet applied is summed. This memory stays as it is.
        """
        mapping = mapping.to(self.labels)
        roots, group = mapping.unique(return_inverse=True)
        weight = torch.ones_like(self.centroids[:, 0]) if counts is None else counts.to(self.centroids)
        if (weight < 0).any():
            raise ValueError(f"image counts must not be negative: row {int((weight < 0).nonzero()[0, 0])}")
        total = weight.new_zeros(len(roots)).index_add_(0, group, weight)
        weight = torch.where(total[group] > 0, weight, 1)
        total = weight.new_zeros(len(roots)).index_add_(0, group, weight)
        # Dividing first leaves an unmerged PID's centroid untouched to the last bit.
        share = (weight / total[group])[:, None] * self.centroids
        means = torch.zeros_like(self.centroids[: len(roots)]).index_add_(0, group, share)
        first = torch.full_like(roots, len(self)).scatter_reduce(
            0, group, torch.arange(len(self), device=group.device), "amin"
        )
        row = self.index_of(roots)
        videos = None if self.videos is None else self.videos[torch.where(row >= 0, row, first)]
        merged = CentroidsMemory(roots, means, videos)
        if self.sums is not None and self.counts is not None:
            merged.sums = torch.zeros_like(means).index_add_(0, group, self.sums)
            merged.counts = torch.zeros_like(roots).index_add_(0, group, self.counts)
        return merged

    def select(self, labels: Int[Tensor, " n"]) -> "CentroidsMemory":
        """Only the listed PIDs, those that still own images (Sec. 3.2), with what was accumulated for them.

        Raises:
            ValueError: a label that has no centroid.
        """
        wanted = labels.to(self.labels).unique()
        rows = self.index_of(wanted)
        if (rows < 0).any():
            raise ValueError(f"label {int(wanted[rows < 0][0])} is not in the memory")
        videos = None if self.videos is None else self.videos[rows]
        chosen = CentroidsMemory(wanted, self.centroids[rows], videos)
        if self.sums is not None and self.counts is not None:
            chosen.sums, chosen.counts = self.sums[rows], self.counts[rows]
        return chosen


@dataclass(frozen=True)
class MultiCentroids:
    """Centroids of the multi-camera PIDs (ReMix Sec. 3.3-3.4), frozen for an epoch."""

    labels: Int[Tensor, " P"]  # ascending
    centroids: Float[Tensor, "P D"]  # p_y: mean of unit features, not scaled to length 1
    camera_labels: Int[Tensor, " M"]  # ascending, then by camid
    camera_camids: Int[Tensor, " M"]
    camera_centroids: Float[Tensor, "M D"]  # q_{y,c}: scaled to length 1


@torch.no_grad()
def multi_centroids(
    chunks: Iterable[tuple[Int[Tensor, " n"] | Int[np.ndarray, " n"], Float[Tensor, "n D"]]],
    labels: Int[np.ndarray, " N"] | Int[Tensor, " N"],
    camids: Int[np.ndarray, " N"] | Int[Tensor, " N"],
) -> MultiCentroids:
    """p_y and q_{y,c} from one pass over (rows, unit features) chunks, at epoch start (ReMix Eqs. 7-9).

    Rows with label -1 are ignored; rows with camid -1 (camera not known) count for their identity alone.
    Memory O(M D) for the M (label, camera) pairs; pairs never seen are left out.

    Raises:
        ValueError: no features at all.
    """
    labels, cameras = np.asarray(labels), np.asarray(camids) + 1  # 0: not known
    count = int(cameras.max(initial=0)) + 1
    known = np.flatnonzero(labels >= 0)
    pairs = np.unique(labels[known].astype(np.int64) * count + cameras[known])
    sums, counts = None, np.zeros(len(pairs), dtype=np.int64)
    for rows, features in chunks:
        rows = np.asarray(rows.cpu() if isinstance(rows, Tensor) else rows)
        if sums is None:
            sums = features.new_zeros(len(pairs), features.shape[1])
        used = np.flatnonzero(labels[rows] >= 0)
        pair = np.searchsorted(pairs, labels[rows[used]].astype(np.int64) * count + cameras[rows[used]])
        counts += np.bincount(pair, minlength=len(pairs))
        at = torch.from_numpy(pair).to(features.device)
        sums.index_add_(0, at, features[torch.from_numpy(used).to(features.device)])
    if sums is None or not counts.any():
        raise ValueError("no multi-camera features: the chunks held no labeled row")
    return _finished(pairs, counts, sums, count)


def _finished(
    pairs: Int[np.ndarray, " M"], counts: Int[np.ndarray, " M"], sums: Float[Tensor, "M D"], cameras: int
) -> MultiCentroids:
    seen = np.flatnonzero(counts)
    sums = sums[torch.from_numpy(seen).to(sums.device)]
    labels, inverse = np.unique(pairs[seen] // cameras, return_inverse=True)
    images = torch.from_numpy(np.bincount(inverse, weights=counts[seen])).to(sums)
    total = sums.new_zeros(len(labels), sums.shape[1])
    total.index_add_(0, torch.from_numpy(inverse).to(sums.device), sums)
    with_camera = pairs[seen] % cameras > 0
    pairs, sums = pairs[seen][with_camera], sums[torch.from_numpy(with_camera).to(sums.device)]
    return MultiCentroids(
        labels=torch.from_numpy(labels).to(sums.device),
        centroids=total / images[:, None],
        camera_labels=torch.from_numpy(pairs // cameras).to(sums.device),
        camera_camids=torch.from_numpy(pairs % cameras - 1).to(sums.device),
        camera_centroids=unit(sums),
    )
