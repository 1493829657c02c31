"""A run as data: settings, what it trains on, what it starts from, what it is scored on."""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np

from dynamix import data
from dynamix.config import Config, identity
from dynamix.data.mannequins import worlds
from dynamix.data.table import Table
from dynamix.experiments import datasets, starts
from dynamix.experiments.datasets import Part, parts
from dynamix.experiments.labels import Labels, mended

TEST_WORLDS = ("station", "hall")  # reported; whatever must be chosen is chosen on campus
SOURCES, SINGLE = ("plaza",), ("videos",)  # what the Mannequins profiles train on


@dataclass(frozen=True, kw_only=True)
class Spec:
    """A run. Datasets are written NAME or NAME:SPLIT."""

    name: str
    config: Config
    labels: Labels = "tracker"
    sources: tuple[str, ...] = SOURCES
    single: tuple[str, ...] = SINGLE
    score_on: tuple[str, ...] = TEST_WORLDS
    score_every: int = 4  # epochs between scores on the way, for the curves
    start: Literal["scratch", "pretrained"] = "scratch"
    weights: Path | None = None  # of a pretrained start; None: pre-training on the single-camera images
    folder: Path | None = None  # holds the datasets; None: the embedded benchmark

    @property
    def trained_on(self) -> tuple[tuple[Part, ...], tuple[Part, ...]]:
        """Multi-camera parts, single-camera parts (none where batches have no room for them)."""
        return parts(self.sources), parts(self.single) if self.config.batch.ids_single else ()

    @cached_property
    def key(self) -> str:
        """Folder name: the config's identity, seed included, and what is not in the config."""
        (sources, single), suffix = self.trained_on, ""
        names = tuple(str(part).replace(":", ".") for part in (*sources, *single))
        if names != (*SOURCES, *(SINGLE if single else ())):
            suffix += f"-{'+'.join(names)}"
        suffix += "" if self.labels == "tracker" else f"-{self.labels}"
        if self.start == "pretrained" and self.weights is None:
            suffix += f"-moco{starts.key(self.config)}"  # other weights stand in the config, by checksum
        world = f"-w{worlds.VERSION}" if self.folder is None else ""
        return f"{self.config.profile}-{identity(self.config)}{world}{suffix}"

    def roots(self) -> dict[str, Path]:
        """Where everything that it trains on and is scored on lies; worlds are drawn when missing."""
        sources, single = self.trained_on
        names = (*(part.name for part in (*sources, *single)), *self.score_on)
        return datasets.roots_of(names, self.folder, self.config)


def training_table(spec: Spec, roots: dict[str, Path]) -> tuple[Table, np.ndarray]:
    """Rows to train on and their true identities (N,): −1 for junk; multi-camera rows by their label.

    Raises ValueError on real single-camera data, which has no known truth.
    """
    table, truth = table_of(spec, roots)
    if truth is None:
        raise ValueError(f"{spec.name}: nobody knows the true identities of {', '.join(spec.single)}")
    return table, truth


def table_of(spec: Spec, roots: dict[str, Path]) -> tuple[Table, np.ndarray | None]:
    """The same, with None for a truth that nobody knows; ValueError where the run is to train on it."""
    sources, single = spec.trained_on
    skip = spec.config.on_bad_image
    if spec.folder is not None:  # worlds keep their splits apart by construction
        datasets.refuse_leaks(sources, parts(spec.score_on), roots, on_bad_image=skip)
    table = datasets.training_table(sources, single, roots, on_bad_image=skip)
    truth = table.labels.copy()
    if single:
        known = _known(table, single, roots)
        if known is None:
            if spec.labels != "tracker":
                raise ValueError(
                    f"{spec.name} needs true identities, which {single[0]} does not have: "
                    "leave this row out (--rows), or run it on the embedded benchmark"
                )
            return table, None
        clips = table.videos >= 0
        first = truth.max() + 1  # true identities share no number with the labels of other sources
        truth[clips] = np.where(known >= 0, known + first, -1)
    if single and spec.labels != "tracker":
        table = replace(table, labels=mended(table.labels, truth, spec.labels))
    return table, truth


def _known(table: Table, single: tuple[Part, ...], roots: dict[str, Path]) -> np.ndarray | None:
    """True identities of the single-camera rows, where all their sources are worlds."""
    if any(part.name not in worlds.NAMES for part in single):
        return None
    if len(single) > 1:
        raise ValueError("several single-camera worlds number their people alike: name one")
    videos = data.load(single[0].name, roots[single[0].name], single[0].split)
    return worlds.truth(roots[single[0].name]).of(videos)
