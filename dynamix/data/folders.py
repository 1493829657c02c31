"""Reading a dataset's folders: where it lies, which images it holds, what cannot be used of it.

A reader is strict by default: the first file it cannot place is an error. With `on_bad_image="skip"` such
files are left out, counted, and reported in one warning.
"""

import functools
import os
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from dynamix.data.table import Paths, Table, from_columns

# What operating systems, archivers, NAS boxes and notebooks leave beside images; no part of any dataset.
CLUTTER = re.compile(
    r"\..*|__MACOSX|Thumbs\.db|ehthumbs.*\.db|desktop\.ini|@(?:eaDir|Recycle|Recently-Snapshot|__thumb)|"
    r"#recycle|\$RECYCLE\.BIN|System Volume Information|lost\+found",
    re.IGNORECASE,
)
# Pillow opens these but cannot decode them (stubs), or runs another program on them (EPS).
UNDECODED = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"}
MOST = 2**53  # no dataset numbers people beyond what a float holds exactly


@functools.cache
def suffixes() -> frozenset[str]:
    """The endings of image files, as ".jpg": those of every format that Pillow decodes."""
    known = Image.registered_extensions()
    return frozenset(suffix for suffix, form in known.items() if form in Image.OPEN and form not in UNDECODED)


def is_image(name: str) -> bool:
    """Whether a file of this base name is an image: judged by its ending, and no clutter."""
    return os.path.splitext(name)[1].lower() in suffixes() and not CLUTTER.fullmatch(name)


def stem(name: str) -> str:
    """The base name without its ending, also where a release has it twice (Market-1501's .jpg.jpg)."""
    while is_image(name):
        name = os.path.splitext(name)[0]
    return name


class Skipped(UserWarning):
    """Images left out; `problems` says of each why."""

    def __init__(self, text: str, problems: Sequence[str]) -> None:
        super().__init__(text)
        self.problems = tuple(problems)


@dataclass
class Reading:
    """The rows a reader has found so far; rows it cannot use raise, or are counted (`on_bad_image`)."""

    source: str
    home: Path  # paths of rows are relative to it
    on_bad_image: str = "error"
    names: list[str] = field(default_factory=list)
    pids: list[int] = field(default_factory=list)
    camids: list[int] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.on_bad_image not in ("error", "skip"):
            raise ValueError(f'on_bad_image must be "error" or "skip", got {self.on_bad_image!r}')

    def add(self, name: str, pid: int, camid: int) -> None:
        """A row: path relative to home, the dataset's own pid, camid from 0 (-1: not known)."""
        if pid > MOST:
            self.refuse(f"{self.home / name} has pid {pid}, which is too large: rename it or move it away")
            return
        self.names.append(name)
        self.pids.append(pid)
        self.camids.append(camid)

    def refuse(self, problem: str) -> None:
        """An image that cannot be used: `problem` is one line that names it and the remedy."""
        if self.on_bad_image == "error":
            raise ValueError(problem)
        self.problems.append(problem)

    def table(self, note: str = "") -> Table:
        """The multi-camera table of all rows; `note` says which part and variant of the dataset it is."""
        if self.problems:
            skipped = f"{self.source}: skipped {len(self.problems)} images, first: {self.problems[0]}"
            warnings.warn(Skipped(skipped, self.problems), stacklevel=4)
            note += f", {len(self.problems)} images skipped"
        if not self.names:
            raise ValueError(
                f"{self.source}: no usable image in {self.home} ({note}); copy the dataset's images there"
            )
        pids, camids = np.array(self.pids, np.int64), np.array(self.camids, np.int64)
        paths = Paths.of(self.names, f"{self.home}/")
        return from_columns(self.source, paths, pids, camids=camids, note=note)


def home(source: str, root: str | Path, parents: Sequence[str], wanted: Sequence[str]) -> Path:
    """The folder, `root` or one of its usual `parents`, that holds any of `wanted` (files or folders).

    Raises FileNotFoundError saying what was looked for and what lies there instead.
    """
    root = Path(root)
    for parent in ("", *parents):
        if any((root / parent / name).exists() for name in wanted):
            return root / parent
    usual = f" or in its {', '.join(parents)}" if parents else ""
    raise FileNotFoundError(
        f"{source}: none of {', '.join(wanted)} in {root}{usual}; {found(root)}; "
        "give the folder that holds them"
    )


def images(folder: Path, source: str) -> list[str]:
    """Sorted base names of the images in `folder`; other files, and clutter, are no images.

    Raises FileNotFoundError without the folder, ValueError when it holds no image.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{source}: no folder {folder}; {found(folder.parent)}")
    names = sorted(entry.name for entry in os.scandir(folder) if is_image(entry.name) and is_file(entry))
    if not names:
        raise ValueError(f"{source}: no image in {folder}; copy the dataset's images there")
    return names


def is_file(entry: "os.DirEntry[str]") -> bool:
    """Whether it is a file, or a link that leads nowhere: a row all the same, whose reading says so."""
    try:
        return entry.is_file() or (entry.is_symlink() and not entry.is_dir())
    except OSError:  # a link to itself
        return True


def check_split(source: str, split: str, splits: Sequence[str]) -> None:
    """Raise ValueError naming the splits there are."""
    if split not in splits:
        raise ValueError(f"{source} has no split {split!r}: use {', '.join(splits[:-1])} or {splits[-1]}")


def found(folder: Path) -> str:
    """What lies in `folder`, in a few words, for an error message."""
    if not folder.is_dir():
        return f"{folder} is no folder"
    names = sorted(entry.name for entry in os.scandir(folder) if not CLUTTER.fullmatch(entry.name))
    listed = ", ".join(names[:5]) + (" ..." if len(names) > 5 else "")
    return f"found {listed or 'nothing'} in {folder}"
