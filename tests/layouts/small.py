"""PRID2011, GRID, VIPeR and iLIDS in miniature, or whole; the entries name no split."""

from pathlib import Path

import numpy as np
from scipy.io import savemat

from tests.layouts import Entry, draw

SIZE = (32, 16)
GAPS = {  # VIPeR's 632 people are 0 to 873 without these
    *range(247, 300), 349, 352, 356, 363, *range(396, 500), 530, 559, 586, 602, 644, 663, 665, 668, 681, 688,
    691, 694, 695, 704, 710, 712, 718, 719, 727, 730, 739, *range(742, 800), 810, 857,
}  # fmt: skip
VIPER_PEOPLE = [pid for pid in range(874) if pid not in GAPS]


def _draw_all(root: Path, entries: list[Entry], size: tuple[int, int]) -> list[Entry]:
    for number, entry in enumerate(entries):
        draw(root / entry.path, entry.pid, number, size)
    return entries


def write_prid(
    root: Path, people: int = 12, only_a: int = 3, only_b: int = 5, size: tuple[int, int] = SIZE
) -> list[Entry]:
    """`people` seen by both cameras (from 1), others by one (from 201, different people in A and B)."""
    shared = range(1, people + 1)
    a = [(pid, pid) for pid in shared] + [(201 + k, 1201 + k) for k in range(only_a)]
    b = [(pid, pid) for pid in shared] + [(201 + k, 201 + k) for k in range(only_b)]
    entries = [
        Entry("", f"single_shot/{folder}/person_{number:04d}.png", pid, camid)
        for camid, (folder, camera) in enumerate([("cam_a", a), ("cam_b", b)])
        for number, pid in camera
    ]
    return _draw_all(root, entries, size)


def write_grid(root: Path, people: int = 12, unpaired: int = 5, size: tuple[int, int] = SIZE) -> list[Entry]:
    """`people` with a probe and a gallery image, `unpaired` more in the gallery, and ten lists."""
    entries = []
    for pid in range(1, people + 1):
        probe, gallery = pid % 8, (pid + 3) % 8
        name = f"{pid:04d}_{probe + 1}_{25000 + pid}_107_32_106_221.jpeg"
        match = f"{pid:04d}_{gallery + 1}_{25020 + pid}_160_75_118_274.jpeg"
        entries += [Entry("", f"probe/{name}", pid, probe), Entry("", f"gallery/{match}", pid, gallery)]
    for number in range(unpaired):
        name = f"0000_{1 + number % 8}_{26000 + number}_88_81_113_296.jpeg"
        entries.append(Entry("", f"gallery/{name}", 0, number % 8))
    write_grid_lists(root, grid_lists(people))
    return _draw_all(root, entries, size)


def grid_lists(people: int = 12) -> list[list[int]]:
    """Ten lists of half of the people, all different."""
    rng = np.random.default_rng(8)
    return [sorted((1 + rng.permutation(people)[: people // 2]).tolist()) for _ in range(10)]


def write_grid_lists(root: Path, lists: list[list[int]]) -> None:
    """features_and_partitions.mat as MATLAB saves it: a row of cells, each a struct of three rows."""
    root.mkdir(parents=True, exist_ok=True)
    cells = np.empty((1, len(lists)), dtype=object)
    for split, pids in enumerate(lists):
        person = np.array([pids], dtype=np.float64)
        cells[0, split] = {"probeImIdx": 2 * person, "galleryImIdx": 2 * person - 1, "personIdx": person}
    content = {"trainIdxAll": cells, "testIdxAll": cells, "ftrset": np.zeros((4, 3))}
    savemat(root / "features_and_partitions.mat", content, do_compression=True)


def write_viper(root: Path, people: int = 12, size: tuple[int, int] = SIZE) -> list[Entry]:
    """`people` spread over VIPeR's real numbers, gaps included, once per camera."""
    pids = VIPER_PEOPLE[:: len(VIPER_PEOPLE) // people][:people]
    angles = ([0, 45, 90], [90, 135, 180])
    entries = [
        Entry("", f"{folder}/{pid:03d}_{angles[camid][pid % 3]}.bmp", pid, camid)
        for camid, folder in enumerate(("cam_a", "cam_b"))
        for pid in pids
    ]
    return _draw_all(root, entries, size)


def write_ilids(
    root: Path, people: int = 12, folder: str = "Persons", size: tuple[int, int] = SIZE
) -> list[Entry]:
    """`people` with two to six images each; the camid is the image's number from 0."""
    entries = [
        Entry("", f"{folder}/{pid:04d}{image:03d}.jpg", pid, image - 1)
        for pid in range(1, people + 1)
        for image in range(1, 3 + (pid + 1) % 5)
    ]
    return _draw_all(root, entries, size)
