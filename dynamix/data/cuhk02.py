"""CUHK02: five pairs of cameras, each with people of its own."""

import re
from pathlib import Path

from dynamix.data import folders
from dynamix.data.folders import Reading
from dynamix.data.table import Table

NAME = re.compile(r"(?P<pid>\d{1,4})_.*\.(?:png|jpg|jpeg|bmp)", re.IGNORECASE | re.ASCII)
PARENTS = ("Dataset", "cuhk02/Dataset", "cuhk02", "CUHK02/Dataset", "CUHK02")
SPLITS = ("train", "query", "gallery", "all")
PAIRS = range(1, 6)
PEOPLE = 10_000  # a name's number has at most four digits, so pair * 10,000 + number is one person
CAMERAS = {  # (pair, camera), the classic division: the last pair is the test set
    "train": [(pair, cam) for pair in PAIRS[:-1] for cam in (1, 2)],
    "query": [(5, 1)],
    "gallery": [(5, 2)],
    "all": [(pair, cam) for pair in PAIRS for cam in (1, 2)],
}


def cuhk02(
    root: str | Path, split: str = "train", *, source: str = "cuhk02", on_bad_image: str = "error"
) -> Table:
    """Read one split, by pair, camera and base name; "all" is what domain generalization trains on.

    Train is P1 to P4, query P5's first camera, gallery its second. The number that starts a name tells a
    person only within its pair: pid = pair * 10,000 + number, camid = 2 * (pair - 1) + camera - 1, 0 to 9.
    `root` is the folder of P1 to P5 or a usual parent. Raises FileNotFoundError on a missing pair or camera
    folder, ValueError on an image whose name does not parse.
    """
    folders.check_split(source, split, SPLITS)
    pairs = [f"P{pair}" for pair in PAIRS]
    reading = Reading(source, folders.home(source, root, PARENTS, pairs), on_bad_image)
    for pair in pairs:
        if not (reading.home / pair).is_dir():
            raise FileNotFoundError(
                f"{source}: no folder {reading.home / pair}; {folders.found(reading.home)}; copy all five "
                "camera pairs, P1 to P5"
            )
    for number, cam in CAMERAS[split]:
        folder = f"P{number}/cam{cam}"
        for name in folders.images(reading.home / folder, source):
            match = NAME.fullmatch(name)
            if match is None:
                reading.refuse(
                    f"{reading.home / folder / name} does not start with a person's number of up to four "
                    "digits and an underscore, like 0012_01.png: rename it or move it away"
                )
            else:
                reading.add(
                    f"{folder}/{name}", number * PEOPLE + int(match["pid"]), 2 * (number - 1) + cam - 1
                )
    return reading.table(split)
