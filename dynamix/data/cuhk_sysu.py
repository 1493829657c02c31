"""CUHK-SYSU's person crops, in the three layouts they circulate in."""

import re
from pathlib import Path

from dynamix.data import find, folders
from dynamix.data.folders import Names
from dynamix.data.table import Table

FORMS = {  # the folder that gives a layout away, and how its images are named
    "cropped_images": Names(re.compile(r"(?ai)p(?P<pid>\d+)_s\d+_\d+"), "p11422_s16929_1.jpg"),
    "cropped_image": Names(re.compile(r"(?ai)p(?P<pid>\d+)_n\d+_s\d+_hard\d"), "p00001_n01_s00001_hard0.png"),
    # Cameras 0 and 1 only, and no sequence: so Market's, Duke's and MSMT17's names are not taken for these.
    "bounding_box_train": Names(
        re.compile(r"(?ai)(?P<pid>\d+)_c[01](?:[^0-9s].*)?"), "322_c1_2.jpg (camera 0 or 1)"
    ),
}
HOME = find.Home(
    ("CUHK-SYSU", "cuhksysu4reid"),
    tuple(find.layout(folder, names=names, called=folder) for folder, names in FORMS.items()),
    find.none_of(list(FORMS), *FORMS.values()),
)
SPLITS = ("train", "all")


def cuhk_sysu(
    root: str | Path, split: str = "train", *, source: str = "cuhk_sysu", on_bad_image: str = "error"
) -> Table:
    """Read every crop, sorted by base name; the layout is told by its folder. Both splits are the whole set.

    Each row has camid -1, not known: the first two layouts name a scene or nothing, and the third's camera
    digit is made up as well. Taken for cameras, they would teach a camera loss what is not so. `root` is
    the dataset's folder or one above it (`find`). Raises FileNotFoundError without any of the three folders,
    ValueError when two lie side by side or a name does not parse.
    """
    folders.check_split(source, split, SPLITS)
    reading, layout = find.opened(source, HOME, root, on_bad_image)
    reading.read(layout.called, FORMS[layout.called], lambda match: (int(match["pid"]), -1))
    return reading.table(f"{split}, crops from {layout.called}, cameras not known")
