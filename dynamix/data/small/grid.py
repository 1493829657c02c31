"""GRID (QMUL underground): 250 people, each one probe and one gallery image, and 775 unpaired images."""

import re
from pathlib import Path
from typing import Any

import numpy as np

from dynamix.data import find, folders
from dynamix.data.folders import Names
from dynamix.data.small import shots, splits
from dynamix.data.table import Table

NAMES = Names(
    re.compile(r"(?P<pid>\d{4})_(?P<cam>[1-8])_.+", re.ASCII),
    "0001_1_25004_107_32_106_221.jpeg (person, camera 1 to 8, ...)",
)
LISTS = "features_and_partitions.mat"
HOME = find.Home(
    ("underground_reid", "GRID", "QMUL_GRID"),
    (find.layout("probe", "gallery", names=NAMES, files=[LISTS]),),
    find.none_of(["probe", "gallery"], NAMES),
)
PEOPLE = range(1, 251)
UNPAIRED = 0  # the pid of gallery images of nobody in probe


def grid(
    root: str | Path,
    split: str = "train",
    *,
    split_id: int = 0,
    source: str = "grid",
    on_bad_image: str = "error",
) -> Table:
    """Read one official split: 125 people train; of the others, probe is the query and gallery the gallery.

    The 775 unpaired images (pid 0) stay in the gallery as wrong answers, 125/900, and are dropped from train
    and all. Raises FileNotFoundError on a missing folder or .mat file, ValueError on an unreadable one, a
    wrong name, a person without one image in each folder, or a split_id not 0 to 9.
    """
    splits.check(source, split, split_id)
    reading, _ = find.opened(source, HOME, root, on_bad_image)
    probe = shots.read(reading, "probe", NAMES, PEOPLE)
    gallery = shots.read(reading, "gallery", NAMES, range(UNPAIRED, PEOPLE[-1] + 1))
    people = shots.paired(reading, probe, {pid: gallery[pid] for pid in gallery if pid != UNPAIRED})
    parts = {"all": people} if split == "all" else _divide(reading.home / LISTS, split_id, people)
    if split != "gallery":
        shots.place(reading, probe, parts[split])
    if split != "query":
        distractors = gallery.keys() & {UNPAIRED} if split == "gallery" else set()
        shots.place(reading, gallery, parts[split] | distractors)
    counts = [(len(people), len(PEOPLE), "people")]
    if split == "gallery":
        counts.append((len(gallery.get(UNPAIRED, [])), 775, "unpaired images"))
    return reading.table(splits.note(split, split_id, *counts, kind="official split"))


def _divide(path: Path, split_id: int, people: set[int]) -> dict[str, set[int]]:
    train = people & set(train_lists(path)[split_id])
    test = people - train
    if not train or not test:
        raise ValueError(
            f"{path}: split {split_id} leaves {len(train)} people on disk to train and {len(test)} to test: "
            "copy all images of the dataset there"
        )
    return {"train": train, "query": test, "gallery": test}


def train_lists(path: Path) -> list[list[int]]:
    """The people who train in each of the ten official splits.

    `trainIdxAll` is a 1x10 cell of structs (probeImIdx, galleryImIdx, personIdx): rows of the features stored
    beside them, and the person numbers of the file names.
    """
    from scipy.io import loadmat

    if not path.is_file():
        raise FileNotFoundError(
            f"grid: no {path}; {folders.found(path.parent)}; copy it there from the dataset's download: it "
            "holds the official splits"
        )
    try:
        cells = loadmat(path, variable_names=["trainIdxAll"])["trainIdxAll"].ravel()
        lists = [_people(cell) for cell in cells]
        if len(lists) != splits.TRIALS:
            raise ValueError(f"trainIdxAll has {len(lists)} splits")
    except Exception as error:  # a broken .mat raises nearly any type
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise ValueError(
            f"{path} holds no trainIdxAll of ten splits ({reason}): copy it again from the dataset's download"
        ) from error
    return lists


def _people(cell: Any) -> list[int]:
    """The person numbers of one cell of trainIdxAll."""
    struct = np.ravel(cell)[0]
    pids = np.ravel(struct[2])  # by place, as published code reads it, so that the field's name is free
    if not len(pids) or not np.isin(pids, PEOPLE).all():
        raise ValueError(f"a list of {len(pids)} numbers that are not all people 1 to {PEOPLE[-1]}")
    return pids.astype(int).tolist()
