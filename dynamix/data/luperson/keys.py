"""keys.pkl and its keys: read without running anything, checked, taken apart; ten million in seconds."""

import pickle
import re
import reprlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Int, UInt8

from dynamix.data.table import Paths, constant

MOST = 18  # digits of a number that int64 holds
BLOCK = 100_000  # keys turned into bytes at a time: their Python strings are freed before the next
ZERO, UNDERSCORE, NEWLINE = (np.uint8(ord(mark)) for mark in "0_\n")
SHORT = reprlib.Repr()  # a key may be anything, nested a thousand deep
SHORT.maxstring = 80


class _PlainUnpickler(pickle.Unpickler):
    """Builds numbers, strings, lists, tuples and dicts; every other type needs a name looked up: refused."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(
            f"it names {module}.{name}, and only plain lists, dicts and numbers are read"
        )


def restricted_load(path: str | Path) -> Any:
    """The plain Python value in a pickle; nothing in it is executed. Raises ValueError on anything else."""
    with open(path, "rb") as file:
        try:
            return _PlainUnpickler(file).load()
        except Exception as error:  # a broken pickle raises nearly any type
            reason = " ".join(str(error).split())
            raise ValueError(
                f"{path} is not a plain pickle ({reason}): get it from its source again, or build it anew"
            ) from error


def load(path: Path, *, pids: bool = True) -> tuple[list[Any], Int[np.ndarray, " N"] | None]:
    """The keys in a keys.pkl, and its pids where it has them and they are asked for.

    The file is a dict with 'keys' (and 'pids'), or the bare list of keys.
    """
    content = restricted_load(path)
    if isinstance(content, list):
        content = {"keys": content}
    keys = content.get("keys") if isinstance(content, dict) else None
    if not isinstance(content, dict) or not isinstance(keys, list):
        raise ValueError(
            f"{path} holds no dict with a list 'keys', nor a list: build it as the dataset's converter does"
        )
    if not keys:
        raise ValueError(f"{path} lists no image: build the LMDB again")
    if not pids or content.get("pids") is None:
        return keys, None
    numbers = content.pop("pids")
    if isinstance(numbers, (list, tuple)) and len(numbers) != len(keys):
        raise ValueError(f"{path} has {len(keys)} keys but {len(numbers)} pids: build it anew")
    return keys, _integers(numbers, path)


def _integers(values: Any, path: Path) -> Int[np.ndarray, " N"]:
    try:
        numbers = np.asarray(values)
    except ValueError:  # ragged
        numbers = np.array("ragged")
    if numbers.ndim != 1 or numbers.dtype.kind != "i":
        raise ValueError(f"'pids' in {path} is not a list of integers: build it anew")
    if numbers.min() < -1:
        row = int(numbers.argmin())
        raise ValueError(
            f"pid {numbers[row]} (number {row}) in {path}: pids count from 0, -1 is nobody; build it anew"
        )
    return numbers.astype(np.int64, copy=False)


@dataclass(frozen=True)
class Layout:
    """How keys are written: `form` as messages show it, the digits of each field (None: 1 to MOST)."""

    form: str
    digits: tuple[int | None, ...]

    @property
    def pattern(self) -> re.Pattern[str]:
        fields = (rf"\d{{{digits or 1},{digits or MOST}}}" for digits in self.digits)
        return re.compile("_".join(fields), re.ASCII)


@dataclass
class Refused:
    """Images that cannot be used: the first raises, or with `on_bad_image="skip"` they are counted."""

    on_bad_image: str = "error"
    count: int = 0
    first: str = ""

    def add(self, problem: str, count: int = 1) -> None:
        """Note `count` images; `problem` is one line about the first of them."""
        if count and self.on_bad_image == "error":
            raise ValueError(problem)
        self.first = self.first or problem
        self.count += count


@dataclass(frozen=True)
class Parsed:
    """Keys as columns: all bytes without gaps, the length of each key, the numbers of the wanted fields."""

    buffer: UInt8[np.ndarray, " bytes"]
    lengths: Int[np.ndarray, " N"]
    numbers: Int[np.ndarray, "N fields"]
    kept: Bool[np.ndarray, " all"]  # which of the keys given fit the layout

    def __len__(self) -> int:
        return len(self.lengths)

    def paths(self) -> Paths:
        """The keys as paths; lengths that are all the same take no memory."""
        same = len(self) > 0 and int(self.lengths.min()) == int(self.lengths.max())
        lengths = constant(int(self.lengths[0]), len(self), np.int32) if same else self.lengths
        return Paths.packed(self.buffer, lengths)


def listed(
    path: Path, layout: Layout, fields: slice, refused: Refused, *, pids: bool = True
) -> tuple[Parsed, Int[np.ndarray, " N"] | None]:
    """The usable keys of a keys.pkl taken apart, and their pids; see `load` and `take_apart`."""

    def problem(key: Any, number: int) -> str:
        shown = SHORT.repr(key)
        return f"key {shown} (number {number}) in {path} is not {layout.form}: build it as the converter does"

    keys, numbers = load(path, pids=pids)
    parsed = take_apart(keys, layout, fields, refused, problem)
    if not len(parsed):
        raise ValueError(f"{path} lists no usable image ({refused.first}): build the LMDB again")
    return parsed, numbers if numbers is None else numbers[parsed.kept]


def take_apart(
    keys: list[Any], layout: Layout, fields: slice, refused: Refused, problem: Callable[[Any, int], str]
) -> Parsed:
    """Check and parse `keys`, emptying the list on the way: beside the columns it holds one block of keys.

    Keys that do not fit are refused with `problem(key, number of the key)`.
    """
    parts, kept, done = [], [], 0
    while keys:
        block = keys[:BLOCK]
        del keys[:BLOCK]
        fit = np.ones(len(block), bool)
        part = _block(block, layout, fields)
        if part is None:
            pattern = layout.pattern
            fit = np.array([isinstance(key, str) and bool(pattern.fullmatch(key)) for key in block])
            wrong = np.flatnonzero(~fit)
            refused.add(problem(block[wrong[0]], done + int(wrong[0])), len(wrong))
            part = _block([block[at] for at in np.flatnonzero(fit)], layout, fields)
            assert part is not None
        parts.append(part)
        kept.append(fit)
        done += len(block)
    buffer, lengths, numbers = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Parsed(buffer, lengths, numbers, np.concatenate(kept))


_Columns = tuple[UInt8[np.ndarray, " bytes"], Int[np.ndarray, " n"], Int[np.ndarray, "n fields"]]


def _block(keys: list[Any], layout: Layout, fields: slice) -> _Columns | None:
    """Bytes, lengths and numbers of a block of keys; None if any of them does not fit."""
    try:
        text = np.frombuffer(("\n".join(keys) + "\n" * bool(keys)).encode("ascii"), np.uint8)
    except (TypeError, UnicodeEncodeError):
        return None
    if keys and len(text) % len(keys) == 0:
        rows = text.reshape(len(keys), -1)
        other = rows - ZERO > 9  # all that is no digit; uint8 wraps below zero
        if (other == other[0]).all():  # every field is as wide as the first key's
            return _fixed(rows, np.flatnonzero(other[0]), layout, fields)
    marks = np.flatnonzero(text - ZERO > 9)
    if len(marks) != len(keys) * len(layout.digits):
        return None
    ends = marks.reshape(len(keys), len(layout.digits))
    starts = np.concatenate([[0], marks + 1])[:-1].reshape(ends.shape)
    if not _fits(text[ends], ends - starts, layout):
        return None
    lengths = (ends[:, -1] - starts[:, 0]).astype(np.int32)
    return text[text != NEWLINE], lengths, _numbers(text, starts[:, fields], ends[:, fields])


def _fixed(
    rows: UInt8[np.ndarray, "n width"], ends: Int[np.ndarray, " marks"], layout: Layout, fields: slice
) -> _Columns | None:
    """`_block` for keys that all have their marks in the same columns, several times faster."""
    starts = np.concatenate([[0], ends + 1])[:-1]
    if len(ends) != len(layout.digits) or not _fits(rows[:, ends], (ends - starts)[None], layout):
        return None
    numbers = np.zeros((len(rows), len(starts[fields])), np.int64)
    for field, (start, end) in enumerate(zip(starts[fields], ends[fields], strict=True)):
        for column in rows[:, start:end].T:
            numbers[:, field] *= 10
            numbers[:, field] += column - ZERO
    return rows[:, :-1].reshape(-1), np.full(len(rows), rows.shape[1] - 1, np.int32), numbers


def _fits(marks: UInt8[np.ndarray, "n fields"], widths: Int[np.ndarray, "m fields"], layout: Layout) -> bool:
    """Whether fields end in underscores, the last in a new line, and have the layout's digits."""
    low = np.array([digits or 1 for digits in layout.digits])
    high = np.array([digits or MOST for digits in layout.digits])
    ended = (marks[:, :-1] == UNDERSCORE).all() and (marks[:, -1] == NEWLINE).all()
    return bool(ended and ((low <= widths) & (widths <= high)).all())


def _numbers(
    text: UInt8[np.ndarray, " bytes"], starts: Int[np.ndarray, "n fields"], ends: Int[np.ndarray, "n fields"]
) -> Int[np.ndarray, "n fields"]:
    """The decimal numbers in text[start:end]."""
    values = np.zeros(starts.shape, np.int64)
    for place in range(int((ends - starts).max(initial=0))):
        at = ends - 1 - place
        digits = text[np.maximum(at, starts)].astype(np.int64) - ord("0")
        values += np.where(at >= starts, digits, 0) * 10**place
    return values
