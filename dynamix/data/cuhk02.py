"""CUHK02."""

from pathlib import Path

from dynamix.data.table import Table


def cuhk02(root: str | Path, split: str = "train", *, source: str = "cuhk02", on_bad_image: str = "error") -> Table:
    """Not written yet."""
    raise NotImplementedError
