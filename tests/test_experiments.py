"""Runs and the demo: fair controls, honest tables, results that are read back and never half-written."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dynamix import data
from dynamix.config import change, identity, mini, tiny, to_json
from dynamix.experiments import datasets, demo, figures, records, run
from dynamix.experiments import spec as specs
from dynamix.experiments.labels import mended
from dynamix.experiments.rows import METHODS, variant

ROOT = Path(__file__).parent.parent
RECORD = ROOT / "figures" / "results" / "demo.json"


def result(scores: float, f1: float | None = None) -> dict:
    quality = None
    if f1 is not None:
        names = ("precision", "recall", "f1", "v_measure", "junk_removed", "good_removed")
        quality = dict.fromkeys(names, f1) | {"pids": 10}
    worlds = {world: {"rank1": scores, "mAP": scores / 2, "mINP": 0.1} for world in specs.TEST_WORLDS}
    return {"scores": worlds, "quality_before": quality, "quality_after": quality, "seconds": 1.0,
            "epochs": [], "provenance": {}}  # fmt: skip


def test_controls_are_fair():
    by_name = {method: variant(mini, method) for method in METHODS}
    assert [c.batch.size for c in by_name.values()] == [32, 64, 64, 64]
    assert all(c.iterations == mini.iterations and c.epochs == mini.epochs for c in by_name.values())
    raw = by_name["+ raw videos"]
    assert not raw.rm.on and raw.ecm.naive and raw.dsm.mode == "off" and raw.batch == mini.batch
    assert by_name["DynaMix"] == mini
    assert len({identity(c) for c in by_name.values()}) == 4


def test_tables_show_mean_and_spread_over_seeds():
    found = {
        (m, s): result(0.5 + 0.1 * s, 0.8 if m == "DynaMix" else None) for m in METHODS for s in (0, 1, 2)
    }
    text = demo.tables(found, {}, "mini")
    assert "| 60.0 ± 10.0 | 30.0 ± 5.0 |" in text
    assert "| after relabeling | 80.0 ± 0.0 |" in text and "seeds [0, 1, 2]" in text


def test_a_failed_run_stays_in_its_row():
    found = {(m, 0): result(0.5) for m in METHODS[:2]} | {("DynaMix", 0): result(0.6, 0.9)}
    failed = {"+ raw videos (seed 0)": "ValueError: no such thing"}
    row = next(line for line in demo.tables(found, failed, "mini").splitlines() if "raw tracker" in line)
    assert "failed" in row and "no such thing" in row
    assert demo.summarize(found, failed, "mini")["failed"] == failed


def test_one_seed_has_no_spread():
    assert demo.spread([12.34]) == "12.3" and demo.spread([1.0, 3.0]) == "2.0 ± 1.4"


def test_label_state_counts_junk_and_good_boxes():
    labels, truth = np.array([5, 5, 6, 6, 7]), np.array([0, 0, 1, -1, -1])
    removed = np.array([False, False, True, True, False])
    state = run.label_state(labels, removed, truth, np.ones(5, dtype=bool))
    assert state["junk_removed"] == 0.5 and state["good_removed"] == pytest.approx(1 / 3)
    assert state["pids"] == 2 and state["precision"] == 1


def test_a_run_is_scored_recorded_and_read_back(small_config, tmp_path, monkeypatch):
    monkeypatch.setenv("DYNAMIX_CACHE", str(tmp_path / "cache"))
    config = change(small_config, epochs=2)
    spec = specs.Spec(name="DynaMix", config=config, score_on=("hall",), score_every=1)
    seen = []
    first = run.run(spec, tmp_path, lambda *message: seen.append(message))
    assert seen[-1] == ("DynaMix", 8, 8)
    assert set(first["scores"]) == {"hall"} and 0 <= first["scores"]["hall"]["mAP"] <= 1
    assert [line["epoch"] for line in first["epochs"]] == [0, 1]
    assert first["epochs"][1]["scores"] == first["scores"]
    assert run.run(spec, tmp_path) == json.loads((tmp_path / spec.key / records.RESULT).read_text()) == first
    (tmp_path / spec.key / records.RESULT).write_text('{"name": "Dyna')
    with pytest.raises(ValueError, match="result.json is not a result file.*delete it"):
        run.run(spec, tmp_path)


@pytest.mark.parametrize("left", [-1, -30, None])  # of quality.jsonl; None: its last line was not begun
@pytest.mark.parametrize("stop", [9, 13])  # steps: within the last epoch, or not at all
def test_a_curve_that_a_kill_cut_is_whole_again(small_config, tmp_path, monkeypatch, left, stop):
    monkeypatch.setenv("DYNAMIX_CACHE", str(tmp_path / "cache"))
    spec = specs.Spec(name="DynaMix", config=small_config, score_on=("hall",), score_every=2)
    whole = run.run(spec, tmp_path / "whole")

    def report(name, done, steps):
        if done == stop:
            raise KeyboardInterrupt

    with contextlib.suppress(KeyboardInterrupt):
        run.run(spec, tmp_path / "cut", report)
    home = tmp_path / "cut" / spec.key
    (home / records.RESULT).unlink(missing_ok=True)
    lines = (home / "quality.jsonl").read_text()
    (home / "quality.jsonl").write_text(lines[: lines[:-1].rfind("\n") + 1] if left is None else lines[:left])
    again = run.run(spec, tmp_path / "cut")
    for one, other in zip(whole["epochs"], again["epochs"], strict=True):
        assert {**one, "seconds": 0} == {**other, "seconds": 0}


def test_true_labels_are_another_run(small_config, world_roots):
    tracker = specs.Spec(name="a", config=small_config)
    truth = specs.Spec(name="a", config=small_config, labels="truth")
    assert tracker.key != truth.key
    table, known = specs.training_table(truth, world_roots)
    single = table.videos >= 0
    assert (table.labels == known).all() and (known[single] < 0).any()
    assert not set(known[single & (known >= 0)]) & set(table.labels[~single])


@pytest.mark.parametrize("how", ["clean", "whole"])
def test_half_mended_labels_are_runs_of_their_own(small_config, world_roots, how):
    tracker, half, truth = (
        specs.Spec(name="a", config=small_config, labels=labels) for labels in ("tracker", how, "truth")
    )
    assert len({tracker.key, half.key, truth.key}) == 3
    said, known = specs.training_table(tracker, world_roots)
    table, same = specs.training_table(half, world_roots)
    single = said.videos >= 0
    assert (same == known).all() and (table.labels[~single] == said.labels[~single]).all()
    junk = known < 0
    assert junk.any() and ((table.labels < 0) == (junk & (how == "clean"))).all()
    assert (table.labels[~junk] == (said.labels if how == "clean" else known)[~junk]).all()
    assert not set(table.labels[single & ~junk]) & set(table.labels[~single])


def _mended(labels, truth, how):
    """By the words of `Labels`, an image at a time; None where two people share a label equally often."""
    made = []
    for label, person in zip(labels, truth, strict=True):
        if label < 0 or (how != "whole" and person < 0):
            made.append(-1)
        elif person >= 0:
            made.append(label if how == "clean" else person)
        else:
            with_it = [b for a, b in zip(labels, truth, strict=True) if a == label and b >= 0]
            counts = sorted(((with_it.count(b), b) for b in set(with_it)), reverse=True)
            tied = len(counts) > 1 and counts[0][0] == counts[1][0]
            made.append(None if tied else counts[0][1] if counts else ("alone", label))
    return made


@example(pairs=[(0, 0), (0, 0), (0, 1), (0, -1)], how="whole")
@example(pairs=[(0, 1), (0, 1), (0, 0), (0, -1)], how="whole")
@given(
    pairs=st.lists(st.tuples(st.integers(-1, 2), st.integers(-1, 2)), max_size=30),
    how=st.sampled_from(["tracker", "clean", "whole", "truth"]),
)
def test_mended_labels_are_what_their_names_say(pairs, how):
    # A row without a label has no known person either: nothing trains on it.
    pairs = [(label, person if label >= 0 else -1) for label, person in pairs]
    labels, truth = (np.array([pair[side] for pair in pairs], dtype=np.int64) for side in (0, 1))
    found = mended(labels, truth, how)
    wanted = list(labels) if how == "tracker" else _mended(labels.tolist(), truth.tolist(), how)
    own = {}
    for one, want, person in zip(found.tolist(), wanted, truth.tolist(), strict=True):
        if isinstance(want, tuple):
            assert one > truth.max() and own.setdefault(want, one) == one
        elif want is not None:
            assert one == want, (how, person)
    assert len(set(own.values())) == len(own)


def test_a_dataset_that_is_no_world_needs_a_folder(small_config):
    with pytest.raises(ValueError, match="--data"):
        datasets.roots_of(("market1501",), None, small_config)


def test_busiest_clip_and_its_tracks(world_roots, clip_truth):
    videos = data.load("videos", world_roots["videos"])
    clip = figures.busiest_clip(videos, clip_truth)
    assert len(np.unique(videos.videos[clip.rows])) == 1

    def mistakes(rows):
        return len({(p, t) for p, t in zip(videos.pids[rows], clip_truth[rows], strict=True) if t >= 0})

    assert mistakes(clip.rows) == max(mistakes(videos.videos == v) for v in np.unique(videos.videos))
    tracks = figures.true_tracks(clip)
    assert len(np.unique(tracks)) == tracks.size
    people = [set(clip.truth[track][clip.truth[track] >= 0]) for track in tracks]
    assert all(len(each) == 1 for each in people) and len(set.union(*people)) == len(tracks)


def test_readme_shows_the_recorded_results():
    text = (ROOT / "README.md").read_text()
    shown = text.split("<!-- results")[1].split("-->", 1)[1].split("<!-- /results")[0].strip()
    record = json.loads(RECORD.read_text())
    assert shown == demo.tables(demo.recorded(RECORD), record["failed"], record["profile"]).strip()


def test_a_result_without_the_asked_worlds_is_not_taken(small_config, tmp_path, monkeypatch):
    monkeypatch.setenv("DYNAMIX_CACHE", str(tmp_path / "cache"))
    config = change(small_config, epochs=1, iterations=2)
    for worlds in (("hall",), ("station", "hall")):
        found = run.run(specs.Spec(name="a", config=config, score_on=worlds), tmp_path)
        assert set(found["scores"]) == set(worlds)


def test_provenance_without_git(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert records.provenance()["commit"] == "unknown"


def test_recorded_claims_hold():
    found = demo.recorded(RECORD)
    seeds = sorted({seed for _, seed in found})
    assert len(seeds) >= 3 and len(found) == len(METHODS) * len(seeds)
    for seed in seeds:
        full = found["DynaMix", seed]
        assert full["quality_after"]["f1"] > full["quality_before"]["f1"]
    mean = {m: np.mean([demo.mean_map(found[m, s]) for s in seeds]) for m in METHODS}
    assert mean["DynaMix"] > max(value for method, value in mean.items() if method != "DynaMix")


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_command_takes_its_trainings_with_it(small_config, tmp_path, how):
    """Else they would train on in the folders that the next command resumes."""
    long = change(small_config, epochs=500)
    (tmp_path / "config.json").write_text(to_json(long))
    code = (
        "import sys, pathlib\n"
        "from dynamix.config import change, from_json\n"
        "from dynamix.experiments.run import run_all\n"
        "from dynamix.experiments.spec import Spec\n"
        "if __name__ == '__main__':\n"
        "    folder = pathlib.Path(sys.argv[1])\n"
        "    config = from_json((folder / 'config.json').read_text())\n"
        "    seeds = [change(config, seed=s) for s in range(3)]\n"
        "    specs = [Spec(name='a', config=each, score_on=('hall',)) for each in seeds]\n"
        "    list(run_all(specs, folder / 'runs', jobs=1, progress=False, in_order=True))\n"
    )
    (tmp_path / "command.py").write_text(code)
    environment = os.environ | {"DYNAMIX_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(tmp_path / "command.py"), str(tmp_path)]
    quiet = subprocess.DEVNULL
    heeding = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)  # noqa: E731
    # A shell starts what runs behind it with SIGINT ignored, and children inherit that: tests may run so.
    process = subprocess.Popen(
        command, env=environment, stderr=quiet, start_new_session=True, preexec_fn=heeding
    )
    log = lambda: sorted((tmp_path / "runs").glob("*/log.jsonl"))  # noqa: E731
    wait_for(lambda: log() and log()[0].stat().st_size > 0)
    if how == signal.SIGKILL:
        process.kill()
    else:  # as a terminal does: to all of them
        os.killpg(process.pid, how)
    process.wait(timeout=60)
    wait_for(lambda: not training(process.pid))
    assert len(log()) == 1  # nothing else was begun


def test_a_killed_training_costs_no_other_run(small_config, tmp_path, monkeypatch):
    """As when memory runs out: the pool ends, the others go on, the one goes on from its checkpoint."""
    monkeypatch.setenv("DYNAMIX_CACHE", str(tmp_path / "cache"))
    long = change(small_config, epochs=40)
    asked = [
        specs.Spec(
            name=f"run {seed}",
            config=change(long if seed == 0 else small_config, seed=seed),
            score_on=("hall",),
        )
        for seed in range(3)
    ]
    runs, ended = tmp_path / "runs", []
    thread = threading.Thread(
        target=lambda: ended.extend(run.run_all(asked, runs, jobs=1, progress=False, in_order=True))
    )
    thread.start()
    first = runs / asked[0].key
    wait_for(lambda: (first / "log.jsonl").exists() and (first / "checkpoint.safetensors").exists())
    os.kill(holder(first / ".lock"), signal.SIGKILL)
    thread.join(timeout=240)
    assert [(spec.name, type(result)) for spec, result in ended] == [
        ("run 1", dict), ("run 2", dict), ("run 0", dict)
    ]  # fmt: skip
    assert [line["epoch"] for line in ended[-1][1]["epochs"]] == list(
        range(40)
    )  # nothing lost, nothing twice


def test_a_training_that_is_killed_again_fails_alone(tmp_path, monkeypatch):
    """Its process ends whenever it begins; the message says what may help."""
    monkeypatch.setattr(run, "_run_in_process", ends_or_returns)
    asked = [
        specs.Spec(name=name, config=change(tiny, seed=n)) for n, name in enumerate(("good", "bad", "fine"))
    ]
    found = dict((spec.name, result) for spec, result in run.run_all(asked, tmp_path, jobs=1, progress=False))
    assert found["good"] == {"name": "good"} and found["fine"] == {"name": "fine"}
    assert isinstance(found["bad"], RuntimeError) and "was killed, alone on the machine" in str(found["bad"])


def ends_or_returns(spec, folder, messages):
    messages.put((spec.name, 0, 1))
    if spec.name == "bad":
        os._exit(9)
    return {"name": spec.name}


def holder(path: Path) -> int:
    """The process that has a file open."""
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):
            if os.readlink(link) == str(path):
                return int(link.parts[2])
    raise AssertionError(f"nobody holds {path}")


def training(session: int) -> list[str]:
    """Processes of a session that still run."""
    found = subprocess.run(["ps", "-s", str(session), "-o", "pid="], capture_output=True, text=True)
    return found.stdout.split()


def wait_for(happened, seconds=90):
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.2)
