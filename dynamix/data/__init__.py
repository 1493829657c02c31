"""Datasets: readers of real layouts, one `Table` for all; images and views are in their own modules."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from dynamix.data import (
    cuhk02,
    cuhk03,
    cuhk_sysu,
    dukemtmc,
    luperson,
    market1501,
    msmt17,
    own,
    randperson,
    small,
)
from dynamix.data.find import Home
from dynamix.data.mannequins import reader
from dynamix.data.table import Table, check_trainable, concat, statistics

WORLDS = ("plaza", "campus", "hall", "station", "studio")  # the embedded benchmark's multi-camera worlds
TESTED = ("train", "query", "gallery", "all")
TRAIN_ONLY = ("train", "all")


@dataclass(frozen=True)
class Dataset:
    """Where a dataset lies and how `read(root, split, on_bad_image=..., [split_id=...])` reads it."""

    read: Callable[..., Table]
    home: Home
    splits: tuple[str, ...] = TESTED
    trials: int = 1  # random divisions of a small set into train and test, chosen by split_id
    single_camera: bool | None = False  # None: its file tells


DATASETS: dict[str, Dataset] = {
    "market1501": Dataset(market1501.market1501, market1501.HOME),
    "dukemtmc": Dataset(dukemtmc.dukemtmc, dukemtmc.HOME),
    **{
        f"cuhk03_{variant}": Dataset(partial(cuhk03.cuhk03, variant=variant), cuhk03.home(variant))
        for variant in cuhk03.VARIANTS
    },
    "msmt17": Dataset(msmt17.msmt17, msmt17.HOME, msmt17.SPLITS),
    "msmt17_merged": Dataset(msmt17.msmt17_merged, msmt17.HOME_MERGED, TRAIN_ONLY),
    "randperson": Dataset(randperson.randperson, randperson.HOME, TRAIN_ONLY),
    "cuhk02": Dataset(cuhk02.cuhk02, cuhk02.HOME),
    "cuhk_sysu": Dataset(cuhk_sysu.cuhk_sysu, cuhk_sysu.HOME, TRAIN_ONLY),
    "prid": Dataset(small.prid, small.PRID, trials=10),
    "grid": Dataset(small.grid, small.GRID, trials=10),
    "viper": Dataset(small.viper, small.VIPER, trials=10),
    "ilids": Dataset(small.ilids, small.ILIDS, trials=10),
    "luperson": Dataset(luperson.luperson, luperson.HOME, TRAIN_ONLY, single_camera=True),
    "luperson_nl": Dataset(luperson.luperson_nl, luperson.HOME_NL, TRAIN_ONLY, single_camera=True),
    **{name: Dataset(partial(reader.world, source=name), reader.home(name)) for name in WORLDS},
    "videos": Dataset(
        partial(luperson.luperson_nl, source="videos"), reader.home("videos"), TRAIN_ONLY, single_camera=True
    ),
    "own": Dataset(own.own, own.home("own"), single_camera=None),
    "own_videos": Dataset(
        partial(own.own, source="own_videos"), own.home("own_videos"), TRAIN_ONLY, single_camera=True
    ),
}
# The papers say CUHK03 and mean the new protocol; DynaMix's counts are those of the detected boxes.
ALIASES = {"cuhk03": "cuhk03_detected", "duke": "dukemtmc", "market": "market1501", "prid2011": "prid"}


def dataset(name: str) -> Dataset:
    """The dataset called `name`; raises ValueError listing those that exist."""
    if ALIASES.get(name, name) not in DATASETS:
        raise ValueError(f"unknown dataset {name!r}; there are {', '.join(DATASETS)}")
    return DATASETS[ALIASES.get(name, name)]


def load(
    name: str,
    root: str | Path,
    split: str = "train",
    *,
    split_id: int | None = None,
    on_bad_image: str = "error",
) -> Table:
    """The table of dataset `name` in its own folder `root` (or one above it: `find`); split: see `Dataset`.

    `split_id` 0..9 chooses the division of prid, grid, viper and ilids (default 0). With `on_bad_image`
    "skip", files that cannot be placed are left out with a warning that counts them. Raises ValueError on
    an unknown name or split and on several copies, FileNotFoundError when the files are not there.
    """
    found = dataset(name)
    options: dict[str, Any] = {"on_bad_image": on_bad_image}
    if split_id is not None:
        if not 0 <= split_id < found.trials:
            raise ValueError(f"{name} has split_id 0 to {found.trials - 1}, got {split_id}")
        if found.trials > 1:
            options["split_id"] = split_id
    return found.read(root, split, **options)


__all__ = [
    "ALIASES", "DATASETS", "WORLDS", "Dataset", "Table", "check_trainable", "concat", "dataset", "load",
    "statistics",
]  # fmt: skip
