"""The tracker errs at the rates asked; worlds have real layouts, one content per config, whole or absent."""

import hashlib
import io
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dynamix import data
from dynamix.config import Mannequins
from dynamix.data.luperson import restricted_load
from dynamix.data.mannequins import layouts, plan, tracker, worlds
from dynamix.data.mannequins.truth import SPLITS
from tests.conftest import SMALL

MARKET = re.compile(r"^(-?\d+)_c(\d+)s(\d)_(\d+)_(\d+)\.jpg$")
LUPERSON = re.compile(r"^(\d{5})_(\d{6})_(\d{7})_(\d{2})$")
MULTI = tuple(name for name in worlds.NAMES if name != "videos")
CLEAN = {"fragment": 0.0, "switch": 0.0, "junk": 0.0}


def quality(pid: np.ndarray, identity: np.ndarray) -> tuple[float, float, float]:
    """Pairwise precision, recall and F1 by counting pairs."""

    def pairs(*columns: np.ndarray) -> float:
        count = np.unique(np.stack(columns), axis=1, return_counts=True)[1]
        return float((count * (count - 1)).sum())

    both = pairs(pid, identity)
    precision, recall = both / pairs(pid), both / pairs(identity)
    return precision, recall, 2 * precision * recall / (precision + recall)


def dense(*sizes: int) -> tuple[np.ndarray, ...]:
    """clips, people, frames of tracks of equal length."""
    return tuple(axis.ravel() for axis in np.indices(sizes))


def content(root: Path) -> str:
    """Hash of all files below `root`, names included."""
    digest = hashlib.sha256()
    for path in sorted(p for p in root.rglob("*") if p.is_file()):
        digest.update(f"{path.relative_to(root)} {path.stat().st_size} ".encode() + path.read_bytes())
    return digest.hexdigest()


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return worlds.build(SMALL, tmp_path_factory.mktemp("six"), progress=False)


# ---- the tracker


def test_without_noise_the_tracker_is_right():
    tracked = tracker.track(*dense(20, 4, 7), **CLEAN, seed=0)
    np.testing.assert_array_equal(tracked.pid, np.repeat(np.arange(80), 7))
    np.testing.assert_array_equal(tracked.identity, tracked.pid)
    assert (tracked.junk == tracker.WHOLE).all()


def test_fragments_come_at_the_rate_asked():
    tracked = tracker.track(*dense(1000, 4, 10), **CLEAN | {"fragment": 0.5}, seed=1)
    pids = tracked.pid.reshape(4000, 10)
    cuts = (np.diff(pids, axis=1) != 0).sum(1)
    assert set(cuts) == {0, 1} and abs(cuts.mean() - 0.5) < 0.03
    assert tracked.pid.max() + 1 == 4000 + cuts.sum()
    where = 1 + np.nonzero(np.diff(pids, axis=1))[1]
    assert set(where) == set(range(2, 9))  # at a random image, but not in the first and the last fifth


def test_a_switch_exchanges_both_tails():
    tracked = tracker.track(*dense(2000, 2, 10), **CLEAN | {"switch": 0.3}, seed=1)
    pids = tracked.pid.reshape(2000, 2, 10)
    assert tracked.pid.max() + 1 == 4000
    changed = (np.diff(pids, axis=2) != 0).any(2)
    np.testing.assert_array_equal(changed[:, 0], changed[:, 1])  # of two people always both
    # either of two may begin; two switches at one of the 7 places undo each other
    assert abs(changed[:, 0].mean() - (1 - 0.7**2 - 0.3**2 / 7)) < 0.035
    assert (np.sort(pids, 1) == np.arange(4000).reshape(2000, 2, 1)).all()  # no id is at two people at once


def test_junk_comes_at_the_rate_asked():
    tracked = tracker.track(*dense(500, 4, 10), **CLEAN | {"junk": 0.12}, seed=1)
    kinds = np.bincount(tracked.junk, minlength=5) / len(tracked.junk)
    np.testing.assert_allclose(kinds, [0.88, *(0.12 * np.array(tracker.JUNK_SHARES))], atol=0.01)
    np.testing.assert_array_equal(tracked.identity < 0, tracked.junk != tracker.WHOLE)
    np.testing.assert_array_equal(tracked.pid, np.repeat(np.arange(2000), 10))  # junk keeps the tracker's id


def test_default_noise_has_the_documented_quality():
    found, noise = [], {name: getattr(Mannequins(), name) for name in CLEAN}
    for seed in range(8):
        tracked = tracker.track(*dense(150, 4, 10), **noise, seed=seed)
        good = tracked.identity >= 0
        pids = tracked.pid.max() + 1
        found.append((*quality(tracked.pid[good], tracked.identity[good]), pids / 1000, 1 - good.mean()))
    np.testing.assert_allclose(np.mean(found, 0), [0.79, 0.60, 0.68, 0.90, 0.12], atol=0.015)


ROWS = st.lists(st.tuples(st.integers(0, 3), st.integers(5, 8), st.integers(0, 30)), min_size=1, max_size=60)
SHARE = st.sampled_from([0.0, 0.3, 1.0])


@settings(deadline=None, max_examples=40)
@given(ROWS.map(lambda rows: sorted(set(rows))), SHARE, SHARE, SHARE, st.integers(0, 5), st.randoms())
def test_ids_stay_in_their_clip(rows, fragment, switch, junk, seed, random):
    clips, people, frames = np.array(rows).T.copy()
    noise = {"fragment": fragment, "switch": switch, "junk": junk}
    tracked = tracker.track(clips, people, frames, **noise, seed=seed)
    assert len({(p, c) for p, c in zip(tracked.pid, clips, strict=True)}) == len(set(tracked.pid))
    np.testing.assert_array_equal(np.unique(tracked.pid), np.arange(tracked.pid.max() + 1))
    order = np.array(random.sample(range(len(rows)), len(rows)))
    shuffled = tracker.track(clips[order], people[order], frames[order], **noise, seed=seed)
    np.testing.assert_array_equal(shuffled.pid, tracked.pid[order])  # whatever the order of the rows


def test_nobody_to_swap_with_and_nothing_to_cut():
    alone = tracker.track(*dense(30, 1, 6), **CLEAN | {"switch": 1.0}, seed=0)
    np.testing.assert_array_equal(alone.pid, alone.identity)
    short = tracker.track(*dense(30, 3, 1), fragment=1.0, switch=0.0, junk=0.0, seed=0)
    np.testing.assert_array_equal(short.pid, short.identity)


@pytest.mark.parametrize("name", sorted(CLEAN))
@pytest.mark.parametrize("share", [-0.1, 1.5])
def test_a_share_outside_0_1_raises(name, share):
    with pytest.raises(ValueError, match=f"{name} is a share"):
        tracker.track(*dense(2, 2, 2), **CLEAN | {name: share}, seed=0)


# ---- multi-camera worlds


@pytest.mark.parametrize("name", MULTI)
def test_market_layout(roots, name):
    people, cams, each = getattr(SMALL, name)
    tests = max(2, round(people * worlds.WORLDS[name].test_share))
    splits = {s: data.load(name, roots[name], s) for s in SPLITS}
    train, query, gallery = splits.values()
    assert len(train) == people * cams * each
    np.testing.assert_array_equal(np.unique(train.pids), 1 + np.arange(people))
    searched = min(plan.QUERY_CAMERAS, cams - (each == 1))
    assert len(query) == tests * searched
    assert set(query.pids) == set(people + 1 + np.arange(tests))  # no test person is trained on
    known = gallery.pids > 0
    assert known.sum() == tests * cams * each - len(query)
    assert (gallery.pids == 0).sum() == round(plan.DISTRACTORS * known.sum())
    names = [p.name for p in (roots[name] / "bounding_box_test").iterdir()]
    assert sum(n.startswith("-1_") for n in names) == round(plan.JUNK * known.sum())
    for pid, camid in zip(query.pids, query.camids, strict=True):
        assert ((gallery.pids == pid) & (gallery.camids != camid)).any()


@pytest.mark.parametrize("name", MULTI)
def test_truth_of_a_market_world(roots, name):
    known = worlds.truth(roots[name])
    files = {p.name: p.parent.name for p in roots[name].rglob("*.jpg")}
    assert known.names.tolist() == sorted(files)
    folders = np.array(["bounding_box_train", "query", "bounding_box_test"])[known.split]
    assert [files[n] for n in known.names.tolist()] == folders.tolist()
    parsed = [MARKET.match(n) for n in known.names.tolist()]
    pid = np.array([int(m[1]) for m in parsed if m])
    assert len(pid) == len(parsed)
    np.testing.assert_array_equal([int(m[2]) - 1 for m in parsed if m], known.camera)
    np.testing.assert_array_equal(pid[pid > 0] - 1, known.identity[pid > 0])
    assert (known.identity[pid == 0] > pid.max() - 1).all()  # distractors are nobody who is searched
    np.testing.assert_array_equal(pid == -1, known.junk > 0)
    np.testing.assert_array_equal(pid == -1, known.identity == -1)
    assert (known.clip == -1).all()
    for split in SPLITS:
        table = data.load(name, roots[name], split)
        labeled = table.pids > 0
        np.testing.assert_array_equal(known.of(table)[labeled], table.pids[labeled] - 1)


def test_images_have_the_size_and_are_not_subsampled(roots):
    path = next((roots["plaza"] / "query").iterdir())
    with Image.open(path) as image:
        assert image.size == SMALL.image[::-1] and image.mode == "RGB"
        assert {(h, v) for _, h, v, _ in image.layer} == {(1, 1)}


def test_times_of_day_change_the_light_only():
    world = worlds.WORLDS["station"]
    seen = plan.cameras_by_time(4, world, 0)
    assert len(seen) == 4 * world.times
    scene, gain = seen.scene.view(4, world.times, -1), seen.gain.view(4, world.times, 3)
    assert (scene == scene[:, :1]).all() and not (gain == gain[:, :1])[:, 1:].any()


# ---- videos


def test_luperson_layout(roots):
    import lmdb

    clips, people, frames = SMALL.videos
    home = roots["videos"]
    info = restricted_load(home / "keys.pkl")
    parsed = [LUPERSON.match(k) for k in info["keys"]]
    assert all(parsed) and len(set(info["keys"])) == clips * people * frames
    assert info["pids"] == [int(m[2]) for m in parsed if m]
    assert sorted(set(info["pids"])) == list(range(max(info["pids"]) + 1))
    assert {int(m[1]) for m in parsed if m} == set(range(1, clips + 1))
    with lmdb.open(str(home / "lmdb"), readonly=True, lock=False) as store, store.begin() as view:
        stored = {k.decode(): bytes(v) for k, v in view.cursor()}
    assert list(stored) == info["keys"]
    for value in list(stored.values())[:5]:
        assert Image.open(io.BytesIO(value)).size == SMALL.image[::-1]
    table = data.load("videos", home)
    for pid in np.unique(table.pids):
        assert len(set(table.videos[table.pids == pid])) == 1


def test_truth_of_the_videos(roots):
    clips, people, frames = SMALL.videos
    known, table = worlds.truth(roots["videos"]), data.load("videos", roots["videos"])
    np.testing.assert_array_equal(known.of(table), known.identity)  # keys.pkl ascends, too
    np.testing.assert_array_equal(known.clip, table.videos)
    np.testing.assert_array_equal(known.identity == -1, known.junk > 0)
    good = known.identity >= 0
    np.testing.assert_array_equal(known.identity[good] // people, known.clip[good])
    assert (known.camera == -1).all() and np.bincount(known.identity[good]).max() <= frames
    assert 0.5 < quality(table.pids[good], known.identity[good])[2] < 0.95
    assert 0.03 < 1 - good.mean() < 0.25


def test_foreign_rows_have_no_truth(roots):
    with pytest.raises(ValueError, match="is not in this world's truth.npz"):
        worlds.truth(roots["videos"]).of(data.load("plaza", roots["plaza"], "train"))
    with pytest.raises(FileNotFoundError, match="only Mannequins worlds"):
        worlds.truth(roots["plaza"] / "query")


@pytest.mark.parametrize("moments, seen", [(1, {1}), (2, {2}), (6, {3})])
def test_a_track_passes_through_moments(moments, seen):
    config = replace(SMALL, videos=(20, 2, 12), moments=moments, **CLEAN)
    drawn = plan.clips(config)
    camera, identity = drawn.shots.camera.numpy(), drawn.truth.identity
    assert {len(set(camera[identity == who])) for who in range(40)} == seen
    np.testing.assert_array_equal(camera // moments, drawn.truth.clip)
    assert len(drawn.cameras) == 20 * moments
    turned = [np.ptp(drawn.truth.azimuth[identity == who]) for who in range(40)]
    assert 0.7 < np.mean(turned) < 1.2


def test_junk_is_drawn_as_its_kind():
    drawn = plan.clips(replace(SMALL, videos=(30, 3, 8)))
    junk, shots = drawn.truth.junk, drawn.shots
    np.testing.assert_array_equal(shots.person.numpy() == -1, junk == tracker.EMPTY)
    np.testing.assert_array_equal(drawn.second.numpy() >= 0, junk == tracker.BETWEEN)
    two = drawn.second >= 0
    assert (drawn.second[two] != shots.person[two]).all()
    assert (drawn.second[two] // 3 == shots.person[two] // 3).all()  # of one clip
    part = (junk == tracker.HEAD) | (junk == tracker.LEGS)
    np.testing.assert_array_equal(shots.zoom.numpy() > 1.6, part)


# ---- one content per config, whole or absent


def test_same_config_same_bytes(roots, tmp_path):
    again = worlds.write(SMALL, tmp_path, progress=False)
    for name in worlds.NAMES:
        assert again[name] == tmp_path / name
        assert content(again[name]) == content(roots[name]), name
    other = worlds.write(replace(SMALL, seed=1), tmp_path / "other", worlds=("campus",), progress=False)
    assert content(other["campus"]) != content(roots["campus"])


def test_the_block_does_not_change_images(roots, tmp_path, monkeypatch):
    monkeypatch.setattr(layouts, "BLOCK", 7)
    plaza = worlds.write(SMALL, tmp_path, worlds=("plaza",), progress=False)["plaza"]
    assert content(plaza) == content(roots["plaza"])


def test_the_key_holds_what_a_world_depends_on():
    def changed(**changes):
        other = replace(SMALL, **changes)
        return {name for name in worlds.NAMES if worlds.key(name, SMALL) != worlds.key(name, other)}

    assert changed(junk=0.5) == changed(moments=1) == changed(videos=(6, 3, 9)) == {"videos"}
    assert changed(hall=(9, 2, 2)) == {"hall"}
    everything = set(worlds.NAMES)
    assert changed(seed=1) == changed(image=(32, 16)) == changed(clumping=0.0) == everything
    assert len({worlds.key(name, SMALL) for name in worlds.NAMES}) == len(everything)


def test_a_cached_world_is_not_drawn_again(roots, monkeypatch):
    monkeypatch.setattr(worlds, "_publish", None)  # calling it would raise
    cache = roots["plaza"].parent.parent
    assert worlds.build(SMALL, cache, progress=False) == roots
    monkeypatch.setenv("DYNAMIX_CACHE", str(cache))
    assert worlds.build(SMALL, worlds=("hall",)) == {"hall": roots["hall"]}


def test_half_built_folders_are_never_used(roots, tmp_path):
    home = tmp_path / worlds.key("plaza", SMALL)
    for folder in (home / ".plaza.123.dead", home / "plaza"):  # killed while drawing; damaged
        shutil.copytree(roots["plaza"] / "query", folder / "query")
    plaza = worlds.build(SMALL, tmp_path, worlds=("plaza",), progress=False)["plaza"]
    assert content(plaza) == content(roots["plaza"])
    assert sorted(p.name for p in home.iterdir()) == [".lock", "plaza"]


def test_a_failed_build_leaves_nothing(tmp_path, monkeypatch):
    def fail(image):
        raise OSError("disk full")

    monkeypatch.setattr(layouts, "_jpeg", fail)
    with pytest.raises(OSError, match="disk full"):
        worlds.build(SMALL, tmp_path, worlds=("plaza",), progress=False)
    assert [p.name for p in tmp_path.rglob("*") if p.name != ".lock"] == [worlds.key("plaza", SMALL)]


def test_threads_draw_a_world_once(roots, tmp_path, monkeypatch):
    pytest.importorskip("fcntl")
    drawn, publish = [], worlds._publish
    monkeypatch.setattr(worlds, "_publish", lambda *a: (drawn.append(a[0]), publish(*a)))
    build = {"cache": tmp_path, "worlds": ("hall",), "progress": False}
    threads = [threading.Thread(target=worlds.build, args=(SMALL,), kwargs=build) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert drawn == ["hall"]
    assert content(worlds.build(SMALL, **build)["hall"]) == content(roots["hall"])


def test_without_locks_the_first_rename_wins(roots, tmp_path, monkeypatch):
    rename = worlds.os.rename

    def late(source, target):
        shutil.copytree(roots["hall"], target)  # another process was faster
        rename(source, target)

    monkeypatch.setattr(worlds.os, "rename", late)
    hall = worlds.build(SMALL, tmp_path, worlds=("hall",), progress=False)["hall"]
    assert content(hall) == content(roots["hall"])
    assert sorted(p.name for p in hall.parent.iterdir()) == [".lock", "hall"]


BUILD = """
import sys, torch
from pathlib import Path
from dynamix.config import Mannequins
from dynamix.data.mannequins import worlds
torch.set_num_threads(1)
print("ready", flush=True)
sys.stdin.readline()
worlds.build({config}, Path({cache!r}), worlds=("plaza", "videos"), progress=False)
"""


def test_processes_build_at_once_and_may_be_killed(roots, tmp_path):
    code = BUILD.format(config=SMALL, cache=str(tmp_path))
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    several = [subprocess.Popen([sys.executable, "-c", code], **pipes) for _ in range(3)]
    for process in several:
        assert process.stdout.readline() == "ready\n"
    several[0].stdin.write("\n")
    several[0].stdin.flush()
    while several[0].poll() is None and not list(tmp_path.glob("*/.plaza.*")):
        time.sleep(0.002)
    several[0].send_signal(signal.SIGKILL)
    several[0].communicate()
    for process in several[1:]:
        process.stdin.write("\n")
        process.stdin.flush()
    for process in several[1:]:
        process.communicate(timeout=120)
        assert process.returncode == 0
    for name in ("plaza", "videos"):
        home = tmp_path / worlds.key(name, SMALL)
        assert sorted(p.name for p in home.iterdir()) == [".lock", name]
        assert content(home / name) == content(roots[name])


def test_write_refuses_to_overwrite(tmp_path):
    (tmp_path / "hall").mkdir()
    worlds.write(SMALL, tmp_path, worlds=("hall",), progress=False)  # empty: fine
    before = content(tmp_path)
    with pytest.raises(ValueError, match="hall exists and is not empty"):
        worlds.write(SMALL, tmp_path, worlds=("studio", "hall"), progress=False)
    assert content(tmp_path) == before and not (tmp_path / "studio").exists()


def test_bad_requests_raise(tmp_path):
    with pytest.raises(ValueError, match="unknown world 'mars'; there are plaza, campus"):
        worlds.build(SMALL, tmp_path, worlds=("mars",))
    with pytest.raises(ValueError, match="mannequins.hall is"):
        worlds.build(replace(SMALL, hall=(8, 1, 2)), tmp_path, worlds=("hall",), progress=False)
    with pytest.raises(ValueError, match="at least 1"):
        worlds.build(replace(SMALL, moments=0), tmp_path, worlds=("videos",), progress=False)
