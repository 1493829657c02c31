"""The six worlds of the embedded benchmark, written to disk in the layouts of real datasets.

plaza, campus, hall, station, studio: Market-1501's folders and names. A test person has one query image in
up to two cameras, everything else is gallery, with a few distractors (0000) and junk boxes (-1) among it.
videos: LUPerson-NL's LMDB and keys.pkl, single-camera clips under a tracker's noisy ids.
Beside either lies truth.npz, which real single-camera data never has. The same settings give the same bytes.
Written in layout "native" each world looks as the dataset it stands in for, see `native`; layout.json then
says which.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from dynamix import disk
from dynamix.config import Mannequins
from dynamix.data.mannequins import layouts, native, plan
from dynamix.data.mannequins.plan import WORLDS
from dynamix.data.mannequins.reader import LAYOUT
from dynamix.data.mannequins.truth import TRUTH, Truth, ascending, truth

__all__ = ["LAYOUTS", "NAMES", "TRUTH", "VERSION", "WORLDS", "Truth", "build", "key", "truth", "write"]

VERSION = 1  # raised when the drawn bytes change, so that cached worlds are not mistaken
NAMES = tuple(WORLDS)
LAYOUTS = ("market", "native")


def build(
    config: Mannequins,
    cache: Path | None = None,
    *,
    worlds: Sequence[str] = NAMES,
    progress: bool = True,
    device: str = "cpu",
) -> dict[str, Path]:
    """Folder of every world, drawn unless `cache/<hash of its settings>/` holds it already.

    Default cache: $DYNAMIX_CACHE, else ~/.cache/dynamix. Safe when several processes build at once or are
    killed: a world appears in one rename, complete. Raises ValueError on an unknown world, OSError on a cache
    that cannot be written.
    """
    _check(worlds)
    cache = disk.cache() if cache is None else Path(cache).expanduser()
    return {name: _cached(name, config, cache, progress, device) for name in worlds}


def write(
    config: Mannequins,
    out: Path,
    *,
    worlds: Sequence[str] = NAMES,
    layout: str = "market",
    progress: bool = True,
    device: str = "cpu",
) -> dict[str, Path]:
    """Draw worlds into plain folders `out/plaza`, ...; layout "native": each as the dataset it stands in for.

    Raises ValueError when a folder exists and is not empty, and on a world that its layout has no names for.
    """
    _check(worlds)
    if layout not in LAYOUTS:
        raise ValueError(f"unknown layout {layout!r}; there are {', '.join(LAYOUTS)}")
    folders = {name: Path(out).expanduser() / name for name in worlds}
    for folder in folders.values():
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise ValueError(f"{folder} exists and is not empty: remove it or choose another folder")
        disk.check_folder(folder)
    for name, folder in folders.items():
        _publish(name, config, folder, progress, device, layout)
    return folders


def _check(worlds: Sequence[str]) -> None:
    for name in worlds:
        if name not in WORLDS:
            raise ValueError(f"unknown world {name!r}; there are {', '.join(NAMES)}")


def key(name: str, config: Mannequins) -> str:
    """Hash of everything that the bytes of world `name` depend on."""
    fields = ["image", name, "clumping", "seed"]
    fields += ["moments", "fragment", "switch", "junk"] if name == "videos" else []
    settings = {field: getattr(config, field) for field in fields}
    text = json.dumps([VERSION, name, dataclasses.asdict(WORLDS[name]), settings], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _cached(name: str, config: Mannequins, cache: Path, progress: bool, device: str) -> Path:
    home = cache / key(name, config)
    final = home / name
    if (final / TRUTH).is_file():
        return final
    disk.check_folder(home)
    home.mkdir(parents=True, exist_ok=True)
    with lock(home / ".lock") as alone:
        if (final / TRUTH).is_file():  # another process was faster
            return final
        if alone:  # whatever lies here was left by a killed process
            for left in home.glob(f".{name}.*"):
                shutil.rmtree(left, ignore_errors=True)
            shutil.rmtree(final, ignore_errors=True)
        _publish(name, config, final, progress, device)
    return final


@contextlib.contextmanager
def lock(path: Path) -> Iterator[bool]:
    """Wait for the exclusive lock; False where the system has none (then the first rename wins)."""
    with open(path, "a") as file:
        try:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        except (ImportError, OSError):
            yield False
        else:
            yield True  # closing the file, or the end of the process, unlocks


def _publish(
    name: str, config: Mannequins, final: Path, progress: bool, device: str, layout: str = "market"
) -> None:
    """Draw a world beside `final`, then rename: `final` is complete or not there."""
    folder = final.parent / f".{name}.{os.getpid()}.{uuid.uuid4().hex[:8]}"
    planned, save = _planned(name, config, layout)
    try:
        with (
            disk.writing(final),
            tqdm(total=len(planned.truth.names), desc=name, unit="img", disable=not progress) as bar,
        ):
            folder.mkdir(parents=True)
            save(folder, layouts.drawn(planned, device, bar))
            if layout == "native":
                (folder / LAYOUT).write_text(json.dumps({"layout": native.STANDS_FOR[name]}) + "\n")
            np.savez(folder / TRUTH, **ascending(planned.truth))
            try:
                os.rename(folder, final)
            except OSError:
                if not (final / TRUTH).is_file():  # not merely slower than another process
                    raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _planned(name: str, config: Mannequins, layout: str) -> tuple[plan.Plan, Callable[..., None]]:
    """What to draw, and what writes it to a folder."""
    if name == "videos":
        planned = plan.clips(config)
        return planned, partial(layouts.save_lmdb, planned)
    planned = plan.multi_camera(name, config)
    if layout == "market" or native.STANDS_FOR[name] == "market1501":
        return planned, partial(layouts.save_market, planned)
    files = native.files(name, planned)
    return files.plan, partial(layouts.save_files, files)
