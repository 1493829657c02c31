"""RandPerson's subset: rendered people, 8,000 of them under 19 cameras."""

import itertools
import re
from pathlib import Path

from dynamix.data import find, folders
from dynamix.data.folders import Names
from dynamix.data.table import Table

SCENES = (2, 2, 2, 2, 1, 1, 2, 1, 1, 1, 4)  # how many cameras each has; they are numbered per scene
FIRST = (0, *itertools.accumulate(SCENES))  # each scene's first camid
PLACES = "|".join(f"{scene}_c0*[0-{cameras - 1}]" for scene, cameras in enumerate(SCENES))
NAMES = Names(
    re.compile(rf"(?ai)(?P<pid>\d+)_(?=s0*(?:{PLACES})_)s(?P<scene>\d+)_c(?P<cam>\d+)_f\d+"),
    "000000_s00_c00_f000264.jpg (pid, scene 0 to 10, a camera of that scene, frame; all from 0)",
)


def _fit(folder: Path) -> int:
    """A folder of images alone: without one that is named so it may be anything."""
    return find.WHOLE if find.held(folder, NAMES, below=False) == find.WHOLE else find.NOTHING


HOME = find.Home(
    ("randperson_subset", "RandPerson"),
    (find.Layout(_fit),),
    "no image like 000000_s00_c00_f000264.jpg",
    inner=("subset",),
)
SPLITS = ("train", "all")


def randperson(
    root: str | Path, split: str = "train", *, source: str = "randperson", on_bad_image: str = "error"
) -> Table:
    """Read all images, sorted by base name; "train" and "all" are the same.

    Pids, scenes and cameras count from 0, pid 0 is a person like any other. `root` holds the images, or is
    a folder above the one that does (`find`). Raises FileNotFoundError where no such image is found,
    ValueError on an image whose name does not parse or whose scene has no such camera.
    """
    folders.check_split(source, split, SPLITS)
    reading, _ = find.opened(source, HOME, root, on_bad_image)
    reading.read("", NAMES, lambda match: (int(match["pid"]), FIRST[int(match["scene"])] + int(match["cam"])))
    return reading.table(f"{split}: the subset")
