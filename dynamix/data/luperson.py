"""LUPerson-NL: single-camera crops of street videos with noisy tracker labels, in one LMDB."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8

from dynamix.data.table import Paths, Table, from_columns

KEY = "{video:05d}_{pid:06d}_{frame:07d}_{box:02d}"
WIDTH = 23
VIDEO, PID = slice(0, 5), slice(6, 12)
UNDERSCORES = (5, 12, 20)
PARENTS = ("", "lupnl_lmdb")


def luperson_nl(
    root: str | Path, split: str = "train", *, source: str = "luperson_nl", on_bad_image: str = "error"
) -> Table:
    """Read `root/keys.pkl` beside `root/lmdb` (or both in `root/lupnl_lmdb`); videos become 0, 1, 2, ...

    pids are those of keys.pkl; without them one per (video, pid) of the keys, since numbers may restart in
    each video. The LMDB itself is first opened when an image is decoded. Raises FileNotFoundError on missing
    files, ValueError on a keys.pkl that is malformed or tries to run code.
    """
    if split not in ("train", "all"):
        raise ValueError(
            f"{source} has no split {split!r}: it is single-camera training data, use train or all"
        )
    home = _home(Path(root), source)
    content = restricted_load(home / "keys.pkl")
    keys, pids = _columns(content, home / "keys.pkl")
    if not keys:
        raise ValueError(f"{home / 'keys.pkl'} lists no image: build the LMDB again")
    names = _key_bytes(keys, home / "keys.pkl")
    videos = _number(names[:, VIDEO])
    if pids is None:
        pids = np.unique(videos * 10**6 + _number(names[:, PID]), return_inverse=True)[1].astype(np.int64)
    return from_columns(source, Paths.fixed_width(names, f"{home / 'lmdb'}::"), pids, videos=videos)


def _home(root: Path, source: str) -> Path:
    for parent in PARENTS:
        if (root / parent / "keys.pkl").is_file() and (root / parent / "lmdb" / "data.mdb").is_file():
            return root / parent
    raise FileNotFoundError(
        f"{source}: no keys.pkl beside lmdb/data.mdb in {root} or {root / PARENTS[1]}: "
        "give the folder that holds both"
    )


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
            raise ValueError(
                f"{path} is not a plain pickle ({error}): get it from its source again, or build it anew"
            ) from error


def _columns(content: Any, path: Path) -> tuple[list[Any], Int[np.ndarray, " N"] | None]:
    if isinstance(content, list):  # some builds store the bare keys
        return content, None
    if not isinstance(content, dict) or not isinstance(content.get("keys"), list):
        raise ValueError(f"{path} holds no dict with a list 'keys': build it as LUPerson-NL's converter does")
    if content.get("pids") is None:
        return content["keys"], None
    try:
        pids = np.asarray(content["pids"])
    except ValueError:  # ragged
        pids = np.array("ragged")
    if pids.ndim != 1 or (len(pids) and pids.dtype.kind != "i"):
        raise ValueError(f"'pids' in {path} is not a list of integers: build it anew")
    if len(pids) != len(content["keys"]):
        raise ValueError(f"{path} has {len(content['keys'])} keys but {len(pids)} pids: build it anew")
    return content["keys"], pids.astype(np.int64)


def _key_bytes(keys: list[Any], path: Path) -> UInt8[np.ndarray, "N 23"]:
    """The keys as bytes, each checked against `KEY`."""
    try:
        wide = np.array(keys, dtype=f"S{WIDTH + 1}")  # one byte more shows keys that are too long
    except (UnicodeEncodeError, TypeError, ValueError):
        wide = np.array([str(key).encode("ascii", "replace") for key in keys], dtype=f"S{WIDTH + 1}")
    table = wide.view(np.uint8).reshape(len(keys), WIDTH + 1)
    names = np.ascontiguousarray(table[:, :WIDTH])
    digits = (names >= ord("0")) & (names <= ord("9"))
    digits[:, UNDERSCORES] = names[:, UNDERSCORES] == ord("_")
    wrong = np.flatnonzero(~digits.all(1) | (table[:, WIDTH] != 0))
    if len(wrong):
        raise ValueError(
            f"key {keys[wrong[0]]!r} (number {wrong[0]}) in {path} is not {KEY}: "
            "build it as LUPerson-NL's converter does"
        )
    return names


def _number(digits: UInt8[np.ndarray, "N width"]) -> Int[np.ndarray, " N"]:
    value = np.zeros(len(digits), np.int64)
    for column in digits.T:
        value = value * 10 + (column - ord("0"))
    return value


def luperson(
    root: str | Path, split: str = "train", *, source: str = "luperson", on_bad_image: str = "error"
) -> Table:
    """Not written yet."""
    raise NotImplementedError
