"""VIPeR: 632 people, each seen once by either of two cameras."""

import re
from pathlib import Path

from dynamix.data import folders
from dynamix.data.folders import Reading
from dynamix.data.small import shots, splits
from dynamix.data.table import Table

NAME = re.compile(r"(?P<pid>\d{3})_\d{1,3}\.(?:bmp|png|jpg|jpeg)", re.IGNORECASE | re.ASCII)
EXAMPLE = "000_45.bmp (person of three digits, angle)"
PARENTS = ("viper/VIPeR", "VIPeR", "viper", "VIPeR.v1.0", "viper/VIPeR.v1.0")
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
    reading = Reading(source, folders.home(source, root, PARENTS, ["cam_a", "cam_b"]), on_bad_image)
    cameras = [
        shots.read(reading, folder, NAME, EXAMPLE, splits.PEOPLE["viper"], camid)
        for camid, folder in enumerate(("cam_a", "cam_b"))
    ]
    people = shots.paired(reading, *cameras)
    train, test = splits.divide("viper", split_id, people)
    for camera, tested in zip(cameras, ("query", "gallery"), strict=True):
        shots.place(reading, camera, {"train": train, tested: test, "all": people}.get(split, ()))
    return reading.table(splits.note(split, split_id, (len(people), PUBLISHED, "people")))
