"""Market-1501, and the Mannequins worlds written in its layout."""

import re
from pathlib import Path

from dynamix.data import folders
from dynamix.data.folders import Reading
from dynamix.data.table import Table

# Matched against the base name only: a parent folder called 12_c3 must not change pid and camid.
NAME = re.compile(r"(?P<pid>-1|\d+)_c(?P<cam>\d+)s\d+_\d+_\d+\.(?:jpg|jpeg|png)", re.IGNORECASE | re.ASCII)

FOLDERS = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}
PARENTS = ("Market-1501-v15.09.15", "market1501/Market-1501-v15.09.15", "Market-1501", "market1501", "market")
CAMERAS = 6
SPLITS = ("train", "query", "gallery", "all")


def market1501(
    root: str | Path, split: str = "train", *, source: str = "market1501", on_bad_image: str = "error"
) -> Table:
    """Read one split, sorted by base name; "all" = train, query and gallery without distractors.

    Junk (pid -1) is dropped everywhere; distractors (pid 0) stay in the gallery as wrong answers and are
    dropped from train and all. `root` is the dataset's folder or its usual parent. Raises FileNotFoundError
    on a missing folder, ValueError on an image whose name does not parse or an empty split.
    """
    folders.check_split(source, split, SPLITS)
    cameras = CAMERAS if source == "market1501" else 99  # the Mannequins worlds have others
    reading = Reading(source, folders.home(source, root, PARENTS, list(FOLDERS.values())), on_bad_image)
    for folder in FOLDERS.values() if split == "all" else [FOLDERS[split]]:
        for name in folders.images(reading.home / folder, source):
            match = NAME.fullmatch(name)
            if match is None or not 1 <= int(match["cam"]) <= cameras:
                reading.refuse(
                    f"{reading.home / folder / name} is not named like 0002_c1s1_000451_03.jpg (pid, camera "
                    f"1 to {cameras}, sequence, frame, box): rename it or move it away"
                )
            elif int(match["pid"]) > 0 or (match["pid"].strip("0") == "" and split in ("query", "gallery")):
                reading.add(f"{folder}/{name}", int(match["pid"]), int(match["cam"]) - 1)
    return reading.table(split)
