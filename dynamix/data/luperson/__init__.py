"""LUPerson and LUPerson-NL: single-camera crops of street videos, ten million rows and more."""

import re
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from dynamix.data import find, stores
from dynamix.data.folders import Reading
from dynamix.data.luperson import index, tree
from dynamix.data.luperson.index import Index
from dynamix.data.luperson.keys import Layout, Refused, listed, restricted_load
from dynamix.data.table import Table, ranks

__all__ = ["KEY", "luperson", "luperson_nl", "restricted_load"]

KEY = tree.KEY.form  # of LUPerson-NL
LUPERSON_KEY = Layout("{country:02d}_{city:02d}_{video:04d}_{image:08d}", (None, None, None, None))
SPLITS = ("train", "all")
STORES = ("lmdb", "lup_lmdb", "")  # where data.mdb lies, seen from keys.pkl
INNER = ("lmdb", "lmdbs")


def _store(home: Path) -> Path | None:
    """The folder of data.mdb."""
    stores = (home / name for name in STORES if (home / "keys.pkl").is_file())
    return next((store for store in stores if (store / "data.mdb").is_file()), None)


def _fit(home: Path) -> int:
    return find.WHOLE if _store(home) else find.NOTHING


def _fit_nl(home: Path) -> int:
    return _fit(home) or (find.PART if tree.present(home) else find.NOTHING)


MISSING = "no keys.pkl beside lmdb/data.mdb"
HOME = find.Home(("LUPerson", "LUP", "lup_lmdb"), (find.Layout(_fit),), MISSING, INNER)
HOME_NL = find.Home(
    ("LUPerson-NL", "LUP-NL", "lupnl_lmdb"),
    (find.Layout(_fit_nl, deep=True),),
    f"{MISSING}, nor images named {KEY}.jpg or video/{tree.IN_VIDEO.form}.jpg",
    INNER,
)


def luperson_nl(
    root: str | Path, split: str = "train", *, source: str = "luperson_nl", on_bad_image: str = "error"
) -> Table:
    """Read keys.pkl beside its LMDB, or the extracted JPEGs (`tree.read`); videos become 0, 1, 2, ...

    pids are those of keys.pkl; without them one per (video, pid) of the keys, since numbers may restart in
    each video. Raises FileNotFoundError when neither form is there, ValueError on a keys.pkl that is
    malformed or tries to run code, and on an LMDB that is cut short or does not belong to it.
    """
    reading = _opened(source, split, HOME_NL, root, on_bad_image)
    if _store(reading.home):
        return _from_store(reading, split, _build_nl)
    refused = Refused(on_bad_image)
    found = index.opened(reading.home, "tree", partial(tree.read, reading.home, refused))
    return _table(reading, split, f"{reading.home}/", found)


def luperson(
    root: str | Path, split: str = "train", *, source: str = "luperson", on_bad_image: str = "error"
) -> Table:
    """Read keys.pkl beside its LMDB; a video is the first three numbers of a key (country, city, video).

    There are no labels: every image is a pid of its own, 0..N-1, until a method groups them (ReMix clusters
    the images of each video). Raises as `luperson_nl` does.
    """
    return _from_store(_opened(source, split, HOME, root, on_bad_image), split, _build)


def _opened(source: str, split: str, home: find.Home, root: str | Path, on_bad_image: str) -> Reading:
    if split not in SPLITS:
        raise ValueError(
            f"{source} has no split {split!r}: it is single-camera training data, use train or all"
        )
    return find.opened(source, home, root, on_bad_image)[0]


def _from_store(reading: Reading, split: str, build: Callable[[Path, Refused], Index]) -> Table:
    home, folder = reading.home, _store(reading.home)
    assert folder is not None
    refused = Refused(reading.on_bad_image)
    found = index.opened(home, f"{build.__name__} {folder.name}", partial(build, home, refused))
    table = _table(reading, split, f"{folder}{stores.LOCATOR}", found)
    keys = [table.paths[row].rpartition(stores.LOCATOR)[2] for row in (0, len(table) - 1)]
    stores.check(str(folder), len(table), keys)
    return table


def _build_nl(home: Path, refused: Refused) -> Index:
    stamp = index.stamp(home, ["keys.pkl"])
    parsed, pids = listed(home / "keys.pkl", tree.KEY, slice(0, 2), refused)
    variant = "LMDB, pids of keys.pkl"
    if pids is None:
        pids = ranks(parsed.numbers[:, 0] * 10**6 + parsed.numbers[:, 1])
        variant = "LMDB, pids per video from the keys"
    return Index.of(parsed.paths(), pids, parsed.numbers[:, 0], variant, refused, stamp)


def _build(home: Path, refused: Refused) -> Index:
    stamp = index.stamp(home, ["keys.pkl"])
    parsed, _ = listed(home / "keys.pkl", LUPERSON_KEY, slice(0, 3), refused, pids=False)
    if re.fullmatch(r"\d{5}_\d{6}_\d{7}_\d{2}", parsed.paths()[0]):
        raise ValueError(f"{home / 'keys.pkl'} lists LUPerson-NL's keys, {KEY}: read it as luperson_nl")
    videos = np.zeros(len(parsed), np.int64)
    for column in parsed.numbers.T:  # ranks keep the products small, however many digits there are
        number = ranks(column)
        videos = ranks(videos * (int(number.max()) + 1) + number)
    pids = np.arange(len(parsed), dtype=np.int64)
    return Index.of(parsed.paths(), pids, videos, "LMDB, no labels, every image its own pid", refused, stamp)


def _table(reading: Reading, split: str, home: str, found: Index) -> Table:
    note = f"{split}, {found.variant}" + (f", in {reading.said}" if reading.said else "")
    if found.skipped:
        if reading.on_bad_image == "error":  # the index was kept by a reading that skipped
            raise ValueError(found.problem)
        skipped = f"{reading.source}: skipped {found.skipped} images, first: {found.problem}"
        warnings.warn(skipped, stacklevel=4)
        note += f", {found.skipped} images skipped"
    return found.table(reading.source, home, note)
