"""Efficient Centroids Module (Sec. 3.3): one centroid per PID, refreshed from a few images an epoch.

Everything streams: sums and counts of O(P D), never the K P D features the paper keeps (Table 6).
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from dynamix import distributed
from dynamix.similarity import Prepared, unit
from dynamix.similarity.exact import BLOCK, check_finite, working


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
        self._searchable: tuple[Tensor, int, Prepared] | None = None
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

    def searchable(self) -> Prepared:
        """The centroids ready to be searched, made once until they change; `release` frees what it holds."""
        version = 0 if self.centroids.is_inference() else self.centroids._version
        held = self._searchable
        if held is None or held[0] is not self.centroids or held[1] != version:
            held = self._searchable = (self.centroids, version, Prepared(self.centroids))
        return held[2]

    def release(self) -> None:
        """Forget the codes that `searchable` made."""
        self._searchable = None

    @torch.no_grad()
    def accumulate(self, features: Float[Tensor, "n D"], labels: Int[Tensor, " n"]) -> "CentroidsMemory":
        """Add features, as given, to the sums of their labels: the mean in Eq. 3.

        Label -1 = ignored. The sums take O(P D) memory from the first call (even an empty one) to `apply`;
        those of half precision are of float32.

        Raises:
            ValueError: a label that has no centroid, D that disagree, features that are not finite.
        """
        if features.shape[1] != self.centroids.shape[1]:
            raise ValueError(
                f"features have D = {features.shape[1]}, centroids D = {self.centroids.shape[1]}"
            )
        check_finite(features, "features")
        if self.sums is None or self.counts is None:
            self.sums = torch.zeros_like(self.centroids, dtype=working(self.centroids.dtype))
            self.counts = torch.zeros_like(self.labels)
        labels = labels.to(self.labels)
        used = labels >= 0
        rows = self.index_of(labels[used])
        if (rows < 0).any():
            raise ValueError(f"label {int(labels[used][rows < 0][0])} is not in the memory")
        self.sums.index_add_(0, rows, features[used.to(features.device)].to(self.sums))
        self.counts.index_add_(0, rows, torch.ones_like(rows))
        return self

    def over_ranks(self) -> "CentroidsMemory":
        """Add up what all ranks accumulated; every one must call it. Alone, nothing happens."""
        if distributed.ranks() > 1:
            self.accumulate(self.centroids[:0], self.labels[:0])  # a rank may have had no images
            assert self.sums is not None and self.counts is not None
            distributed.sum_(self.sums)
            distributed.sum_(self.counts)
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
        self.release()
        for rows in self.counts.nonzero()[:, 0].split(max(1, BLOCK // self.centroids.shape[1])):
            mean = self.sums[rows] / self.counts[rows, None]
            blended = alpha * self.centroids[rows] + (1 - alpha) * mean
            self.centroids[rows] = (unit(blended) if renorm else blended).to(self.centroids)
        self.sums = self.counts = None
        return self

    def update(
        self, features: Float[Tensor, "n D"], labels: Int[Tensor, " n"], alpha: float | int = 0.3
    ) -> "CentroidsMemory":
        """Eq. 3 in one call: `accumulate` all features, then `apply`; in place."""
        return self.accumulate(features, labels).apply(alpha)

    def merged(
        self, mapping: Int[Tensor, " P"], counts: Int[Tensor, " P"] | Float[Tensor, " P"] | None = None
    ) -> "CentroidsMemory":
        """One centroid per root: the mean of its members, weighted by their image counts (Sec. 3.2).

        `mapping` is the root of each PID, row for row. Without `counts`, or where all of a group's are 0,
        members weigh the same. A merged PID lives in its root's video (its first member's if the root
        has no row). What was accumulated and not yet applied is summed. This memory stays as it is.
        """
        return self._whole_copy().merge_(mapping, counts)

    @torch.no_grad()
    def merge_(
        self, mapping: Int[Tensor, " P"], counts: Int[Tensor, " P"] | Float[Tensor, " P"] | None = None
    ) -> "CentroidsMemory":
        """`merged` in place: beyond the memory itself it takes only what the merged PIDs take."""
        roots, group = mapping.to(self.labels).unique(return_inverse=True)
        share = self._shares(group, len(roots), counts)
        first = torch.full_like(roots, len(self)).scatter_reduce(
            0, group, torch.arange(len(self), device=group.device), "amin"
        )
        several = group.bincount(minlength=len(roots)) > 1
        members = several[group].nonzero()[:, 0]
        place = several.cumsum(0)[group[members]] - 1  # of each member's group among those of several
        for table, weight in ((self.centroids, share), (self.sums, None), (self.counts, None)):
            if table is not None:  # groups of one stay untouched to the last bit
                table[first[several]] = _totals(table, members, place, int(several.sum()), weight)
        root_row = self.index_of(roots)
        return self._keep(first, roots, torch.where(root_row >= 0, root_row, first))

    def _shares(self, group: Int[Tensor, " P"], groups: int, counts: Tensor | None) -> Float[Tensor, " P"]:
        """What each centroid weighs in its group's mean."""
        weight = torch.ones_like(self.centroids[:, 0]) if counts is None else counts.to(self.centroids)
        if (weight < 0).any():
            raise ValueError(f"image counts must not be negative: row {int((weight < 0).nonzero()[0, 0])}")
        total = weight.new_zeros(groups).index_add_(0, group, weight)
        weight = torch.where(total[group] > 0, weight, 1)
        total = weight.new_zeros(groups).index_add_(0, group, weight)
        return weight / total[group]

    def select(self, labels: Int[Tensor, " n"]) -> "CentroidsMemory":
        """Only the listed PIDs, those that still own images (Sec. 3.2), with what was accumulated for them.

        Raises:
            ValueError: a label that has no centroid.
        """
        return self._whole_copy().select_(labels)

    @torch.no_grad()
    def select_(self, labels: Int[Tensor, " n"]) -> "CentroidsMemory":
        """`select` in place, without a second copy of the centroids."""
        wanted = labels.to(self.labels).unique()
        rows = self.index_of(wanted)
        if (rows < 0).any():
            raise ValueError(f"label {int(wanted[rows < 0][0])} is not in the memory")
        return self._keep(rows, wanted, rows)

    def _whole_copy(self) -> "CentroidsMemory":
        copy = self.copy()
        if self.sums is not None and self.counts is not None:
            copy.sums, copy.counts = self.sums.clone(), self.counts.clone()
        return copy

    def _keep(
        self, rows: Int[Tensor, " p"], labels: Int[Tensor, " p"], video_rows: Int[Tensor, " p"]
    ) -> "CentroidsMemory":
        """These rows under these labels, and the videos of `video_rows`."""
        self.release()
        self.labels = labels
        self.videos = None if self.videos is None else self.videos[video_rows]
        self.centroids = _compact(self.centroids, rows)
        if self.sums is not None and self.counts is not None:
            self.sums, self.counts = _compact(self.sums, rows), self.counts[rows]
        return self


def _totals(
    table: Tensor, members: Int[Tensor, " n"], group: Int[Tensor, " n"], groups: int, weight: Tensor | None
) -> Tensor:
    """Sums of some rows by group, a block at a time; weighted first, as a mean's rounding is smaller then."""
    totals = torch.zeros((groups, *table.shape[1:]), dtype=table.dtype, device=table.device)
    step = max(1, BLOCK // max(1, table[:1].numel()))
    for rows, to in zip(members.split(step), group.split(step), strict=True):
        totals.index_add_(0, to, table[rows] if weight is None else weight[rows, None] * table[rows])
    return totals


def _compact(table: Float[Tensor, "P D"], rows: Int[Tensor, " p"]) -> Float[Tensor, "p D"]:
    """`table[rows]`; where the rows ascend in the storage of `table`, which is then spent."""
    if len(rows) == len(table) and bool((rows[1:] > rows[:-1]).all()):
        return table
    if not (rows[1:] > rows[:-1]).all():
        return table[rows]
    step = max(1, BLOCK // table.shape[1])
    for start in range(0, len(rows), step):  # a row never lies before its new place
        moved = rows[start : start + step]
        table[start : start + len(moved)] = table[moved]
    return table[: len(rows)]


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
        ValueError: no features at all, features that are not finite.
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
        check_finite(features, "features")
        used = np.flatnonzero(labels[rows] >= 0)
        pair = np.searchsorted(pairs, labels[rows[used]].astype(np.int64) * count + cameras[rows[used]])
        counts += np.bincount(pair, minlength=len(pairs))
        at = torch.from_numpy(pair).to(features.device)
        sums.index_add_(0, at, features[torch.from_numpy(used).to(features.device)])
    sums, counts = _over_ranks(sums, counts)  # each rank has seen its own chunks, some perhaps none
    if sums is None or not counts.any():
        raise ValueError("no multi-camera features: the chunks held no labeled row")
    return _finished(pairs, counts, sums, count)


def _over_ranks(
    sums: Float[Tensor, "M D"] | None, counts: Int[np.ndarray, " M"]
) -> tuple[Float[Tensor, "M D"] | None, Int[np.ndarray, " M"]]:
    if distributed.ranks() == 1:
        return sums, counts
    known = distributed.everyone(None if sums is None else (sums.shape[1], sums.dtype))
    shape = next((each for each in known if each is not None), None)
    if shape is None:
        return None, counts
    if sums is None:
        sums = torch.zeros(len(counts), shape[0], dtype=shape[1], device=distributed.device())
    return distributed.sum_(sums), distributed.sum_(torch.from_numpy(counts)).numpy()


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
