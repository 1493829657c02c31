"""LUPerson and LUPerson-NL: single-camera crops of street videos, ten million rows and more."""

import re
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from dynamix.data import folders, stores
from dynamix.data.luperson import index, tree
from dynamix.data.luperson.index import Index
from dynamix.data.luperson.keys import Layout, Refused, listed, restricted_load
from dynamix.data.table import Table, ranks

__all__ = ["KEY", "luperson", "luperson_nl", "restricted_load"]

KEY = tree.KEY.form  # of LUPerson-NL
LUPERSON_KEY = Layout("{country:02d}_{city:02d}_{video:04d}_{image:08d}", (None, None, None, None))
SPLITS = ("train", "all")
HOMES_NL = (
    "lupnl_lmdb", "luperson_nl", "LUPerson-NL", "LUPerson_NL", "LUPersonNL", "LUP-NL", "lup-nl",
    "luperson_nl/lupnl_lmdb", "LUPerson-NL/lupnl_lmdb", "lmdbs", "lmdb",
)  # fmt: skip
TREES_NL = ("lup-nl", "images", "luperson_nl", "LUPerson-NL", "LUPersonNL", "LUP-NL", "luperson_nl/lup-nl")
HOMES = ("lup_lmdb", "luperson", "LUPerson", "LUP", "lup", "luperson/lup_lmdb", "lmdbs", "lmdb")
STORES = ("lmdb", "lup_lmdb", "")  # where data.mdb lies, seen from keys.pkl


def luperson_nl(
    root: str | Path, split: str = "train", *, source: str = "luperson_nl", on_bad_image: str = "error"
) -> Table:
    """Read keys.pkl beside its LMDB, or the extracted JPEGs (`tree.read`); videos become 0, 1, 2, ...

    pids are those of keys.pkl; without them one per (video, pid) of the keys, since numbers may restart in
    each video. Raises FileNotFoundError when neither form is there, ValueError on a keys.pkl that is
    malformed or tries to run code, and on an LMDB that is cut short or does not belong to it.
    """
    refused = _begin(source, split, on_bad_image)
    store = _store(Path(root), HOMES_NL)
    if store is not None:
        return _from_store(source, split, store, _build_nl, refused)
    for home in (Path(root) / name for name in ("", *TREES_NL)):
        if tree.present(home):
            found = index.opened(home, "tree", partial(tree.read, home, refused))
            return _table(source, split, f"{home}/", found, refused)
    images = f", nor images named {KEY}.jpg or video/{tree.IN_VIDEO.form}.jpg"
    raise _missing(source, Path(root), HOMES_NL, images)


def luperson(
    root: str | Path, split: str = "train", *, source: str = "luperson", on_bad_image: str = "error"
) -> Table:
    """Read keys.pkl beside its LMDB; a video is the first three numbers of a key (country, city, video).

    There are no labels: every image is a pid of its own, 0..N-1, until a method groups them (ReMix clusters
    the images of each video). Raises as `luperson_nl` does.
    """
    refused = _begin(source, split, on_bad_image)
    store = _store(Path(root), HOMES)
    if store is None:
        raise _missing(source, Path(root), HOMES, "")
    return _from_store(source, split, store, _build, refused)


def _begin(source: str, split: str, on_bad_image: str) -> Refused:
    if split not in SPLITS:
        raise ValueError(
            f"{source} has no split {split!r}: it is single-camera training data, use train or all"
        )
    if on_bad_image not in ("error", "skip"):
        raise ValueError(f'on_bad_image must be "error" or "skip", got {on_bad_image!r}')
    return Refused(on_bad_image)


def _store(root: Path, homes: tuple[str, ...]) -> tuple[Path, Path] | None:
    """The folders of keys.pkl and of data.mdb."""
    for home in (root / name for name in ("", *homes)):
        for store in (home / name for name in STORES):
            if (home / "keys.pkl").is_file() and (store / "data.mdb").is_file():
                return home, store
    return None


def _missing(source: str, root: Path, homes: tuple[str, ...], also: str) -> FileNotFoundError:
    return FileNotFoundError(
        f"{source}: no keys.pkl beside lmdb/data.mdb{also} in {root} or in its {', '.join(homes)}; "
        f"{folders.found(root)}; give the folder that holds them"
    )


def _from_store(
    source: str,
    split: str,
    store: tuple[Path, Path],
    build: Callable[[Path, Refused], Index],
    refused: Refused,
) -> Table:
    home, folder = store
    found = index.opened(home, f"{build.__name__} {folder.name}", partial(build, home, refused))
    table = _table(source, split, f"{folder}{stores.LOCATOR}", found, refused)
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


def _table(source: str, split: str, home: str, found: Index, refused: Refused) -> Table:
    note = f"{split}, {found.variant}"
    if found.skipped:
        if refused.on_bad_image == "error":  # the index was kept by a reading that skipped
            raise ValueError(found.problem)
        skipped = f"{source}: skipped {found.skipped} images, first: {found.problem}"
        warnings.warn(skipped, stacklevel=4)
        note += f", {found.skipped} images skipped"
    return found.table(source, home, note)
