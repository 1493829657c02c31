"""The six worlds of the embedded benchmark, written to disk in the layouts of real datasets.

plaza, campus, hall, station, studio: Market-1501's folders and names. A test person has one query image in
up to two cameras, everything else is gallery, with a few distractors (0000) and junk boxes (-1) among it.
videos: LUPerson-NL's LMDB and keys.pkl, single-camera clips under a tracker's noisy ids.
Beside either lies truth.npz, which real single-camera data never has. The same settings give the same bytes.
"""

import contextlib
import dataclasses
import hashlib
import io
import json
import os
import pickle
import shutil
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from PIL import Image
from torch import Tensor
from tqdm.auto import tqdm

from dynamix.config import Mannequins
from dynamix.data.luperson import KEY
from dynamix.data.mannequins import tracker
from dynamix.data.mannequins.cameras import Cameras, cameras, moments
from dynamix.data.mannequins.people import People, people
from dynamix.data.mannequins.render import Shots, render
from dynamix.data.market1501 import FOLDERS
from dynamix.data.table import Table

VERSION = 1  # raised when the drawn bytes change, so that cached worlds are not mistaken


@dataclass(frozen=True, kw_only=True)
class World:
    """What tells a world from the others; sizes are in `config.Mannequins`."""

    palette: str  # prior of who is seen
    style: str  # what is behind them
    people_seed: int
    camera_seed: int
    spread: float  # how far its cameras lie apart, see `cameras`
    test_share: float = 1.0  # test people, as a share of the training people; nobody is both
    times: int = 1  # times of day: each camera's light changes, its scene stays
    occluded: float = 0.1  # share of images with something in front of the person


# The spread decides the task: the harder worlds are those to report on. Set so that training on
# plaza alone reaches a rank-1 of 40 to 75 % on campus, hall and station in the mini profile.
WORLDS = {
    "plaza": World(palette="city", style="city", people_seed=11, camera_seed=21, spread=0.8, test_share=0.5),
    "campus": World(palette="campus", style="campus", people_seed=12, camera_seed=22, spread=0.85),
    "hall": World(palette="indoor", style="indoor", people_seed=13, camera_seed=23, spread=0.5),
    "station": World(palette="station", style="station", people_seed=14, camera_seed=24, spread=0.9, times=3),
    "studio": World(
        palette="studio",
        style="studio",
        people_seed=15,
        camera_seed=25,
        spread=0.5,
        test_share=0.5,
        occluded=0.0,
    ),
    "videos": World(
        palette="street", style="street", people_seed=16, camera_seed=26, spread=1.2, occluded=0.15
    ),
}
NAMES = tuple(WORLDS)

SPLITS = ("train", "query", "gallery")
QUERY_CAMERAS = 2  # a test person is searched from this many of the cameras
DISTRACTORS, JUNK = 0.03, 0.05  # boxes added to a gallery, as shares of it
SEEN = 3  # moments of its clip that a track passes through
MOMENT = 150  # frames a moment lasts
DRIFT = (0.7, 1.0)  # radians (40 to 57 degrees) a person turns along a track
TRUTH = "truth.npz"
BLOCK = 1024  # images drawn and encoded at a time


@dataclass(frozen=True)
class Truth:
    """What is known of N drawn images, ascending by name; -1 where a column does not apply."""

    names: np.ndarray  # (N,) base names of files, or LMDB keys
    identity: Int[np.ndarray, " N"]  # who it is, unique in the world, distractors included; -1 = junk
    camera: Int[np.ndarray, " N"]  # from 0; multi-camera worlds only
    clip: Int[np.ndarray, " N"]  # from 0; videos only
    split: Int[np.ndarray, " N"]  # index into SPLITS
    junk: Int[np.ndarray, " N"]  # 0 = a whole person, else the kind, see `tracker`
    azimuth: Float[np.ndarray, " N"]  # radians; 0 = faces the camera

    def of(self, table: Table) -> Int[np.ndarray, " rows"]:
        """The true identity of every row of a world's table; -1 = junk. Foreign rows raise ValueError."""
        wanted = np.array([path.rsplit("::", 1)[-1].rsplit("/", 1)[-1] for path in table.paths])
        found = np.searchsorted(self.names, wanted).clip(max=len(self.names) - 1)
        wrong = np.flatnonzero(self.names[found] != wanted)
        if len(wrong):
            raise ValueError(
                f"{table.paths[int(wrong[0])]} is not in this world's {TRUTH}: give its own world"
            )
        return self.identity[found]


def truth(root: str | Path) -> Truth:
    """Read the truth beside a world; raises FileNotFoundError where there is none."""
    path = Path(root) / TRUTH
    if not path.is_file():
        raise FileNotFoundError(
            f"no {TRUTH} in {root}: only Mannequins worlds have one, see `dynamix worlds`"
        )
    with np.load(path, allow_pickle=False) as columns:
        return Truth(**{field.name: columns[field.name] for field in dataclasses.fields(Truth)})


# ---- building


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
    killed: a world appears in one rename, complete. Raises ValueError on an unknown world.
    """
    if cache is None:
        cache = Path(os.environ.get("DYNAMIX_CACHE") or Path.home() / ".cache" / "dynamix")
    _check(worlds)
    return {name: _cached(name, config, Path(cache), progress, device) for name in worlds}


def write(
    config: Mannequins,
    out: Path,
    *,
    worlds: Sequence[str] = NAMES,
    progress: bool = True,
    device: str = "cpu",
) -> dict[str, Path]:
    """Draw worlds into plain folders `out/plaza`, ...; raises ValueError when one exists and is not empty."""
    _check(worlds)
    folders = {name: Path(out) / name for name in worlds}
    for folder in folders.values():
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise ValueError(f"{folder} exists and is not empty: remove it or choose another folder")
    for name, folder in folders.items():
        _publish(name, config, folder, progress, device)
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
    home.mkdir(parents=True, exist_ok=True)
    with _lock(home / ".lock") as alone:
        if (final / TRUTH).is_file():  # another process was faster
            return final
        if alone:  # whatever lies here was left by a killed process
            for left in home.glob(f".{name}.*"):
                shutil.rmtree(left, ignore_errors=True)
            shutil.rmtree(final, ignore_errors=True)
        _publish(name, config, final, progress, device)
    return final


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[bool]:
    """Wait for the exclusive lock; False where the system has none (then the first rename wins)."""
    with open(path, "a") as file:
        try:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        except (ImportError, OSError):
            yield False
        else:
            yield True  # closing the file, or the end of the process, unlocks


def _publish(name: str, config: Mannequins, final: Path, progress: bool, device: str) -> None:
    """Draw a world beside `final`, then rename: `final` is complete or not there."""
    final.parent.mkdir(parents=True, exist_ok=True)
    folder = final.parent / f".{name}.{os.getpid()}.{uuid.uuid4().hex[:8]}"
    folder.mkdir()
    try:
        plan = _clips(config) if name == "videos" else _multi_camera(name, config)
        with tqdm(total=len(plan.truth.names), desc=name, unit="img", disable=not progress) as bar:
            save = _save_lmdb if name == "videos" else _save_market
            save(plan, folder, _drawn(plan, device, bar))
        np.savez(folder / TRUTH, **_ascending(plan.truth))
        try:
            os.rename(folder, final)
        except OSError:
            if not (final / TRUTH).is_file():  # not merely slower than another process
                raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _ascending(known: Truth) -> dict[str, Any]:
    order = np.argsort(known.names)
    return {field.name: getattr(known, field.name)[order] for field in dataclasses.fields(Truth)}


# ---- what to draw


@dataclass(frozen=True)
class _Plan:
    """Everything about a world but its pixels; one row an image, in the order of drawing."""

    size: tuple[int, int]
    people: People
    cameras: Cameras
    shots: Shots
    second: Int[Tensor, " N"]  # the other person of a box between two people; -1: no such box
    pid: Int[np.ndarray, " N"]  # as named on disk
    truth: Truth


def _multi_camera(name: str, config: Mannequins) -> _Plan:
    world = WORLDS[name]
    count, cams, each = getattr(config, name)
    if count < 1 or cams < 2 or each < 1:
        raise ValueError(
            f"mannequins.{name} is (people, cameras >= 2, images each), got {(count, cams, each)}"
        )
    rng = np.random.default_rng([config.seed, world.people_seed])
    tests = max(2, round(count * world.test_share))
    rows = _boxes(count, tests, cams, each, rng)
    everyone = int(rows["person"].max()) + 1
    time = rng.integers(world.times, size=(everyone, cams))[rows["person"], rows["camera"]]
    seen = _cameras_by_time(cams, world, config.seed)
    azimuth = _headings(seen.azimuth.numpy()[:: world.times], everyone, rng)[rows["person"], rows["camera"]]
    azimuth = azimuth + 0.2 * rng.standard_normal(len(azimuth))
    second = count + (rows["person"] + 1 + rng.integers(tests - 1, size=len(azimuth)) - count) % tests
    shots, pairs = _shots(
        world, config.seed, rng, person=rows["person"], camera=rows["camera"] * world.times + time,
        azimuth=azimuth, phase=2 * np.pi * rng.random(len(azimuth)), junk=rows["junk"], second=second,
    )  # fmt: skip
    frame = 1 + np.arange(len(azimuth))  # also makes names unique
    pid = np.where(rows["person"] < count + tests, rows["person"] + 1, 0)
    pid = np.where(rows["junk"] > 0, -1, pid)
    names = np.array([
        f"{'-1' if p < 0 else f'{p:04d}'}_c{c + 1}s{t + 1}_{f:06d}_00.jpg"
        for p, c, t, f in zip(pid, rows["camera"], time, frame, strict=True)
    ])  # fmt: skip
    known = Truth(
        names, np.where(pid < 0, -1, rows["person"]), rows["camera"], np.full(len(pid), -1), rows["split"],
        rows["junk"], azimuth,
    )  # fmt: skip
    drawn = _people(world, everyone, config)
    return _Plan(config.image, drawn, seen, shots, pairs, pid, known)


def _people(world: World, count: int, config: Mannequins) -> People:
    seed = 1000 * config.seed + world.people_seed
    return people(count, seed=seed, palette=world.palette, clumping=config.clumping)


def _boxes(count: int, tests: int, cams: int, each: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """person, camera, split, junk of every image; people after the test people are distractors."""
    person, camera, k = (axis.ravel() for axis in np.indices((count + tests, cams, each)))
    queries = min(QUERY_CAMERAS, cams - (each == 1))  # something must stay in the gallery
    rank = rng.random((count + tests, cams)).argsort(1).argsort(1)[person, camera]
    query = (k == 0) & (rank < queries)
    split = np.where(person < count, 0, np.where(query, 1, 2))
    gallery = int((split == 2).sum())
    strangers, junk = round(DISTRACTORS * gallery), round(JUNK * gallery)
    columns = {
        "person": [
            person,
            count + tests + np.arange(strangers) // 2,
            rng.integers(count, count + tests, junk),
        ],
        "camera": [camera, rng.integers(cams, size=strangers + junk)],
        "split": [split, np.full(strangers + junk, 2)],
        "junk": [np.zeros(len(person) + strangers, np.int64), 1 + np.arange(junk) % 4],
    }
    rows = {name: np.concatenate(parts) for name, parts in columns.items()}
    order = np.lexsort((rows["person"], rows["camera"]))  # by camera: few scenes at a time
    return {name: column[order] for name, column in rows.items()}


def _cameras_by_time(cams: int, world: World, seed: int) -> Cameras:
    """Cameras of a world, camera-major by time of day."""
    seed = 1000 * seed + world.camera_seed
    base = cameras(cams, seed=seed, spread=world.spread, style=world.style)
    if world.times == 1:
        return base
    changed = moments(base, world.times, seed=seed, strength=0.4)
    return dataclasses.replace(changed, scene=base.scene.repeat_interleave(world.times, 0))


def _headings(
    azimuth: np.ndarray, everyone: int, rng: np.random.Generator
) -> Float[np.ndarray, "people cams"]:
    """Where each person heads in each camera: mostly along its way, one in four back along it."""
    shape = (everyone, len(azimuth))
    return azimuth + 0.4 * rng.standard_normal(shape) + np.pi * (rng.random(shape) < 0.25)


def _clips(config: Mannequins) -> _Plan:
    world, sizes = WORLDS["videos"], config.videos
    if min(*sizes, config.moments) < 1:
        raise ValueError(f"mannequins.videos and moments must be at least 1, got {sizes}, {config.moments}")
    rng = np.random.default_rng([config.seed, world.people_seed])
    clip, slot, k = (axis.ravel() for axis in np.indices(sizes))
    track = clip * sizes[1] + slot  # also the true identity
    seen = min(SEEN, config.moments)  # 1: a camera that stands still; its clips teach the scene instead
    first = rng.integers(config.moments - seen + 1, size=sizes[:2]).ravel()[track]
    frame = first * MOMENT + ((k + rng.random(len(k))) * (seen * MOMENT / sizes[2])).astype(np.int64)
    noise = {name: getattr(config, name) for name in ("fragment", "switch", "junk")}
    tracked = tracker.track(clip, slot, frame, **noise, seed=config.seed)
    azimuth = _turning(k / max(sizes[2] - 1, 1), track, rng)
    other = (slot + 1 + rng.integers(max(sizes[1] - 1, 1), size=len(k))) % sizes[1]
    second = clip * sizes[1] + other if sizes[1] > 1 else np.full(len(k), -1)
    shots, pairs = _shots(
        world, config.seed, rng, person=track, camera=clip * config.moments + frame // MOMENT,
        azimuth=azimuth, phase=2 * np.pi * rng.random(len(k)), junk=tracked.junk, second=second,
    )  # fmt: skip
    columns = (clip + 1, tracked.pid, frame, _box_numbers(clip, frame, tracked.pid))
    names = np.array([
        KEY.format(video=v, pid=p, frame=f, box=b) for v, p, f, b in zip(*columns, strict=True)
    ])  # fmt: skip
    none, order = np.full(len(k), -1), np.argsort(names)  # LMDB appends ascending keys only
    known = Truth(names, tracked.identity, none, clip, np.zeros(len(k), np.int64), tracked.junk, azimuth)
    rows = torch.from_numpy(order)
    seed = 1000 * config.seed + world.camera_seed
    handheld = cameras(sizes[0], seed=seed, spread=world.spread, style=world.style)
    moving = moments(handheld, config.moments, seed=seed)
    drawn = _people(world, sizes[0] * sizes[1], config)
    known = Truth(**_ascending(known))
    return _Plan(config.image, drawn, moving, shots.select(rows), pairs[rows], tracked.pid[order], known)


def _turning(along: np.ndarray, track: np.ndarray, rng: np.random.Generator) -> Float[np.ndarray, " N"]:
    """Azimuth of people who turn by DRIFT, left or right, along their tracks."""
    start, amount, left = rng.random((3, int(track.max()) + 1))
    drift = (DRIFT[0] + (DRIFT[1] - DRIFT[0]) * amount) * np.where(left < 0.5, 1, -1)
    return 2 * np.pi * start[track] + drift[track] * along + 0.1 * rng.standard_normal(len(track))


def _box_numbers(clip: np.ndarray, frame: np.ndarray, pid: np.ndarray) -> Int[np.ndarray, " N"]:
    """Which box of its frame an image is; ordered by the tracker's ids, which tell nothing of the truth."""
    order = np.lexsort((pid, frame, clip))
    new = np.ones(len(order), bool)
    new[1:] = (np.diff(clip[order]) != 0) | (np.diff(frame[order]) != 0)
    starts = np.flatnonzero(new)
    number = np.empty(len(order), np.int64)
    number[order] = np.arange(len(order)) - starts[np.cumsum(new) - 1]
    return number


def _shots(
    world: World,
    seed: int,
    rng: np.random.Generator,
    *,
    person: np.ndarray,
    camera: np.ndarray,
    azimuth: np.ndarray,
    phase: np.ndarray,
    junk: np.ndarray,
    second: np.ndarray,
) -> tuple[Shots, Int[Tensor, " N"]]:
    """The shots, junk boxes moved off their person, and the second person of boxes between two (else -1)."""
    n = len(person)
    offset, zoom = 0.04 * (rng.random((n, 2)) - 0.5), 1 + 0.06 * (rng.random(n) - 0.5)
    part = (junk == tracker.HEAD) | (junk == tracker.LEGS)
    zoom = np.where(part, 2 + 0.5 * rng.random(n), zoom)
    half = 0.45 * zoom  # of a person's height, in boxes: from the middle of the box to its edge and beyond
    offset[:, 1] += np.where(
        junk == tracker.HEAD, half - 0.38, np.where(junk == tracker.LEGS, 0.43 - half, 0)
    )
    between = junk == tracker.BETWEEN
    offset[:, 0] = np.where(between, -0.42, offset[:, 0])  # left half of the box; `_drawn` adds the right one
    occluder = np.where(rng.random(n) < world.occluded, rng.integers(1, 3, size=n), 0)
    shots = Shots(
        torch.from_numpy(np.where(junk == tracker.EMPTY, -1, person)),
        torch.from_numpy(camera),
        torch.from_numpy(azimuth),
        torch.from_numpy(phase),
        torch.from_numpy(offset),
        torch.from_numpy(zoom),
        torch.from_numpy(np.where(junk == tracker.WHOLE, occluder, 0)),
        torch.arange(n) + 10**9 * (1000 * seed + world.people_seed),
    )
    return shots, torch.from_numpy(np.where(between, second, -1))


# ---- drawing, and the layouts


def _drawn(plan: _Plan, device: str, bar: tqdm) -> Iterator[tuple[slice, list[bytes]]]:
    """JPEGs of all images, BLOCK at a time: memory does not grow with the world."""
    for start in range(0, len(plan.shots), BLOCK):
        rows = slice(start, min(start + BLOCK, len(plan.shots)))
        index = torch.arange(rows.start, rows.stop)
        shots, second = plan.shots.select(index), plan.second[index]
        images = render(plan.people, plan.cameras, shots, plan.size, device=device)
        pairs = torch.nonzero(second >= 0)[:, 0]
        right = shots.select(pairs)  # the same scene and camera, another person on the other side
        right = dataclasses.replace(
            right, person=second[pairs], offset=right.offset * torch.tensor([-1.0, 1.0])
        )
        half = plan.size[1] // 2
        other = render(plan.people, plan.cameras, right, plan.size, device=device)
        images[pairs, :, :, half:] = other[..., half:]
        yield rows, [_jpeg(image) for image in images.permute(0, 2, 3, 1).contiguous().numpy()]
        bar.update(len(index))


def _jpeg(image: UInt8[np.ndarray, "H W 3"]) -> bytes:
    buffer = io.BytesIO()
    # Without chroma subsampling: at this size 4:2:0 would smear colours across the whole person.
    Image.fromarray(image).save(buffer, "JPEG", quality=95, subsampling=0)
    return buffer.getvalue()


def _save_market(plan: _Plan, folder: Path, drawn: Iterator[tuple[slice, list[bytes]]]) -> None:
    homes = [folder / FOLDERS[split] for split in SPLITS]
    for home in homes:
        home.mkdir()
    for rows, images in drawn:
        for name, split, image in zip(plan.truth.names[rows], plan.truth.split[rows], images, strict=True):
            (homes[split] / str(name)).write_bytes(image)


def _save_lmdb(plan: _Plan, folder: Path, drawn: Iterator[tuple[slice, list[bytes]]]) -> None:
    import lmdb

    names = plan.truth.names.tolist()
    # The bytes of data.mdb depend on the map's size and on the commits: both follow from the settings alone.
    room = (len(names) + 1000) * (3 * plan.size[0] * plan.size[1] + 8192)
    with lmdb.open(str(folder / "lmdb"), map_size=room, lock=False, sync=False) as store:
        for rows, images in drawn:
            with store.begin(write=True) as commit:
                for name, image in zip(names[rows], images, strict=True):
                    commit.put(name.encode(), image, append=True)
        store.sync(True)
    with open(folder / "keys.pkl", "wb") as file:
        pickle.dump({"keys": names, "pids": plan.pid.tolist()}, file, protocol=4)
