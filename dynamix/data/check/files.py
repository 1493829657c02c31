"""Looking at image files: at their first and last bytes, at a hash of their content, or by decoding them."""

import hashlib
import os
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from dynamix.data import stores
from dynamix.data.images import decode
from dynamix.data.table import Table

SAMPLE = 2_000  # images of an LMDB or a .mat that are decoded without deep
BLOCK = 64  # images per task
PIECE, TAIL = 1 << 16, 1024  # bytes read at a time, and of a file's end
MAGIC = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"BM": "BMP",
    b"GIF8": "GIF",
    b"RIFF": "WebP",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
}
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


@dataclass
class Examined:
    """What was found in one split: how many rows were looked at, the damaged ones, hashes of the others."""

    looked: int = 0
    bad: list[Look] = field(default_factory=list)
    digests: dict[int, int] = field(default_factory=dict)  # content -> the first row that holds it


def rows_of(table: Table, deep: bool) -> Int[np.ndarray, " n"]:
    """The rows to look at: all; without `deep` an evenly spread sample of what lies inside one large file."""
    if deep or len(table) <= SAMPLE or stores.LOCATOR not in table.paths[0]:
        return np.arange(len(table))
    return np.linspace(0, len(table) - 1, SAMPLE).astype(np.int64)


def examine(
    table: Table, *, deep: bool, hashed: bool, pool: Executor, advance: Callable[[int], object]
) -> Examined:
    """Look at the rows of `table`, several at a time; `hashed` reads whole files, to find equal ones."""
    found = Examined()
    rows = rows_of(table, deep)

    def look(start: int) -> list[Look]:
        return [_look(int(row), table.paths[row], deep, hashed) for row in rows[start : start + BLOCK]]

    for block in pool.map(look, range(0, len(rows), BLOCK)):
        for seen in block:
            if seen.kind:
                found.bad.append(seen)
            elif hashed:
                found.digests.setdefault(seen.digest, seen.row)
        found.looked += len(block)
        advance(len(block))
    return found


def _look(row: int, path: str, deep: bool, hashed: bool) -> Look:
    stored = stores.LOCATOR in path
    seen = _look_into(row, path) if stored else _look_at_file(row, path, hashed)
    if seen.kind or not (deep or stored):
        return seen
    try:
        decode(path)
    except (ValueError, OSError) as error:
        reason = " ".join(str(error.__cause__ or error).split())
        return Look(row, "undecodable", reason)
    return seen


def _look_into(row: int, path: str) -> Look:
    folder, _, key = path.rpartition(stores.LOCATOR)
    try:
        value = stores.value(folder, key)
    except (ValueError, OSError) as error:
        return Look(row, "missing", str(error))
    return Look(row, damage(value[:PIECE], value[-TAIL:], len(value)))


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
    return Look(row, damage(head, tail, size), "", digest)


def damage(head: bytes, tail: bytes, size: int) -> str:
    """What is wrong with an image of `size` bytes, by the first and last of them: a kind, "" for nothing.

    Each file is judged by its own first bytes, whatever its name ends in.
    """
    if size == 0:
        return "empty"
    form = next((form for magic, form in MAGIC.items() if head.startswith(magic)), None)
    if form is None:
        return "alien"
    whole = {
        # Some tools pad a file after the end marker; entropy-coded data cannot hold the marker itself.
        "JPEG": b"\xff\xd9" in tail.rstrip(PADDING)[-64:],
        "PNG": b"IEND" in tail,
        "BMP": size >= int.from_bytes(head[2:6], "little"),
    }
    return "" if whole.get(form, True) else "truncated"
