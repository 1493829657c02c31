"""The images of each person in a folder of a small set, and people who must be seen once by both cameras."""

from collections.abc import Collection
from typing import NamedTuple

from dynamix.data.folders import Names, Reading


class Shot(NamedTuple):
    path: str  # relative to the dataset's home
    camid: int


def read(
    reading: Reading, folder: str, names: Names, pids: Collection[int], camid: int = 0
) -> dict[int, list[Shot]]:
    """The images of each person, sorted by name; the camera is the name's group cam (from 1), or `camid`.

    An image whose name does not parse, or whose person is not one of `pids`, is refused.
    """
    found: dict[int, list[Shot]] = {}
    for path, match in reading.named(folder, names):
        pid = int(match["pid"])
        if pid not in pids:
            reading.refuse(
                f"{reading.home / path}: {folder} of {reading.source} has the people {min(pids)} to "
                f"{max(pids)} only: rename it or move it away"
            )
        else:
            camera = int(match["cam"]) - 1 if "cam" in names.pattern.groupindex else camid
            found.setdefault(pid, []).append(Shot(path, camera))
    return found


def paired(reading: Reading, first: dict[int, list[Shot]], second: dict[int, list[Shot]]) -> set[int]:
    """The people with one image in each of the two folders; the images of all others are refused."""
    pairs = set()
    for pid in sorted(first.keys() | second.keys()):
        counts = len(first.get(pid, [])), len(second.get(pid, []))
        if counts == (1, 1):
            pairs.add(pid)
            continue
        for shot in first.get(pid, []) + second.get(pid, []):
            reading.refuse(
                f"{reading.home / shot.path}: person {pid} has {counts[0]} + {counts[1]} images in the two "
                "folders and needs 1 + 1: copy the missing image there or move the surplus away"
            )
    return pairs


def place(reading: Reading, shots: dict[int, list[Shot]], pids: Collection[int], offset: int = 0) -> None:
    """Add the images of `pids`, in their order, as rows; `offset` is added to the pids."""
    for pid in sorted(pids):
        for shot in shots[pid]:
            reading.add(shot.path, pid + offset, shot.camid)
