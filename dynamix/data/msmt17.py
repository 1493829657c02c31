"""MSMT17: V1, V2, the Market-style copy, and all of it merged for training."""

from pathlib import Path

from dynamix.data.table import Table

SPLITS = ("train", "query", "gallery", "all", "train_list", "val_list")


def msmt17(root: str | Path, split: str = "train", *, source: str = "msmt17", on_bad_image: str = "error") -> Table:
    """Not written yet."""
    raise NotImplementedError


def msmt17_merged(root: str | Path, split: str = "train", *, source: str = "msmt17_merged", on_bad_image: str = "error") -> Table:
    """Not written yet."""
    raise NotImplementedError
