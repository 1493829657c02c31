"""What is wrong with one dataset: images, counts, equal images in two splits, a test without answers."""

import os
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Int

from dynamix.data.check.files import KINDS, Examined
from dynamix.data.check.report import Problem, Split
from dynamix.data.table import Table, ranks

SEPARATE_PIDS = ("msmt17",)  # train and test pids both start at 0 and mean different people


def damage(tables: Mapping[str, Table], examined: Mapping[str, Examined], root: str) -> list[Problem]:
    """One problem per kind of damaged image, over all splits."""
    items: dict[str, list[str]] = {}
    for split, found in examined.items():
        for seen in found.bad:
            reason = f" ({seen.reason})" if seen.reason else ""
            items.setdefault(seen.kind, []).append(_shown(tables[split], seen.row, root) + reason)
    return [
        Problem(kind, f"{_number(len(items[kind]), 'image')} {text}", tuple(items[kind]))
        for kind, text in KINDS.items()
        if kind in items
    ]


def duplicates(tables: Mapping[str, Table], examined: Mapping[str, Examined], root: str) -> list[Problem]:
    """Images with the same bytes in train and test, or among the queries and in the gallery."""
    found = []
    for kind, left, rights, text in (
        ("leak", "train", ("query", "gallery"), "in train and in the test set with the same content"),
        ("repeated", "query", ("gallery",), "both query and gallery with the same content"),
    ):
        items = [
            f"{_shown(tables[left], row, root)} = {_shown(tables[right], other, root)}"
            for right in rights
            if left in examined and right in examined
            for row, other in _equal(examined[left], examined[right])
        ]
        if items:
            found.append(Problem(kind, f"{_number(len(items), 'image')} {text}", tuple(items)))
    return found


def _equal(left: Examined, right: Examined) -> Iterator[tuple[int, int]]:
    """Rows of either with the same content."""
    for digest, row in left.digests.items():
        if digest in right.digests:
            yield row, right.digests[digest]


def counts(splits: Sequence[Split]) -> list[Problem]:
    """Splits with at least half of the published images but not all, with more, or with names misread.

    Fewer than half are taken for a deliberate subset.
    """
    found = []
    for split in splits:
        wanted = split.published
        if wanted is None or wanted.images is None:
            continue
        have = f"{split.split} has {split.images:,} of the {wanted.images:,} published images"
        if split.images > wanted.images:
            found.append(Problem("surplus", f"{have}: something was added to it, or it is another version"))
        elif 2 * split.images >= wanted.images > split.images:
            found.append(Problem("incomplete", f"{have}: an incomplete copy, get it again"))
        elif split.images == wanted.images:
            wrong = [
                f"{getattr(split, column):,} {column} where {getattr(wanted, column):,} are published"
                for column in ("pids", "cameras", "videos")
                if getattr(wanted, column) not in (None, getattr(split, column))
            ]
            if wrong:
                text = (
                    f"{split.split} has all images but {' and '.join(wrong)}: the file names or lists differ"
                )
                found.append(Problem("miscounted", text))
    return found


def protocol(layout: str, tables: Mapping[str, Table]) -> list[Problem]:
    """Splits that do not fit together: pids in train and test, a test that no query can pass."""
    test = [tables[split] for split in ("query", "gallery") if split in tables]
    found = []
    if "train" in tables and test and layout not in SEPARATE_PIDS:
        both = np.intersect1d(tables["train"].pids, np.concatenate([table.pids for table in test]))
        both = both[both >= 0]  # distractors (pid 0) are in no training table
        if len(both):
            found.append(
                Problem("overlap", f"{_number(len(both), 'pid')} in train and in the test set", _words(both))
            )
    return found + (_unanswerable(*test) if len(test) == 2 else [])


def _unanswerable(query: Table, gallery: Table) -> list[Problem]:
    """What keeps queries from having a true match: the same pid in another camera."""
    found = []
    cameras = np.unique(np.concatenate([query.camids, gallery.camids]))
    parsed = f"camids read from the names: {', '.join(_words(cameras))}"
    if len(cameras) == 1:
        text = f"query and gallery were seen by one camera only ({parsed}): no query can have a true match"
        found.append(Problem("one camera", f"{text}; check the names against the dataset's layout"))
    elif not _crossing(query, gallery).any():
        text = f"no query has a true match in another camera ({parsed})"
        found.append(Problem("no match", f"{text}: check the names against the dataset's layout"))
    lonely = np.setdiff1d(query.pids, gallery.pids)
    if len(lonely):
        text = f"{_number(len(lonely), 'query pid')} without any image in the gallery"
        found.append(Problem("lonely", text, _words(lonely)))
    return found


def _crossing(query: Table, gallery: Table) -> Bool[np.ndarray, " Q"]:
    """Of every query, whether the gallery shows its pid in another camera."""
    base = int(max(query.camids.max(), gallery.camids.max())) + 2  # camids from -1
    ranked = ranks(np.concatenate([query.pids, gallery.pids]))  # pids may be too large for the products
    asked, shown = ranked[: len(query)], ranked[len(query) :]
    pairs = np.unique(shown * base + gallery.camids + 1)
    pids, cameras = np.unique(pairs // base, return_counts=True)
    at = np.searchsorted(pids, asked).clip(max=len(pids) - 1)
    seen = np.where(pids[at] == asked, cameras[at], 0)
    return seen > np.isin(asked * base + query.camids + 1, pairs)


def _shown(table: Table, row: int, root: str) -> str:
    path = table.paths[row]
    return path.removeprefix(os.path.join(root, ""))


def _number(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _words(numbers: Int[np.ndarray, " n"]) -> tuple[str, ...]:
    return tuple(map(str, numbers.tolist()))
