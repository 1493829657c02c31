"""Datasets: readers of real layouts, one `Table` for all; images and views are in their own modules."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from dynamix.data import msmt17 as _msmt17
from dynamix.data.cuhk02 import cuhk02
from dynamix.data.cuhk03 import cuhk03
from dynamix.data.cuhk_sysu import cuhk_sysu
from dynamix.data.dukemtmc import dukemtmc
from dynamix.data.luperson import luperson, luperson_nl
from dynamix.data.mannequins.reader import world
from dynamix.data.market1501 import market1501
from dynamix.data.randperson import randperson
from dynamix.data.small import grid, ilids, prid, viper
from dynamix.data.table import Table, check_trainable, concat, statistics

WORLDS = ("plaza", "campus", "hall", "station", "studio")  # the embedded benchmark's multi-camera worlds
TESTED = ("train", "query", "gallery", "all")
TRAIN_ONLY = ("train", "all")


@dataclass(frozen=True)
class Dataset:
    """How a dataset is read: `read(root, split, on_bad_image=..., [split_id=...])`, and its splits."""

    read: Callable[..., Table]
    splits: tuple[str, ...] = TESTED
    trials: int = 1  # random divisions of a small set into train and test, chosen by split_id
    single_camera: bool = False


DATASETS: dict[str, Dataset] = {
    "market1501": Dataset(market1501),
    "dukemtmc": Dataset(dukemtmc),
    "cuhk03_detected": Dataset(partial(cuhk03, variant="detected")),
    "cuhk03_labeled": Dataset(partial(cuhk03, variant="labeled")),
    "msmt17": Dataset(_msmt17.msmt17, _msmt17.SPLITS),
    "msmt17_merged": Dataset(_msmt17.msmt17_merged, TRAIN_ONLY),
    "randperson": Dataset(randperson, TRAIN_ONLY),
    "cuhk02": Dataset(cuhk02),
    "cuhk_sysu": Dataset(cuhk_sysu, TRAIN_ONLY),
    "prid": Dataset(prid, trials=10),
    "grid": Dataset(grid, trials=10),
    "viper": Dataset(viper, trials=10),
    "ilids": Dataset(ilids, trials=10),
    "luperson": Dataset(luperson, TRAIN_ONLY, single_camera=True),
    "luperson_nl": Dataset(luperson_nl, TRAIN_ONLY, single_camera=True),
    **{name: Dataset(partial(world, source=name)) for name in WORLDS},
    "videos": Dataset(partial(luperson_nl, source="videos"), TRAIN_ONLY, single_camera=True),
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
    """The table of dataset `name` in its own folder `root` (or the folder above); split: see `Dataset`.

    `split_id` 0..9 chooses the division of prid, grid, viper and ilids (default 0). With `on_bad_image`
    "skip", files that cannot be placed are left out with a warning that counts them. Raises ValueError on
    an unknown name or split, FileNotFoundError when the files are not there.
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
