"""CUHK-SYSU's person crops, in the three layouts they circulate in."""

import re
from pathlib import Path
from typing import NamedTuple

from dynamix.data import folders
from dynamix.data.folders import Reading
from dynamix.data.table import Table


class Form(NamedTuple):
    """One layout: the folder that gives it away, and how its images are named."""

    folder: str
    name: re.Pattern[str]
    example: str


FORMS = (
    Form(
        "cropped_images", re.compile(r"(?i)p(?P<pid>\d+)_s\d+_\d+\.(?:jpg|jpeg|png)"), "p11422_s16929_1.jpg"
    ),
    Form(
        "cropped_image",
        re.compile(r"(?i)p(?P<pid>\d+)_n\d+_s\d+_hard\d\.(?:png|jpg|jpeg)"),
        "p00001_n01_s00001_hard0.png",
    ),
    # Cameras 0 and 1 only, and no sequence: so Market's, Duke's and MSMT17's names are not taken for these.
    Form(
        "bounding_box_train",
        re.compile(r"(?i)(?P<pid>\d+)_c[01](?:[^0-9s].*)?\.(?:jpg|jpeg|png)"),
        "322_c1_2.jpg (camera 0 or 1)",
    ),
)
PARENTS = ("cuhksysu", "cuhk_sysu", "CUHK-SYSU", "cuhk-sysu", "CUHK_SYSU", "CUHKSYSU", "cuhksysu4reid")
SPLITS = ("train", "all")


def cuhk_sysu(
    root: str | Path, split: str = "train", *, source: str = "cuhk_sysu", on_bad_image: str = "error"
) -> Table:
    """Read every crop, sorted by base name; the layout is told by its folder. Both splits are the whole set.

    Each row has camid -1, not known: the first two layouts name a scene or nothing, and the third's camera
    digit is made up as well. Taken for cameras, they would teach a camera loss what is not so. `root` is
    the dataset's folder or its usual parent. Raises FileNotFoundError without any of the three folders,
    ValueError when two lie side by side or a name does not parse.
    """
    folders.check_split(source, split, SPLITS)
    home = folders.home(source, root, PARENTS, [form.folder for form in FORMS])
    there = [form for form in FORMS if (home / form.folder).exists()]
    if len(there) > 1:
        raise ValueError(
            f"{source}: {home} holds {' and '.join(form.folder for form in there)}, the same people in two "
            "layouts: move one away"
        )
    form = there[0]
    reading = Reading(source, home, on_bad_image)
    for name in folders.images(home / form.folder, source):
        match = form.name.fullmatch(name)
        if match is None:
            reading.refuse(
                f"{home / form.folder / name} is not named like {form.example}: rename it or move it away"
            )
        else:
            reading.add(f"{form.folder}/{name}", int(match["pid"]), -1)
    return reading.table(f"{split}, crops from {form.folder}, cameras not known")
