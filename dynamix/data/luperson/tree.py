"""LUPerson-NL as extracted images: country/city/video/<pid>_<frame>_<box>.jpg, or files named by LMDB key."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8

from dynamix.data.folders import CLUTTER, is_foreign, is_image, stem
from dynamix.data.luperson import index
from dynamix.data.luperson.index import Index
from dynamix.data.luperson.keys import Layout, Refused, listed, take_apart
from dynamix.data.table import Paths, ranks

KEY = Layout("{video:05d}_{pid:06d}_{frame:07d}_{box:02d}", (5, 6, 7, 2))
IN_VIDEO = Layout("{pid:06d}_{frame:07d}_{box:02d}", (6, 7, 2))  # in one folder per video
SUFFIX = ".jpg"  # of nearly all; told apart without looking up what else Pillow decodes
DEPTH = 4  # folders above an image: images, country, city, video


def present(home: Path) -> bool:
    """Whether such images lie below `home`, judged by some names of its first few folders."""
    level = [home]
    for _ in range(DEPTH + 1):
        inner: list[Path] = []
        for folder in filter(Path.is_dir, level):
            with os.scandir(folder) as entries:
                some = [Path(entry.path) for entry in islice(entries, 1000)]
            if any(_layout(path.name) for path in some):
                return True
            inner += sorted(path for path in some if path.suffix == "" and path.is_dir())[:5]
        level = inner
    return False


def read(home: Path, refused: Refused) -> Index:
    """All images below `home`, folder by folder in sorted order; with a keys.pkl in it, its pids.

    The video is the first number of a file's name, else its folder; of a video that lies in two cities the
    first is read, as the dataset's converter does.
    """
    parts, stamp, again = [], {}, 0
    for folder in _folders(home):
        stamp[folder.name] = folder.stamp
        for name in folder.foreign:
            refused.add(f"{home / folder.name / name} is in a format that is not read: convert it to .jpg")
        part = _part(home, folder, refused) if folder.images else None
        if part and part.layout is IN_VIDEO and folder.again:
            again += 1
        elif part:
            parts.append(part)
    if not parts:
        raise ValueError(
            f"no usable image below {home} ({refused.first}): extract the dataset's images there"
        )
    for part in parts:
        if part.layout != parts[0].layout:
            raise ValueError(
                f"{home / part.folder} holds files named {part.layout.form}{SUFFIX}, but "
                f"{home / parts[0].folder} {parts[0].layout.form}{SUFFIX}: give a folder with one kind"
            )
    names, endings, videos, pids = (
        np.concatenate([getattr(part, column) for part in parts])
        for column in ("names", "endings", "videos", "pids")
    )
    within = np.repeat(np.arange(len(parts), dtype=np.int32), [len(part.names) for part in parts])
    pids, variant = ranks(videos * 10**6 + pids), "pids per video from the file names"
    if (home / "keys.pkl").is_file():
        stamp |= index.stamp(home, ["keys.pkl"])
        rows, their_pids = _matched(home / "keys.pkl", _keys(names, videos, parts[0].layout), refused)
        names, endings, videos, within = names[rows], endings[rows], videos[rows], within[rows]
        pids, variant = (pids[rows], variant) if their_pids is None else (their_pids, "pids of keys.pkl")
    if again:
        variant += f", {again} videos that lie in two cities taken once"
    folders = tuple("" if part.folder == "." else f"{part.folder}/" for part in parts)
    paths = _paths(names, endings)
    paths = Paths(paths.buffer, paths.starts, paths.lengths, folders, within)
    return Index.of(paths, pids, videos, f"extracted images, {variant}", refused, stamp)


def _paths(names: UInt8[np.ndarray, "N width"], endings: np.ndarray) -> Paths:
    """Names and endings (N,), which numpy fills up with zeros to the longest."""
    rows = np.concatenate([names, endings.view(np.uint8).reshape(len(names), -1)], axis=1)
    if rows.all():
        return Paths.fixed_width(rows)
    return Paths.packed(rows[rows > 0], (rows > 0).sum(1, dtype=np.int32))


@dataclass(frozen=True)
class _Folder:
    name: str  # relative to home
    images: list[str]
    foreign: list[str]  # images that Pillow does not read
    video: int  # from 1, in the order of the dataset's converter
    again: bool  # there was a folder of this name, in another city
    stamp: list[int]


def _folders(home: Path) -> Iterator[_Folder]:
    """Every folder below home, in sorted order; one that is reached twice through links comes once."""
    seen: set[Any] = set()
    video, waiting = 0, ["."]
    while waiting:
        name = waiting.pop()
        folder, state = home / name, os.stat(home / name)
        if (state.st_dev, state.st_ino) in seen:
            continue
        seen.add((state.st_dev, state.st_ino))
        stamp = index.stamp(home, [name])[name]  # before the folder is listed, so that later changes show
        listed = os.listdir(folder)
        images = [each for each in listed if each.endswith(SUFFIX) and not each.startswith("._")]
        others = [each for each in listed if not each.endswith(SUFFIX) and not CLUTTER.fullmatch(each)]
        below = {each for each in others if (folder / each).is_dir()}
        images = sorted(images + [each for each in others if is_image(each) and each not in below])
        foreign = sorted(each for each in others if is_foreign(each) and each not in below)
        inner = [os.path.normpath(f"{name}/{each}") for each in below]
        waiting += sorted(inner, reverse=True)
        last = os.path.basename(name)
        again = not inner and last in seen
        if not inner and not again:
            video += 1
            seen.add(last)
        yield _Folder(name, images, foreign, video, again, stamp)


def _layout(name: str) -> Layout | None:
    base = name.removesuffix(SUFFIX)
    base = stem(base) if "." in base else base
    fits = (layout for layout in (KEY, IN_VIDEO) if base != name and layout.pattern.fullmatch(base))
    return next(fits, None)


@dataclass(frozen=True)
class _Part:
    """The images of one folder."""

    folder: str
    layout: Layout
    names: UInt8[np.ndarray, "n width"]  # without the ending
    endings: np.ndarray  # (n,) bytes
    videos: Int[np.ndarray, " n"]
    pids: Int[np.ndarray, " n"]


def _part(home: Path, folder: _Folder, refused: Refused) -> _Part | None:
    layout = next(filter(None, map(_layout, folder.images)), KEY)

    def problem(name: str, number: int) -> str:
        image = home / folder.name / folder.images[number]
        return f"{image} is not named like {layout.form}{SUFFIX}: rename it or move it away"

    names = [name.removesuffix(SUFFIX) for name in folder.images]
    endings = np.full(len(names), SUFFIX.encode())
    if "." in "".join(names):  # some end in another way
        names = [stem(name) for name in names]
        pairs = zip(folder.images, names, strict=True)
        endings = np.array([name[len(base) :].encode() for name, base in pairs])
    parsed = take_apart(names, layout, slice(0, 2), refused, problem)
    if not len(parsed):
        return None
    endings = endings[parsed.kept]
    if layout is KEY:
        videos, pids = parsed.numbers.T
    else:
        videos, pids = np.full(len(parsed), folder.video), parsed.numbers[:, 0]
    return _Part(folder.name, layout, parsed.buffer.reshape(len(parsed), -1), endings, videos, pids)


def _keys(
    names: UInt8[np.ndarray, "N width"], videos: Int[np.ndarray, " N"], layout: Layout
) -> UInt8[np.ndarray, "N 23"]:
    """The LMDB key of every file."""
    if layout is KEY:
        return names
    digits = [videos // 10**place % 10 + ord("0") for place in (4, 3, 2, 1, 0)]
    prefix = np.stack([*digits, np.full(len(names), ord("_"))], axis=1).astype(np.uint8)
    return np.concatenate([prefix, names], axis=1)


def _matched(
    path: Path, keys: UInt8[np.ndarray, "N 23"], refused: Refused
) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"] | None]:
    """The rows whose key is in keys.pkl, and its pids for them; keys without an image are refused too."""
    parsed, pids = listed(path, KEY, slice(0, 0), refused)
    have, want = (np.ascontiguousarray(table).reshape(-1).view("S23") for table in (keys, parsed.buffer))
    order = np.argsort(want, kind="stable")
    at = order[np.searchsorted(want, have, sorter=order).clip(max=len(want) - 1)]
    known = want[at] == have
    if not known.all():
        first = have[np.flatnonzero(~known)[0]].decode()
        refused.add(
            f"image {first} is not in {path}: give the matching keys.pkl, or none", int((~known).sum())
        )
    absent = np.ones(len(want), bool)
    absent[at[known]] = False
    if absent.any():
        first = want[np.flatnonzero(absent)[0]].decode()
        refused.add(
            f"no image {first} below {path.parent}, but {path} lists it: extract it", int(absent.sum())
        )
    return np.flatnonzero(known), pids if pids is None else pids[at[known]]
