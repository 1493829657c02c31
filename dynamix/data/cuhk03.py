"""CUHK03 under the new protocol (CUHK03-NP)."""

from pathlib import Path

from dynamix.data.table import Table


def cuhk03(root: str | Path, split: str = "train", *, variant: str = "detected", source: str = "", on_bad_image: str = "error") -> Table:
    """Not written yet."""
    raise NotImplementedError
