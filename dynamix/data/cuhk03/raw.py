"""CUHK03 as released: `cuhk-03.mat` with the images, and one .mat per variant with the new protocol.

The first is MATLAB v7.3, so HDF5; its images are extracted once into the cache folder. The others are of
version 5.
"""

import hashlib
import re
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from tqdm.auto import tqdm

from dynamix import disk
from dynamix.data import folders
from dynamix.data.folders import Reading

MAT, RELEASE = "cuhk-03.mat", "cuhk03_release"
PROTOCOL = "cuhk03_new_protocol_config_{}.mat"
INDICES = {"train": "train_idx", "query": "query_idx", "gallery": "gallery_idx"}
NAME = re.compile(r"[1-9]_\d{3,}_(?P<view>\d)_\d{2}\.png")  # camera pair, person of the pair, view, cell
CELLS = 10  # images of a person at most: five of the first view, then five of the second


class Release(NamedTuple):
    """Which of the release's files there are."""

    mat: Path | None
    protocol: Path | None
    images: list[Path]  # folders another tool extracted them to

    @classmethod
    def of(cls, base: Path, variant: str) -> "Release":
        """Found in a folder: beside `cuhk03_release`, or in it."""
        places = [base, base / RELEASE]
        if base.resolve().name == RELEASE:
            places.insert(1, base.resolve().parent)
        images = [place / f"images_{variant}" for place in places]
        return cls(
            _first([place / MAT for place in places]),
            _first([place / PROTOCOL.format(variant) for place in places]),
            [folder for folder in images if folder.is_dir()],
        )


def _first(files: list[Path]) -> Path | None:
    return next((file for file in files if file.is_file()), None)


class Protocol(NamedTuple):
    """The new protocol's list of all images, and the numbers in that list of each split's."""

    path: Path
    names: list[str]
    pids: np.ndarray  # (N,)
    cameras: np.ndarray  # (N,) from 1
    splits: dict[str, np.ndarray]


def read_protocol(source: str, release: Release) -> Protocol:
    """The protocol's columns, checked against each other; its indices count from 1.

    Raises FileNotFoundError without the file, ValueError naming the column that is wrong.
    """
    path = release.protocol
    if path is None:
        both = " and ".join(PROTOCOL.format(variant) for variant in ("detected", "labeled"))
        raise FileNotFoundError(
            f"{source}: no new-protocol file beside {release.mat}; {both} come with the re-ranking "
            f"protocol's code (CUHK03-NP): copy both there"
        )
    content = _load(path)
    columns = ("filelist", "labels", "camId", *INDICES.values())
    missing = [column for column in columns if column not in content]
    if missing:
        raise ValueError(
            f"{path} has no {', '.join(missing)}: it is not the new protocol's file, copy it again"
        )
    names = [_text(cell) for cell in np.asarray(content["filelist"]).reshape(-1)]
    pids, cameras = (_integers(path, column, content[column]) for column in columns[1:3])
    if not len(names) == len(pids) == len(cameras):
        counts = f"{len(names)} names in filelist, {len(pids)} in labels and {len(cameras)} in camId"
        raise ValueError(f"{path}: {counts}: copy it again")
    if len(set(names)) < len(names):
        raise ValueError(f"{path}: filelist names an image twice: copy it again")
    splits = {split: _numbers(path, index, content[index], len(names)) for split, index in INDICES.items()}
    return Protocol(path, names, pids, cameras, splits)


def _load(path: Path) -> dict[str, Any]:
    import scipy.io

    try:
        return scipy.io.loadmat(path)
    except Exception as error:  # scipy raises nearly any type on corrupt data
        raise ValueError(
            f"cannot read {path} as a MATLAB file of version 5 ({_one_line(error)}): copy it again"
        ) from error


def _text(cell: Any) -> str:
    """A MATLAB string, however scipy wraps it: a cell's array of one string, or a row of characters."""
    characters = np.asarray(cell).reshape(-1)
    return str(characters[0]) if len(characters) else ""


def _integers(path: Path, column: str, values: Any) -> np.ndarray:
    """MATLAB's numbers, mostly doubles, as int64: small unsigned ones would wrap around below 0."""
    numbers = np.asarray(values).reshape(-1)
    if numbers.dtype.kind not in "iuf" or (numbers != np.floor(numbers)).any():
        raise ValueError(f"{path}: {column} does not hold whole numbers: copy it again")
    return numbers.astype(np.int64)


def _numbers(path: Path, column: str, values: Any, count: int) -> np.ndarray:
    numbers = _integers(path, column, values)
    wrong = numbers[(numbers < 1) | (numbers > count)]
    if len(wrong):
        raise ValueError(f"{path}: {column} holds {wrong[0]}, filelist has 1 to {count}: copy it again")
    if len(np.unique(numbers)) < len(numbers):
        raise ValueError(f"{path}: {column} lists an image twice: copy it again")
    return numbers - 1


def rows(reading: Reading, parts: list[str], listed: Protocol) -> Reading:
    """The rows of the splits `parts`; all listed images must lie in the reading's home, and no others."""
    there = set(reading.images())
    for part in parts:
        for at in sorted(listed.splits[part].tolist(), key=listed.names.__getitem__):
            name, camera = listed.names[at], int(listed.cameras[at])
            match = NAME.fullmatch(name)
            if match is None or camera not in (1, 2) or int(match["view"]) != camera:
                reading.refuse(
                    f"{listed.path}: filelist has {name!r} at {at + 1}, with camId {camera}, which is not "
                    "like 1_001_2_06.png (pair, person, view 1 or 2 = camId, number): copy the file again"
                )
            elif name not in there:
                reading.refuse(
                    f"{listed.path} lists {name}, which is not among the images of {MAT}, extracted to "
                    f"{reading.home}: remove that folder, or copy both .mat files again"
                )
            else:
                reading.add(name, int(listed.pids[at]), camera - 1)
    placed = {listed.names[at] for numbers in listed.splits.values() for at in numbers.tolist()}
    for name in sorted(there - placed):
        reading.refuse(
            f"{reading.home / name} is in no split of {listed.path}: the .mat files are of different "
            "versions, copy both again"
        )
    return reading


def extracted(source: str, variant: str, release: Release, listed: Protocol) -> Path:
    """The folder of the variant's images: one beside the .mat that is complete, else the cache's."""
    for folder in release.images:
        if release.mat is None or all((folder / name).is_file() for name in listed.names):
            return folder
    if release.mat is None:
        raise FileNotFoundError(
            f"{source}: {listed.path} is there without {MAT}; {folders.found(listed.path.parent)}; copy "
            f"{MAT} of the {RELEASE} archive beside it"
        )
    state = release.mat.stat()
    identity = f"{release.mat.resolve()}\0{state.st_size}\0{state.st_mtime_ns}"
    folder = disk.cache() / "cuhk03" / hashlib.sha256(identity.encode()).hexdigest()[:16] / variant
    if not folder.is_dir():
        task = f"extracting {variant} images to {folder}"
        with tqdm(total=len(listed.names), unit="img", desc=task, delay=1) as bar:
            _extract(release.mat, variant, folder, bar.update)
    return folder


def _extract(mat: Path, variant: str, folder: Path, step: Callable[[], Any]) -> None:
    """Write the images beside `folder` and rename when complete: several processes may do so at once."""
    making = folder.with_name(f".{variant}-{uuid.uuid4().hex}")
    try:
        making.mkdir(parents=True)
        for name, pixels in _crops(mat, variant):
            Image.fromarray(pixels).save(making / name)
            step()
        if not any(making.iterdir()):
            raise ValueError(f"{mat} has no {variant} image: copy it again from the {RELEASE} archive")
        try:
            making.rename(folder)
        except OSError:
            if not folder.is_dir():  # else another process was first, with the same images
                raise
    except OSError as error:
        raise ValueError(
            f"cannot write the images of {mat} to {folder} ({_one_line(error)}): set DYNAMIX_CACHE "
            "to a folder with room"
        ) from error
    finally:
        shutil.rmtree(making, ignore_errors=True)


def _crops(mat: Path, variant: str) -> Iterator[tuple[str, np.ndarray]]:
    """Every image of the variant, (H, W, 3), and the name the protocol gives it.

    MATLAB stores arrays with their dimensions reversed, so people x 10 cells of H x W x 3 levels are found
    as (10, people) references to (3, W, H). An empty cell refers to its dimensions, two zeros, instead.
    """
    import h5py

    try:
        with h5py.File(mat, "r", locking=False) as file:
            if variant not in file:
                raise ValueError(f"it has no {variant}, only {', '.join(sorted(file)) or 'nothing'}")
            for pair, people in enumerate(np.asarray(file[variant]).reshape(-1), 1):
                for person, cells in enumerate(_people(np.asarray(file[people])), 1):
                    for number, cell in enumerate(cells, 1):
                        levels = np.asarray(file[cell][()] if cell else 0)
                        if levels.ndim == 3 and len(levels) == 3 and levels.dtype == np.uint8 and levels.size:
                            view = 1 if number <= CELLS // 2 else 2
                            name = f"{pair}_{person:03d}_{view}_{number:02d}.png"
                            yield name, np.ascontiguousarray(levels.transpose())
    except (OSError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(
            f"cannot read {mat} as a MATLAB 7.3 (HDF5) file ({_one_line(error)}): copy it again from the "
            f"{RELEASE} archive"
        ) from error


def _people(cells: np.ndarray) -> np.ndarray:
    """A camera pair's references as (people, 10)."""
    if cells.ndim != 2 or CELLS not in cells.shape:
        raise ValueError(f"a camera pair has {cells.shape} cells instead of {CELLS} per person")
    return cells.transpose() if len(cells) == CELLS else cells


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
