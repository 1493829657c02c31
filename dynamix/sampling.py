"""Data Sampling Module (Sec. 3.4): which PIDs and which images make each mixed mini-batch.

Multi-camera PIDs cycle through random permutations; single-camera PIDs are matched to them by the
Hungarian algorithm, away from both too similar and too different ones, and then rest in a queue.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from dynamix.centroids import CentroidsMemory, MultiCentroids
from dynamix.config import Config
from dynamix.similarity import unit

Mode = Literal["median", "mean", "hard", "soft", "random"]
SALT = 0x5A3D  # keeps the sampler's random stream apart from others of the same seed
PLANNED = 2**26  # similarities held at once while planning


@torch.no_grad()
def match_pids(
    similarity: Float[Tensor, "R P"] | Float[np.ndarray, "R P"],
    *,
    mode: Mode = "median",
    target: Literal["global", "row"] = "global",
    generator: torch.Generator | None = None,
) -> Int[Tensor, " R"]:
    """A different column for each row, at the least total cost (Hungarian algorithm, Sec. 3.4, Table 8).

    Cost |S - t|, t the median (or mean) of all entries, or of each row; the median is the mean of the two
    middle values. "hard" maximises the sum of S, "soft" minimises it, "random" draws columns. Exact: the
    R cheapest columns of every row contain an optimum. O(R P).

    Raises:
        ValueError: more rows than columns, entries that are not finite, unknown mode or target.
    """
    similarity = torch.as_tensor(similarity)
    R, P = similarity.shape
    if R > P:
        raise ValueError(f"{R} rows need {R} different columns, there are {P}")
    if mode == "random":
        device = None if generator is None else generator.device
        return torch.randperm(P, generator=generator, device=device)[:R].to(similarity.device)
    if not torch.isfinite(similarity).all():
        raise ValueError("similarity has entries that are not finite")
    cost = _cost(similarity, mode, target)
    columns = cost.topk(R, dim=1, largest=False).indices.unique()  # at most R^2, ascending
    small = cost[:, columns].double().cpu().numpy()
    return columns[torch.from_numpy(linear_sum_assignment(small)[1]).to(columns.device)]


def _cost(similarity: Float[Tensor, "R P"], mode: str, target: str) -> Float[Tensor, "R P"]:
    if mode in ("hard", "soft"):
        return -similarity if mode == "hard" else similarity
    if mode not in ("median", "mean"):
        raise ValueError(f"unknown mode {mode!r}; there are median, mean, hard, soft, random")
    if target not in ("global", "row"):
        raise ValueError(f"unknown target {target!r}; there are global, row")
    entries = similarity.reshape(1, -1) if target == "global" else similarity
    center = entries.mean(1, keepdim=True) if mode == "mean" else _median(entries)
    return (similarity - center).abs_()


def _median(entries: Float[Tensor, "R P"]) -> Float[Tensor, "R 1"]:
    count = entries.shape[1]
    if not entries.numel():
        return entries.new_zeros(len(entries), 1)
    low = entries.kthvalue((count + 1) // 2, dim=1, keepdim=True).values
    if count % 2:
        return low
    # The next value up, found in one more pass: a second selection would double the time.
    above = entries.masked_fill(entries <= low, torch.inf).amin(1, keepdim=True)
    repeated = (entries <= low).sum(1, keepdim=True) > count // 2
    return (low + torch.where(repeated, low, above)) / 2


class _Images(NamedTuple):
    """Rows sorted by label, then camid: label k owns rows[start[k] : start[k + 1]], likewise cameras."""

    labels: Int[np.ndarray, " P"]
    rows: Int[np.ndarray, " n"]
    start: Int[np.ndarray, " P1"]
    cameras: Int[np.ndarray, " P1"]  # cameras of label k: camera_start[cameras[k] : cameras[k + 1]]
    camera_start: Int[np.ndarray, " M1"]


def _images(
    rows: Int[np.ndarray, " n"], labels: Int[np.ndarray, " N"], camids: Int[np.ndarray, " N"]
) -> _Images:
    rows = rows[np.lexsort((camids[rows], labels[rows]))]
    mine, camera = labels[rows], camids[rows]
    new_label = np.flatnonzero(np.diff(mine, prepend=-1))
    changed = (np.diff(mine, prepend=-1) != 0) | (np.diff(camera, prepend=-2) != 0)
    camera_start = np.append(np.flatnonzero(changed), len(rows))
    start = np.append(new_label, len(rows))
    return _Images(mine[new_label], rows, start, np.searchsorted(camera_start, start), camera_start)


class MixedBatches:
    """The mini-batches of one epoch: lists of rows, multi-camera identities first (Sec. 3.4, 4.2).

    Each list holds `ids_multi` x `images_multi` multi-camera rows, then `ids_single` x `images_single`
    single-camera rows, the images of an identity side by side. Planned in the constructor, from
    (seed, epoch) alone; the multi-camera half is the same for every `dsm.mode`.

    `labels` (N,) are the current training labels (-1 = ignored), `removed` (N,) this epoch's removals,
    `queue` the resting single-camera PIDs, oldest first. `multi_centroids` may be a `MultiCentroids`, a
    `CentroidsMemory` or a tensor with one row per multi-camera label in `labels`, ascending. With more
    (fewer) single- than multi-camera identities the latter serve several times (only the first serve).
    After construction `queue` is the queue after the epoch, `pairs` (iterations, ids_single, 2) the
    matched (multi, single) labels, or (-1, single) where nothing was matched.

    Raises:
        ValueError: sizes that disagree, fewer identities than a batch needs, centroids missing.
    """

    def __init__(
        self,
        table: Any,
        labels: Int[np.ndarray, " N"] | Int[Tensor, " N"],
        removed: Bool[np.ndarray, " N"] | Bool[Tensor, " N"],
        memory: CentroidsMemory | None,
        multi_centroids: MultiCentroids | CentroidsMemory | Float[Tensor, "Pm D"] | None,
        config: Config,
        *,
        seed: int,
        epoch: int,
        queue: Sequence[int] | None = (),
    ):
        labels, removed = np.asarray(labels), np.asarray(removed)
        if not len(labels) == len(removed) == len(table.videos):
            raise ValueError(
                f"{len(table.videos)} rows, {len(labels)} labels, {len(removed)} removed: unequal"
            )
        batch = config.batch
        single, used = np.asarray(table.videos) >= 0, (labels >= 0) & ~removed
        multi = _images(np.flatnonzero(used & ~single), labels, np.asarray(table.camids))
        clips = _images(np.flatnonzero(used & single), labels, np.asarray(table.camids))
        pool = clips.labels[_available(clips, memory, config)]
        _require_ids("multi", batch.ids_multi, len(multi.labels))
        _require_ids("single", batch.ids_single, len(pool))
        pids, images, singles = (np.random.default_rng([seed, epoch, SALT, k]) for k in range(3))
        chosen = _cycle(pids, len(multi.labels), batch.ids_multi, config.iterations)
        partners = (
            chosen[:, np.arange(batch.ids_single) % max(batch.ids_multi, 1)] if batch.ids_multi else None
        )
        existing = np.unique(labels[(labels >= 0) & single])
        resting = _Queue(queue or (), existing, pool, config)
        if batch.ids_single:
            centers = (multi_centroids, multi.labels, memory)
            picked = _pick(singles, resting, partners, centers, config)
        else:
            picked = np.empty((config.iterations, 0), dtype=np.int64)
        self.queue: list[int] = list(resting.pids)
        self.pairs = np.full((*picked.shape, 2), -1, dtype=np.int64)
        self.pairs[:, :, 1] = picked
        if partners is not None and config.dsm.mode not in ("random", "off"):
            self.pairs[:, :, 0] = multi.labels[partners]
        where = np.searchsorted(clips.labels, picked)
        self.batches = [
            [r for k in first for r in _multi_rows(images, multi, k, batch.images_multi)]
            + [r for k in second for r in _single_rows(singles, clips, k, batch.images_single)]
            for first, second in zip(chosen.tolist(), where.tolist(), strict=True)
        ]

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.batches)


def _require_ids(kind: str, asked: int, present: int) -> None:
    if present < asked:
        raise ValueError(
            f"batch.ids_{kind} asks for {asked} {kind}-camera identities, {present} are available: lower it"
            + (", or dsm.min_images where identities have fewer images" if kind == "single" else "")
        )


def _available(clips: _Images, memory: CentroidsMemory | None, config: Config) -> Bool[np.ndarray, " P"]:
    enough = np.diff(clips.start) >= config.dsm.min_images
    if memory is not None:
        known = torch.from_numpy(clips.labels.astype(np.int64))
        enough &= memory.index_of(known).cpu().numpy() >= 0
    return enough


class _Queue:
    """The single-camera PIDs that rest, oldest first, and who is free (Sec. 3.4, Table 9)."""

    def __init__(
        self,
        pids: Sequence[int],
        existing: Int[np.ndarray, " E"],
        pool: Int[np.ndarray, " P"],
        config: Config,
    ):
        size, per_epoch = config.dsm, config.iterations * config.batch.ids_single
        self.capacity = round(
            len(pool) * size.queue_fraction
            if size.queue_fraction is not None
            else (size.queue_epochs or 0) * per_epoch
        )
        if size.mode == "off":
            self.capacity = 0
        alive = set(existing.tolist())
        newest = [int(pid) for pid in dict.fromkeys(reversed(pids)) if int(pid) in alive]
        self.pool, self.index = pool, {pid: k for k, pid in enumerate(pool.tolist())}
        self.pids = deque(reversed(newest[: self.capacity]))
        self.free = ~np.isin(pool, np.array(self.pids, dtype=np.int64))
        self.free_count = int(self.free.sum())

    def candidates(self, needed: int) -> Int[np.ndarray, " C"]:
        """Positions in the pool that may be drawn; the oldest entries leave if they are too few."""
        while self.free_count < needed:
            self._release()
        return np.flatnonzero(self.free)

    def push(self, positions: Int[np.ndarray, " R"]) -> None:
        self.pids.extend(self.pool[positions].tolist())
        self.free[positions] = False
        self.free_count -= len(positions)
        while len(self.pids) > self.capacity:
            self._release()

    def _release(self) -> None:
        position = self.index.get(self.pids.popleft())
        if position is not None:  # a PID may own only removed images this epoch
            self.free[position] = True
            self.free_count += 1


def _cycle(rng: np.random.Generator, total: int, per_batch: int, batches: int) -> Int[np.ndarray, "T R"]:
    """Distinct identities per batch, every one used once before any is used again."""
    left, out = np.empty(0, dtype=np.int64), np.empty((batches, per_batch), dtype=np.int64)
    for step in range(batches):
        if len(left) < per_batch:
            new = rng.permutation(total)
            fresh = new[~np.isin(new, left)][: per_batch - len(left)]
            left = np.concatenate((left, fresh, new[~np.isin(new, fresh)]))
        out[step], left = left[:per_batch], left[per_batch:]
    return out


def _pick(
    rng: np.random.Generator,
    resting: _Queue,
    partners: Int[np.ndarray, "T R"] | None,
    centers: tuple[
        MultiCentroids | CentroidsMemory | Tensor | None, Int[np.ndarray, " Pm"], CentroidsMemory | None
    ],
    config: Config,
) -> Int[np.ndarray, "T S"]:
    ids, mode = config.batch.ids_single, "random" if config.dsm.mode == "off" else config.dsm.mode
    picked = np.empty((config.iterations, ids), dtype=np.int64)
    rows = None
    if partners is not None and mode != "random":
        rows = _similarity_rows(partners, resting.pool, *centers)
    for step in range(config.iterations):
        candidates = resting.candidates(ids)
        if rows is None:
            chosen = candidates[rng.choice(len(candidates), ids, replace=False)]
        else:
            row = next(rows)
            if len(candidates) < row.shape[1]:
                row = row[:, torch.from_numpy(candidates).to(row.device)]
            columns = match_pids(row, mode=mode, target=config.dsm.target)
            chosen = candidates[columns.cpu().numpy()]
        picked[step] = resting.pool[chosen]
        resting.push(chosen)
    return picked


def _similarity_rows(
    partners: Int[np.ndarray, "T R"],
    pool: Int[np.ndarray, " P"],
    multi: MultiCentroids | CentroidsMemory | Tensor | None,
    multi_labels: Int[np.ndarray, " Pm"],
    memory: CentroidsMemory | None,
) -> Iterator[Float[Tensor, "R P"]]:
    """cos(multi, single) of each batch's PIDs, many batches in one product of bounded size."""
    if memory is None or multi is None:
        raise ValueError("matching needs the centroids of both kinds: pass memory and multi_centroids")
    right = unit(memory.centroids[memory.index_of(torch.from_numpy(pool.astype(np.int64)))])
    left = unit(_multi_rows_of(multi, multi_labels).to(right))
    block = max(1, PLANNED // (partners.shape[1] * len(pool)))
    for start in range(0, len(partners), block):
        at = torch.from_numpy(partners[start : start + block]).to(right.device)
        yield from (left[at.flatten()] @ right.T).view(*at.shape, -1)


def _multi_rows_of(
    multi: MultiCentroids | CentroidsMemory | Tensor, labels: Int[np.ndarray, " Pm"]
) -> Float[Tensor, "Pm D"]:
    if isinstance(multi, Tensor):
        if len(multi) != len(labels):
            raise ValueError(f"{len(multi)} multi-camera centroids for {len(labels)} multi-camera labels")
        return multi
    wanted = torch.from_numpy(labels.astype(np.int64)).to(multi.labels.device)
    place = torch.searchsorted(multi.labels, wanted).clamp(max=len(multi.labels) - 1)
    missing = wanted[multi.labels[place] != wanted]
    if len(missing):
        raise ValueError(f"multi-camera label {int(missing[0])} has no centroid in multi_centroids")
    return multi.centroids[place]


def _multi_rows(rng: np.random.Generator, images: _Images, k: int, number: int) -> list[int]:
    """One random image per camera, then unused ones, then repeats (ICE; unlike it, no camera is lost)."""
    first, last = images.cameras[k], images.cameras[k + 1]
    cameras = first + rng.permutation(last - first)[:number]
    start = images.camera_start[cameras]
    taken = start + rng.integers(images.camera_start[cameras + 1] - start)
    if len(taken) < number:
        own = np.arange(images.start[k], images.start[k + 1])
        unused = rng.permutation(own[~np.isin(own, taken)])[: number - len(taken)]
        taken = np.concatenate((taken, unused))
        taken = np.concatenate((taken, own[rng.integers(len(own), size=number - len(taken))]))
    return images.rows[taken].tolist()


def _single_rows(rng: np.random.Generator, images: _Images, k: int, number: int) -> list[int]:
    """Different images while there are enough, else all of them and repeats."""
    start, count = images.start[k], images.start[k + 1] - images.start[k]
    taken = rng.permutation(count)[:number]
    repeats = rng.integers(count, size=number - len(taken))
    return images.rows[start + np.concatenate((taken, repeats))].tolist()
