"""DukeMTMC-reID."""

import re
from pathlib import Path

from dynamix.data import folders
from dynamix.data.folders import Reading
from dynamix.data.table import Table

# Matched against the base name only: a parent folder called 12_c3 must not change pid and camid.
NAME = re.compile(r"(?P<pid>\d+)_c(?P<cam>\d+)_f\d+\.(?:jpg|jpeg|png)", re.IGNORECASE | re.ASCII)
CAMERAS = 8

FOLDERS = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}
PARENTS = (
    "DukeMTMC-reID", "dukemtmc-reid/DukeMTMC-reID", "dukemtmc-reid", "dukemtmcreid", "dukemtmc", "duke",
)  # fmt: skip
SPLITS = ("train", "query", "gallery", "all")


def dukemtmc(
    root: str | Path, split: str = "train", *, source: str = "dukemtmc", on_bad_image: str = "error"
) -> Table:
    """Read one split, sorted by base name; "all" = train, query and gallery, whose pids do not overlap.

    The gallery's wrong answers are people seen by one camera only; they have pids of their own and stay
    everywhere. `root` is the dataset's folder or its usual parent. Raises FileNotFoundError on a missing
    folder, ValueError on an image whose name does not parse or an empty split.
    """
    folders.check_split(source, split, SPLITS)
    reading = Reading(source, folders.home(source, root, PARENTS, list(FOLDERS.values())), on_bad_image)
    for folder in FOLDERS.values() if split == "all" else [FOLDERS[split]]:
        for name in folders.images(reading.home / folder, source):
            match = NAME.fullmatch(name)
            if match is None or not 1 <= int(match["cam"]) <= CAMERAS:
                reading.refuse(
                    f"{reading.home / folder / name} is not named like 0001_c2_f0046182.jpg (pid, camera 1 "
                    f"to {CAMERAS}, frame): rename it or move it away"
                )
            else:
                reading.add(f"{folder}/{name}", int(match["pid"]), int(match["cam"]) - 1)
    return reading.table(split)
