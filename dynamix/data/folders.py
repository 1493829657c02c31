"""Reading a dataset's folders: which images they hold, how these are named, what cannot be used of them.

A reader is strict by default: the first file it cannot place is an error. With `on_bad_image="skip"` such
files are left out, counted, and reported in one warning.
"""

import codecs
import functools
import os
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int
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
# Images all the same, which Pillow does not read in every build: photos of phones and cameras, drawings.
FOREIGN = set(
    ".3fr .ai .arw .avif .bpg .cr2 .cr3 .crw .dng .emf .eps .exr .hdp .heic .heics .heif .heifs .hif .iiq "
    ".jxl .jxr .kdc .mrw .nef .nrw .orf .pef .raf .raw .rw2 .sr2 .srf .srw .svg .wdp .wmf .x3f .xcf".split()
)
MOST = 2**53  # no dataset numbers people beyond what a float holds exactly
CAMERAS = 10**6  # nor has as many cameras; counting them takes memory in proportion to the largest number


@functools.cache
def suffixes() -> frozenset[str]:
    """The endings of image files, as ".jpg": those of every format that Pillow decodes."""
    known = Image.registered_extensions()
    return frozenset(suffix for suffix, form in known.items() if form in Image.OPEN and form not in UNDECODED)


def is_image(name: str) -> bool:
    """Whether a file of this base name is an image: judged by its ending, and no clutter."""
    return _ending(name) in suffixes() and not name.startswith(".")  # no other clutter ends so


def is_foreign(name: str) -> bool:
    """Whether a file of this base name is an image that Pillow does not read, as a phone's .heic."""
    return _ending(name) in FOREIGN - suffixes() and not name.startswith(".")


def _ending(name: str) -> str:
    return name[name.rfind(".") :].lower()


def stem(name: str) -> str:
    """The base name without its ending, also where a release has it twice (Market-1501's .jpg.jpg)."""
    base, dot, ending = name.rpartition(".")
    if not base or dot + ending.lower() not in suffixes():
        return name
    return stem(base) if "." in base else base


class Names(NamedTuple):
    """How a dataset names its images."""

    pattern: re.Pattern[str]  # of the base name without ending; has a group pid, and mostly one called cam
    example: str  # a name, and what its parts are

    def match(self, name: str) -> re.Match[str] | None:
        """Of a base name only: a folder above called 12_c3 must not change pid and camid."""
        return self.pattern.fullmatch(stem(name))


def unplaced(note: str) -> str:
    """A table's note without the folder in which the dataset was found: what it says of the data alone."""
    return re.sub(r", in [^,]*", "", note)


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
    said: str = ""  # which folder below the given one it is
    names: list[str] = field(default_factory=list)
    pids: list[int] = field(default_factory=list)
    camids: list[int] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.on_bad_image not in ("error", "skip"):
            raise ValueError(f'on_bad_image must be "error" or "skip", got {self.on_bad_image!r}')

    def add(self, name: str, pid: int, camid: int) -> None:
        """A row: path relative to home, the dataset's own pid, camid from 0 (-1: not known)."""
        if pid > MOST or camid > CAMERAS:
            number = f"pid {pid}" if pid > MOST else f"camera {camid}"
            self.refuse(f"{self.home / name} has {number}, which is too large: rename it or move it away")
            return
        self.names.append(name)
        self.pids.append(pid)
        self.camids.append(camid)

    def read(self, folder: str, names: Names, row: Callable[[re.Match[str]], tuple[int, int] | None]) -> None:
        """Add a folder's images, sorted by name; `row` tells pid and camid of a name, None leaves it out."""
        for path, match in self.named(folder, names):
            found = row(match)
            if found is not None:
                self.add(path, *found)

    def named(self, folder: str, names: Names) -> Iterator[tuple[str, re.Match[str]]]:
        """The images of a folder, sorted, with the match of their names; one named otherwise is refused."""
        below = f"{folder}/" if folder else ""
        for name in self.images(folder):
            match = names.match(name)
            if match is None:
                path = self.home / folder / name
                self.refuse(f"{path} is not named like {names.example}: rename it or move it away")
            else:
                yield below + name, match

    def images(self, folder: str = "") -> list[str]:
        """Sorted base names of the images in a folder of home; what is clutter, or no image, is passed over.

        Images that Pillow does not read, and those in sub-folders, are refused. Raises FileNotFoundError
        without the folder, ValueError when it holds no image.
        """
        place = self.home / folder
        if not place.is_dir():
            raise FileNotFoundError(f"{self.source}: no folder {place}; {found(place.parent)}")
        names, others = [], []
        with os.scandir(place) as entries:
            for entry in entries:
                if is_image(entry.name) and is_file(entry):
                    names.append(entry.name)
                elif not CLUTTER.fullmatch(entry.name):
                    others.append(entry)
        for entry in sorted(others, key=attrgetter("name")):
            if is_foreign(entry.name):
                self.refuse(f"{entry.path} is in a format that is not read: convert it to .png or .jpg")
            elif folder and is_folder(entry):
                for path in images_below(entry.path):
                    self.refuse(f"{path} lies in a sub-folder: move the images up into {place}")
        if not names and not self.problems:
            raise ValueError(f"{self.source}: no image in {place}; copy the dataset's images there")
        return sorted(names)

    def refuse(self, problem: str) -> None:
        """An image that cannot be used: `problem` is one line that names it and the remedy."""
        if self.on_bad_image == "error":
            raise ValueError(problem)
        self.problems.append(problem)

    def table(self, note: str = "", videos: Int[np.ndarray, " N"] | None = None) -> Table:
        """The table of all rows, single-camera with `videos`; `note` says which part of the dataset it is."""
        note += f", in {self.said}" if self.said else ""
        if self.problems:
            skipped = f"{self.source}: skipped {len(self.problems)} images, first: {self.problems[0]}"
            warnings.warn(Skipped(skipped, self.problems), stacklevel=4)
            note += f", {len(self.problems)} images skipped"
        if not self.names:
            raise ValueError(
                f"{self.source}: no usable image in {self.home} ({note}); copy the dataset's images there"
            )
        camids = np.array(self.camids, np.int64) if videos is None else None
        paths = Paths.of(self.names, f"{self.home}/")
        pids = np.array(self.pids, np.int64)
        return from_columns(self.source, paths, pids, camids=camids, videos=videos, note=note)


def images_below(folder: str) -> Iterator[str]:
    """Paths of all images in a folder and in those inside it."""
    for inner, below, names in os.walk(folder):
        below[:] = sorted(name for name in below if not CLUTTER.fullmatch(name))
        yield from (os.path.join(inner, name) for name in sorted(names) if is_image(name) or is_foreign(name))


def is_file(entry: "os.DirEntry[str]") -> bool:
    """Whether it is a file, or a link that leads nowhere: a row all the same, whose reading says so."""
    try:
        return entry.is_file() or (entry.is_symlink() and not entry.is_dir())
    except OSError:  # a link to itself
        return True


def is_folder(entry: "os.DirEntry[str]") -> bool:
    """Whether it is a folder, or a link to one."""
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


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


def text(file: Path) -> str:
    """What a text file says. Raises ValueError where it is not UTF-8 nor, marked so, UTF-16."""
    try:
        return decoded(file.read_bytes())
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is no text in UTF-8 (byte {error.start}): save it as UTF-8") from error


def decoded(content: bytes, errors: str = "strict") -> str:
    """Text in UTF-8 or, as Windows' programs write and mark it, UTF-16."""
    wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return content.decode("utf-16" if wide else "utf-8-sig", errors)
