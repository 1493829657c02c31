"""DynaMix: the epoch (Sec. 3) and the objective (Eq. 1), wired from the paper's modules.

refresh   embed → relabel → Efficient Centroids → merge        once an epoch, one streaming pass
batches   Data Sampling plans the epoch's mini-batches
objective L = L_ins + L_aug + L_cen + gamma · L_cc             every step, as in ReMix (`objective.py`)
"""

import warnings
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from dynamix import distributed
from dynamix.centroids import CentroidsMemory, MultiCentroids
from dynamix.config import Config, Relabeling
from dynamix.data.table import Table
from dynamix.methods.epoch import Embed, Refresh, State, multi_camera, start
from dynamix.methods.objective import VIEWS, EpochTensors, Objective, objective, weights
from dynamix.relabeling import (
    Relabeled,
    calibrate,
    explosion,
    merge_pids,
    relabel,
    report,
)
from dynamix.sampling import MixedBatches

__all__ = [
    "VIEWS", "Embed", "EpochTensors", "Objective", "Refresh", "State",
    "batches", "draw_images", "objective", "refresh", "start", "weights",
]  # fmt: skip

DRAW = 0x0D2A  # keeps this module's random stream apart from the sampler's and the views'
SEARCHED = 4096  # features compared with the memory at a time
KEEP_FEATURES_GB = 2.0  # `compare: blended` keeps the drawn features up to this size, else embeds twice


def refresh(
    state: State, table: Table, embed: Embed, config: Config, epoch: int, *, spend: bool = False
) -> tuple[State, Refresh]:
    """Centroids and labels of one epoch (Secs. 3.2-3.3): a streaming pass in O(P x D) memory.

    `embed` runs the momentum encoder as it stands after the previous epoch; on one of several ranks it yields
    that rank's share. `spend` takes over the centroids of `state`, which is then of no more use: a GPU has
    little room for a second copy of those of millions of identities.
    """
    single = table.videos >= 0
    multi = multi_camera(table, embed)
    nothing = np.zeros(len(table), dtype=bool)
    if config.batch.ids_single == 0 or not single.any():
        return state, Refresh(state.labels, nothing, multi, None, (), None)

    labels = table.labels if config.rm.reset_labels_each_epoch else state.labels
    drawn = draw_images(labels, single, config, epoch)
    fresh = state.memory is None  # epoch 0: there is nothing to compare with
    if state.memory is None:
        memory = _empty_memory(table, labels, multi.centroids, config)
    else:
        memory = state.memory if spend else state.memory.copy()
    if fresh or not config.rm.on or epoch < config.rm.start_epoch:
        for rows, features in embed(drawn):
            memory.accumulate(features, torch.from_numpy(labels[rows.numpy()]).to(features.device))
        _blend(memory.over_ranks(), config, fresh)
        known = memory.labels.cpu().numpy()
        queue = _remap(state.queue, known, known)
        return State(labels, memory, queue), Refresh(labels, nothing, multi, memory, queue, None)
    return _refine(state.queue, memory, labels, drawn, multi, table, embed, config)


def _refine(
    queue: tuple[int, ...],
    memory: CentroidsMemory,
    labels: np.ndarray,
    drawn: np.ndarray,
    multi: MultiCentroids,
    table: Table,
    embed: Embed,
    config: Config,
) -> tuple[State, Refresh]:
    """Filter and relabel the drawn images, merge PIDs, apply Eq. 3; in the order of the profile."""
    compared, chunks = _compared_with(memory, labels, drawn, embed, config)
    rm = config.rm
    if rm.calibrate == "cross_video":
        tau_rel, tau_merge = calibrate(compared)
        rm = replace(rm, tau_rel=tau_rel, tau_remove=min(rm.tau_remove, tau_rel), tau_merge=tau_merge)
    refined, removed, similarity = _relabel_all(chunks, memory, compared, labels, table.videos, rm)
    if config.ecm.before_merge:
        _blend(memory, config)
    single = table.videos >= 0
    images = np.bincount(refined[single & (refined >= 0)])
    owned = np.flatnonzero(images)  # PIDs that own an image
    # Refining the tracker's labels afresh keeps the memory unmerged; merged PIDs are this epoch's view.
    wanted = torch.from_numpy(owned).to(memory.labels.device)
    live = memory.select(wanted) if rm.reset_labels_each_epoch else memory.select_(wanted)
    mapping = merge_pids(live, tau_merge=rm.tau_merge, scope=rm.scope) if rm.merging else live.labels

    clips = np.flatnonzero(single)
    final, roots = refined.copy(), np.append(np.arange(len(images)), -1)  # ignored images (-1) stay so
    roots[owned] = mapping.cpu().numpy()
    final[clips] = roots[refined[clips]]
    old, new, gone, score = (torch.from_numpy(x[clips]) for x in (labels, refined, removed, similarity))
    found = report(old, Relabeled(new, gone, score), live, mapping)
    if found.alarm and distributed.leader():
        warnings.warn(explosion(found, live, rm.tau_merge), stacklevel=2)
    queue = _remap(queue, owned, mapping.cpu().numpy())
    weights = torch.from_numpy(images[owned]).to(wanted.device) if rm.merge_centroid == "weighted" else None
    merged = live.merge_(mapping, weights)
    if not config.ecm.before_merge:
        _blend(merged, config)
    if not rm.reset_labels_each_epoch:
        return State(final, merged, queue), Refresh(final, removed, multi, merged, queue, found)
    _blend(memory, config)  # where merging came first; the next epoch starts from it
    return State(labels, memory, queue), Refresh(final, removed, multi, merged, queue, found)


def _relabel_all(
    chunks: Iterator[tuple[Tensor, Tensor]],
    memory: CentroidsMemory,
    compared: CentroidsMemory,
    labels: np.ndarray,
    videos: np.ndarray,
    rm: Relabeling,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """New labels, removed and similarity of all images, judged against `compared`; sums go to `memory`."""
    empty = (np.empty(0, kind) for kind in (np.int64, np.int64, bool, np.float32))
    pieces: list[tuple[np.ndarray, ...]] = [tuple(empty)]
    for rows, features in _larger(chunks):
        at = rows.numpy()
        old = torch.from_numpy(labels[at]).to(features.device)
        result = relabel(
            features, old, compared, tau_rel=rm.tau_rel, tau_remove=rm.tau_remove, reading=rm.reading,
            videos=torch.from_numpy(videos[at]).to(features.device) if rm.scope == "video" else None,
        )  # fmt: skip
        memory.accumulate(features, torch.where(result.removed, -1, result.labels))
        columns = (result.labels, result.removed, result.similarity.float())
        pieces.append((at, *(column.cpu().numpy() for column in columns)))
    compared.release()
    memory.over_ranks()
    at, *judged = distributed.join(*(np.concatenate(column) for column in zip(*pieces, strict=True)))
    found = labels.copy(), np.zeros(len(labels), bool), np.full(len(labels), -np.inf, np.float32)
    for everything, drawn in zip(found, judged, strict=True):
        everything[at] = drawn
    return found


def draw_images(labels: np.ndarray, single: np.ndarray, config: Config, epoch: int) -> np.ndarray:
    """Rows of min(K, n_k) images per single-camera PID, drawn without replacement (Sec. 3.3)."""
    rows = np.flatnonzero(single & (labels >= 0))
    if config.ecm.K == "all" or config.ecm.naive:
        return rows
    rng, K = np.random.default_rng([config.seed, epoch, DRAW]), int(config.ecm.K)
    rows = rows[np.argsort(labels[rows], kind="stable")]  # by PID, as most of them stand already
    first = np.flatnonzero(np.diff(labels[rows], prepend=-1))
    count = np.diff(first, append=len(rows))
    few = count <= K
    chosen = np.flatnonzero(np.repeat(few, count))
    picks = first[~few, None] + _distinct(rng, count[~few], K)
    return np.sort(rows[np.concatenate((chosen, picks.ravel()))])


def _distinct(rng: np.random.Generator, count: np.ndarray, K: int) -> np.ndarray:
    """K different numbers below each of `count` (> K), (n, K), every subset alike (Floyd's algorithm)."""
    picks = np.full((len(count), K), -1)
    for k in range(K):
        last = count - K + k
        pick = rng.integers(last + 1)
        picks[:, k] = np.where((picks == pick[:, None]).any(1), last, pick)
    return picks


def batches(state: State, done: Refresh, table: Table, config: Config, epoch: int) -> MixedBatches:
    """The epoch's mini-batches (Sec. 3.4), planned ahead of the loader."""
    return MixedBatches(
        table, done.labels, done.removed, done.single, done.multi, config,
        seed=config.seed, epoch=epoch, queue=list(done.queue),
    )  # fmt: skip


def _compared_with(
    memory: CentroidsMemory, labels: np.ndarray, drawn: np.ndarray, embed: Embed, config: Config
) -> tuple[CentroidsMemory, Iterator[tuple[Tensor, Tensor]]]:
    """The memory that decisions are made against, and the drawn features to decide on.

    `blended` (ours): a fast-moving encoder leaves last epoch's memory behind, so this epoch's features
    are blended in with the old labels first. That needs the features twice.
    """
    if config.rm.compare == "previous":
        return memory, embed(drawn)
    blended = memory.copy()
    fits = len(drawn) * memory.centroids.shape[1] * 4 <= KEEP_FEATURES_GB * 2**30
    kept = []
    for rows, features in embed(drawn):
        blended.accumulate(features, torch.from_numpy(labels[rows.numpy()]).to(features.device))
        if fits:
            kept.append((rows, features))
    _blend(blended.over_ranks(), config)
    return blended, iter(kept) if fits else embed(drawn)


def _larger(chunks: Iterator[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
    """Chunks joined to at least `SEARCHED` rows: every search goes over the whole memory once."""
    held: list[tuple[Tensor, Tensor]] = []
    for chunk in chunks:
        held.append(chunk)
        if sum(len(rows) for rows, _ in held) >= SEARCHED:
            yield torch.cat([rows for rows, _ in held]), torch.cat([features for _, features in held])
            held = []
    if held:
        yield torch.cat([rows for rows, _ in held]), torch.cat([features for _, features in held])


def _blend(memory: CentroidsMemory, config: Config, fresh: bool = False) -> None:
    """Eq. 3; the first epoch (and the naive update) keeps nothing of the old centroids."""
    alpha = 0.0 if fresh or config.ecm.naive else config.ecm.alpha
    memory.apply(alpha, renorm=config.ecm.renorm)


def _empty_memory(table: Table, labels: np.ndarray, like: Tensor, config: Config) -> CentroidsMemory:
    single = (table.videos >= 0) & (labels >= 0)
    pids, first = np.unique(labels[single], return_index=True)
    pairs = np.unique(np.stack([labels[single], table.videos[single]]), axis=1)
    if config.rm.on and config.rm.scope == "video" and pairs.shape[1] > len(pids):
        pid = pairs[0, np.flatnonzero(np.diff(pairs[0]) == 0)[0]]
        raise ValueError(
            f"single-camera label {pid} has images in several videos, but rm.scope is 'video': number people "
            "per video, or set rm.scope to 'global'"
        )
    videos = torch.from_numpy(table.videos[single][first])
    return CentroidsMemory.empty(
        torch.from_numpy(pids), like.shape[1], videos=videos, dtype=like.dtype, device=like.device
    )


def _remap(queue: tuple[int, ...], labels: np.ndarray, roots: np.ndarray) -> tuple[int, ...]:
    """Queue entries after merging: roots of the PIDs that still exist, the newest of duplicates."""
    root = dict(zip(labels.tolist(), roots.tolist(), strict=True))
    newest_first = dict.fromkeys(root[pid] for pid in reversed(queue) if pid in root)
    return tuple(reversed(newest_first))
