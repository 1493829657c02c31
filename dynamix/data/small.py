"""The four small sets: PRID2011, GRID, VIPeR, iLIDS."""

from pathlib import Path

from dynamix.data.table import Table


def prid(root: str | Path, split: str = "train", *, source: str = "prid", split_id: int = 0, on_bad_image: str = "error") -> Table:
    """Not written yet."""
    raise NotImplementedError


def grid(root: str | Path, split: str = "train", *, source: str = "grid", split_id: int = 0, on_bad_image: str = "error") -> Table:
    """Not written yet."""
    raise NotImplementedError


def viper(root: str | Path, split: str = "train", *, source: str = "viper", split_id: int = 0, on_bad_image: str = "error") -> Table:
    """Not written yet."""
    raise NotImplementedError


def ilids(root: str | Path, split: str = "train", *, source: str = "ilids", split_id: int = 0, on_bad_image: str = "error") -> Table:
    """Not written yet."""
    raise NotImplementedError
