"""A `Table`: which images there are, as columns; the row number is what the whole package exchanges.

Columnar, so that the 10.7 million rows of LUPerson-NL take less than 1 GB and open in seconds.
"""

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int, UInt8

from dynamix.config import Batch

COLUMNS = ("pids", "labels", "camids", "videos", "sources")


def constant(value: int, count: int, dtype: type = np.int64) -> Int[np.ndarray, " N"]:
    """A column of `count` times the same number, in the memory of one (stride 0).

    Like every column of a table it must not be written to. It is not marked read-only because
    torch.from_numpy warns of arrays that are.
    """
    return np.lib.stride_tricks.as_strided(np.array([value], dtype), (count,), (0,))


@dataclass(frozen=True, eq=False)
class Paths:
    """N strings as one byte buffer: `paths[i]` = a shared folder + the bytes of row i.

    Selecting keeps the buffer and picks offsets, so it costs O(rows selected).
    """

    buffer: np.ndarray  # uint8
    starts: np.ndarray  # (N,) int64
    lengths: np.ndarray  # (N,) int32
    folders: tuple[str, ...]
    within: np.ndarray  # (N,) int32: index into folders

    @classmethod
    def of(cls, names: Sequence[str], folder: str = "") -> "Paths":
        """Paths `folder + name`; the folder is stored once."""

        encoded = [os.fsencode(name) for name in names]
        lengths = np.fromiter(map(len, encoded), np.int32, len(encoded))
        return cls.packed(np.frombuffer(b"".join(encoded), np.uint8), lengths, folder)

    @classmethod
    def fixed_width(cls, names: UInt8[np.ndarray, "N width"], folder: str = "") -> "Paths":
        """Paths whose names all have the same width, given as their bytes; no Python loop."""
        count, width = names.shape
        return cls.packed(np.ascontiguousarray(names).reshape(-1), constant(width, count, np.int32), folder)

    @classmethod
    def packed(
        cls, buffer: UInt8[np.ndarray, " bytes"], lengths: Int[np.ndarray, " N"], folder: str = ""
    ) -> "Paths":
        """Paths whose names follow each other in `buffer` without gaps."""
        starts = np.cumsum(lengths, dtype=np.int64)
        starts -= lengths
        return cls(buffer, starts, lengths, (folder,), constant(0, len(lengths), np.int32))

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, row: int | np.integer) -> str:
        start = int(self.starts[row])
        name = self.buffer[start : start + int(self.lengths[row])].tobytes()
        return self.folders[self.within[row]] + os.fsdecode(name)

    def __iter__(self) -> Iterator[str]:
        return (self[row] for row in range(len(self)))

    def select(self, rows: Int[np.ndarray, " n"] | Bool[np.ndarray, " N"]) -> "Paths":
        """The paths of `rows`; the buffer is shared."""
        return Paths(self.buffer, self.starts[rows], self.lengths[rows], self.folders, self.within[rows])


def _concat_paths(parts: Sequence[Paths]) -> Paths:
    buffers = _offsets([len(part.buffer) for part in parts])
    folders = _offsets([len(part.folders) for part in parts])
    return Paths(
        np.concatenate([part.buffer for part in parts]),
        _shifted([part.starts for part in parts], buffers),
        np.concatenate([part.lengths for part in parts]),
        tuple(folder for part in parts for folder in part.folders),
        _shifted([part.within for part in parts], folders),
    )


@dataclass(frozen=True, eq=False)
class Table:
    """N images as columns of int64; -1 = none. See the fields for what each column means.

    A row is single-camera if and only if `videos >= 0`; its camid is -1. A multi-camera row whose dataset
    does not tell the camera has camid -1 as well, and enters no camera loss. A path is a file, or
    `<LMDB folder>::<key>`. Raises ValueError naming the column that does not fit.
    """

    paths: Paths
    pids: np.ndarray  # (N,) the dataset's own numbers; -1 = junk
    labels: np.ndarray  # (N,) identity keys, one per (source, pid); -1 = junk
    camids: np.ndarray  # (N,) from 0, disjoint between sources; -1 = single-camera row
    videos: np.ndarray  # (N,) from 0, disjoint between sources; -1 = multi-camera row
    sources: np.ndarray  # (N,) index into source_names
    source_names: tuple[str, ...]
    notes: tuple[str, ...] = ()  # of each source: the split and variant read, as every result prints it

    def __post_init__(self) -> None:
        for name in COLUMNS:
            column = getattr(self, name)
            if column.shape != (len(self.paths),) or column.dtype != np.int64:
                raise ValueError(
                    f"column {name} is {column.dtype} {column.shape}; {len(self.paths)} paths need int64 "
                    f"({len(self.paths)},)"
                )
        both = np.flatnonzero((self.videos >= 0) & (self.camids >= 0))
        if len(both):
            raise ValueError(
                f"camids: row {both[0]} ({self.paths[both[0]]}) has a video and a camid; "
                "a single-camera row needs camid -1"
            )
        if len(self) and not 0 <= self.sources.min() <= self.sources.max() < len(self.source_names):
            raise ValueError(f"column sources points outside source_names {self.source_names}")
        if not self.notes:
            object.__setattr__(self, "notes", ("",) * len(self.source_names))
        if len(self.notes) != len(self.source_names):
            raise ValueError(f"{len(self.notes)} notes for {len(self.source_names)} sources: give one each")

    def __len__(self) -> int:
        return len(self.paths)

    def __repr__(self) -> str:
        parts = [
            f"{s.source}: {s.images} images, {s.pids} pids, "
            + (f"{s.videos} videos" if s.videos else f"{s.cameras} cameras")
            for s in statistics(self)
        ]
        return f"Table({'; '.join(parts)})"

    def select(self, rows: Int[np.ndarray, " n"] | Bool[np.ndarray, " N"]) -> "Table":
        """The given rows, by number or mask. Labels, camids, videos and sources keep their numbers.

        So a label means the same identity before and after; labels need not be contiguous any more.
        """
        columns = {name: getattr(self, name)[rows] for name in COLUMNS}
        return Table(
            paths=self.paths.select(rows), source_names=self.source_names, notes=self.notes, **columns
        )


def from_columns(
    source: str,
    paths: Paths,
    pids: Int[np.ndarray, " N"],
    *,
    camids: Int[np.ndarray, " N"] | None = None,
    videos: Int[np.ndarray, " N"] | None = None,
    note: str = "",
) -> Table:
    """The table of one source: multi-camera with `camids`, single-camera with `videos` (exactly one).

    `note` says which part of the dataset it is. Labels count the distinct pids in ascending order; videos
    are renumbered from 0.
    """
    if (camids is None) == (videos is None):
        raise ValueError(f"source {source}: give either camids (multi-camera) or videos (single-camera)")
    none = constant(-1, len(paths))
    junk = pids == -1
    labels = ranks(pids)
    labels -= bool(junk.any())  # -1 is no identity; any other negative pid would be one
    labels[junk] = -1
    return Table(
        paths=paths,
        pids=pids.astype(np.int64, copy=False),
        labels=labels,
        camids=none if camids is None else camids.astype(np.int64, copy=False),
        videos=none if videos is None else ranks(videos),
        sources=constant(0, len(paths)),
        source_names=(source,),
        notes=(note,),
    )


def ranks(column: Int[np.ndarray, " N"]) -> Int[np.ndarray, " N"]:
    """Each number's place among the distinct numbers, from 0; O(N) time where they are dense."""
    low, high = int(column.min(initial=0)), int(column.max(initial=0))
    if high - low > 4 * len(column) + 1024:
        return np.unique(column, return_inverse=True)[1].astype(np.int64)
    used = np.zeros(high - low + 1, np.int64)
    used[column - low] = 1
    return (np.cumsum(used) - 1)[column - low]


def concat(tables: Sequence[Table]) -> Table:
    """One table of several sources; labels, camids and videos are offset so that sources stay disjoint.

    Rows keep their order. Raises ValueError when a source appears twice: read it with split="all" instead.
    """
    if not tables:
        raise ValueError("concat needs at least one table, got none")
    names = [name for table in tables for name in table.source_names]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(
            f"source {twice[0]!r} appears twice: the same cameras and identities would get new numbers; "
            'load the source once with split="all"'
        )
    columns = {name: _join([getattr(table, name) for table in tables]) for name in COLUMNS[1:-1]}
    starts = _offsets([len(table.source_names) for table in tables])
    return Table(
        paths=_concat_paths([table.paths for table in tables]),
        pids=np.concatenate([table.pids for table in tables]),
        sources=_shifted([table.sources for table in tables], starts),
        source_names=tuple(names),
        notes=tuple(note for table in tables for note in table.notes),
        **columns,
    )


def _offsets(sizes: Sequence[int]) -> list[int]:
    return [0, *np.cumsum(sizes).tolist()][:-1]


def _join(columns: Sequence[np.ndarray]) -> np.ndarray:
    """Concatenate after shifting each column past the numbers of those before it; -1 stays."""
    return _shifted(columns, _offsets([int(column.max(initial=-1)) + 1 for column in columns]))


def _shifted(columns: Sequence[np.ndarray], offsets: Sequence[int]) -> np.ndarray:
    """Concatenate after adding each column's offset to its numbers from 0; no copy beside the result."""
    joined = np.concatenate(columns)
    start = 0
    for column, offset in zip(columns, offsets, strict=True):
        part = joined[start : start + len(column)]
        if offset:
            np.add(part, part.dtype.type(offset), out=part, where=part >= 0)
        start += len(column)
    return joined


@dataclass(frozen=True)
class SourceStatistics:
    """One line of the paper's Table 1."""

    source: str
    images: int
    pids: int  # distinct labels; a gallery's distractors (pid 0) count as one
    cameras: int
    videos: int


def statistics(table: Table) -> list[SourceStatistics]:
    """Images, pids, cameras and videos of every source (paper Table 1)."""
    found = []
    for number, name in enumerate(table.source_names):
        rows = table.sources == number
        counts = [_distinct(getattr(table, column)[rows]) for column in ("labels", "camids", "videos")]
        found.append(SourceStatistics(name, int(rows.sum()), *counts))
    return found


def _distinct(column: np.ndarray) -> int:
    return int(np.count_nonzero(np.bincount(column[column >= 0])))


def fingerprint(table: Table) -> str:
    """Tells apart tables whose labels, cameras or videos differ in any row; where files lie is no matter."""
    digest = hashlib.sha256()
    for column in (table.labels, table.camids, table.videos):
        digest.update(np.ascontiguousarray(column).data)
    return digest.hexdigest()[:16]


def check_trainable(table: Table, batch: Batch, *, clustered: bool = False) -> None:
    """Raise ValueError unless `table` can fill a mini-batch of `batch` and identities cross cameras.

    `clustered`: identities of the videos are yet to be found, and their images need no labels.
    """
    single = table.videos >= 0
    multi_rows = ~single & (table.labels >= 0)
    multi = _distinct(table.labels[multi_rows])
    if multi < batch.ids_multi:
        raise ValueError(
            f"a batch needs {batch.ids_multi} multi-camera identities (batch.ids_multi), the table "
            f"has {multi}: add a multi-camera dataset or lower batch.ids_multi"
        )
    if clustered and int(single.sum()) < batch.ids_single:
        raise ValueError(
            f"a batch needs {batch.ids_single} single-camera identities (batch.ids_single), the videos have "
            f"{int(single.sum())} images: add a single-camera dataset or lower batch.ids_single (0 "
            "trains without)"
        )
    have = _distinct(table.labels[single & (table.labels >= 0)])
    if have < batch.ids_single and not clustered:
        raise ValueError(
            f"a batch needs {batch.ids_single} single-camera identities (batch.ids_single), the table "
            f"has {have}: add a single-camera dataset or lower batch.ids_single (0 trains without)"
        )
    known = multi_rows & (table.camids >= 0)  # a dataset that tells no camera trains without the camera loss
    if batch.ids_multi and known.any() and not _crosses_cameras(table.labels[known], table.camids[known]):
        camids = np.unique(table.camids[known]).tolist()
        raise ValueError(
            f"no multi-camera identity is seen by two cameras; the camids read from the file names are "
            f"{camids}: check the names against the dataset's layout"
        )


def _crosses_cameras(labels: np.ndarray, camids: np.ndarray) -> bool:
    pairs = np.unique(np.stack([labels, camids]), axis=1)
    return bool((np.bincount(pairs[0]) > 1).any())
