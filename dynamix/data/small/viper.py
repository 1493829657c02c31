"""VIPeR: 632 people, each seen once by either of two cameras."""

import re
from pathlib import Path

from dynamix.data import find
from dynamix.data.folders import Names
from dynamix.data.small import shots, splits
from dynamix.data.table import Table

NAMES = Names(re.compile(r"(?P<pid>\d{3})_\d{1,3}", re.ASCII), "000_45.bmp (person of three digits, angle)")
CAMERAS = ("cam_a", "cam_b")
HOME = find.Home(("VIPeR", "VIPeR.v1.0"), (find.layout(*CAMERAS, names=NAMES),), find.none_of(CAMERAS, NAMES))
PUBLISHED = 632


def viper(
    root: str | Path,
    split: str = "train",
    *,
    split_id: int = 0,
    source: str = "viper",
    on_bad_image: str = "error",
) -> Table:
    """Read one split: 316 people train; of the others, cam_a is the query and cam_b the gallery, 316/316.

    pids are the numbers in the names, which have gaps. Raises FileNotFoundError on a missing folder,
    ValueError on a wrong name, a person without one image in each camera, or a split_id not 0 to 9.
    """
    splits.check(source, split, split_id)
    reading, _ = find.opened(source, HOME, root, on_bad_image)
    cameras = [
        shots.read(reading, folder, NAMES, splits.PEOPLE["viper"], camid)
        for camid, folder in enumerate(CAMERAS)
    ]
    people = shots.paired(reading, *cameras)
    train, test = splits.divide("viper", split_id, people)
    for camera, tested in zip(cameras, ("query", "gallery"), strict=True):
        shots.place(reading, camera, {"train": train, tested: test, "all": people}.get(split, ()))
    return reading.table(splits.note(split, split_id, (len(people), PUBLISHED, "people")))
