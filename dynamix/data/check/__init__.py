"""What lies under a folder of datasets, held against the published counts (the paper's Table 1)."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tqdm import tqdm

from dynamix.data import ALIASES, DATASETS, dataset
from dynamix.data.check import files, findings
from dynamix.data.check.copies import DRAWN, MERGED, Copy, discover
from dynamix.data.check.files import Examined
from dynamix.data.check.report import Found, Problem, Report, Split
from dynamix.data.published import PUBLISHED
from dynamix.data.table import Table, statistics

__all__ = ["Found", "Problem", "Report", "Split", "check"]

NOBODY = ("market1501", "grid")  # pid 0 is a distractor there, elsewhere it is a person
OWN = ("own", "own_videos")  # these have the splits that somebody gave them
THREADS = 8


def check(
    root: str | Path, *, deep: bool = False, progress: bool = True, names: Sequence[str] | None = None
) -> Report:
    """Find every dataset in or under `root`, count its splits, and look at each image (paper Table 1).

    Without `deep` files are looked at from outside (ends and hashes), and up to 2,000 images of an LMDB or
    .mat are decoded; with it every image is. `names`: only these datasets, which must then be there. Raises
    FileNotFoundError without the folder, ValueError on an unknown name.
    """
    root = Path(os.path.abspath(os.path.expanduser(root)))  # "." has no name to tell a dataset by
    wanted = [name for name in DATASETS if names is None or name in {_canonical(each) for each in names}]
    found, unrecognized = discover(root, wanted, progress)
    examined = _examine(found, deep, progress)
    reports = [_found(copy, each, root, deep) for copy, each in zip(found, examined, strict=True)]
    if names is not None:
        reports += [_absent(name) for name in wanted if name not in {copy.name for copy in found}]
    usual = tuple(dict.fromkeys(_usual(name) for name in wanted if name not in DRAWN))
    return Report(str(root), deep, tuple(reports), tuple(unrecognized), usual)


def _canonical(name: str) -> str:
    dataset(name)  # raises on an unknown one
    return ALIASES.get(name, name)


def _examine(copies: Sequence[Copy], deep: bool, progress: bool) -> list[dict[str, Examined]]:
    """Every image once: what MSMT17 holds is not looked at again as its merger."""
    homes = {(copy.name, copy.folder) for copy in copies}
    todo = [{} if (MERGED.get(copy.name), copy.folder) in homes else copy.tables for copy in copies]
    total = sum(len(files.rows_of(table, deep)) for tables in todo for table in tables.values())
    bar = tqdm(total=total, desc="decoding images" if deep else "looking at images", unit="image",
               disable=not progress)  # fmt: skip
    with bar, ThreadPoolExecutor(THREADS) as pool:
        return [
            {
                # Only a copy with test images can hold equal ones in train and test.
                split: files.examine(table, deep=deep, hashed=len(tables) > 1, pool=pool, advance=bar.update)
                for split, table in tables.items()
            }
            for tables in todo
        ]


def _found(copy: Copy, examined: dict[str, Examined], root: Path, deep: bool) -> Found:
    splits = tuple(_split(copy, split, table) for split, table in copy.tables.items())
    folder = "." if copy.folder == root else os.path.relpath(copy.folder, root)
    problems = [
        *([Problem("several", copy.several)] if copy.several else []),
        *_errors(copy),
        *(
            Problem("refused", f"{count:,} files of {split} cannot be placed", which)
            for split, (count, which) in copy.refused.items()
            if split in copy.tables
        ),
        *findings.damage(copy.tables, examined, str(root)),
        *findings.duplicates(copy.tables, examined, str(root)),
        *findings.counts(splits),
        *findings.protocol(copy.layout, copy.tables),
    ]
    return Found(
        copy.name, folder, copy.name in DRAWN, splits, tuple(problems), _sampled(copy, examined, deep)
    )


def _split(copy: Copy, split: str, table: Table) -> Split:
    counted = statistics(table)[0]
    nobody = int((table.pids == 0).sum()) if copy.layout in NOBODY and split == "gallery" else 0
    return Split(
        split,
        counted.images,
        counted.pids - bool(nobody),
        counted.cameras,
        counted.videos,
        nobody,
        table.notes[0],
        PUBLISHED.get(copy.name, {}).get(split),
    )


def _errors(copy: Copy) -> list[Problem]:
    """What the reader said: once where nothing can be read, else of every split."""
    lines = {
        split: " ".join(str(error).split())
        for split, error in copy.errors.items()
        if not (copy.name in OWN and copy.tables and isinstance(error, FileNotFoundError))
    }
    for split in set(lines) & set(copy.refused):  # nothing could be used of it
        lines[split] += f"; first: {copy.refused[split][1][0]}"
    if copy.tables:
        return [Problem("unreadable", f"{split} cannot be read: {line}") for split, line in lines.items()]
    # That a file is damaged says more than that another is not there.
    split = min(copy.errors, key=lambda split: isinstance(copy.errors[split], FileNotFoundError))
    return [Problem("unreadable", lines[split])]


def _sampled(copy: Copy, examined: dict[str, Examined], deep: bool) -> str:
    looked = sum(found.looked for found in examined.values())
    held = sum(len(copy.tables[split]) for split in examined)
    return f"decoded {looked:,} of {held:,} images, --deep decodes all" if looked < held else ""


def _absent(name: str) -> Found:
    problem = Problem("absent", f"not found; its folder is called {_usual(name)}")
    return Found(name, "-", name in DRAWN, (), (problem,))


def _usual(name: str) -> str:
    return ", ".join(dataset(name).home.names)
