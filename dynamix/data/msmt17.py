"""MSMT17: V1, V2 (faces blurred), the copy in Market-1501's style, and all of it merged for training."""

import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from dynamix.data import find, folders
from dynamix.data.folders import CLUTTER, Names, Reading
from dynamix.data.table import Table

# A listed path is `pid folder/base name`; the camera is the third number of the base name.
LISTED = re.compile(
    r"(?P<pid>\d+)/\d+_\d+_(?P<cam>\d+)_\d+(?:morning|noon|afternoon)_\d+_\d+(?:_ex)?",
    re.IGNORECASE | re.ASCII,
)
PERSON = Names(
    re.compile(r"\d+", re.ASCII), "0000/0000_045_12_0303morning_0006_2.jpg"
)  # folders of the images that lists name
# Cameras have up to two digits: reading one only would fold 10 to 15 into camera 1.
MARKET_NAMES = Names(
    re.compile(r"(?P<pid>\d+)_c(?P<cam>0*(?:[1-9]|1[0-5]))_\d+", re.IGNORECASE | re.ASCII),
    "0000_c12_0033.jpg (pid, camera 1 to 15, frame)",
)
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
ORIGINALS = {"V1": ("train", "test"), "V2": ("mask_train_v2", "mask_test_v2")}
HOME = find.Home(
    ("MSMT17_V1", "MSMT17_V2", "MSMT17", "msmt"),
    (
        *(
            find.layout(*parts, names=PERSON, files=[f"{name}.txt" for name in LISTS["all"]], called=version)
            for version, parts in ORIGINALS.items()
        ),
        find.layout(*MARKET.values(), names=MARKET_NAMES, called="Market-style copy"),
    ),
    find.none_of([*ORIGINALS["V1"], *ORIGINALS["V2"], *MARKET.values()], PERSON, MARKET_NAMES),
)
MERGED = replace(HOME, names=("msmt17_merged",))  # a folder of its own, where somebody keeps one
HOME_MERGED = replace(HOME, names=(*MERGED.names, *HOME.names))


def msmt17(
    root: str | Path, split: str = "train", *, source: str = "msmt17", on_bad_image: str = "error"
) -> Table:
    """Read one split, sorted by path within each image folder; "train" = list_train + list_val.

    Pids of train and test both start at 0 (a person like any other); in "all" those of test are shifted
    past train's, while camids mean the same cameras. `root` is the dataset's folder or one above it (`find`).
    Raises FileNotFoundError on a missing folder or list, ValueError on a malformed list, two versions under
    `root`, an image whose name does not parse, or images and lists that do not agree.
    """
    folders.check_split(source, split, SPLITS)
    reading, lists = _read(source, HOME, root, split, on_bad_image)
    return reading.table(f"{split}: {lists}")


def msmt17_merged(
    root: str | Path, split: str = "train", *, source: str = "msmt17_merged", on_bad_image: str = "error"
) -> Table:
    """Read all images of MSMT17 for training, as its split "all"; see `msmt17`."""
    folders.check_split(source, split, ("train", "all"))
    places = find.places(MERGED, Path(os.path.expanduser(root)))
    home = MERGED if any(place.named and place.fit > find.TRACE for place in places) else HOME
    reading, lists = _read(source, home, root, "all", on_bad_image)
    return reading.table(f"merged: {lists}")


def _read(
    source: str, home: find.Home, root: str | Path, split: str, on_bad_image: str
) -> tuple[Reading, str]:
    """All rows of the split, and in words which version and lists they come from."""
    reading, (_, version, _) = find.opened(source, home, root, on_bad_image)
    if version in ORIGINALS:
        used, shift = _read_lists(reading, ORIGINALS[version], split)
    else:
        used, shift = _read_market(reading, split)
    return reading, f"{used}, {version}" + (f", test pids + {shift}" if shift else "")


def _read_market(reading: Reading, split: str) -> tuple[str, int]:
    if split in ("train_list", "val_list"):
        raise ValueError(
            f"{reading.source}: {reading.home} is a Market-style copy, which does not tell {split} from "
            "train: use train, or the original with its lists"
        )
    parts, shift = list(MARKET.values()) if split == "all" else [MARKET[split]], 0
    for folder in parts:
        for path, match in reading.named(folder, MARKET_NAMES):
            reading.add(path, int(match["pid"]) + shift, int(match["cam"]) - 1)
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
    text = folders.text(file)
    if not text.strip():
        raise ValueError(f"{file} is empty: get the list anew from the dataset's authors")
    for number, line in enumerate(text.splitlines(), 1):
        fields = line.replace("\\", "/").split()
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
    # Copies differ in the endings of names (.jpeg, a Windows machine's .JPG), or in the case of all of them.
    others = {} if all(line.path in on_disk for line in lines) else {_alike(path): path for path in on_disk}
    for line in lines:
        path = line.path if line.path in on_disk else others.get(_alike(line.path), "")
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
    match = LISTED.fullmatch(folders.stem(line.path))
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


def _alike(path: str) -> str:
    return folders.stem(path).lower()


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
        image = folders.is_image(entry.name) or folders.is_foreign(entry.name)
        if image and folders.is_file(entry):
            yield prefix + entry.name
