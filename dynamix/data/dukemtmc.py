"""DukeMTMC-reID."""

from pathlib import Path

from dynamix.data.table import Table


def dukemtmc(root: str | Path, split: str = "train", *, source: str = "dukemtmc", on_bad_image: str = "error") -> Table:
    """Not written yet."""
    raise NotImplementedError
