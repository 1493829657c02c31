"""RandPerson's subset."""

from pathlib import Path

from dynamix.data.table import Table


def randperson(root: str | Path, split: str = "train", *, source: str = "randperson", on_bad_image: str = "error") -> Table:
    """Not written yet."""
    raise NotImplementedError
