"""CUHK03 under the new protocol (CUHK03-NP): Market-style folders, or the raw `cuhk-03.mat`."""

import os
import re
from functools import partial
from pathlib import Path

from dynamix.data import find, folders
from dynamix.data.cuhk03 import raw
from dynamix.data.folders import Names, Reading
from dynamix.data.table import Table

NAMES = Names(
    re.compile(r"(?P<pid>\d+)_c(?P<cam>0*[12])_\d+", re.IGNORECASE | re.ASCII),
    "0001_c1_1.png (pid, camera 1 or 2, number)",
)
VARIANTS = ("detected", "labeled")
FOLDERS = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}
CALLED = ("cuhk03-np", "cuhk03", "cuhk03_new_protocol")
SPLITS = ("train", "query", "gallery", "all")
MARKET = find.layout(*FOLDERS.values(), names=NAMES)


def cuhk03(
    root: str | Path,
    split: str = "train",
    *,
    variant: str = "detected",
    source: str = "",
    on_bad_image: str = "error",
) -> Table:
    """Read one split of the boxes of `variant`, sorted by base name; "all" = train, query and gallery.

    "detected" are a detector's boxes, "labeled" those drawn by hand: the same people, other scores. The
    Market-style folders are read where they are, else `cuhk-03.mat`, whose images are written once under
    $DYNAMIX_CACHE (else ~/.cache/dynamix), anew when the file changes; an `images_detected` or
    `images_labeled` beside it that holds them all is used as it is. `root` is the dataset's folder or one
    above it (`find`). Raises FileNotFoundError on a missing folder or .mat, ValueError on a .mat that cannot
    be read or contradicts itself, on a name that does not parse, on an image not in its list or not there.
    """
    if variant not in VARIANTS:
        raise ValueError(f'cuhk03 has the variants "detected" and "labeled", got {variant!r}')
    source = source or f"cuhk03_{variant}"
    folders.check_split(source, split, SPLITS)
    parts = list(FOLDERS) if split == "all" else [split]
    found, _ = find.opened(source, home(variant), root, on_bad_image)
    release, market = raw.Release.of(found.home, variant), _market(found.home, variant)
    if market is not None:
        unread = f"; {raw.MAT} is there too and is not read" if release.mat else ""
        reading = Reading(source, market, on_bad_image, found.said)
        for part in parts:
            reading.read(FOLDERS[part], NAMES, lambda match: (int(match["pid"]), int(match["cam"]) - 1))
        return reading.table(f"{split}, {variant}, Market-style folders{unread}")
    listed = raw.read_protocol(source, release)
    images = raw.extracted(source, variant, release, listed)
    reading = raw.rows(Reading(source, images, on_bad_image, found.said), parts, listed)
    return reading.table(f"{split}, {variant}, raw {raw.MAT}")


def home(variant: str) -> find.Home:
    """The folder of `detected` and `labeled`, or one whose own name tells the variant."""
    return find.Home(
        (*CALLED, *(f"{name}_{variant}" for name in CALLED)),
        (find.Layout(partial(_fit, variant)),),
        f"neither {variant}/{FOLDERS['train']} nor {raw.MAT} with {raw.PROTOCOL.format(variant)}",
        advice=f"give the folder that holds them, the one above {variant}",
    )


def _fit(variant: str, folder: Path) -> int:
    """Of the Market-style folders where there are any, else of the raw files."""
    market, release = _market(folder, variant), raw.Release.of(folder, variant)
    if market is not None:
        return MARKET.fit(market)
    known = [find.NOTHING if file is None else find.WHOLE for file in (release.mat, release.protocol)]
    return find.together(known)


def _market(folder: Path, variant: str) -> Path | None:
    """Where bounding_box_train, query and bounding_box_test lie; that folder's name tells the variant."""
    given = re.fullmatch(rf"(.*[_-])?{variant}", Path(os.path.abspath(folder)).name, re.IGNORECASE)
    places = [*([folder] if given else []), folder / variant]
    return next((place for place in places if MARKET.fit(place)), None)
