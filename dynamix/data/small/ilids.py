"""iLIDS (i-LIDS_Pedestrian): 476 images of 119 people at an airport."""

import re
from pathlib import Path

from dynamix.data import find
from dynamix.data.folders import Names
from dynamix.data.small import shots, splits
from dynamix.data.table import Table

# The last three digits number a person's images. They stand in for the camera, which no file tells: a query
# and its match then never share a "camera", and nothing is removed from the gallery.
NAMES = Names(
    re.compile(r"(?P<pid>\d{4})(?P<cam>(?!000)\d{3})", re.ASCII),
    "0001001.jpg (person of four digits, image of three, from 1)",
)
FOLDERS = ("Persons", "images")
HOME = find.Home(
    ("i-LIDS_Pedestrian", "QMUL-iLIDS", "iLIDS"),
    tuple(find.layout(folder, names=NAMES, called=folder) for folder in FOLDERS),
    find.none_of(FOLDERS, NAMES),
)
PUBLISHED = 119


def ilids(
    root: str | Path,
    split: str = "train",
    *,
    split_id: int = 0,
    source: str = "ilids",
    on_bad_image: str = "error",
) -> Table:
    """Read one split: all images of 59 people train; of each of the other 60, one is query and one gallery.

    Which two is drawn per person and split. camids are image numbers from 0, not cameras. Raises
    FileNotFoundError on a missing folder, ValueError on a wrong name, a person with a single image, or a
    split_id not 0 to 9.
    """
    splits.check(source, split, split_id)
    reading, layout = find.opened(source, HOME, root, on_bad_image)
    seen = shots.read(reading, layout.called, NAMES, splits.PEOPLE["ilids"])
    for pid in [pid for pid, images in seen.items() if len(images) < 2]:
        path = reading.home / seen.pop(pid)[0].path
        reading.refuse(f"{path} is the only image of person {pid}: copy the others there or move it away")
    train, test = splits.divide("ilids", split_id, seen)
    if split in ("train", "all"):
        shots.place(reading, seen, train if split == "train" else seen)
    else:
        which, draws = ("query", "gallery").index(split), splits.shipped("ilids")["draws"][split_id]
        for pid in sorted(test):
            shot = seen[pid][splits.two_of(len(seen[pid]), draws[pid - 1])[which]]
            reading.add(shot.path, pid, shot.camid)
    return reading.table(splits.note(split, split_id, (len(seen), PUBLISHED, "people")))
