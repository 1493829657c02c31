"""Images kept in an LMDB: `<folder>::<key>` names one. An environment is opened once per process.

A memory map that is shorter than its pages kills the process (SIGBUS) at the first missing one, so the size
of data.mdb is compared at every opening.
"""

import os
import threading
from collections.abc import Sequence
from typing import Any

LOCATOR = "::"  # <LMDB folder>::<key>

_environments: dict[str, tuple[Any, Any]] = {}
_opening = threading.Lock()


def located(path: str) -> tuple[str, str] | None:
    """Folder and key of an image in an LMDB; None for a file, also one whose path holds `::`."""
    if LOCATOR not in path:
        return None
    folder, _, key = path.rpartition(LOCATOR)
    return (folder, key) if os.path.isdir(folder) and not os.path.lexists(path) else None


def value(folder: str, key: str) -> bytes:
    """The bytes of an image. Raises ValueError naming the key that is not there or cannot be read."""
    found = _get(environment(folder), folder, key)
    if found is None:
        raise ValueError(
            f"no key {key} in the LMDB {folder}: keys.pkl belongs to another build; "
            'give the matching one, or leave the image out with on_bad_image="skip"'
        )
    return found


def environment(folder: str) -> Any:
    """The LMDB, opened once per process (an environment must not cross a fork) and again when rewritten.

    Raises FileNotFoundError without data.mdb, ValueError when it is cut short or no LMDB.
    """
    with _opening:
        return _held(os.path.realpath(folder))  # one LMDB under two names is still opened once


def check(folder: str, count: int, keys: Sequence[str]) -> None:
    """Raise ValueError unless the LMDB is whole, has `count` entries or more and the given `keys`.

    What was opened for it is closed again: processes forked later find nothing open.
    """
    with _opening:
        real = os.path.realpath(folder)
        before = _environments.get(real)
        opened = _held(real)
        try:
            entries = opened.stat()["entries"]
            if entries < count:
                raise ValueError(
                    f"the LMDB {folder} has {entries} entries, but keys.pkl lists {count} images: one of the "
                    "two is incomplete or of another build; copy both again"
                )
            for key in keys:
                if _get(opened, folder, key) is None:
                    raise ValueError(
                        f"no key {key} in the LMDB {folder}, but keys.pkl lists it: keys.pkl belongs to "
                        "another build; give the one beside this LMDB"
                    )
        finally:
            if _environments.get(real) is not before:
                _environments.pop(real)[1].close()


def _get(opened: Any, folder: str, key: str) -> bytes | None:
    import lmdb

    try:
        with opened.begin() as transaction:
            return transaction.get(key.encode())
    except lmdb.Error as error:
        raise ValueError(f"cannot read key {key} of the LMDB {folder} ({error}): copy it again") from error


def _held(folder: str) -> Any:
    try:
        size = os.path.getsize(os.path.join(folder, "data.mdb"))
    except FileNotFoundError:
        raise FileNotFoundError(
            f"no LMDB in {folder} (data.mdb is missing): give the dataset's folder"
        ) from None
    stamp = _stamp(folder)
    held = _environments.get(folder)
    if held is not None and held[0] == stamp:
        return held[1]
    # lmdb refuses files whose inode numbers it holds open, and a deleted LMDB's numbers are given out again.
    for other in [name for name, (before, _) in _environments.items() if before != _stamp(name)]:
        _environments.pop(other)[1].close()
    opened = _opened(folder, size)
    _environments[folder] = (stamp, opened)
    return opened


def _stamp(folder: str) -> tuple[int | None, ...]:
    """Process, files and time of writing: another one asks for another opening."""
    found: list[int | None] = [os.getpid()]
    for name, parts in (("data.mdb", ("st_ino", "st_mtime_ns")), ("lock.mdb", ("st_ino",))):
        try:
            state = os.stat(os.path.join(folder, name))
        except FileNotFoundError:  # no lock.mdb where nobody has written since
            found.append(None)
        else:
            found += [getattr(state, part) for part in parts]
    return tuple(found)


def _opened(folder: str, size: int) -> Any:
    import lmdb

    with open(os.path.join(folder, "data.mdb"), "rb"):
        pass  # lmdb's own error is the same for a file without permission and for a damaged one
    try:
        opened = lmdb.open(folder, readonly=True, lock=False, readahead=False, meminit=False)
    except lmdb.Error as error:
        raise ValueError(f"cannot open the LMDB {folder} ({error}): copy or build it again") from error
    needed = (opened.info()["last_pgno"] + 1) * opened.stat()["psize"]
    if size < needed:
        opened.close()
        raise ValueError(
            f"{folder}/data.mdb is cut short: {size} bytes of {needed}; copy it again "
            "(if it was built that way, mdb_copy -c makes it whole)"
        )
    return opened
