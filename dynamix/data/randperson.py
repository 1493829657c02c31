"""RandPerson's subset: rendered people, 8,000 of them under 19 cameras."""

import os
import re
from pathlib import Path

from dynamix.data import folders
from dynamix.data.folders import Reading
from dynamix.data.table import Table

NAME = re.compile(
    r"(?P<pid>\d+)_s(?P<scene>\d+)_c(?P<cam>\d+)_f\d+\.(?:jpg|jpeg|png)", re.IGNORECASE | re.ASCII
)
FIRST = (0, 2, 4, 6, 8, 9, 10, 12, 13, 14, 15)  # each scene's first camid; cameras are numbered per scene
CAMERAS = 19

PARENTS = (
    "randperson_subset", "subset", "randperson", "RandPerson", "randperson/subset",
    "randperson/randperson_subset", "RandPerson/subset", "RandPerson/randperson_subset",
)  # fmt: skip
SPLITS = ("train", "all")


def randperson(
    root: str | Path, split: str = "train", *, source: str = "randperson", on_bad_image: str = "error"
) -> Table:
    """Read all images, sorted by base name; "train" and "all" are the same.

    Pids, scenes and cameras count from 0, pid 0 is a person like any other. `root` holds the images, or is
    the usual parent of the folder that does. Raises FileNotFoundError where no such image is found,
    ValueError on an image whose name does not parse or whose scene has no such camera.
    """
    folders.check_split(source, split, SPLITS)
    reading = Reading(source, _home(source, Path(root)), on_bad_image)
    for name in folders.images(reading.home, source):
        match = NAME.fullmatch(name)
        camid = -1 if match is None else _camid(int(match["scene"]), int(match["cam"]))
        if match is None or camid < 0:
            reading.refuse(
                f"{reading.home / name} is not named like 000000_s00_c00_f000264.jpg (pid, scene 0 to "
                f"{len(FIRST) - 1}, a camera of that scene, frame; all from 0): rename it or move it away"
            )
        else:
            reading.add(name, int(match["pid"]), camid)
    return reading.table(f"{split}: the subset")


def _camid(scene: int, cam: int) -> int:
    """The camera's number among all 19; -1 where the scene has no such camera."""
    ends = (*FIRST[1:], CAMERAS)
    return FIRST[scene] + cam if scene < len(FIRST) and FIRST[scene] + cam < ends[scene] else -1


def _home(source: str, root: Path) -> Path:
    """The folder, `root` or one of its usual parents, that holds an image named as in the subset."""
    for folder in (root / parent for parent in ("", *PARENTS)):
        if not folder.is_dir():
            continue
        with os.scandir(folder) as entries:
            if any(NAME.fullmatch(entry.name) for entry in entries):
                return folder
    raise FileNotFoundError(
        f"{source}: no image like 000000_s00_c00_f000264.jpg in {root} or in its {', '.join(PARENTS)}; "
        f"{folders.found(root)}; give the folder that holds them"
    )
