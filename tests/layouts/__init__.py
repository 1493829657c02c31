"""Miniatures of every dataset in its real on-disk layout, with what a reader must find in them.

Written from the datasets' documentation, never with the readers' own code.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image


class Entry(NamedTuple):
    """One image on disk."""

    split: str  # train | query | gallery
    path: str  # relative to the dataset's home; or the LMDB key
    pid: int
    camid: int  # from 0; -1: the dataset does not tell


def draw(path: Path, pid: int, number: int, size: tuple[int, int] = (32, 16)) -> None:
    """A small image whose colors tell the person and whose noise makes its bytes unique."""
    rng = np.random.default_rng([abs(pid), number, pid < 0])
    upper, lower = np.random.default_rng(abs(pid) + 1).integers(40, 216, (2, 3))
    levels = np.where(np.arange(size[0])[:, None, None] < size[0] // 2, upper, lower)
    levels = levels + rng.integers(-30, 31, (*size, 3))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(levels.clip(0, 255).astype(np.uint8)).save(path)
