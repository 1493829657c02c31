"""CUHK02: five pairs of cameras, each with people of its own."""

import re
from pathlib import Path

from dynamix.data import find, folders
from dynamix.data.folders import Names
from dynamix.data.table import Table

NAMES = Names(
    re.compile(r"(?P<pid>\d{1,4})_.*", re.ASCII),
    "0012_01.png (a person's number of up to four digits, underscore, anything)",
)
SPLITS = ("train", "query", "gallery", "all")
PAIRS = range(1, 6)
PEOPLE = 10_000  # a name's number has at most four digits, so pair * 10,000 + number is one person
CAMERAS = {  # (pair, camera), the classic division: the last pair is the test set
    "train": [(pair, cam) for pair in PAIRS[:-1] for cam in (1, 2)],
    "query": [(5, 1)],
    "gallery": [(5, 2)],
    "all": [(pair, cam) for pair in PAIRS for cam in (1, 2)],
}
HOME = find.Home(
    ("CUHK02",),
    (find.layout(*(f"P{pair}/cam{cam}" for pair, cam in CAMERAS["all"]), names=NAMES),),
    find.none_of([f"P{pair}" for pair in PAIRS], NAMES),
    inner=("Dataset",),
)


def cuhk02(
    root: str | Path, split: str = "train", *, source: str = "cuhk02", on_bad_image: str = "error"
) -> Table:
    """Read one split, by pair, camera and base name; "all" is what domain generalization trains on.

    Train is P1 to P4, query P5's first camera, gallery its second. The number that starts a name tells a
    person only within its pair: pid = pair * 10,000 + number, camid = 2 * (pair - 1) + camera - 1, 0 to 9.
    `root` is the folder of P1 to P5 or one above it (`find`). Raises FileNotFoundError on a missing pair or
    camera folder, ValueError on an image whose name does not parse.
    """
    folders.check_split(source, split, SPLITS)
    reading, _ = find.opened(source, HOME, root, on_bad_image)
    for pair in PAIRS:
        if not (reading.home / f"P{pair}").is_dir():
            raise FileNotFoundError(
                f"{source}: no folder {reading.home / f'P{pair}'}; {folders.found(reading.home)}; copy all "
                "five camera pairs, P1 to P5"
            )
    for pair, cam in CAMERAS[split]:
        for path, match in reading.named(f"P{pair}/cam{cam}", NAMES):
            reading.add(path, pair * PEOPLE + int(match["pid"]), 2 * (pair - 1) + cam - 1)
    return reading.table(split)
