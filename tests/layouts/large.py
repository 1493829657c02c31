"""Market-1501, DukeMTMC-reID, MSMT17 and RandPerson in miniature."""

from collections.abc import Iterator
from pathlib import Path

from tests.layouts import Entry, draw

MARKET = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}
MSMT17 = {"V1": ("train", "test"), "V2": ("mask_train_v2", "mask_test_v2")}
SCENES = (2, 2, 2, 2, 1, 1, 2, 1, 1, 1, 4)  # cameras in each of RandPerson's scenes
SIZE = (32, 16)


def _shots(people: int, cameras: int, first: int = 0) -> Iterator[tuple[int, int, int]]:
    """(person, camera from 0, number): two images by each of two cameras; other people, other cameras."""
    for person in range(people):
        for number in range(4):
            yield person, (first + 2 * person + number // 2) % cameras, number


def _test_people(people: int) -> int:
    return max(3, people // 2)


def _test_split(number: int) -> str:
    return "query" if number == 0 else "gallery"


def _draw_all(root: Path, entries: list[Entry], size: tuple[int, int]) -> list[Entry]:
    for number, entry in enumerate(entries):
        # No image twice, not even of the two people who share a pid between MSMT17's train and test.
        draw(root / entry.path, entry.pid, number, size)
    return entries


def write_market1501(root: Path, people: int = 6, size: tuple[int, int] = SIZE) -> list[Entry]:
    """Entries of all that lies on disk, junk (pid -1) and distractors (pid 0) included.

    A reader drops the junk everywhere, keeps the distractors in the gallery only: not in "all".
    """
    name = "{:04d}_c{}s1_{:06d}_0{}.jpg"
    entries = []
    for person, camid, number in _shots(people, cameras=6):
        pid = 3 * person + 2  # with gaps, as in the original
        file = name.format(pid, camid + 1, 1000 * person + 76, number)
        entries.append(Entry("train", f"bounding_box_train/{file}", pid, camid))
    for person, camid, number in _shots(_test_people(people), cameras=6, first=3):
        pid, split = 3 * person + 1, _test_split(number)
        file = name.format(pid, camid + 1, 1000 * person + 51, number)
        entries.append(Entry(split, f"{MARKET[split]}/{file}", pid, camid))
    for number in range(2):
        entries.append(
            Entry("gallery", f"bounding_box_test/0000_c{number + 1}s1_000151_0{number}.jpg", 0, number)
        )
        entries.append(
            Entry("gallery", f"bounding_box_test/-1_c{number + 1}s2_000401_0{number}.jpg", -1, number)
        )
    return _draw_all(root, entries, size)


def write_dukemtmc(root: Path, people: int = 6, size: tuple[int, int] = SIZE) -> list[Entry]:
    """The gallery's last person is seen by one camera only: a wrong answer with a pid of its own."""
    name = "{:04d}_c{}_f{:07d}.jpg"
    entries = []
    for person, camid, number in _shots(people, cameras=8):
        file = name.format(2 * person + 1, camid + 1, 46182 + 60 * number)
        entries.append(Entry("train", f"bounding_box_train/{file}", 2 * person + 1, camid))
    tested = _test_people(people)
    for person, camid, number in _shots(tested, cameras=8, first=5):
        pid, split = 2 * person + 2, _test_split(number)
        entries.append(
            Entry(split, f"{MARKET[split]}/{name.format(pid, camid + 1, 9000 + number)}", pid, camid)
        )
    alone = 2 * tested + 2
    entries.append(Entry("gallery", f"bounding_box_test/{name.format(alone, 8, 120)}", alone, 7))
    return _draw_all(root, entries, size)


def write_msmt17(
    root: Path, layout: str = "V1", people: int = 6, size: tuple[int, int] = SIZE
) -> list[Entry]:
    """Layout "V1", "V2" or "market". Pids of train and test both start at 0 and are other people.

    In V1 and V2 the last image of each training person is in list_val.txt. A reader adds `people` to the
    test pids in "all" and in the merged dataset; the entries have the pids of the lists.
    """
    shots = [("train", *shot) for shot in _shots(people, cameras=15)]
    for person, camid, number in _shots(_test_people(people), cameras=15, first=9):
        shots.append((_test_split(number), person, camid, number))
    if layout == "market":
        entries = [
            Entry(split, f"{MARKET[split]}/{pid:04d}_c{camid + 1}_{number:04d}.jpg", pid, camid)
            for split, pid, camid, number in shots
        ]
        return _draw_all(root, entries, size)
    lists: dict[str, list[str]] = {"train": [], "val": [], "query": [], "gallery": []}
    entries = []
    for split, pid, camid, number in shots:
        suffix = "_ex" if (split, pid, number) == ("train", 1, 2) else ""
        day = ("0303morning", "0113noon", "0302afternoon")[pid % 3]
        name = (
            f"{pid:04d}/{pid:04d}_{number:03d}_{camid + 1:02d}_{day}_{15 * number:04d}_{number}{suffix}.jpg"
        )
        entries.append(Entry(split, f"{MSMT17[layout][split != 'train']}/{name}", pid, camid))
        lists["val" if split == "train" and number == 3 else split].append(f"{name} {pid}\n")
    _draw_all(root, entries, size)
    for kind, lines in lists.items():
        (root / f"list_{kind}.txt").write_text("".join(lines))
    return entries


def write_randperson(root: Path, people: int = 6, size: tuple[int, int] = SIZE) -> list[Entry]:
    """Person p is seen in two of the 19 cameras; names tell scene and camera of the scene, from 0."""
    places = [(scene, cam) for scene, cams in enumerate(SCENES) for cam in range(cams)]
    entries = []
    for person, camid, number in _shots(people, cameras=len(places), first=len(places) - 5):
        scene, cam = places[camid]
        name = f"{person:06d}_s{scene:02d}_c{cam:02d}_f{264 + 24 * number:06d}.jpg"
        entries.append(Entry("train", name, person, camid))
    return _draw_all(root, entries, size)
