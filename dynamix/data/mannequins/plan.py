"""What to draw: who stands where in each world, as columns; a world's pixels follow from its plan."""

import dataclasses
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from dynamix.config import Mannequins
from dynamix.data.luperson import KEY
from dynamix.data.mannequins import tracker
from dynamix.data.mannequins.cameras import Cameras, cameras, moments
from dynamix.data.mannequins.people import People, people
from dynamix.data.mannequins.render import Shots
from dynamix.data.mannequins.truth import Truth, ascending


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

QUERY_CAMERAS = 2  # a test person is searched from this many of the cameras
DISTRACTORS, JUNK = 0.03, 0.05  # boxes added to a gallery, as shares of it
SEEN = 3  # moments of its clip that a track passes through
MOMENT = 150  # frames a moment lasts
DRIFT = (0.7, 1.0)  # radians (40 to 57 degrees) a person turns along a track


@dataclass(frozen=True)
class Plan:
    """Everything about a world but its pixels; one row an image, in the order of drawing."""

    size: tuple[int, int]
    people: People
    cameras: Cameras
    shots: Shots
    second: Int[Tensor, " N"]  # the other person of a box between two people; -1: no such box
    pid: Int[np.ndarray, " N"]  # as named on disk
    truth: Truth


def multi_camera(name: str, config: Mannequins) -> Plan:
    """The plan of plaza, campus, hall, station or studio: train, query and gallery."""
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
    seen = cameras_by_time(cams, world, config.seed)
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
    return Plan(config.image, drawn, seen, shots, pairs, pid, known)


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


def cameras_by_time(cams: int, world: World, seed: int) -> Cameras:
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


def clips(config: Mannequins) -> Plan:
    """The plan of videos: single-camera clips under a tracker's ids."""
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
    known = Truth(**ascending(known))
    return Plan(config.image, drawn, moving, shots.select(rows), pairs[rows], tracked.pid[order], known)


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
    offset[:, 0] = np.where(between, -0.42, offset[:, 0])  # left half of the box; `drawn` adds the right one
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
