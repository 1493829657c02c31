"""What the papers' figures show: one epoch of a finished run, with everything the method decided in it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dynamix import checkpoint
from dynamix.centroids import CentroidsMemory, MultiCentroids
from dynamix.config import Config, change
from dynamix.data.table import Table
from dynamix.experiments.figures import Clip, busiest_clip, crops, embedded
from dynamix.experiments.spec import Spec, training_table
from dynamix.methods import dynamix as method
from dynamix.relabeling import calibrate, relabel
from dynamix.sampling import MixedBatches
from dynamix.similarity import unit


@dataclass(frozen=True)
class Stage:
    """Labels, removals and centroids at one stage of relabeling; (N,) each, of all rows of the table."""

    labels: np.ndarray
    removed: np.ndarray
    memory: CentroidsMemory


@dataclass(frozen=True)
class Scene:
    """The epoch after a run's last one: what the method would train with next."""

    config: Config
    table: Table
    truth: np.ndarray  # (N,) true identities, -1 = junk
    features: Tensor  # (N, D) unit, of the momentum encoder
    state: method.State  # before the epoch
    refreshed: method.Refresh

    @property
    def single(self) -> CentroidsMemory:
        """The epoch's single-camera centroids."""
        assert self.refreshed.single is not None
        return self.refreshed.single

    @property
    def multi(self) -> MultiCentroids:
        """The epoch's multi-camera centroids."""
        return self.refreshed.multi

    @cached_property
    def clip(self) -> Clip:
        """The clip with most cuts and switches, whatever became of them; its rows are the table's."""
        single = np.flatnonzero(self.table.videos >= 0)
        found = busiest_clip(self.table.select(single), self.truth[single])
        return replace(found, rows=single[found.rows])

    def crops(self, rows: np.ndarray) -> Tensor:
        """Images of `rows` (...,), uint8 (..., 3, H, W)."""
        return crops(self.table, self.config.encoder.image, rows)

    @cached_property
    def refined(self) -> "Refined":
        """Relabeling step by step, as `methods.dynamix.refresh` goes through it."""
        return refine(self)

    @cached_property
    def pool(self) -> np.ndarray:
        """Single-camera labels that the sampler may draw, ascending."""
        used = (self.table.videos >= 0) & ~self.refreshed.removed & (self.refreshed.labels >= 0)
        labels, images = np.unique(self.refreshed.labels[used], return_counts=True)
        known = self.single.index_of(torch.from_numpy(labels)).numpy() >= 0
        return labels[known & (images >= self.config.dsm.min_images)]

    def similarity(self, multi: np.ndarray, single: np.ndarray) -> Tensor:
        """cos of the centroids of `multi` (R,) and `single` (C,) labels, (R, C)."""
        rows, columns = (torch.from_numpy(np.ascontiguousarray(each)) for each in (multi, single))
        left = torch.searchsorted(self.multi.labels, rows)
        right = self.single.index_of(columns)
        return unit(self.multi.centroids[left]) @ unit(self.single.centroids[right]).T

    def batches(self, mode: str) -> MixedBatches:
        """The epoch's mini-batches under a `dsm.mode`, from an empty queue on: the first sees all PIDs."""
        done, config = self.refreshed, change(self.config, dsm__mode=mode)
        return MixedBatches(
            self.table, done.labels, done.removed, done.single, done.multi, config,
            seed=config.seed, epoch=config.epochs, queue=(),
        )  # fmt: skip


@dataclass(frozen=True)
class Refined:
    """The stages of relabeling, and the similarity that decided (N,), -inf where nothing was compared."""

    tracker: Stage
    filtered: Stage
    relabeled: Stage
    merged: Stage
    similarity: np.ndarray
    compared: CentroidsMemory  # whose similarities merging looked at
    thresholds: tuple[float, float, float]  # tau_remove, tau_rel, tau_merge

    @property
    def stages(self) -> tuple[Stage, Stage, Stage, Stage]:
        return self.tracker, self.filtered, self.relabeled, self.merged


def refine(scene: Scene) -> Refined:
    """Filter, relabel, merge, with the centroids of Eq. 3 for the labels of each stage (Secs. 3.2-3.3).

    Raises ValueError where the run does not relabel.
    """
    config, rm, memory = scene.config, scene.config.rm, scene.state.memory
    if memory is None or not rm.on:
        raise ValueError("the run does not relabel (rm.on is off, or it never had clips): take a DynaMix run")
    single = scene.table.videos >= 0
    labels = scene.table.labels if rm.reset_labels_each_epoch else scene.state.labels
    rows = method.draw_images(labels, single, config, config.epochs)
    features, old = scene.features[rows], torch.from_numpy(labels[rows])

    def blended(labels: Tensor, kept: Tensor) -> CentroidsMemory:
        alpha = 0.0 if config.ecm.naive else config.ecm.alpha
        return memory.copy().update(features[kept], labels[kept], alpha)

    everything = torch.ones(len(rows), dtype=torch.bool)
    compared = memory if rm.compare == "previous" else blended(old, everything)
    if rm.calibrate == "cross_video":
        tau_rel, tau_merge = calibrate(compared)
        rm = replace(rm, tau_rel=tau_rel, tau_remove=min(rm.tau_remove, tau_rel), tau_merge=tau_merge)
    result = relabel(
        features, old, compared, tau_rel=rm.tau_rel, tau_remove=rm.tau_remove, reading=rm.reading,
        videos=torch.from_numpy(scene.table.videos[rows]) if rm.scope == "video" else None,
    )  # fmt: skip
    new, removed, similarity = labels.copy(), np.zeros(len(labels), bool), np.full(len(labels), -np.inf)
    new[rows], removed[rows], similarity[rows] = result.labels, result.removed, result.similarity
    kept = ~result.removed
    return Refined(
        Stage(labels, np.zeros_like(removed), compared),
        Stage(labels, removed, blended(old, kept)),
        Stage(new, removed, blended(result.labels, kept)),
        Stage(scene.refreshed.labels, scene.refreshed.removed, scene.single),
        similarity,
        blended(result.labels, kept) if config.ecm.before_merge else memory,
        (rm.tau_remove, rm.tau_rel, rm.tau_merge),
    )


@dataclass(frozen=True)
class Context:
    """What the figures are drawn from."""

    config: Config  # of the DynaMix run
    roots: Mapping[str, Path]  # world -> its folder
    run: Path | None = None  # folder of that finished run; most figures need it
    # method -> rank-1 on the embedded benchmark in percent, one number per seed
    results: Mapping[str, Sequence[float]] = field(default_factory=dict)

    @cached_property
    def scene(self) -> Scene:
        """The run's next epoch, computed once for all figures."""
        if self.run is None or not (self.run / checkpoint.NAME).is_file():
            where = "no run was given" if self.run is None else f"no finished run at {self.run}"
            profile, seed = self.config.profile, self.config.seed
            raise FileNotFoundError(
                f"{where}: the figure shows that of DynaMix, profile {profile}, seed {seed}; "
                f"train it with `dynamix reproduce table3 --profile {profile}`"
            )
        return scene(self.run, self.roots)


def scene(run: Path, roots: Mapping[str, Path]) -> Scene:
    """The epoch after the last one of the run in folder `run`, trained on the worlds in `roots`."""
    saved = checkpoint.load(run, ("state.", "memory."))
    config, state = saved.config, checkpoint.state_of(saved, torch.device("cpu"))
    table, truth = training_table(Spec(name="DynaMix", config=config), dict(roots))
    if len(table) != len(state.labels):
        raise ValueError(
            f"{run} was trained on {len(state.labels):,} images, the worlds given have {len(table):,}: "
            "build those of its config"
        )
    encoder, _ = checkpoint.load_encoder(run)
    features = embedded(encoder, config, table)

    def embed(rows: np.ndarray) -> Iterator[tuple[Tensor, Tensor]]:
        yield torch.from_numpy(rows), features[torch.from_numpy(rows)]

    _, refreshed = method.refresh(state, table, embed, config, config.epochs)
    if refreshed.single is None:
        raise ValueError(f"{run} was trained without single-camera clips: take a DynaMix run")
    return Scene(config, table, truth, features, state, refreshed)
