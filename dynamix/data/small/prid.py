"""PRID2011, single shot: 200 people seen by both cameras, 185 by camera A only, 549 by camera B only."""

import re
from pathlib import Path

from dynamix.data import find
from dynamix.data.folders import Names
from dynamix.data.small import shots, splits
from dynamix.data.table import Table

NAMES = Names(re.compile(r"person_(?P<pid>\d{4})", re.IGNORECASE | re.ASCII), "person_0001.png")
CAMERAS = ("single_shot/cam_a", "single_shot/cam_b")
HOME = find.Home(("prid2011", "prid"), (find.layout(*CAMERAS, names=NAMES),), find.none_of(CAMERAS, NAMES))
SHARED = 200  # people 1 to 200 are the same in both cameras
A, B = range(1, 386), range(1, 750)
OFFSET = 1000  # person 201 of camera A is not person 201 of camera B: A's 201 to 385 become 1201 to 1385


def prid(
    root: str | Path,
    split: str = "train",
    *,
    split_id: int = 0,
    source: str = "prid",
    on_bad_image: str = "error",
) -> Table:
    """Read one split: 100 of the shared people train; of the other 100, A's images are the query.

    The gallery is B's images of these 100, and of the 549 only B sees as wrong answers: 100/649. "all" has
    every image; people only camera A sees have their number + 1000. Raises FileNotFoundError on a missing
    folder, ValueError on a wrong name, a shared person missing in a camera, or a split_id not 0 to 9.
    """
    splits.check(source, split, split_id)
    reading, _ = find.opened(source, HOME, root, on_bad_image)
    a, b = (
        shots.read(reading, folder, NAMES, people, camid)
        for camid, (folder, people) in enumerate(zip(CAMERAS, (A, B), strict=True))
    )
    only_a, only_b = ({pid for pid in camera if pid > SHARED} for camera in (a, b))
    shared = shots.paired(
        reading,
        {pid: a[pid] for pid in a.keys() - only_a},
        {pid: b[pid] for pid in b.keys() - only_b},
    )
    train, test = splits.divide("prid", split_id, shared)
    if split != "gallery":
        shots.place(reading, a, {"train": train, "query": test, "all": shared}[split])
    if split == "all":
        shots.place(reading, a, only_a, OFFSET)
    if split != "query":
        shots.place(reading, b, {"train": train, "gallery": test | only_b, "all": shared | only_b}[split])
    on_disk = [(len(shared), SHARED, "shared people")]
    if split in ("gallery", "all"):
        on_disk.append((len(only_b), B[-1] - SHARED, "people of camera B only"))
    if split == "all":
        on_disk.append((len(only_a), A[-1] - SHARED, "people of camera A only"))
    return reading.table(splits.note(split, split_id, *on_disk))
