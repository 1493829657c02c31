"""Looking at image files: at their first and last bytes, at a hash of their content, or by decoding them."""

import hashlib
import os
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from jaxtyping import Int
from PIL import UnidentifiedImageError

from dynamix.data import stores
from dynamix.data.images import decode
from dynamix.data.table import Table

SAMPLE = 2_000  # images of an LMDB or a .mat that are decoded without deep
BLOCK = 64  # images per task
PIECE, TAIL = 1 << 16, 1024  # bytes read at a time, and of a file's end
JPEG, PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"  # nearly all images; others are decoded
PADDING = b"\0\r\n\t "

# What can be wrong with one image: kind -> how a report puts it.
KINDS = {
    "missing": "that cannot be opened",
    "empty": "of zero bytes",
    "alien": "whose first bytes are no image's",
    "truncated": "truncated: no end marker",
    "undecodable": "that cannot be decoded",
}


class Look(NamedTuple):
    """One image: its row, what is wrong ("" = nothing) and why, and the hash of its content."""

    row: int
    kind: str = ""
    reason: str = ""
    digest: int = 0
    other: bool = False  # neither JPEG nor PNG: its ends tell nothing


@dataclass
class Examined:
    """What was found in one split: how many rows were looked at, the damaged ones, hashes of the others."""

    looked: int = 0
    bad: list[Look] = field(default_factory=list)
    digests: dict[int, int] = field(default_factory=dict)  # content -> the first row that holds it


def rows_of(table: Table, deep: bool) -> Int[np.ndarray, " n"]:
    """The rows to look at: all; without `deep` an evenly spread sample of what lies inside one large file."""
    if deep or len(table) <= SAMPLE or not stored(table):
        return np.arange(len(table))
    return np.linspace(0, len(table) - 1, SAMPLE).astype(np.int64)


def stored(table: Table) -> bool:
    """Whether its images lie in an LMDB; folders of files may have its mark in their names, too."""
    return table.paths.folders[0].endswith(stores.LOCATOR)


def examine(
    table: Table, *, deep: bool, hashed: bool, pool: Executor, advance: Callable[[int], object]
) -> Examined:
    """Look at the rows of `table`, several at a time; `hashed` reads whole files, to find equal ones."""
    found = Examined()
    rows, inside = rows_of(table, deep), stored(table)

    def look(start: int) -> list[Look]:
        some = ((int(row), table.paths[row]) for row in rows[start : start + BLOCK])
        return [
            _decoded(_look_into(*one) if inside else _look_at_file(*one, hashed), one[1], deep or inside)
            for one in some
        ]

    for block in pool.map(look, range(0, len(rows), BLOCK)):
        for seen in block:
            if seen.kind:
                found.bad.append(seen)
            elif hashed:
                found.digests.setdefault(seen.digest, seen.row)
        found.looked += len(block)
        advance(len(block))
    return found


def _decoded(seen: Look, path: str, whole: bool) -> Look:
    """What decoding tells besides: of every image with `whole`, else of those of less common formats."""
    if seen.kind or not (whole or seen.other):
        return seen
    try:
        decode(path)
    except (ValueError, OSError) as error:
        cause = error.__cause__ or error
        if isinstance(cause, UnidentifiedImageError):
            return Look(seen.row, "alien")
        return Look(seen.row, "undecodable", " ".join(str(cause).split()))
    return seen


def _look_into(row: int, path: str) -> Look:
    folder, _, key = path.rpartition(stores.LOCATOR)
    try:
        value = stores.value(folder, key)
    except (ValueError, OSError) as error:
        return Look(row, "missing", str(error))
    return _judged(row, value[:PIECE], value[-TAIL:], len(value))


def _look_at_file(row: int, path: str, hashed: bool) -> Look:
    try:
        with open(path, "rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            head = first = file.read(PIECE)
            content = hashlib.blake2b(digest_size=8)
            while first and hashed:  # piece by piece: a file may be of any size
                content.update(first)
                first = file.read(PIECE)
            if size > PIECE:
                file.seek(size - TAIL)
            tail = file.read(TAIL) if size > PIECE else head[-TAIL:]
    except OSError as error:
        return Look(row, "missing", error.strerror or str(error))
    digest = int.from_bytes(content.digest(), "little") if hashed else 0
    return _judged(row, head, tail, size)._replace(digest=digest)


def _judged(row: int, head: bytes, tail: bytes, size: int) -> Look:
    """An image of `size` bytes by the first and last of them; whatever its name ends in."""
    if size == 0:
        return Look(row, "empty")
    if head.startswith(JPEG):
        # Some tools pad a file after the end marker; entropy-coded data cannot hold the marker itself.
        whole = b"\xff\xd9" in tail.rstrip(PADDING)[-64:]
    elif head.startswith(PNG):
        whole = b"IEND" in tail
    else:
        return Look(row, other=True)
    return Look(row, "" if whole else "truncated")
