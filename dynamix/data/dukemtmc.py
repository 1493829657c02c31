"""DukeMTMC-reID."""

import re
from pathlib import Path

from dynamix.data import find, folders
from dynamix.data.folders import Names
from dynamix.data.market1501 import FOLDERS, SPLITS, home
from dynamix.data.table import Table

NAMES = Names(
    re.compile(r"(?P<pid>\d+)_c(?P<cam>0*[1-8])_f\d+", re.IGNORECASE | re.ASCII),
    "0001_c2_f0046182.jpg (pid, camera 1 to 8, frame)",
)
HOME = home(("DukeMTMC-reID", "DukeMTMC", "duke", "duke-reid"), NAMES)


def dukemtmc(
    root: str | Path, split: str = "train", *, source: str = "dukemtmc", on_bad_image: str = "error"
) -> Table:
    """Read one split, sorted by base name; "all" = train, query and gallery, whose pids do not overlap.

    The gallery's wrong answers are people seen by one camera only; they have pids of their own and stay
    everywhere. `root` is the dataset's folder or one above it (`find`). Raises FileNotFoundError on a missing
    folder, ValueError on an image whose name does not parse or an empty split.
    """
    folders.check_split(source, split, SPLITS)
    reading, _ = find.opened(source, HOME, root, on_bad_image)
    for folder in FOLDERS.values() if split == "all" else [FOLDERS[split]]:
        reading.read(folder, NAMES, lambda match: (int(match["pid"]), int(match["cam"]) - 1))
    return reading.table(split)
