"""Where a dataset lies: one rule for readers, training and `check`.

A folder is the dataset's by what it holds and by its name. Names are compared without case and punctuation,
and a folder called so may hold another one (`market1501/Market-1501-v15.09.15`, archives unpacked twice).
"""

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from dynamix.data import folders
from dynamix.data.folders import CLUTTER, Names, Reading

# How much of a dataset a folder holds; its folders alone, empty or with other images, are a trace.
NOTHING, TRACE, PART, WHOLE = range(4)
DEPTH = 3  # folders called like the dataset, one inside the other


class Layout(NamedTuple):
    """One way in which a dataset lies in its folder."""

    fit: Callable[[Path], int]  # how much of it a folder holds
    called: str = ""  # as messages call it, where a dataset has several
    deep: bool = False  # its images lie anywhere below: then a folder inside is no copy of its own


@dataclass(frozen=True)
class Home:
    """The folder of a dataset: what it is usually called, and what it holds."""

    names: tuple[str, ...]
    layouts: tuple[Layout, ...]
    missing: str  # what a folder lacks that is none, as a message puts it
    inner: tuple[str, ...] = ()  # folders in it that may hold the dataset in its place
    advice: str = "give the folder that holds them"

    def called(self, folder: Path) -> bool:
        """Whether the folder's name is one of the dataset's."""
        return plain(folder.name) in {plain(name) for name in self.names}


class Place(NamedTuple):
    """A folder that may be a dataset's."""

    folder: Path
    layout: Layout
    named: bool  # it is called like the dataset, or lies in a folder that is
    fit: int


def plain(name: str) -> str:
    """A name without case and punctuation."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def none_of(parts: Sequence[str], *names: Names) -> str:
    """What a folder lacks that is not the dataset's: `parts` with images named so."""
    examples = " or ".join(each.example.partition(" ")[0] for each in names)
    return f"none of {', '.join(parts)} with images like {examples}"


def layout(*parts: str, names: Names, files: Sequence[str] = (), called: str = "") -> Layout:
    """The layout of folders `parts` that hold what is named so; it is whole with all of them and `files`."""

    def fit(folder: Path) -> int:
        whole = all((folder / file).is_file() for file in files)
        return together([held(folder / part, names) for part in parts], whole)

    return Layout(fit, called)


def held(folder: Path, names: Names, *, below: bool = True) -> int:
    """WHOLE for a folder with an image named so, TRACE for any other, NOTHING where there is none.

    With `below` such an image may lie in a folder inside it: then reading it says so.
    """
    if not folder.is_dir():
        return TRACE if folder.exists() else NOTHING
    inner = []
    with os.scandir(folder) as entries:
        for entry in entries:
            is_folder = folders.is_folder(entry)
            if names.match(entry.name) and (is_folder or folders.is_image(entry.name)):
                return WHOLE
            inner += [Path(entry.path)] if is_folder and below else []
    return WHOLE if any(held(each, names, below=False) == WHOLE for each in inner) else TRACE


def together(parts: Sequence[int], whole: bool = True) -> int:
    """How much of a dataset a folder holds, of how much each of its parts does."""
    if whole and min(parts) == WHOLE:
        return WHOLE
    return PART if max(parts) == WHOLE else max(parts)


def places(home: Home, root: Path) -> list[Place]:
    """`root` and all folders below it that are called like the dataset, each with how much it holds of it.

    A folder that is reached twice, through links or because case does not count, comes once.
    """
    found: list[Place] = []
    seen: set[tuple[int, int]] = set()
    waiting = [(root, home.called(Path(os.path.abspath(root))), 0)]
    while waiting:
        folder, named, depth = waiting.pop(0)
        if not folder.is_dir():
            continue
        state = folder.stat()
        if (state.st_dev, state.st_ino) in seen:
            continue
        seen.add((state.st_dev, state.st_ino))
        here = [Place(folder, each, named, each.fit(folder)) for each in home.layouts]
        found += here
        closed = named and any(place.layout.deep and place.fit for place in here)
        if depth < DEPTH and not closed:
            waiting += [(child, named or home.called(child), depth + 1) for child in _inside(home, folder)]
    return found


def _inside(home: Home, folder: Path) -> list[Path]:
    wanted = {plain(name) for name in (*home.names, *home.inner)}
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if folders.is_folder(entry) and plain(entry.name) in wanted]
    return [folder / name for name in sorted(names) if not CLUTTER.fullmatch(name)]


def find(source: str, home: Home, root: str | Path) -> Place:
    """The dataset in `root`, or in a folder below it that is called like the dataset.

    Whole copies come first, then parts of one in a folder called so, then parts in `root` itself. Raises
    FileNotFoundError where there is none, saying what lies there, and ValueError naming several.
    """
    root = Path(os.path.expanduser(root))
    found = places(home, root)
    for fit, kinds in ((WHOLE, (True, False)), (PART, (True,)), (PART, (False,)), (TRACE, (True,))):
        some = [place for place in found if place.fit == fit and place.named in kinds]
        if len(some) > 1 and fit != TRACE:
            there = ", ".join(f"{each.folder} ({each.layout.called})".removesuffix(" ()") for each in some)
            raise ValueError(
                f"{source}: several versions or copies: {there}; their images may differ, so give the folder "
                "of the one to use, or move the others away"
            )
        if some:
            return some[0]
    usual = ", ".join((*home.names, *home.inner))
    where = f"{root} or in its {usual}" if usual else root
    raise FileNotFoundError(f"{source}: {home.missing} in {where}; {folders.found(root)}; {home.advice}")


def opened(source: str, home: Home, root: str | Path, on_bad_image: str) -> tuple[Reading, Layout]:
    """A reading of the dataset found in or below `root`, and the layout it has; raises as `find` does."""
    root = Path(os.path.expanduser(root))
    reading = Reading(source, root, on_bad_image)
    place = find(source, home, root)
    reading.home = place.folder
    below = place.folder.relative_to(root)
    if not all(plain(part) in map(plain, home.inner) for part in below.parts):  # those are a matter of course
        reading.said = str(below)
    return reading, place.layout
