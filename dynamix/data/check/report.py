"""The report of `dynamix check`: what was found, as a table for a terminal and as plain values for JSON."""

import os
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from dynamix.data.published import JUNK_OF_MARKET, PUBLISHED, Published

WIDTH = 110
LISTED = 3  # files of a problem that the text names; JSON has all
COLUMNS = ("images", "pids", "cameras")


@dataclass(frozen=True)
class Problem:
    """Something wrong: its kind in a word, a line that says it, and every file (or pid) concerned."""

    kind: str
    text: str
    items: tuple[str, ...] = ()

    def line(self) -> str:
        """One line; a long list is cut with a count."""
        if not self.items:
            return self.text
        more = f" and {len(self.items) - LISTED:,} more" if len(self.items) > LISTED else ""
        return f"{self.text}: {', '.join(self.items[:LISTED])}{more}"


@dataclass(frozen=True)
class Split:
    """Counts of one split beside the published ones."""

    split: str
    images: int
    pids: int  # without distractors
    cameras: int
    videos: int
    distractors: int = 0  # gallery images with pid 0, where that means nobody
    note: str = ""
    published: Published | None = None

    @property
    def subset(self) -> bool:
        """Whether so little of the published split is here that it must be meant."""
        wanted = self.published.images if self.published else None
        return wanted is not None and 2 * self.images < wanted


@dataclass(frozen=True)
class Found:
    """One dataset on disk. `folder` is relative to the report's root; problems are empty when all is well."""

    name: str
    folder: str
    mannequins: bool
    splits: tuple[Split, ...]
    problems: tuple[Problem, ...]
    sampled: str = ""  # which share was looked at, when not all


@dataclass(frozen=True)
class Report:
    """What lies under `root`."""

    root: str
    deep: bool
    datasets: tuple[Found, ...]
    unrecognized: tuple[str, ...] = ()
    recognized: tuple[str, ...] = ()  # usual folder names, told when nothing is found

    @property
    def wrong(self) -> bool:
        """Whether anything is: a problem of a dataset, or no dataset at all."""
        return not self.datasets or any(found.problems for found in self.datasets)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; complete where the text is cut."""
        return {"wrong": self.wrong, **asdict(self)}

    def lines(self) -> list[str]:
        """The table, then problems, remarks and a count; about 110 columns."""
        if not self.datasets:
            return list(self._nothing())
        lines = [*_table(self.datasets), "", *self._problems(), *self._remarks()]
        lines = [line.encode("utf-8", "backslashreplace").decode() for line in lines]  # names of any bytes
        problems = sum(len(found.problems) for found in self.datasets)
        present = sum(found.folder != "-" for found in self.datasets)
        return [*lines, f"{_number(present, 'dataset')}, {_number(problems, 'problem')}"]

    def _nothing(self) -> Iterator[str]:
        yield f"no dataset in {self.root}: give the folder that holds your datasets, or one of theirs"
        yield f"it holds {', '.join(self.unrecognized) or 'no folder'}; recognized are folders called"
        yield from (f"  {names}" for names in self.recognized)

    def _problems(self) -> Iterator[str]:
        for found in self.datasets:
            for problem in found.problems:
                yield from textwrap.wrap(
                    f"! {found.name}: {problem.line()}",
                    WIDTH,
                    subsequent_indent="    ",
                    break_long_words=False,
                    break_on_hyphens=False,
                )
        if any(found.problems for found in self.datasets):
            yield ""

    def _remarks(self) -> Iterator[str]:
        splits = [(found, split) for found in self.datasets for split in found.splits]
        if any(split.subset for _, split in splits):
            yield "A split with fewer than half of the published images is taken as a chosen subset."
        gallery = PUBLISHED["market1501"]["gallery"].images or 0
        if any(
            (found.name, split.split) == ("market1501", "gallery")
            and split.images in (gallery, gallery + JUNK_OF_MARKET)
            for found, split in splits
        ):
            yield (
                f"Market-1501's bounding_box_test holds {gallery + JUNK_OF_MARKET:,} files. "
                f"{JUNK_OF_MARKET:,} are junk boxes (pid -1), neither"
            )
            yield f"right nor wrong, and left out. {gallery:,} remain, 2,798 of them distractors (pid 0)."
        yield from (f"{found.name}: {found.sampled}" for found in self.datasets if found.sampled)
        if self.unrecognized:
            yield f"not recognized: {', '.join(self.unrecognized)}"


def _table(datasets: Sequence[Found]) -> Iterator[str]:
    cells = [_cells(split) for found in datasets for split in found.splits]
    columns = [_aligned(name, [row[at] for row in cells]) for at, name in enumerate(COLUMNS)]
    rows = ("  ".join(row) for row in zip(*columns, strict=True))
    yield f"{'':11}{next(rows)}".rstrip()
    for found in datasets:
        notes = [_notes(split) for split in found.splits]
        common = os.path.commonprefix(notes)  # said once
        title = f"{found.name}{' (Mannequins)' if found.mannequins else ''}: {found.folder}"
        yield _cut(f"{title}  {', '.join(common)}".rstrip())
        for split, note in zip(found.splits, notes, strict=True):
            yield _cut(f"  {split.split:9}{next(rows)}  {', '.join(note[len(common) :])}".rstrip())
        if not found.splits:
            yield "  cannot be read, see below"


def _aligned(name: str, cells: Sequence[tuple[str, str]]) -> list[str]:
    """A column under its name: numbers flush right, their marks flush left."""
    numbers, marks = zip((name, ""), *cells, strict=True)
    left, right = (max(map(len, each)) for each in (numbers, marks))
    return [f"{number:>{left}} {mark:{right}}" for number, mark in zip(numbers, marks, strict=True)]


def _cells(split: Split) -> list[tuple[str, str]]:
    wanted = split.published or Published()
    cells = [_beside(split.images, wanted.images), _beside(split.pids, wanted.pids)]
    if not split.videos:
        return [*cells, _beside(split.cameras, wanted.cameras)]
    number, mark = _beside(split.videos, wanted.videos)
    return [*cells, (number, f"{mark} videos".lstrip())]


def _beside(count: int, wanted: int | None) -> tuple[str, str]:
    """A count and, where there is a published one, that it is equal or the other, with a small difference."""
    if wanted is None:
        return (f"{count:,}" if count else "-"), ""
    if count == wanted:
        return f"{count:,}", "\N{CHECK MARK}"
    difference = f" ({count - wanted:+,})".replace("-", "\N{MINUS SIGN}") if 2 * count >= wanted else ""
    return f"{count:,}", f"of {wanted:,}{difference}"


def _notes(split: Split) -> list[str]:
    note = split.note.removeprefix(split.split).lstrip(",: ")
    parts = [*note.split(", "), _number(split.distractors, "distractor", none="")]
    return [part for part in parts if part]


def _cut(line: str) -> str:
    return line if len(line) <= WIDTH else line[: WIDTH - 1] + "\N{HORIZONTAL ELLIPSIS}"


def _number(count: int, noun: str, none: str | None = None) -> str:
    if not count:
        return f"no {noun}s" if none is None else none
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
