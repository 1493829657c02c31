"""Market-1501, and the Mannequins worlds written in its layout."""

import re
from pathlib import Path

from dynamix.data import find, folders
from dynamix.data.folders import Names
from dynamix.data.table import Table

NAME = r"(?P<pid>-1|\d+)_c(?P<cam>{})s\d+_\d+_\d+"
EXAMPLE = "0002_c1s1_000451_03.jpg (pid, camera 1 to {}, sequence, frame, box)"
NAMES = Names(re.compile(NAME.format("0*[1-6]"), re.IGNORECASE | re.ASCII), EXAMPLE.format(6))
# The Mannequins worlds have other cameras.
WORLD_NAMES = Names(re.compile(NAME.format(r"0*[1-9]\d?"), re.IGNORECASE | re.ASCII), EXAMPLE.format(99))

FOLDERS = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}
SPLITS = ("train", "query", "gallery", "all")


def home(names: tuple[str, ...], named: Names) -> find.Home:
    """Of a dataset in Market's three folders: what its own is called, and how its images are named."""
    parts = tuple(FOLDERS.values())
    return find.Home(names, (find.layout(*parts, names=named),), find.none_of(parts, named))


HOME = home(("Market-1501-v15.09.15", "Market-1501", "market"), NAMES)
WORLD = home((), WORLD_NAMES)  # never looked for in a real dataset's folder: it would get a wrong name


def market1501(
    root: str | Path, split: str = "train", *, source: str = "market1501", on_bad_image: str = "error"
) -> Table:
    """Read one split, sorted by base name; "all" = train, query and gallery without distractors.

    Junk (pid -1) is dropped everywhere; distractors (pid 0) stay in the gallery as wrong answers and are
    dropped from train and all. `root` is the dataset's folder or one above it (`find`). Raises
    FileNotFoundError on a missing folder, ValueError on an image whose name does not parse or an empty split.
    """
    folders.check_split(source, split, SPLITS)
    names, where = (NAMES, HOME) if source == "market1501" else (WORLD_NAMES, WORLD)
    reading, _ = find.opened(source, where, root, on_bad_image)
    least = 0 if split in ("query", "gallery") else 1

    def row(match: re.Match[str]) -> tuple[int, int] | None:
        pid = int(match["pid"])
        return (pid, int(match["cam"]) - 1) if pid >= least else None

    for folder in FOLDERS.values() if split == "all" else [FOLDERS[split]]:
        reading.read(folder, names, row)
    return reading.table(split)
