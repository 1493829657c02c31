"""Datasets by name: where they lie, the table to train on, an encoder's scores on their query and gallery.

A dataset is written NAME or NAME:SPLIT (`msmt17`, `market1501:all`); names and splits are `data.DATASETS`.
"""

import itertools
import os
import re
import statistics
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from dynamix import data, evaluation, features
from dynamix.config import Config
from dynamix.data import images as imagery
from dynamix.data.mannequins import worlds
from dynamix.data.table import Paths, Table, from_columns

CHUNK = 256  # images embedded at a time
METRICS = ("rank1", "rank5", "rank10", "mAP", "mINP")


@dataclass(frozen=True)
class Part:
    """A split of a dataset."""

    name: str
    split: str = "train"

    def __str__(self) -> str:
        return self.name if self.split == "train" else f"{self.name}:{self.split}"


def parts(texts: Iterable[str], *, tested: bool = False) -> tuple[Part, ...]:
    """`NAME` or `NAME:SPLIT`, commas between several; `tested` ones have no split to choose.

    Raises ValueError on a name or split there is not.
    """
    found = []
    for text in ",".join(texts).split(","):
        name, _, split = text.strip().partition(":")
        if not name:
            continue
        known, split = data.dataset(name), split or "train"
        if split not in known.splits:
            raise ValueError(f"{name} has no split {split!r}: use {', '.join(known.splits)}")
        if tested and ":" in text:
            raise ValueError(f"{text}: a target is scored on its query and gallery; write {name} alone")
        found.append(Part(data.ALIASES.get(name, name), split))
    return tuple(found)


def roots_of(
    names: Iterable[str], folder: Path | None, config: Config, *, named_by: str = "--targets"
) -> dict[str, Path]:
    """Where each dataset lies: in `folder`, or in the cache of the embedded benchmark.

    `named_by` are the options that errors advise. Raises FileNotFoundError or ValueError.
    """
    names = tuple(dict.fromkeys(names))
    if folder is None:
        unknown = [name for name in names if name not in worlds.NAMES]
        if unknown:
            raise ValueError(
                f"{unknown[0]!r} is not a world of the embedded benchmark ({', '.join(worlds.NAMES)}): "
                "say where the dataset lies with --data FOLDER"
            )
        return worlds.build(config.mannequins, worlds=names)
    folder = Path(os.path.expanduser(folder))
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {folder}: give the one that holds the datasets with --data")
    return {name: _root(name, folder, named_by) for name in names}


def _root(name: str, folder: Path, named_by: str) -> Path:
    """The folder to give a reader: its own of a world; a reader finds a real dataset in or below `folder`."""
    if name in worlds.NAMES and (folder / name).is_dir():
        return folder / name
    # A world is never looked for under a real dataset's folder name: its numbers would carry the wrong name.
    if name in worlds.NAMES and not (folder / worlds.TRUTH).is_file():
        raise FileNotFoundError(
            f"no Mannequins world {name!r} in {folder}: name the datasets that lie there "
            f"({named_by}; `dynamix check` lists them)"
        )
    return folder


def training_table(
    sources: Sequence[Part], single: Sequence[Part], roots: dict[str, Path], *, on_bad_image: str = "error"
) -> Table:
    """Multi-camera `sources` and `single`-camera ones, one table. Raises ValueError on mixed-up kinds."""
    groups = [(part, False) for part in sources] + [(part, True) for part in single]
    for part, wanted in groups:
        if data.dataset(part.name).single_camera not in (wanted, None):
            raise _mixed_up(part, wanted)
    tables = []
    for part, wanted in groups:
        table = data.load(part.name, roots[part.name], part.split, on_bad_image=on_bad_image)
        if bool((table.videos >= 0).any()) != wanted:
            raise _mixed_up(part, wanted)
        tables.append(table)
    for number, table in enumerate(tables[: len(sources)]):
        for other in tables[:number]:
            if (shared := _shared(table, other)) is not None:
                raise ValueError(
                    f"{other.source_names[0]} and {table.source_names[0]} both hold {shared}: "
                    "its person would be two identities; train on one of them"
                )
    return data.concat(tables)


def _mixed_up(part: Part, wanted: bool) -> ValueError:
    kind, option = ("multi", "--sources") if wanted else ("single", "--single")
    return ValueError(f"{part.name} is {kind}-camera data: give it with {option}")


def refuse_leaks(
    sources: Sequence[Part], targets: Sequence[Part], roots: dict[str, Path], *, on_bad_image: str = "error"
) -> None:
    """Raise ValueError when an image to be scored on is trained on: the score would say nothing."""
    for part, target in itertools.product(sources, targets):
        if roots[part.name] != roots[target.name] and part.name != target.name:
            continue
        table = data.load(part.name, roots[part.name], part.split, on_bad_image=on_bad_image)
        for split in ("query", "gallery"):
            tested = data.load(target.name, roots[target.name], split, on_bad_image=on_bad_image)
            if (shared := _shared(table, tested)) is not None:
                raise ValueError(
                    f"{part} holds {shared}, which is a {split} image of the target {target.name}: "
                    "train on another split, or test on another dataset"
                )


def _shared(one: Table, other: Table) -> str | None:
    """An image of both tables."""
    if not set(one.paths.folders) & set(other.paths.folders):
        return None
    return next(iter(set(one.paths) & set(other.paths)), None)


def sides(name: str, root: Path, *, on_bad_image: str = "error", trial: int = 0) -> tuple[Table, Table]:
    """Query and gallery of a dataset. Raises ValueError where it has none."""
    if "query" not in data.dataset(name).splits:
        raise ValueError(f"{name} has no query and gallery images: it is training data")
    query, gallery = (
        data.load(name, root, split, on_bad_image=on_bad_image, split_id=trial)
        for split in ("query", "gallery")
    )
    return query, gallery


def check_images(tables: Iterable[Table]) -> None:
    """Decode every image once, with a progress bar. Raises what the first unreadable one raises."""
    for table in tables:
        with ThreadPoolExecutor(imagery.cores()) as pool:
            decoded = pool.map(imagery.decode, table.paths)
            for _ in tqdm(decoded, f"looking at {table.source_names[0]}", len(table), delay=2, leave=False):
                pass


@dataclass(frozen=True)
class Scored:
    """Scores on one dataset, shares in [0, 1]; of several random divisions: their mean, each in `trials`."""

    rank1: float
    rank5: float
    rank10: float
    mAP: float
    mINP: float
    valid_queries: int
    query: int  # images
    gallery: int
    note: str  # variant of the dataset, images skipped
    trials: tuple[dict[str, float], ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """As it stands in result files."""
        return asdict(self) | {"trials": list(self.trials)}


def score(
    encoder: nn.Module,
    config: Config,
    root: Path,
    name: str,
    device: torch.device,
    *,
    on_bad_image: str = "error",
    progress: bool = False,
) -> Scored:
    """Rank-k, mAP and mINP of `encoder` on the query and gallery images of a dataset (Sec. 4.1).

    prid, grid, viper and ilids: the mean of their ten divisions, every image embedded once.
    """
    trials = range(data.dataset(name).trials)
    pairs = [sides(name, root, on_bad_image=on_bad_image, trial=trial) for trial in trials]
    paths, index = _distinct([table.paths for pair in pairs for table in pair])
    embedded, known = _embed(encoder, config, paths, device, on_bad_image, progress)
    scores, at = [], 0
    for query, gallery in pairs:
        q = index[at : at + len(query)]
        g = index[at + len(query) : at + len(query) + len(gallery)]
        at += len(query) + len(gallery)
        scores.append(_evaluate(embedded, known, (query, q), (gallery, g)))
    return _mean(scores, pairs[0], int((~known).sum()))


def variant(table: Table) -> str:
    """Which variant of a dataset its query or gallery is, without saying which of the two."""
    return re.sub(r"^(query|gallery)\b[:,]? ?", "", table.notes[0])


def _distinct(several: Sequence[Paths]) -> tuple[Paths, np.ndarray]:
    """Every path once, and which of them each row of the tables is, table after table."""
    names = [path for paths in several for path in paths]
    first = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return Paths.of(list(first)), np.fromiter((first[name] for name in names), np.int64, len(names))


def _embed(
    encoder: nn.Module,
    config: Config,
    paths: Paths,
    device: torch.device,
    on_bad_image: str,
    progress: bool,
) -> tuple[Tensor, np.ndarray]:
    """Unit features (n, D), and which of the images could be read (n,)."""
    none = np.zeros(len(paths), np.int64)
    images = imagery.Images.of(
        from_columns("", paths, none, camids=none), config.encoder.image, memory_gb=config.memory_gb,
        on_bad_image=on_bad_image, progress=progress,
    )  # fmt: skip
    chunks = imagery.chunks(images, np.arange(len(paths)), CHUNK, workers=config.workers)
    found: Tensor | None = None
    extracted = features.extract(encoder, chunks, device=device, normalization=config.encoder.normalization)
    bar = tqdm(
        extracted, "embedding", -(-len(paths) // CHUNK), unit_scale=CHUNK, unit="image", delay=2,
        disable=not progress, leave=False,
    )  # fmt: skip
    for rows, chunk in bar:
        found = chunk.new_zeros(len(paths), chunk.shape[1]) if found is None else found
        found[rows] = chunk
    if found is None:
        raise ValueError("none of the query and gallery images can be read: see `dynamix check`")
    known = np.ones(len(paths), bool)
    known[list(images.skipped)] = False
    return found, known


def _evaluate(
    embedded: Tensor, known: np.ndarray, query: tuple[Table, np.ndarray], gallery: tuple[Table, np.ndarray]
) -> evaluation.Scores:
    sides = []
    for table, index in (query, gallery):
        kept = known[index]
        sides.append((embedded[index[kept]], table.select(kept)))
    (q, asked), (g, searched) = sides
    return evaluation.evaluate(q, g, asked.pids, searched.pids, asked.camids, searched.camids)


def _mean(scores: Sequence[evaluation.Scores], first: Sequence[Table], skipped: int) -> Scored:
    trials = tuple(
        {
            "rank1": float(one.cmc[0]),
            "rank5": float(one.cmc[min(4, len(one.cmc) - 1)]),
            "rank10": float(one.cmc[min(9, len(one.cmc) - 1)]),
            "mAP": one.mAP,
            "mINP": one.mINP,
        }
        for one in scores
    )
    means = {metric: statistics.mean(trial[metric] for trial in trials) for metric in METRICS}
    notes = [note for note in dict.fromkeys(variant(table) for table in first) if note]
    if len(trials) > 1:
        said = dict.fromkeys(", ".join(notes).split(", "))  # query's and gallery's, each once
        notes = [", ".join(word for word in said if word and not re.fullmatch(r"(official )?split 0", word))]
        notes = [*filter(None, notes), f"mean of {len(trials)} random divisions"]
    notes += [f"{skipped} unreadable images skipped"] if skipped else []
    return Scored(
        **means,
        valid_queries=scores[0].valid_queries,
        query=len(first[0]),
        gallery=len(first[1]),
        note="; ".join(notes),
        trials=trials if len(trials) > 1 else (),
    )
