"""A dataset of one's own: images named `<pid>_c<camera>` in folders of their splits, or listed in a .csv."""

import csv
import io
import os
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from dynamix.data import find, folders
from dynamix.data.folders import Names, Reading
from dynamix.data.table import Table

NAMES = Names(
    re.compile(r"(?P<pid>-1|\d+)_c(?P<cam>\d+)(?:\D.*)?", re.IGNORECASE | re.ASCII),
    "12_c3.png or 0012_c3s1_000451_03.jpg (pid, camera, anything)",
)
DISTRACTORS = "bounding_box_test"
FOLDERS = {"train": ("train", "bounding_box_train"), "query": ("query",), "gallery": ("gallery", DISTRACTORS)}
SPLITS = (*FOLDERS, "all")
NEEDED, OPTIONAL = ("path", "pid", "camid"), ("video", "split")
COLUMNS = ",".join(NEEDED) + "[,video][,split]"
NONE = "-1"  # in place of a number or video
ENDINGS, SEPARATORS = (".csv", ".tsv"), ",;\t"
DRIVE = re.compile(r"[A-Za-z]:")
HEAD = 1 << 16  # bytes that hold a file's first line


def home(name: str) -> find.Home:
    """The folder of one's dataset called `name`."""
    wanted = f"no train, query, gallery (images named like {NAMES.example}) and no .csv file of {COLUMNS}"
    return find.Home((name,), (find.Layout(_fit),), wanted)


def own(root: str | Path, split: str = "train", *, source: str = "own", on_bad_image: str = "error") -> Table:
    """Read one split, sorted by path, of the .csv file in the dataset's folder or, without one, its folders.

    Folders are called train, query and gallery or as Market-1501's, and none need be there. pids and camids
    are the numbers in the names, or of the file; pid -1 is nobody's image and left out. 0 is a person; only
    those in `bounding_box_test` are Market's distractors: wrong answers in the gallery, left out of "all".
    A file lists path (from its folder), pid, camid (-1: not known), and may say split (else all is train)
    and video: with it, rows are single-camera ones, to train on only. Raises FileNotFoundError on a missing
    folder or split, ValueError on a name, column, number or path that does not fit.
    """
    folders.check_split(source, split, SPLITS)
    reading, _ = find.opened(source, home(source), root, on_bad_image)
    files = _tables(reading.home)
    if len(files) > 1:
        raise ValueError(f"{source}: {', '.join(map(str, files))} all list images: keep one of them there")
    return _from_file(reading, split, files[0]) if files else _from_folders(reading, split)


def _fit(folder: Path) -> int:
    parts = [max(find.held(folder / name, NAMES) for name in names) for names in FOLDERS.values()]
    if any(len(set(NEEDED) & set(_header(file)[1])) > 1 for file in _files(folder)):
        return find.WHOLE
    return find.together(parts) or (find.TRACE if _files(folder) else find.NOTHING)


def _from_folders(reading: Reading, split: str) -> Table:
    there = {
        part: [name for name in names if (reading.home / name).is_dir()] for part, names in FOLDERS.items()
    }
    for names in there.values():
        if len(names) > 1:
            raise ValueError(f"{reading.source}: {reading.home} holds {' and '.join(names)}: move one away")
    if split != "all" and not there[split]:
        raise FileNotFoundError(
            f"{reading.source}: no folder {' or '.join(FOLDERS[split])} in {reading.home}; "
            f"{folders.found(reading.home)}"
        )
    for folder in sum(there.values(), []) if split == "all" else there[split]:
        least = 1 if split == "all" and folder == DISTRACTORS else 0
        reading.read(folder, NAMES, partial(_row, least))
    return reading.table(split)


def _row(least: int, match: re.Match[str]) -> tuple[int, int] | None:
    pid = int(match["pid"])
    return (pid, int(match["cam"])) if pid >= least else None


class _Line(NamedTuple):
    """A line of the file."""

    place: str  # file and number, for messages
    path: str
    pid: int
    camid: int
    video: str  # "": a multi-camera row
    split: str


def _from_file(reading: Reading, split: str, file: Path) -> Table:
    lines, unread = _lines(file)
    kinds = {bool(line.video): line.place for line in lines}
    if len(kinds) > 1:
        raise ValueError(
            f"{kinds[True]} has a video and {kinds[False]} has none: list single-camera images in a file of "
            "their own (dataset own_videos)"
        )
    kept = {line.path: line for line in lines if split in (line.split, "all")}
    if not kept:
        raise FileNotFoundError(f"{reading.source}: {file} lists no image of split {split}")
    for line in sorted(kept.values(), key=lambda line: (SPLITS.index(line.split), line.path)):
        if problem := _problem(reading.home, line):
            reading.refuse(f"{line.place}: {line.path} {problem}")
        elif line.video or line.pid >= 0:  # nobody's image still belongs to its video
            reading.add(line.path, line.pid, line.camid)
    note = f"{split}, listed in {file.name}" + (f" (columns not read: {' '.join(unread)})" if unread else "")
    if True not in kinds:
        return reading.table(note)
    videos = np.unique([kept[path].video for path in reading.names], return_inverse=True)[1]
    return reading.table(note, videos.astype(np.int64))


def _problem(home: Path, line: _Line) -> str:
    """What is wrong with the line's image, or nothing."""
    if not folders.is_image(os.path.basename(line.path)):
        return "is in no format that is read: convert it to .png or .jpg"
    if not os.path.isfile(home / line.path):
        return "is listed but not there: copy the image there, or take the line out"
    if line.split != "train" and line.video:
        return f"has a video and split {line.split}: single-camera images are for training only"
    if line.split == "query" and line.camid < 0:
        return "is a query and its camera not known, which the scores need: give its camid"
    return ""


def _tables(home: Path) -> list[Path]:
    """The files that list images: those that name such columns or, without folders of images, all."""
    files = _files(home)
    named = [file for file in files if len(set(NEEDED) & set(_header(file)[1])) > 1]
    there = any((home / name).is_dir() for names in FOLDERS.values() for name in names)
    return named if named or there else files


def _files(home: Path) -> list[Path]:
    if not home.is_dir():
        return []
    names = sorted(entry.name for entry in os.scandir(home) if entry.name.lower().endswith(ENDINGS))
    return [home / name for name in names if not folders.CLUTTER.fullmatch(name)]


def _header(file: Path) -> tuple[str, list[str]]:
    """What separates the fields of a file, and the columns that its first line names."""
    with open(file, "rb") as opened:
        first = next(iter(folders.decoded(opened.read(HEAD), errors="replace").splitlines()), "")
    separator = max(SEPARATORS, key=first.count)
    return separator, [cell.strip(' "').lower() for cell in first.split(separator)]


def _lines(file: Path) -> tuple[list[_Line], list[str]]:
    """The lines of the file, and its columns that are not read. Raises ValueError naming the line."""
    separator, columns = _header(file)
    lacks = [column for column in NEEDED if column not in columns]
    if lacks or len(set(columns)) < len(columns):
        wrong = f"does not name {', '.join(lacks)}" if lacks else "names a column twice"
        raise ValueError(f"{file}: the first line {wrong}: it must be {COLUMNS}")
    rows = csv.reader(io.StringIO(folders.text(file), newline=""), delimiter=separator)
    lines: dict[str, _Line] = {}
    try:
        for number, cells in enumerate(rows):
            if number and any(map(str.strip, cells)):
                line = _line(f"{file} line {rows.line_num}", columns, cells)
                if line.path in lines:
                    raise ValueError(f"{line.place}: {line.path} stands in {lines[line.path].place} already")
                lines[line.path] = line
    except csv.Error as error:
        raise ValueError(f"{file} line {rows.line_num} is no line of a .csv file ({error})") from error
    if not lines:
        raise ValueError(f"{file} lists no image: give it a line {COLUMNS} for each")
    return list(lines.values()), [column for column in columns if column not in (*NEEDED, *OPTIONAL)]


def _line(place: str, columns: Sequence[str], cells: Sequence[str]) -> _Line:
    if len(cells) != len(columns):
        raise ValueError(f"{place} has {len(cells)} fields, and the first line {len(columns)}: correct it")
    row = {column: cell.strip() for column, cell in zip(columns, cells, strict=True)}
    path = PurePosixPath(row["path"].replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or not path.name or DRIVE.fullmatch(path.parts[0]):
        raise ValueError(f"{place}: path {row['path']!r} must lead from the file's folder into it")
    video = "" if row.get("video", NONE) == NONE else row["video"]
    split = row.get("split", "train").lower()
    if split not in FOLDERS:
        raise ValueError(f"{place}: split {split!r} must be one of {', '.join(FOLDERS)}")
    pid = _number(place, "pid", row["pid"])
    # The camera of a video is not looked at.
    camid = -1 if video else _number(place, "camid", row["camid"])
    return _Line(place, str(path), pid, camid, video, split)


def _number(place: str, column: str, value: str) -> int:
    if not re.fullmatch(r"-1|\d{1,18}", value, re.ASCII):
        raise ValueError(f"{place}: {column} {value!r} must be a whole number from 0, or -1 for none")
    return int(value)
