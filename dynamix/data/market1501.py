"""Market-1501, and the Mannequins worlds written in its layout."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dynamix.data.table import Paths, Table, from_columns

# Matched against the base name only: a parent folder called 12_c3 must not change pid and camid.
NAME = re.compile(r"(?P<pid>-1|\d+)_c(?P<cam>\d+)s\d+_\d+_\d+\.(?:jpg|jpeg|png)", re.IGNORECASE)
IMAGE = re.compile(r".*\.(?:jpg|jpeg|png)", re.IGNORECASE)

FOLDERS = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}
PARENTS = ("", "Market-1501-v15.09.15", "market1501/Market-1501-v15.09.15", "Market-1501")


def market1501(root: str | Path, split: str = "train", *, source: str = "market1501") -> Table:
    """Read one split, sorted by base name; "all" = train, query and gallery without distractors.

    Junk (pid -1) is dropped everywhere; distractors (pid 0) stay in the gallery as wrong answers and are
    dropped from train and all. `root` is the dataset's folder or its usual parent. Raises FileNotFoundError
    on a missing folder, ValueError on an image whose name does not parse or an empty split.
    """
    if split not in (*FOLDERS, "all"):
        raise ValueError(f"{source} has no split {split!r}: use train, query, gallery or all")
    home = _home(Path(root), source)
    folders = list(FOLDERS.values()) if split == "all" else [FOLDERS[split]]
    names: list[str] = []
    fields: list[tuple[int, int]] = []
    for folder in folders:
        for name in _images(home / folder, source):
            pid, camid = _parse(name, home / folder)
            if pid > 0 or (pid == 0 and split in ("query", "gallery")):
                names.append(f"{folder}/{name}")
                fields.append((pid, camid))
    if not names:
        raise ValueError(
            f"{source}: no usable image in {home / folders[0]} (junk and distractors are not used here); "
            "copy the dataset's images there"
        )
    pids, camids = np.array(fields, np.int64).T.copy()
    return from_columns(source, Paths.of(names, f"{home}/"), pids, camids=camids)


def _home(root: Path, source: str) -> Path:
    for parent in PARENTS:
        if any((root / parent / folder).is_dir() for folder in FOLDERS.values()):
            return root / parent
    raise FileNotFoundError(
        f"{source}: none of {', '.join(FOLDERS.values())} in {root} or in its {', '.join(PARENTS[1:])}; "
        f"{_found(root)}; give the folder that holds them"
    )


def _images(folder: Path, source: str) -> Sequence[str]:
    """Sorted base names of the images in `folder`; other files and the `._*` files of macOS are no images."""
    if not folder.is_dir():
        raise FileNotFoundError(f"{source}: no folder {folder}; {_found(folder.parent)}")
    names = sorted(
        entry.name
        for entry in os.scandir(folder)
        if IMAGE.fullmatch(entry.name) and not entry.name.startswith("._") and entry.is_file()
    )
    if not names:
        raise ValueError(f"{source}: no .jpg or .png in {folder}; copy the dataset's images there")
    return names


def _parse(name: str, folder: Path) -> tuple[int, int]:
    match = NAME.fullmatch(name)
    if match is None or int(match["cam"]) == 0:
        raise ValueError(
            f"{folder / name} is not named like 0002_c1s1_000451_03.jpg (pid, camera from 1, sequence, "
            "frame, box): rename it or move it away"
        )
    return int(match["pid"]), int(match["cam"]) - 1


def _found(folder: Path) -> str:
    if not folder.is_dir():
        return f"{folder} is no folder"
    names = sorted(entry.name for entry in os.scandir(folder))
    listed = ", ".join(names[:5]) + (" ..." if len(names) > 5 else "")
    return f"found {listed or 'nothing'} in {folder}"
