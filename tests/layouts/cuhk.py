"""CUHK02, CUHK03 (Market-style and raw) and CUHK-SYSU in miniature."""

from pathlib import Path

import h5py
import numpy as np
from PIL import Image
from scipy.io import savemat

from tests.layouts import Entry, draw

VARIANTS = ("detected", "labeled")
SPLITS = ("train", "query", "gallery")
FOLDERS = dict(zip(SPLITS, ("bounding_box_train", "query", "bounding_box_test"), strict=True))
RAW_NAME = "{pair}_{person:03d}_{view}_{cell:02d}.png"


# --- CUHK03: 10 people, two in each of the five camera pairs; the first six train, the others test. ---


def cells(pid: int, variant: str) -> list[int]:
    """Which of a person's ten cells hold an image: 1 to 5 of view 1, 6 to 10 of view 2."""
    return [1, 2, 5, 6, 7] if variant == "detected" else [1, 2, 5, 6, 9, 10]


def crop(pid: int, cell: int, variant: str) -> np.ndarray:
    """(H, W, 3) levels; no two sides, channels or sizes are alike, so no transposition goes unseen."""
    rng = np.random.default_rng([pid, cell, VARIANTS.index(variant)])
    height, width = 30 + pid % 3, 13 + cell % 2
    upper, lower = np.random.default_rng(pid).integers(40, 216, (2, 3))
    levels = np.where(np.arange(height)[:, None, None] < height // 2, upper, lower)
    return (levels + rng.integers(-30, 31, (height, width, 3))).clip(0, 255).astype(np.uint8)


def _divide(variant: str) -> dict[str, list[tuple[int, int]]]:
    """Of each split its (pid, cell)s; a test person's first image of each view is a query."""
    divided: dict[str, list[tuple[int, int]]] = {split: [] for split in SPLITS}
    for pid in range(1, 11):
        for cell in cells(pid, variant):
            test = "query" if cell in (1, 6) else "gallery"
            divided["train" if pid <= 6 else test].append((pid, cell))
    return divided


def _view(cell: int) -> int:
    return 1 if cell <= 5 else 2


def pixels_of(entry: Entry, variant: str) -> np.ndarray:
    """What the image of a CUHK03 entry must look like."""
    return crop(entry.pid, int(Path(entry.path).stem.split("_")[-1]), variant)


def write_cuhk03(
    root: Path, form: str = "market", variants: tuple[str, ...] = VARIANTS
) -> dict[str, list[Entry]]:
    """Entries by variant; their paths: from root (form "market"), or names in filelist (form "raw")."""
    if form == "raw":
        return write_cuhk03_raw(root, variants)
    written = {}
    for variant in variants:
        written[variant] = _entries(
            _divide(variant), f"{variant}/{{folder}}/{{pid:04d}}_c{{view}}_{{cell}}.png"
        )
        for entry in written[variant]:
            (root / entry.path).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels_of(entry, variant)).save(root / entry.path)
    return written


def write_cuhk03_raw(root: Path, variants: tuple[str, ...] = VARIANTS) -> dict[str, list[Entry]]:
    """`cuhk03_release/cuhk-03.mat` with both variants, and the protocol of `variants` beside the folder."""
    write_mat(root / "cuhk03_release" / "cuhk-03.mat")
    written = {}
    for variant in variants:
        savemat(root / f"cuhk03_new_protocol_config_{variant}.mat", protocol(_divide(variant)))
        written[variant] = _entries(_divide(variant), RAW_NAME)
    return written


def _entries(divided: dict[str, list[tuple[int, int]]], name: str) -> list[Entry]:
    """By split, then path."""
    entries = [
        Entry(split, _named(name, pid, cell, FOLDERS[split]), pid, _view(cell) - 1)
        for split, shots in divided.items()
        for pid, cell in shots
    ]
    return sorted(entries, key=lambda entry: (SPLITS.index(entry.split), entry.path))


def _named(name: str, pid: int, cell: int, folder: str = "") -> str:
    pair, person = (pid + 1) // 2, (pid + 1) % 2 + 1
    return name.format(folder=folder, pid=pid, view=_view(cell), cell=cell, pair=pair, person=person)


def protocol(divided: dict[str, list[tuple[int, int]]]) -> dict[str, np.ndarray]:
    """The columns of a new-protocol .mat: doubles, a column each, indices from 1."""
    listed = sorted(shot for shots in divided.values() for shot in shots)
    names = np.empty((len(listed), 1), object)
    names[:, 0] = [_named(RAW_NAME, pid, cell) for pid, cell in listed]

    def column(numbers: list[int]) -> np.ndarray:
        return np.array(numbers, np.float64)[:, None]

    indices = {
        f"{split}_idx": column([listed.index(shot) + 1 for shot in shots]) for split, shots in divided.items()
    }
    pids, views = column([pid for pid, _ in listed]), column([_view(cell) for _, cell in listed])
    return {"filelist": names, "labels": pids, "camId": views, **indices}


def write_mat(path: Path) -> None:
    """The dataset's .mat as MATLAB 7.3 writes it: a header block, then HDF5 with dimensions reversed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w", userblock_size=512) as file:
        store = _Store(file)
        for variant in VARIANTS:
            pairs = []
            for pair in range(1, 6):
                people = [2 * pair - 1, 2 * pair]
                images = [[_image(store, pid, cell, variant) for pid in people] for cell in range(1, 11)]
                pairs.append(store.add(np.array(images, h5py.ref_dtype), "cell"))  # (10, people)
            store.add(np.array([pairs], h5py.ref_dtype), "cell", variant)  # (1, 5)
        tests = [np.array([[4.0, 5.0], [1.0, 2.0]]) for _ in range(20)]  # (2, people): pair and person
        references = [store.add(test, "double") for test in tests]
        store.add(np.array([references], h5py.ref_dtype), "cell", "testsets")  # (1, 20)
    header = "MATLAB 7.3 MAT-file, Platform: GLNXA64, Created on: Mon Jan  6 10:00:00 2014 HDF5 schema 1.00 ."
    with path.open("r+b") as raw:
        raw.write(header.encode().ljust(124) + b"\x00\x02IM")


def _image(store: "_Store", pid: int, cell: int, variant: str) -> h5py.Reference:
    if cell in cells(pid, variant):
        return store.add(crop(pid, cell, variant).transpose(), "uint8")
    return store.add(np.zeros(2, np.uint64), "double", empty=True)


class _Store:
    """MATLAB keeps what cells refer to in the group #refs#."""

    def __init__(self, file: h5py.File) -> None:
        self.file, self.count = file, 0

    def add(self, value: np.ndarray, kind: str, name: str = "", empty: bool = False) -> h5py.Reference:
        self.count += 1
        dtype = h5py.ref_dtype if value.dtype == object else value.dtype
        made = self.file.create_dataset(name or f"#refs#/{self.count}", data=value, dtype=dtype)
        made.attrs["MATLAB_class"] = np.bytes_(kind)
        if empty:
            made.attrs["MATLAB_empty"] = np.uint8(1)
        return made.ref


# --- CUHK02 and CUHK-SYSU ---


def write_cuhk02(root: Path, with_dataset_folder: bool = True) -> list[Entry]:
    """Three people in each of the five pairs, all called 1, 2 and 4; two images of each in both cameras."""
    home = root / "Dataset" if with_dataset_folder else root
    entries = [
        Entry(split, f"P{pair}/cam{cam}/{number:03d}_{image}.png", pair * 10_000 + number, 2 * pair + cam - 3)
        for pair in range(1, 6)
        for cam, split in ((1, "query" if pair == 5 else "train"), (2, "gallery" if pair == 5 else "train"))
        for number in (1, 2, 4)
        for image in (1, 2)
    ]
    for at, entry in enumerate(entries):
        draw(home / entry.path, entry.pid, at)
    return entries


SYSU_NAMES = {
    "a": "cropped_images/p{pid}_s{scene}_{image}.jpg",
    "b": "cropped_image/p{pid:05d}_n{image:02d}_s{scene:05d}_hard0.png",
    "c": "bounding_box_train/{pid}_c{cam}_{image}.jpg",
}


def write_cuhk_sysu(root: Path, form: str = "a") -> list[Entry]:
    """Six people with three images each, in the layout `form`: "a", "b" or "c"."""
    entries = [
        Entry(
            "train", SYSU_NAMES[form].format(pid=pid, scene=pid + image, image=image, cam=image % 2), pid, -1
        )
        for pid in (1, 7, 23, 104, 5555, 11934)
        for image in (1, 2, 3)
    ]
    for at, entry in enumerate(entries):
        draw(root / entry.path, entry.pid, at)
    return sorted(entries, key=lambda entry: entry.path)
