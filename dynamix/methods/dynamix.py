"""DynaMix: the epoch (Sec. 3) and the objective (Eq. 1), wired from the paper's modules.

refresh   embed → relabel → Efficient Centroids → merge        once an epoch, one streaming pass
batches   Data Sampling plans the epoch's mini-batches
objective L = L_ins + L_aug + L_cen + gamma · L_cc             every step
"""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dynamix import distributed, losses
from dynamix.centroids import CentroidsMemory, MultiCentroids, multi_centroids
from dynamix.config import Config, Relabeling
from dynamix.data.table import Table
from dynamix.data.views import send
from dynamix.relabeling import (
    Relabeled,
    RelabelingReport,
    calibrate,
    explosion,
    merge_pids,
    relabel,
    report,
)
from dynamix.sampling import MixedBatches

# Rows to embed -> chunks of (rows (n,), unit momentum features (n, D)).
Embed = Callable[[np.ndarray], Iterator[tuple[Tensor, Tensor]]]

DRAW = 0x0D2A  # keeps this module's random stream apart from the sampler's and the views'
SEARCHED = 4096  # features compared with the memory at a time
KEEP_FEATURES_GB = 2.0  # `compare: blended` keeps the drawn features up to this size, else embeds twice


@dataclass(frozen=True)
class State:
    """What survives from epoch to epoch besides the networks."""

    labels: np.ndarray  # (N,) current identity keys, multi- and single-camera
    memory: CentroidsMemory | None = None  # single-camera centroids; None before the first refresh
    queue: tuple[int, ...] = ()  # single-camera PIDs sampled lately, oldest first


@dataclass(frozen=True)
class Refresh:
    """What one epoch trains with."""

    labels: np.ndarray  # (N,) labels to train on this epoch
    removed: np.ndarray  # (N,) bool: not sampled this epoch
    multi: MultiCentroids
    single: CentroidsMemory | None  # centroids of this epoch's single-camera PIDs
    queue: tuple[int, ...]
    report: RelabelingReport | None  # None without single-camera data or before relabeling starts


def start(table: Table) -> State:
    """The state before the first epoch: the tracker's labels, no centroids, an empty queue."""
    return State(labels=table.labels.copy())


def refresh(
    state: State, table: Table, embed: Embed, config: Config, epoch: int, *, spend: bool = False
) -> tuple[State, Refresh]:
    """Centroids and labels of one epoch (Secs. 3.2-3.3): a streaming pass in O(P x D) memory.

    `embed` runs the momentum encoder as it stands after the previous epoch; on one of several ranks it yields
    that rank's share. `spend` takes over the centroids of `state`, which is then of no more use: a GPU has
    little room for a second copy of those of millions of identities.
    """
    single = table.videos >= 0
    multi_rows = np.flatnonzero(~single & (table.labels >= 0))
    multi = multi_centroids(embed(multi_rows), np.where(single, -1, table.labels), table.camids)
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
    mapping = merge_pids(live, tau_merge=rm.tau_merge, scope=rm.scope)

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
