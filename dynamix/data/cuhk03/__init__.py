"""CUHK03 under the new protocol (CUHK03-NP): Market-style folders, or the raw `cuhk-03.mat`."""

import re
from pathlib import Path

from dynamix.data import folders
from dynamix.data.cuhk03 import raw
from dynamix.data.folders import Reading
from dynamix.data.table import Table

NAME = re.compile(r"(?P<pid>\d+)_c(?P<cam>[12])_\d+\.(?:png|jpg|jpeg)", re.IGNORECASE | re.ASCII)
VARIANTS = ("detected", "labeled")
FOLDERS = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}
PARENTS = (
    "", "cuhk03-np", "cuhk03_np", "CUHK03-NP", "CUHK03_NP", "cuhk03", "CUHK03", "cuhk03-np/cuhk03-np",
)  # fmt: skip
SPLITS = ("train", "query", "gallery", "all")


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
    `images_labeled` beside it that holds them all is used as it is. `root` is the dataset's folder or its
    usual parent. Raises FileNotFoundError on a missing folder or .mat, ValueError on a .mat that cannot be
    read or contradicts itself, on a name that does not parse, and on an image not in its list or not there.
    """
    if variant not in VARIANTS:
        raise ValueError(f'cuhk03 has the variants "detected" and "labeled", got {variant!r}')
    source = source or f"cuhk03_{variant}"
    folders.check_split(source, split, SPLITS)
    parts = list(FOLDERS) if split == "all" else [split]
    bases = [Path(root) / parent for parent in PARENTS]
    release = raw.Release.of(bases, variant)
    market = _market_home(bases, variant)
    if market is not None:
        unread = f"; {raw.MAT} is there too and is not read" if release.mat else ""
        reading = _from_folders(Reading(source, market, on_bad_image), parts)
        return reading.table(f"{split}, {variant}, Market-style folders{unread}")
    if release.mat is None and release.protocol is None:
        wanted = f"{variant}/bounding_box_train nor {raw.MAT} with {raw.PROTOCOL.format(variant)}"
        raise FileNotFoundError(
            f"{source}: neither {wanted} in {root} or in its {', '.join(PARENTS[1:])}; "
            f"{folders.found(Path(root))}; give the folder that holds them, the one above {variant}"
        )
    listed = raw.read_protocol(source, release)
    home = raw.extracted(source, variant, release, listed)
    reading = raw.rows(Reading(source, home, on_bad_image), parts, listed)
    return reading.table(f"{split}, {variant}, raw {raw.MAT}")


def _market_home(bases: list[Path], variant: str) -> Path | None:
    """The folder of bounding_box_train, query and bounding_box_test; its own name must tell the variant."""
    given = re.fullmatch(rf"(.*[_-])?{variant}", bases[0].resolve().name, re.IGNORECASE)
    flat = [base.with_name(f"{base.name}{mark}{variant}") for base in bases[1:] for mark in "_-"]
    for home in [*bases[: bool(given)], *(base / variant for base in bases), *flat]:
        if any((home / folder).exists() for folder in FOLDERS.values()):
            return home
    return None


def _from_folders(reading: Reading, parts: list[str]) -> Reading:
    for folder in (FOLDERS[part] for part in parts):
        for name in folders.images(reading.home / folder, reading.source):
            match = NAME.fullmatch(name)
            if match is None:
                reading.refuse(
                    f"{reading.home / folder / name} is not named like 0001_c1_1.png (pid, camera 1 or 2, "
                    "number): rename it or move it away"
                )
            else:
                reading.add(f"{folder}/{name}", int(match["pid"]), int(match["cam"]) - 1)
    return reading
