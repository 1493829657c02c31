"""Data Sampling Module (Sec. 3.4): which PIDs and which images make each mixed mini-batch.

Multi-camera PIDs cycle through random permutations; single-camera PIDs are matched to them by the
Hungarian algorithm, away from both too similar and too different ones, and then rest in a queue.
"""

import threading
import weakref
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from dynamix.centroids import CentroidsMemory, MultiCentroids
from dynamix.config import Config
from dynamix.forks import pieces
from dynamix.similarity import unit

Mode = Literal["median", "mean", "hard", "soft", "random"]
SALT = 0x5A3D  # keeps the sampler's random stream apart from others of the same seed
PLANNED = 2**26  # similarities held at once while planning
GATHERED = 2**22  # numbers gathered at once to copy centroids
SAMPLE = 2**15  # values that foretell where a median lies


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
    R cheapest columns of every row contain an optimum. O(R P), a few passes over S.

    Raises:
        ValueError: more rows than columns, entries that are not finite, unknown mode or target.
    """
    if isinstance(similarity, np.ndarray) and not similarity.flags.writeable:
        similarity = similarity.copy()  # torch warns of read-only memory
    similarity = torch.as_tensor(similarity)
    similarity = similarity.to(torch.promote_types(similarity.dtype, torch.float32))  # half is too coarse
    R, P = similarity.shape
    if R > P:
        raise ValueError(f"{R} rows need {R} different columns, there are {P}")
    if mode == "random":
        device = None if generator is None else generator.device
        return torch.randperm(P, generator=generator, device=device)[:R].to(similarity.device)
    if similarity.numel() and not torch.isfinite(torch.stack(similarity.aminmax())).all():
        bad = (~torch.isfinite(similarity)).nonzero()[0].tolist()
        raise ValueError(
            f"similarity has entries that are not finite, the first in row {bad[0]}, column {bad[1]}"
        )
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
    if entries.device.type == "cpu":
        middles = np.array([_middle(row) for row in entries.numpy()])
        return torch.from_numpy(middles)[:, None]
    low = entries.kthvalue((count + 1) // 2, dim=1, keepdim=True).values
    if count % 2:
        return low
    # The next value up, found in one more pass: a second selection would double the time.
    above = entries.masked_fill(entries <= low, torch.inf).amin(1, keepdim=True)
    repeated = (entries <= low).sum(1, keepdim=True) > count // 2
    return (low + torch.where(repeated, low, above)) / 2


def _middle(values: Float[np.ndarray, " n"]) -> np.floating:
    """The mean of the two middle values: selected, exactly, from the few that a sample says are near."""
    first, last = (len(values) - 1) // 2, len(values) // 2
    near, below = values, 0
    if len(values) > 4 * SAMPLE:
        sample = np.sort(values[:: len(values) // SAMPLE])
        middle, margin = len(sample) // 2, int(3 * len(sample) ** 0.5)  # six standard deviations
        low, high = sample[max(0, middle - margin)], sample[min(len(sample) - 1, middle + margin)]
        between = values[(values >= low) & (values <= high)]
        less = int(np.count_nonzero(values < low))
        if less <= first and last < less + len(between):  # else the sample misled: all values
            near, below = between, less
    ordered = np.partition(near, [first - below, last - below])
    return (ordered[first - below] + ordered[last - below]) / 2


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
    single-camera rows, the images of an identity side by side. Planned from (seed, epoch) alone; the
    multi-camera half is the same for every `dsm.mode`.

    The constructor checks everything and copies the centroids; a thread then plans (on a GPU in a stream of
    its own), and iteration yields each batch as soon as it is planned. It may be repeated. An object that
    is dropped stops its thread. `len` is known at once; the attributes wait for the last batch: `queue` is
    the queue after the epoch, `batches` all lists, `pairs` (iterations, ids_single, 2) the matched
    (multi, single) labels, or (-1, single) where nothing was matched.

    `labels` (N,) are the current training labels (-1 = ignored), `removed` (N,) this epoch's removals,
    `queue` the resting single-camera PIDs, oldest first. `multi_centroids` may be a `MultiCentroids`, a
    `CentroidsMemory` or a tensor with one row per multi-camera label in `labels`, ascending. With more
    (fewer) single- than multi-camera identities the latter serve several times (only the first serve).
    Memory beside the copy of the P candidates' centroids: `PLANNED` similarities.

    Raises:
        ValueError: sizes that disagree, fewer identities than a batch needs, centroids missing or not finite.
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
        partners = None
        if batch.ids_multi and batch.ids_single and config.dsm.mode not in ("random", "off"):
            partners = chosen[:, np.arange(batch.ids_single) % batch.ids_multi]
        centers = None
        if partners is not None:
            centers = _centers(partners, pool, multi_centroids, multi.labels, memory)
        existing = np.unique(labels[(labels >= 0) & single])
        resting = _Queue(queue or (), existing, pool, config)
        self._partners = None if partners is None else multi.labels[partners]
        self._plan = _Plan(config.iterations, resting)
        picks = _pick(singles, resting, centers, config)
        batches = _rows(chosen, picks, multi, clips, images, singles, config)
        thread = threading.Thread(
            target=self._plan.work, args=(batches, centers), name="batches", daemon=True
        )
        self._stop = weakref.finalize(self, _stop, self._plan, thread)  # also when the program ends
        thread.start()

    def __len__(self) -> int:
        return self._plan.steps

    def __iter__(self) -> Iterator[list[int]]:
        return (self._plan.batch(step) for step in range(len(self)))

    @property
    def batches(self) -> list[list[int]]:
        self._plan.wait(len(self))
        return self._plan.batches

    @property
    def queue(self) -> list[int]:
        self._plan.wait(len(self))
        return list(self._plan.resting.pids)

    @property
    def pairs(self) -> Int[np.ndarray, "T S 2"]:
        self._plan.wait(len(self))
        single = np.stack(self._plan.picks).astype(np.int64)
        multi = np.full_like(single, -1) if self._partners is None else self._partners
        return np.stack((multi, single), axis=2)


class _Plan:
    """What the planning thread has done so far; the thread must not hold the batches' owner alive."""

    def __init__(self, steps: int, resting: "_Queue"):
        self.steps, self.resting = steps, resting
        self.batches: list[list[int]] = []
        self.picks: list[np.ndarray] = []  # single-camera labels
        self.error: BaseException | None = None
        self.stopped = False
        self.changed = threading.Condition()

    def work(
        self, planned: Iterator[tuple[list[int], Int[np.ndarray, " S"]]], centers: "_Centers | None"
    ) -> None:
        """Plan every batch, in a thread; an error is kept for whoever waits."""
        try:
            with torch.no_grad(), nullcontext() if centers is None else centers.stream():
                for rows, picked in pieces(planned, lambda: self.stopped):
                    with self.changed:
                        self.batches.append(rows)
                        self.picks.append(picked)
                        self.changed.notify_all()
        except BaseException as error:
            with self.changed:
                self.error = error
                self.changed.notify_all()

    def wait(self, count: int) -> None:
        """Until `count` batches are planned, or raise what the thread raised before."""
        with self.changed:
            self.changed.wait_for(lambda: len(self.batches) >= count or self.error is not None)
            if len(self.batches) < count and self.error is not None:
                raise self.error

    def batch(self, step: int) -> list[int]:
        self.wait(step + 1)
        return self.batches[step]


def _stop(plan: _Plan, thread: threading.Thread) -> None:
    plan.stopped = True
    if thread is not threading.current_thread():  # the collector may run anywhere
        thread.join()  # a thread inside torch must not outlive the interpreter


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


class _Centers(NamedTuple):
    """Copies of the unit centroids of the drawn multi-camera PIDs and of the single-camera pool."""

    multi: Float[Tensor, "M D"]
    single: Float[Tensor, "P D"]
    partners: Int[np.ndarray, "T S"]  # rows of `multi` that each batch matches
    ready: Any  # CUDA event after which the copies may be read

    def stream(self) -> Any:
        """Context: on a GPU a stream of its own, so that planning never queues behind training."""
        if self.ready is None:
            return nullcontext()
        stream = torch.cuda.Stream(self.single.device)
        stream.wait_event(self.ready)
        for copied in (self.multi, self.single):
            copied.record_stream(stream)
        return torch.cuda.stream(stream)


def _centers(
    partners: Int[np.ndarray, "T S"],
    pool: Int[np.ndarray, " P"],
    multi: MultiCentroids | CentroidsMemory | Tensor | None,
    multi_labels: Int[np.ndarray, " Pm"],
    memory: CentroidsMemory | None,
) -> _Centers:
    if memory is None or multi is None:
        raise ValueError("matching needs the centroids of both kinds: pass memory and multi_centroids")
    rows = _multi_rows_of(multi, multi_labels)
    if rows.shape[1] != memory.centroids.shape[1]:
        raise ValueError(
            f"multi-camera centroids have D = {rows.shape[1]}, single-camera ones "
            f"D = {memory.centroids.shape[1]}: compute both with one encoder"
        )
    single = _copied(
        memory.centroids, memory.index_of(torch.from_numpy(pool.astype(np.int64))), pool, "single"
    )
    drawn, place = np.unique(partners, return_inverse=True)
    rows = rows.to(single)
    chosen = _copied(rows, torch.from_numpy(drawn).to(rows.device), multi_labels[drawn], "multi")
    ready = torch.cuda.current_stream(single.device).record_event() if single.is_cuda else None
    return _Centers(chosen, single, place.reshape(partners.shape), ready)


def _copied(
    centroids: Float[Tensor, "n D"], index: Int[Tensor, " P"], labels: Int[np.ndarray, " P"], kind: str
) -> Float[Tensor, "P D"]:
    """Unit rows of centroids, gathered in pieces so that there is one copy only."""
    dtype = torch.promote_types(centroids.dtype, torch.float32)
    out = centroids.new_empty(len(index), centroids.shape[1], dtype=dtype)
    step = max(1, GATHERED // max(1, centroids.shape[1]))
    finite = []
    for start in range(0, len(index), step):
        rows = unit(centroids[index[start : start + step]].to(dtype))
        finite.append(torch.isfinite(rows.sum(1)))  # a unit row is undefined where its centroid is
        out[start : start + step] = rows
    bad = (~torch.cat(finite)).nonzero()
    if len(bad):
        raise ValueError(
            f"the centroid of {kind}-camera label {labels[int(bad[0])]} (row {int(index[bad[0]])}) is "
            "not finite: the run diverged; resume from an earlier checkpoint with a lower learning rate"
        )
    return out


def _pick(
    rng: np.random.Generator, resting: _Queue, centers: _Centers | None, config: Config
) -> Iterator[Int[np.ndarray, " S"]]:
    """The single-camera labels of each batch."""
    ids, steps, mode = config.batch.ids_single, config.iterations, config.dsm.mode
    if not ids:
        yield from np.empty((steps, 0), dtype=np.int64)
    elif (
        centers is None or mode == "off"
    ):  # all before the images, which come from the same stream of random numbers
        yield from [_rest(resting, _drawn(rng, resting.candidates(ids), ids)) for _ in range(steps)]
    else:
        for row in _similarity_rows(centers):
            candidates = resting.candidates(ids)
            if len(candidates) < row.shape[1]:
                row = row.index_select(1, torch.from_numpy(candidates).to(row.device))
            columns = match_pids(row, mode=mode, target=config.dsm.target)
            yield _rest(resting, candidates[columns.cpu().numpy()])


def _drawn(rng: np.random.Generator, candidates: Int[np.ndarray, " C"], ids: int) -> Int[np.ndarray, " S"]:
    return candidates[rng.choice(len(candidates), ids, replace=False)]


def _rest(resting: _Queue, chosen: Int[np.ndarray, " S"]) -> Int[np.ndarray, " S"]:
    resting.push(chosen)
    return resting.pool[chosen]


def _similarity_rows(centers: _Centers) -> Iterator[Float[Tensor, "S P"]]:
    """cos(multi, single) of each batch's PIDs, many batches in one product of bounded size."""
    partners, right = centers.partners, centers.single
    block = max(1, PLANNED // (partners.shape[1] * len(right)))
    for start in range(0, len(partners), block):
        at = torch.from_numpy(partners[start : start + block]).to(right.device)
        yield from (centers.multi[at.flatten()] @ right.T).view(*at.shape, -1)


def _rows(
    chosen: Int[np.ndarray, "T R"],
    picks: Iterator[Int[np.ndarray, " S"]],
    multi: _Images,
    clips: _Images,
    images: np.random.Generator,
    singles: np.random.Generator,
    config: Config,
) -> Iterator[tuple[list[int], Int[np.ndarray, " S"]]]:
    """Each batch's rows, and its single-camera labels."""
    for first, picked in zip(chosen.tolist(), picks, strict=True):
        rows = [r for k in first for r in _multi_rows(images, multi, k, config.batch.images_multi)]
        for k in np.searchsorted(clips.labels, picked).tolist():
            rows += _single_rows(singles, clips, k, config.batch.images_single)
        yield rows, picked


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
