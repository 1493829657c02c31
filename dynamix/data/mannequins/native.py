"""What each world looks like in the layout of the dataset it stands in for.

The images are, pixel for pixel, those of the Market-style layout, so an encoder scores the same on either.
What a dataset has no place for is left out or renamed: junk boxes are left out; distractors become people
of the gallery alone, under pids of their own, and count as such in split "all"; studio is training data
only, so its test people are trained on and its distractors are left out.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Int

from dynamix.data.mannequins.plan import WORLDS, Plan
from dynamix.data.mannequins.truth import SPLITS, Truth
from dynamix.data.market1501 import FOLDERS

STANDS_FOR = {
    "plaza": "market1501",
    "campus": "dukemtmc",
    "hall": "cuhk03_detected",  # nobody labels boxes by hand here
    "station": "msmt17",
    "studio": "randperson",
    "videos": "luperson_nl",
}
CAMERAS = {"dukemtmc": 8, "cuhk03_detected": 2, "msmt17": 15, "randperson": 19}

# MSMT17: train and test people both count from 0; only the day tells their names apart.
DAYS = {"train": "0302", "query": "0303", "gallery": "0303"}
HOURS = ("morning", "noon", "afternoon")
VALIDATED = 14  # every 14th training image is in list_val, as about one in 14 of the real ones
# RandPerson: how many cameras each scene has.
SCENES = [(scene, cam) for scene, cams in enumerate((2, 2, 2, 2, 1, 1, 2, 1, 1, 1, 4)) for cam in range(cams)]


@dataclass(frozen=True)
class Files:
    """The files of a world: row for row of `plan` the path of its image, and what its text files say."""

    plan: Plan
    paths: list[str]  # relative to the world's folder; base names are unique
    texts: dict[str, str]


def files(name: str, planned: Plan) -> Files:
    """The files of world `name` in the layout of the dataset it stands for, of its Market-style plan.

    Raises ValueError on a world that is too large for that dataset's names.
    """
    layout = STANDS_FOR[name]
    cameras = int(planned.truth.camera.max()) + 1
    if cameras > CAMERAS[layout]:
        raise ValueError(
            f"{name} has {cameras} cameras and {layout} {CAMERAS[layout]}: lower mannequins.{name}, "
            'or write it in layout "market"'
        )
    time = planned.shots.camera.numpy() % WORLDS[name].times
    kept = planned.pid > 0 if layout == "randperson" else planned.pid >= 0
    rows = np.flatnonzero(kept)
    return NAMINGS[layout](_Rows(name, _select(planned, rows), 1 + rows, time[rows]))


def _select(planned: Plan, rows: Int[np.ndarray, " n"]) -> Plan:
    index, known = torch.from_numpy(rows), planned.truth
    truth = Truth(**{field.name: getattr(known, field.name)[rows] for field in dataclasses.fields(Truth)})
    return replace(
        planned, shots=planned.shots.select(index), second=planned.second[index], pid=planned.pid[rows],
        truth=truth,
    )  # fmt: skip


@dataclass(frozen=True)
class _Rows:
    """The images that have a place in the layout."""

    world: str
    plan: Plan
    frame: Int[np.ndarray, " N"]  # from 1, unique; as in the Market-style names
    time: Int[np.ndarray, " N"]  # of day

    def digits(self, what: str, numbers: Int[np.ndarray, " N"], width: int) -> list[str]:
        """The numbers in `width` digits; raises ValueError where one does not fit."""
        if numbers.max() >= 10**width:
            raise ValueError(
                f"{what} {numbers.max()} of {self.world} does not fit in the {width} digits that "
                f"{STANDS_FOR[self.world]} has for it: lower mannequins.{self.world}, or write it in layout "
                '"market"'
            )
        return [f"{number:0{width}d}" for number in numbers]

    def named(self, pid: np.ndarray, paths: list[str], texts: dict[str, str] | None = None) -> Files:
        names = np.array([path.rpartition("/")[2] for path in paths])
        truth = replace(self.plan.truth, names=names)
        return Files(replace(self.plan, pid=pid, truth=truth), paths, texts or {})


def _dukemtmc(rows: _Rows) -> Files:
    known, pid = rows.plan.truth, rows.plan.truth.identity + 1
    columns = (known.split, rows.digits("pid", pid, 4), known.camera + 1, rows.digits("frame", rows.frame, 7))
    paths = [f"{FOLDERS[SPLITS[s]]}/{p}_c{c}_f{f}.jpg" for s, p, c, f in zip(*columns, strict=True)]
    return rows.named(pid, paths)


def _cuhk03(rows: _Rows) -> Files:
    """Market-style folders, lossless images of the JPEGs."""
    known, pid = rows.plan.truth, rows.plan.truth.identity + 1
    number = 1 + _running(pid * CAMERAS["cuhk03_detected"] + known.camera)
    columns = (known.split, rows.digits("pid", pid, 4), known.camera + 1, number)
    paths = [f"detected/{FOLDERS[SPLITS[s]]}/{p}_c{c}_{k}.png" for s, p, c, k in zip(*columns, strict=True)]
    return rows.named(pid, paths)


def _msmt17(rows: _Rows) -> Files:
    """V1: folders train and test, a folder a person in them, and four lists."""
    known, train = rows.plan.truth, rows.plan.truth.split == SPLITS.index("train")
    pid = np.where(train, known.identity, known.identity - known.identity[train].max() - 1)
    columns = (
        known.split, rows.digits("pid", pid, 4), rows.digits("image", _running(known.identity), 3),
        rows.digits("camera", known.camera + 1, 2), rows.time, rows.frame % 10_000,
    )  # fmt: skip
    listed = [
        f"{p}/{p}_{k}_{c}_{DAYS[SPLITS[s]]}{HOURS[t]}_{f:04d}_0.jpg"
        for s, p, k, c, t, f in zip(*columns, strict=True)
    ]
    split = np.array(SPLITS)[known.split]
    by_person = np.flatnonzero(train)[np.argsort(known.identity[train], kind="stable")]
    split[by_person[::VALIDATED]] = "val"  # never all images of a person, who has at least two
    texts = {}
    for part in ("train", "val", "query", "gallery"):
        lines = sorted(f"{listed[row]} {pid[row]}\n" for row in np.flatnonzero(split == part))
        texts[f"list_{part}.txt"] = "".join(lines)
    paths = [f"{'train' if first else 'test'}/{path}" for first, path in zip(train, listed, strict=True)]
    return rows.named(pid, paths, texts)


def _randperson(rows: _Rows) -> Files:
    """Everybody is trained on, query and gallery people too."""
    known = rows.plan.truth
    places = [SCENES[camera] for camera in known.camera]
    columns = (rows.digits("pid", known.identity, 6), places, rows.digits("frame", rows.frame, 6))
    paths = [
        f"subset/{p}_s{scene:02d}_c{cam:02d}_f{f}.jpg" for p, (scene, cam), f in zip(*columns, strict=True)
    ]
    made = rows.named(known.identity, paths)
    truth = replace(made.plan.truth, split=np.zeros_like(known.split))
    return replace(made, plan=replace(made.plan, truth=truth))


def _running(group: Int[np.ndarray, " N"]) -> Int[np.ndarray, " N"]:
    """The number of each row among those of its group, from 0 in their order."""
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    sizes = np.diff(np.append(starts, len(group)))
    number = np.empty(len(group), np.int64)
    number[order] = np.arange(len(group)) - np.repeat(starts, sizes)
    return number


NAMINGS: dict[str, Callable[[_Rows], Files]] = {
    "dukemtmc": _dukemtmc,
    "cuhk03_detected": _cuhk03,
    "msmt17": _msmt17,
    "randperson": _randperson,
}
