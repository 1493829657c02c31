"""The columns of a large dataset as files in the cache, mapped into memory: opened in no time, shared by all
processes. They are rebuilt when the source changes, when damaged, or when this module's VERSION does.
"""

import hashlib
import json
import os
import secrets
import shutil
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8

from dynamix import disk
from dynamix.data.luperson.keys import Refused
from dynamix.data.table import Paths, Table, constant, from_columns

VERSION = 1
ROWS = 500_000  # with fewer, reading the source is as quick
INFO = "index.json"
DAY = 86400.0


@dataclass(frozen=True)
class Index:
    """What was read of a single-camera dataset; path = home + folders[within] + the row's bytes."""

    buffer: UInt8[np.ndarray, " bytes"]
    lengths: Int[np.ndarray, " N"]
    within: Int[np.ndarray, " N"]
    pids: Int[np.ndarray, " N"]
    labels: Int[np.ndarray, " N"]
    videos: Int[np.ndarray, " N"]
    folders: tuple[str, ...]
    variant: str
    skipped: int  # images left out, and what is wrong with the first
    problem: str
    stamp: dict[str, list[int]]  # the files and folders it was read from: size, mtime in ns, inode

    @classmethod
    def of(
        cls,
        paths: Paths,
        pids: Int[np.ndarray, " N"],
        videos: Int[np.ndarray, " N"],
        variant: str,
        refused: Refused,
        stamp: dict[str, list[int]],
    ) -> "Index":
        """The index of what a reader has found; labels and videos are counted from 0."""
        table = from_columns("index", paths, pids, videos=videos)
        return cls(
            *(paths.buffer, paths.lengths, paths.within, table.pids, table.labels, table.videos),
            folders=paths.folders,
            variant=variant,
            skipped=refused.count,
            problem=refused.first,
            stamp=stamp,
        )

    def table(self, source: str, home: str, note: str) -> Table:
        """The table, with paths below `home`."""
        count = len(self.pids)
        paths = Paths.packed(self.buffer, self.lengths)
        folders = tuple(home + folder for folder in self.folders)
        return Table(
            paths=Paths(paths.buffer, paths.starts, paths.lengths, folders, self.within),
            pids=self.pids,
            labels=self.labels,
            camids=constant(-1, count),
            videos=self.videos,
            sources=constant(0, count),
            source_names=(source,),
            notes=(note,),
        )


COLUMNS = {
    "buffer": np.uint8, "lengths": np.int32, "within": np.int32,
    "pids": np.int64, "labels": np.int64, "videos": np.int64,
}  # fmt: skip


def stamp(home: Path, names: list[str]) -> dict[str, list[int]]:
    """What tells whether one of the files or folders `names` in `home` has changed."""
    states = {name: os.stat(home / name) for name in names}
    return {name: [state.st_size, state.st_mtime_ns, state.st_ino] for name, state in states.items()}


def opened(home: Path, kind: str, build: Callable[[], Index]) -> Index:
    """The index of what `kind` of reader finds in `home`: from the cache if it is up to date, else built.

    Kept in $DYNAMIX_CACHE/indexes (default ~/.cache/dynamix) from ROWS rows on. A cache that cannot be
    written is a warning.
    """
    name = hashlib.sha256(f"{kind} {home.resolve()}".encode()).hexdigest()[:16]
    folder = disk.cache() / "indexes" / name
    found = _load(folder, home)
    if found is not None:
        return found
    built = build()
    if len(built.pids) < ROWS:
        return built
    try:
        _save(folder, built)
    except OSError as error:
        warnings.warn(
            f"cannot keep the index of {home} in {folder.parent} ({error}): it will be read anew every time; "
            "set DYNAMIX_CACHE to a folder with room",
            stacklevel=4,
        )
        return built
    return _load(folder, home) or built  # what was built is freed: the files are shared between processes


def _load(folder: Path, home: Path) -> Index | None:
    try:
        text = (folder / INFO).read_text()
        info = json.loads(text)
        if info.pop("version") != VERSION or info["stamp"] != stamp(home, list(info["stamp"])):
            return None
        rows = info.pop("rows")
        columns = {name: _column(folder / f"{name}.npy", rows) for name in COLUMNS}
        if len(columns["buffer"]) != columns["lengths"].sum(dtype=np.int64):
            return None
        if (folder / INFO).read_text() != text:  # replaced meanwhile
            return None
        return Index(**(columns | info | {"folders": tuple(info["folders"])}))
    except Exception:  # missing, half-written, or damaged in any way: built again
        return None


def _column(path: Path, rows: int) -> np.ndarray:
    # Copy-on-write: unlike a read-only map, torch takes it without a warning.
    column = np.asarray(np.load(path, mmap_mode="c", allow_pickle=False))
    if column.dtype != COLUMNS[path.stem] or column.ndim != 1:
        raise ValueError(f"{path} is {column.dtype} {column.shape}")
    if path.stem == "buffer":
        return column
    if len(column) not in (1, rows):
        raise ValueError(f"{path} has {len(column)} rows of {rows}")
    return constant(int(column[0]), rows, column.dtype.type) if len(column) == 1 else column


def _save(folder: Path, index: Index) -> None:
    """Write to a folder of another name first: nobody sees half an index."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    _sweep(folder)
    fresh = folder.with_name(f".{folder.name}-{secrets.token_hex(4)}")
    fresh.mkdir()
    try:
        for name in COLUMNS:
            column = getattr(index, name)
            same = name != "buffer" and (column == column[0]).all()
            with open(fresh / f"{name}.npy", "wb") as file:
                np.save(file, column[:1] if same else column)
                os.fsync(file.fileno())  # else a power cut could leave whole files of zeros
        (fresh / INFO).write_text(json.dumps(_info(index)))
        _replace(folder, fresh)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _info(index: Index) -> dict[str, Any]:
    rest = {field.name: getattr(index, field.name) for field in fields(Index)[len(COLUMNS) :]}
    return rest | {"version": VERSION, "rows": len(index.pids)}


def _replace(folder: Path, fresh: Path) -> None:
    """Put `fresh` in the place of `folder`, whoever else does so at the same time."""
    for _ in range(10):
        try:
            fresh.rename(folder)
            return
        except OSError:  # there is one already; a process that has it mapped keeps it
            old = fresh.with_name(f"{fresh.name}-old")
            if folder.exists():
                try:
                    folder.rename(old)
                except FileNotFoundError:
                    continue
                shutil.rmtree(old, ignore_errors=True)
    raise OSError(f"{folder} cannot be replaced")


def _sweep(folder: Path) -> None:
    """Remove what killed processes left of this index."""
    for old in folder.parent.glob(f".{folder.name}-*"):
        try:
            if time.time() - old.stat().st_mtime > DAY:
                shutil.rmtree(old, ignore_errors=True)
        except OSError:
            continue
