"""CUHK-SYSU's person crops, in three layouts."""

from pathlib import Path

from dynamix.data.table import Table


def cuhk_sysu(root: str | Path, split: str = "train", *, source: str = "cuhk_sysu", on_bad_image: str = "error") -> Table:
    """Not written yet."""
    raise NotImplementedError
