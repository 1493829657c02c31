"""Datasets: readers of real layouts, one `Table` for all; images and views are in their own modules."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from dynamix.data.luperson import luperson_nl
from dynamix.data.market1501 import market1501
from dynamix.data.table import Table, check_trainable, concat, statistics

WORLDS = ("plaza", "campus", "hall", "station", "studio")  # the embedded benchmark's multi-camera worlds

READERS: dict[str, Callable[..., Table]] = {
    "market1501": market1501,
    "luperson_nl": luperson_nl,
    **{world: partial(market1501, source=world) for world in WORLDS},
    "videos": partial(luperson_nl, source="videos"),
}


def load(name: str, root: str | Path, split: str = "train") -> Table:
    """The table of dataset `name` in its own folder `root`; split: train, query, gallery or all.

    Raises ValueError on an unknown name or split, FileNotFoundError when the files are not there.
    """
    if name not in READERS:
        raise ValueError(f"unknown dataset {name!r}; there are {', '.join(READERS)}")
    return READERS[name](root, split)


__all__ = ["READERS", "WORLDS", "Table", "check_trainable", "concat", "load", "statistics"]
