"""DynaMix: the epoch (Sec. 3) and the objective (Eq. 1), wired from the paper's modules.

refresh   embed → relabel → Efficient Centroids → merge        once an epoch, one streaming pass
batches   Data Sampling plans the epoch's mini-batches
objective L = L_ins + L_aug + L_cen + gamma · L_cc             every step
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dynamix import losses
from dynamix.centroids import CentroidsMemory, MultiCentroids, multi_centroids
from dynamix.config import Config
from dynamix.data.table import Table
from dynamix.relabeling import Relabeled, RelabelingReport, calibrate, map_labels, merge_pids, relabel, report
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


def refresh(state: State, table: Table, embed: Embed, config: Config, epoch: int) -> tuple[State, Refresh]:
    """Centroids and labels of one epoch (Secs. 3.2-3.3): a streaming pass in O(P x D) memory.

    `embed` runs the momentum encoder as it stands after the previous epoch.
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
        memory = state.memory.copy()
    if fresh or not config.rm.on or epoch < config.rm.start_epoch:
        for rows, features in embed(drawn):
            memory.accumulate(features, torch.from_numpy(labels[rows.numpy()]).to(features.device))
        _blend(memory, config, fresh)
        queue = _remap(state.queue, memory.labels.cpu().numpy(), memory.labels.cpu().numpy())
        done = Refresh(labels, nothing, multi, memory, queue, None)
        return State(labels, memory, queue), done
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
    rm = config.rm
    compared, chunks = _compared_with(memory, labels, drawn, embed, config)
    if rm.calibrate == "cross_video":
        tau_rel, tau_merge = calibrate(compared)
        rm = replace(rm, tau_rel=tau_rel, tau_remove=min(rm.tau_remove, tau_rel), tau_merge=tau_merge)
    refined, removed = labels.copy(), np.zeros(len(labels), dtype=bool)
    similarity = torch.full((len(labels),), -torch.inf)  # of the drawn images
    by_video = rm.scope == "video"
    for rows, features in _larger(chunks):
        at = rows.numpy()
        old = torch.from_numpy(labels[at]).to(features.device)
        videos = torch.from_numpy(table.videos[at]).to(features.device) if by_video else None
        result = relabel(
            features, old, compared, tau_rel=rm.tau_rel, tau_remove=rm.tau_remove, reading=rm.reading,
            videos=videos,
        )  # fmt: skip
        memory.accumulate(features, torch.where(result.removed, -1, result.labels))
        refined[at], removed[at] = result.labels.cpu().numpy(), result.removed.cpu().numpy()
        similarity[rows] = result.similarity.float().cpu()

    if config.ecm.before_merge:
        _blend(memory, config)
    single = table.videos >= 0
    owned, counts = np.unique(refined[single & (refined >= 0)], return_counts=True)
    live = memory.select(torch.from_numpy(owned).to(memory.labels.device))  # PIDs that own an image
    mapping = merge_pids(live, tau_merge=rm.tau_merge, scope=rm.scope)
    weights = torch.from_numpy(counts).to(live.labels.device) if rm.merge_centroid == "weighted" else None
    merged = live.merged(mapping, weights)
    if not config.ecm.before_merge:
        _blend(merged, config)
    if rm.reset_labels_each_epoch:
        _blend(memory, config)  # merging first left it as it was; the next epoch starts from it

    final = refined.copy()
    final[single] = map_labels(torch.from_numpy(refined[single]), live, mapping).cpu().numpy()
    old, new, gone = (torch.from_numpy(x[single]) for x in (labels, refined, removed))
    found = report(old, Relabeled(new, gone, similarity[torch.from_numpy(single)]), live, mapping)
    queue = _remap(queue, owned, mapping.cpu().numpy())
    # Refining the tracker's labels afresh keeps the memory unmerged; merged PIDs are this epoch's view.
    keep = State(labels, memory, queue) if rm.reset_labels_each_epoch else State(final, merged, queue)
    return keep, Refresh(final, removed, multi, merged, queue, found)


def draw_images(labels: np.ndarray, single: np.ndarray, config: Config, epoch: int) -> np.ndarray:
    """Rows of min(K, n_k) images per single-camera PID, drawn without replacement (Sec. 3.3)."""
    rows = np.flatnonzero(single & (labels >= 0))
    if config.ecm.K == "all" or config.ecm.naive:
        return rows
    order = np.random.default_rng([config.seed, epoch, DRAW]).permutation(len(rows))
    rows = rows[order[np.argsort(labels[rows][order], kind="stable")]]  # by PID, shuffled within
    first = np.searchsorted(labels[rows], labels[rows])  # where each row's PID begins
    return np.sort(rows[np.arange(len(rows)) - first < config.ecm.K])


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
) -> Objective:
    """The terms of Eq. 1; `weights` has gamma. `views` maps "v0", "v1", "v2" to normalized images."""
    names = VIEWS[config.aug.views]
    features = {name: _full(encoder(views[name])) for name in names.encoder}
    with torch.no_grad():
        keys = {name: _full(momentum(views[name])) for name in names.momentum}
    f_ins, f_aug = features[names.instance[0]], features[names.augmentation[0]]
    m_ins, m_aug = keys[names.instance[1]], keys[names.augmentation[1]]
    labels, single, camids = epoch.labels[rows], epoch.single[rows], epoch.camids[rows]
    centroids, centroid_labels = epoch.centroids(labels, config.cen.scope, config.cen.use_single != "off")
    terms = {
        "ins": _instance(f_ins, m_ins, labels, single, config),
        "aug": _augmentation(f_aug, m_aug, labels, single, config),
        "cen": _centroids(f_ins, labels, single, centroids, centroid_labels, config),
        "cc": _camera(f_ins, labels, camids, epoch.multi, config),
    }
    return Objective(terms, _logit_range(f_ins.detach(), single, centroids, config))


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


@dataclass(frozen=True)
class EpochTensors:
    """One epoch's labels and centroids as tensors on the training device."""

    labels: Tensor  # (N,)
    single: Tensor  # (N,) bool
    camids: Tensor  # (N,)
    multi: MultiCentroids
    memory: CentroidsMemory | None

    @classmethod
    def of(cls, done: Refresh, table: Table, device: torch.device) -> "EpochTensors":
        single = torch.from_numpy(table.videos >= 0).to(device)
        labels, camids = torch.from_numpy(done.labels).to(device), torch.from_numpy(table.camids).to(device)
        return cls(labels, single, camids, done.multi, done.single)

    def centroids(self, labels: Tensor, scope: str, use_single: bool) -> tuple[Tensor, Tensor]:
        """Centroids (p, D) and their labels (p,): of the identities in the batch, or of all."""
        tables = [(self.multi.labels, self.multi.centroids)]
        if self.memory is not None and use_single:
            tables.append((self.memory.labels, self.memory.centroids))
        if scope == "batch":
            tables = [_rows_of(labels, *each) for each in tables]
        return torch.cat([c for _, c in tables]), torch.cat([k for k, _ in tables])


def _rows_of(wanted: Tensor, labels: Tensor, centroids: Tensor) -> tuple[Tensor, Tensor]:
    """Those of `wanted` (repeats allowed) that stand in the ascending `labels`, with their centroids."""
    at = torch.searchsorted(labels, wanted).clamp(max=len(labels) - 1)
    found = torch.unique(at[labels[at] == wanted])
    return labels[found], centroids[found]


def _instance(features: Tensor, keys: Tensor, labels: Tensor, single: Tensor, config: Config) -> Tensor:
    ins = config.ins
    if not ins.use_single:
        features, keys, labels, single = (x[~single] for x in (features, keys, labels, single))
    return losses.instance_loss(
        features, keys, labels, single, tau_multi=ins.tau_multi, tau_single=ins.tau_single,
        negatives=ins.negatives, denominator=ins.denominator, include_self=ins.include_self,
    )  # fmt: skip


def _augmentation(features: Tensor, keys: Tensor, labels: Tensor, single: Tensor, config: Config) -> Tensor:
    if not config.aug.use_single:
        features, keys, labels, single = (x[~single] for x in (features, keys, labels, single))
    return losses.augmentation_loss(
        features, keys, labels, single, tau=config.aug.tau, negatives=config.aug.negatives
    )


def _centroids(
    features: Tensor,
    labels: Tensor,
    single: Tensor,
    centroids: Tensor,
    centroid_labels: Tensor,
    config: Config,
) -> Tensor:
    cen = config.cen
    if cen.use_single != "on":
        features, labels, single = features[~single], labels[~single], single[~single]
    # With scope "batch" the gathered rows are the batch's; single centroids stay as negatives
    # under "centroids_only" although no single-camera anchor is left.
    return losses.centroids_loss(
        features, labels, single, centroids, centroid_labels, tau_multi=cen.tau_multi,
        tau_single=cen.tau_single, feature=cen.feature, centroid=cen.centroid, scope="all",
    )  # fmt: skip


def _camera(
    features: Tensor, labels: Tensor, camids: Tensor, multi: MultiCentroids, config: Config
) -> Tensor:
    cc, seen = config.cc, camids >= 0  # neither single-camera rows nor datasets that tell no camera
    return losses.camera_centroids_loss(
        features[seen], labels[seen], camids[seen], multi.camera_centroids, multi.camera_labels,
        multi.camera_camids, tau=cc.tau, hard_negatives=cc.hard_negatives, exclude_own=cc.exclude_own,
        denominator=cc.denominator, reduction=cc.reduction,
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
    _blend(blended, config)
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
