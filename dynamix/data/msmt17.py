"""MSMT17: V1, V2 (faces blurred), the copy in Market-1501's style, and all of it merged for training."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from dynamix.data import folders
from dynamix.data.folders import CLUTTER, Reading
from dynamix.data.table import Table

# A listed path is `pid folder/base name`; the camera is the third number of the base name.
LISTED = re.compile(
    r"(?P<pid>\d+)/\d+_\d+_(?P<cam>\d+)_\d+(?:morning|noon|afternoon)_\d+_\d+(?:_ex)?\.jpe?g",
    re.IGNORECASE | re.ASCII,
)
# Cameras have up to two digits: reading one only would fold 10 to 15 into camera 1.
MARKET_NAME = re.compile(r"(?P<pid>\d+)_c(?P<cam>\d+)_\d+\.jpe?g", re.IGNORECASE | re.ASCII)
CAMERAS = 15

SIDES = (("list_train", "list_val"), ("list_query", "list_gallery"))  # of either image folder
LISTS: dict[str, tuple[str, ...]] = {
    "train": SIDES[0],  # the published 32,621 images
    "query": ("list_query",),
    "gallery": ("list_gallery",),
    "all": (*SIDES[0], *SIDES[1]),
    "train_list": ("list_train",),  # what some papers train on
    "val_list": ("list_val",),
}
SPLITS = tuple(LISTS)
MARKET = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}
LAYOUTS: dict[str, tuple[str, ...]] = {
    "V1": ("train", "test"),
    "V2": ("mask_train_v2", "mask_test_v2"),
    "Market-style copy": tuple(MARKET.values()),
}
PARENTS = (
    "MSMT17_V1", "MSMT17_V2", "MSMT17", "MSMT17/MSMT17_V1", "MSMT17/MSMT17_V2", "msmt17", "msmt17/MSMT17_V1",
    "msmt17/MSMT17_V2", "msmt",
)  # fmt: skip


def msmt17(
    root: str | Path, split: str = "train", *, source: str = "msmt17", on_bad_image: str = "error"
) -> Table:
    """Read one split, sorted by path within each image folder; "train" = list_train + list_val.

    Pids of train and test both start at 0 (a person like any other); in "all" those of test are shifted
    past train's, while camids mean the same cameras. `root` is the dataset's folder or its usual parent.
    Raises FileNotFoundError on a missing folder or list, ValueError on a malformed list, two versions under
    `root`, an image whose name does not parse, or images and lists that do not agree.
    """
    folders.check_split(source, split, SPLITS)
    reading, lists = _read(source, root, split, on_bad_image)
    return reading.table(f"{split}: {lists}")


def msmt17_merged(
    root: str | Path, split: str = "train", *, source: str = "msmt17_merged", on_bad_image: str = "error"
) -> Table:
    """Read all images of MSMT17 for training, as its split "all"; see `msmt17`."""
    folders.check_split(source, split, ("train", "all"))
    reading, lists = _read(source, root, "all", on_bad_image)
    return reading.table(f"merged: {lists}")


def _read(source: str, root: str | Path, split: str, on_bad_image: str) -> tuple[Reading, str]:
    """All rows of the split, and in words which version and lists they come from."""
    home, layout = _version(source, Path(root))
    reading = Reading(source, home, on_bad_image)
    if layout == "Market-style copy":
        used, shift = _read_market(reading, split)
    else:
        used, shift = _read_lists(reading, LAYOUTS[layout], split)
    return reading, f"{used}, {layout}" + (f", test pids + {shift}" if shift else "")


def _version(source: str, root: Path) -> tuple[Path, str]:
    """The dataset's own folder and its layout. Raises ValueError where there are several.

    A folder with a usual name is the dataset if it holds any folder of a layout; `root` itself, which may
    hold many datasets and a "train" besides, is only if it holds a whole layout or nothing else fits.
    """
    named = _versions([root / parent for parent in PARENTS])
    at_root = _versions([root])
    whole = [(home, layout) for home, layout in at_root if _is_whole(home, layout)]
    versions = whole + named or at_root
    if not versions:
        wanted = [name for names in LAYOUTS.values() for name in names]
        folders.home(source, root, PARENTS, wanted)  # raises: says what was looked for, and what is there
    if len(versions) > 1:
        there = ", ".join(f"{home} ({layout})" for home, layout in versions)
        raise ValueError(
            f"{source}: several versions: {there}; their images differ, so give the folder of the one to use"
        )
    return versions[0]


def _versions(places: list[Path]) -> list[tuple[Path, str]]:
    found: dict[tuple[int, int, str], tuple[Path, str]] = {}
    for home in places:
        for layout, names in LAYOUTS.items():
            if any((home / name).exists() for name in names):
                stat = home.stat()  # one folder may have two names: a link, or no case in file names
                found.setdefault((stat.st_dev, stat.st_ino, layout), (home, layout))
    return list(found.values())


def _is_whole(home: Path, layout: str) -> bool:
    listed = layout != "V1" or any((home / f"{name}.txt").is_file() for name in LISTS["all"])
    return listed and all((home / name).is_dir() for name in LAYOUTS[layout])


def _read_market(reading: Reading, split: str) -> tuple[str, int]:
    if split in ("train_list", "val_list"):
        raise ValueError(
            f"{reading.source}: {reading.home} is a Market-style copy, which does not tell {split} from "
            "train: use train, or the original with its lists"
        )
    parts, shift = list(MARKET.values()) if split == "all" else [MARKET[split]], 0
    for folder in parts:
        for name in folders.images(reading.home / folder, reading.source):
            match = MARKET_NAME.fullmatch(name)
            if match is None or not 1 <= int(match["cam"]) <= CAMERAS:
                reading.refuse(
                    f"{reading.home / folder / name} is not named like 0000_c12_0033.jpg (pid, camera 1 to "
                    f"{CAMERAS}, frame): rename it or move it away"
                )
            else:
                reading.add(f"{folder}/{name}", int(match["pid"]) + shift, int(match["cam"]) - 1)
        if split == "all" and folder == MARKET["train"]:
            shift = max(reading.pids, default=-1) + 1
    return " + ".join(parts), shift


class _Line(NamedTuple):
    place: str  # list file and line number, for messages
    path: str  # relative to the image folder
    pid: int
    wanted: bool  # whether its list belongs to the split


def _read_lists(reading: Reading, image_folders: tuple[str, ...], split: str) -> tuple[str, int]:
    wanted, shift = LISTS[split], 0
    for folder, lists in zip(image_folders, SIDES, strict=True):
        if not set(lists) & set(wanted):
            continue
        lines = [line for name in lists for line in _lines(reading, name, name in wanted)]
        unnamed = _add_listed(reading, folder, lines, shift)
        for path in sorted(unnamed):
            reading.refuse(
                f"{reading.home / folder / path} is neither in {lists[0]}.txt nor in {lists[1]}.txt: move it "
                "away, or get the lists anew from the dataset's authors"
            )
        if split == "all" and lists == SIDES[0]:
            shift = max((line.pid for line in lines), default=-1) + 1
    return " + ".join(wanted), shift


def _lines(reading: Reading, name: str, wanted: bool) -> Iterator[_Line]:
    """The lines `path pid` of a list file."""
    file = reading.home / f"{name}.txt"
    if not file.is_file():
        raise FileNotFoundError(
            f"{reading.source}: no {file.name} in {reading.home}; {folders.found(reading.home)}; the lists "
            "come with the images from the dataset's authors: copy all four list_*.txt there"
        )
    for number, line in enumerate(file.read_text("utf-8-sig", errors="replace").splitlines(), 1):
        fields = line.split()
        if not fields:
            continue
        if len(fields) != 2 or not fields[1].isdecimal():
            raise ValueError(
                f"{file} line {number}: {line[:80]!r} is not `path pid`; get the list anew from "
                "the dataset's authors"
            )
        yield _Line(f"{file} line {number}", fields[0], int(fields[1]), wanted)


def _add_listed(reading: Reading, folder: str, lines: list[_Line], shift: int) -> set[str]:
    """Add the wanted lines' images, sorted by path; returns the images on disk that no line names."""
    on_disk = _images_below(reading, folder)
    unnamed, rows = set(on_disk), []
    for line in lines:
        path = line.path if line.path in on_disk else _other_extension(line.path)
        problem = _problem(line, path in on_disk, path in unnamed)
        unnamed.discard(path)
        if line.wanted and problem:
            reading.refuse(f"{line.place}: {reading.home / folder / line.path} {problem}")
        elif line.wanted:
            rows.append((f"{folder}/{path}", line.pid + shift, _camera(path) - 1))
    for row in sorted(rows):
        reading.add(*row)
    return unnamed


def _problem(line: _Line, present: bool, unnamed: bool) -> str:
    """What is wrong with the line, or nothing."""
    match = LISTED.fullmatch(line.path)
    if match is None:
        return "is not named like 0000/0000_045_12_0303morning_0006_2.jpg: correct the list"
    if not 1 <= int(match["cam"]) <= CAMERAS:
        return f"has camera {match['cam']} (the third number), not 1 to {CAMERAS}: correct the list"
    if int(match["pid"]) != line.pid:
        return f"lies in folder {match['pid']} but the list says pid {line.pid}: correct the list"
    if not present:
        return "is listed but not there: copy the image, or the whole dataset, anew"
    return "" if unnamed else "is listed twice: correct the lists"


def _camera(path: str) -> int:
    return int(path.rpartition("/")[2].split("_")[2])


def _other_extension(path: str) -> str:
    """One copy in circulation is .jpeg while its lists say .jpg."""
    return path[:-4] + ".jpeg" if path.endswith(".jpg") else path.removesuffix(".jpeg") + ".jpg"


def _images_below(reading: Reading, folder: str) -> set[str]:
    """All images as `pid folder/base name`, each folder opened once: there are 126 thousand."""
    top = reading.home / folder
    if not top.is_dir():
        raise FileNotFoundError(f"{reading.source}: no folder {top}; {folders.found(reading.home)}")
    found = set(_images_in(top, ""))
    for entry in os.scandir(top):
        if entry.is_dir() and not CLUTTER.fullmatch(entry.name):
            found.update(_images_in(Path(entry.path), f"{entry.name}/"))
    return found


def _images_in(folder: Path, prefix: str) -> Iterator[str]:
    for entry in os.scandir(folder):
        if folders.is_image(entry.name) and folders.is_file(entry):
            yield prefix + entry.name
