"""The training loop: what it yields and writes, bit-for-bit resume, and how it refuses bad input."""

import dataclasses
import errno
import json
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from dynamix import checkpoint, storage, trainer
from dynamix.config import change, to_json
from dynamix.data import views
from dynamix.data.table import Paths
from dynamix.methods import dynamix as method
from tests import ranks

TERMS = {"ins", "aug", "cen", "cc", "total"}


def finish(config, table, folder):
    return list(trainer.train(config, table, folder, device="cpu"))


def weights(folder):
    return checkpoint.load(folder).tensors


def assert_same_run(a, b):
    left, right = weights(a), weights(b)
    assert left.keys() == right.keys()
    different = [name for name in left if not torch.equal(left[name], right[name])]
    assert different == []
    assert checkpoint.load(a).queue == checkpoint.load(b).queue


def test_records_and_files(small_config, mixed_table, tmp_path):
    records = finish(small_config, mixed_table, tmp_path)
    steps = [r for r in records if isinstance(r, trainer.Step)]
    epochs = [r for r in records if isinstance(r, trainer.Epoch)]
    assert [(s.epoch, s.step) for s in steps] == [(e, s) for e in range(3) for s in range(4)]
    assert all(set(s.terms) == TERMS for s in steps)
    gamma = small_config.cc.weight
    for s in steps:
        total = s.terms["ins"] + s.terms["aug"] + s.terms["cen"] + gamma * s.terms["cc"]
        assert s.terms["total"] == pytest.approx(total, rel=1e-5)
    assert [e.report is None for e in epochs] == [True, False, False]  # relabeling starts in epoch 1
    assert all(e.logits[0] < e.logits[1] and abs(e.logits[1]) <= 2.01 for e in epochs)  # unit features / 0.5
    lines = [json.loads(line) for line in (tmp_path / trainer.LOG).read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [0, 1, 2]
    assert lines[2]["report"]["images_before"] == int((mixed_table.videos >= 0).sum())
    assert (tmp_path / "config.json").read_text() == to_json(small_config)


def test_a_finished_run_has_nothing_to_do(small_config, mixed_table, tmp_path):
    finish(small_config, mixed_table, tmp_path)
    before = weights(tmp_path)
    assert finish(small_config, mixed_table, tmp_path) == []
    assert all(torch.equal(before[name], value) for name, value in weights(tmp_path).items())


@pytest.mark.parametrize("stop", [3, 6, 11])  # within epoch 0, 1, 2
@pytest.mark.parametrize("paper_order", [False, True])
def test_resumed_equals_unbroken(small_config, mixed_table, tmp_path, stop, paper_order):
    config = small_config
    if paper_order:  # persistent labels, global scope, SGD, own buffers
        config = change(
            config, rm__scope="global", rm__tau_merge=0.999, rm__compare="previous",
            rm__reset_labels_each_epoch=False, ecm__K=3,
            rm__merge_centroid="weighted", ecm__before_merge=False, opt__name="sgd", opt__ema_buffers="own",
        )  # fmt: skip
    finish(config, mixed_table, tmp_path / "unbroken")
    interrupted = trainer.train(config, mixed_table, tmp_path / "resumed", device="cpu")
    for _ in range(stop):
        next(interrupted)
    interrupted.close()
    finish(config, mixed_table, tmp_path / "resumed")
    assert_same_run(tmp_path / "unbroken", tmp_path / "resumed")
    log = [(tmp_path / name / trainer.LOG).read_text().splitlines() for name in ("unbroken", "resumed")]
    assert [json.loads(x)["terms"] for x in log[0]] == [json.loads(x)["terms"] for x in log[1]]


@pytest.mark.parametrize("stop", [6, 15])  # within epoch 1, after the last one
@pytest.mark.parametrize("left", [-1, -40, 0])  # of the log: all but its last letter, all but forty, nothing
def test_a_log_that_was_cut_is_whole_again(small_config, mixed_table, tmp_path, stop, left):
    """The last line of a counted epoch comes from its checkpoint; half a line of another is dropped."""
    finish(small_config, mixed_table, tmp_path / "unbroken")
    interrupted = trainer.train(small_config, mixed_table, tmp_path / "cut", device="cpu")
    for _ in range(stop):
        next(interrupted)
    interrupted.close()
    log = tmp_path / "cut" / trainer.LOG
    whole = log.read_text()
    log.write_text(whole[:left])
    finish(small_config, mixed_table, tmp_path / "cut")
    log.write_text(log.read_text() + '{"epoch": 3, "ter')
    finish(small_config, mixed_table, tmp_path / "cut")
    lines = [
        [json.loads(line) for line in path.read_text().splitlines()]
        for path in (tmp_path / "unbroken" / trainer.LOG, log)
    ]
    lost = 0 if left else whole.count("\n") - 1  # of a log that is gone, the last line alone comes back
    assert [line["terms"] for line in lines[1]] == [line["terms"] for line in lines[0][lost:]]
    assert log.read_text().endswith("}\n")


def test_a_full_disk_stops_the_run_in_one_line_and_costs_no_finished_epoch(
    small_config, mixed_table, tmp_path
):
    finish(small_config, mixed_table, tmp_path / "unbroken")
    folder = tmp_path / "run"
    records = trainer.train(small_config, mixed_table, folder, device="cpu")
    while not isinstance(next(records), trainer.Epoch):
        pass
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (weights_file(folder).stat().st_size // 2, limits[1]))
    try:
        with pytest.raises(
            OSError, match=f"cannot write {folder}/checkpoint.safetensors .*choose another place"
        ):
            list(records)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert checkpoint.load(folder).epoch == 0
    finish(small_config, mixed_table, folder)
    assert_same_run(tmp_path / "unbroken", folder)
    assert len((folder / trainer.LOG).read_text().splitlines()) == 3


def weights_file(folder):
    return folder / checkpoint.NAME


def test_resume_after_a_kill_in_another_process(small_config, mixed_table, world_roots, tmp_path):
    finish(small_config, mixed_table, tmp_path / "unbroken")
    (tmp_path / "config.json").write_text(to_json(small_config))
    code = (
        "import os, sys, pathlib, torch; torch.set_num_threads(1)\n"
        "from dynamix import data, trainer; from dynamix.config import from_json\n"
        "config = from_json(pathlib.Path(sys.argv[1]).read_text())\n"
        "table = data.concat([data.load('plaza', sys.argv[2], 'train'), data.load('videos', sys.argv[3])])\n"
        "for i, _ in enumerate(trainer.train(config, table, sys.argv[4], device='cpu')):\n"
        "    if i == 7: os._exit(9)\n"
    )
    where = [tmp_path / "config.json", world_roots["plaza"], world_roots["videos"], tmp_path / "killed"]
    done = subprocess.run([sys.executable, "-c", code, *map(str, where)], check=False)
    assert done.returncode == 9
    finish(small_config, mixed_table, tmp_path / "killed")
    assert_same_run(tmp_path / "unbroken", tmp_path / "killed")


def test_seed_decides_everything(small_config, mixed_table, tmp_path):
    one_epoch = change(small_config, epochs=1)
    finish(one_epoch, mixed_table, tmp_path / "a")
    torch.manual_seed(99)  # the global generator has no say
    np.random.seed(7)
    finish(one_epoch, mixed_table, tmp_path / "b")
    assert_same_run(tmp_path / "a", tmp_path / "b")
    finish(change(one_epoch, seed=1), mixed_table, tmp_path / "c")
    name = first_weight(tmp_path / "a")
    assert not torch.equal(weights(tmp_path / "a")[name], weights(tmp_path / "c")[name])


def first_weight(folder):
    return next(name for name in weights(folder) if name.startswith("encoder.") and name.endswith("weight"))


@pytest.mark.parametrize("setting", ["A", "B", "C", "economy"])
def test_every_setting_of_the_views_trains(small_config, mixed_table, tmp_path, setting):
    config = change(small_config, epochs=1, iterations=2, aug__views=setting)
    terms = finish(config, mixed_table, tmp_path)[-1].terms
    assert set(terms) == TERMS and all(np.isfinite(value) for value in terms.values())


@pytest.mark.parametrize(
    "switch",
    [
        {"ins__use_single": False, "aug__use_single": False, "cen__use_single": "off"},
        {"cen__use_single": "centroids_only"},
        {"cen__scope": "all", "cen__feature": "raw", "cen__centroid": "unit"},
        {"cc__exclude_own": False, "cc__denominator": "joint", "cc__reduction": "camera_sum"},
        {"ecm__naive": True, "dsm__mode": "off", "rm__on": False},
        {"rm__calibrate": "cross_video"},
        {"rm__reading": "own_filter"},
        {"opt__name": "adam", "opt__ema_buffers": "copy", "opt__schedule": "step"},
        {"ecm__renorm": True, "dsm__mode": "hard", "dsm__target": "row"},
        {"batch__ids_single": 0},
        {"memory_gb": 0.0},
    ],
)  # fmt: skip
def test_every_switch_trains(small_config, mixed_table, tmp_path, switch):
    config = change(small_config, epochs=2, iterations=2, **switch)
    table = mixed_table if config.batch.ids_single else mixed_table.select(mixed_table.videos < 0)
    last = finish(config, table, tmp_path)[-1]
    assert all(np.isfinite(value) for value in last.terms.values())


def test_images_from_disk_train_like_images_in_memory(small_config, mixed_table, tmp_path):
    config = change(small_config, epochs=1, iterations=2)
    memory = finish(config, mixed_table, tmp_path / "memory")[-1].terms
    disk = finish(change(config, memory_gb=0.0, workers=2), mixed_table, tmp_path / "disk")[-1].terms
    assert disk == pytest.approx(memory, rel=0.02)  # views agree to a gray level or two


def test_non_finite_loss_stops_the_run(small_config, mixed_table, tmp_path):
    hot = change(small_config, opt__lr=1e30, opt__schedule="constant", opt__warmup_epochs=0.0)
    with pytest.raises(
        (FloatingPointError, ValueError),
        match=r"(loss term '.*epoch \d, step \d, rows \[|row \d+ is not finite)",
    ):
        finish(hot, mixed_table, tmp_path)


def test_too_few_identities(small_config, mixed_table, tmp_path):
    with pytest.raises(ValueError, match="needs 50 multi-camera identities.*has 12"):
        finish(change(small_config, batch__ids_multi=50), mixed_table, tmp_path)


def test_another_config_in_the_folder(small_config, mixed_table, tmp_path):
    finish(change(small_config, epochs=1), mixed_table, tmp_path)
    with pytest.raises(ValueError, match=r"other settings \(epochs\)"):
        finish(small_config, mixed_table, tmp_path)


def test_another_table_in_the_folder(small_config, mixed_table, tmp_path):
    finish(small_config, mixed_table, tmp_path)
    with pytest.raises(ValueError, match="give the same data"):
        finish(small_config, mixed_table.select(np.arange(len(mixed_table) - 1)), tmp_path)


@pytest.mark.parametrize("damage", [b"", b"not a safetensors file at all"])
def test_damaged_checkpoint_is_named(small_config, mixed_table, tmp_path, damage):
    (tmp_path / checkpoint.NAME).write_bytes(damage)
    with pytest.raises(ValueError, match=r"checkpoint.safetensors is not a dynamix checkpoint"):
        finish(small_config, mixed_table, tmp_path)


def test_a_checkpoint_of_another_version_is_no_damage(small_config, mixed_table, tmp_path):
    finish(change(small_config, epochs=1), mixed_table, tmp_path)
    tensors, metadata = storage.read(tmp_path / checkpoint.NAME)
    for change_of in ({"config": metadata["config"].replace('"epochs"', '"eras"')}, {"config": "[]"}):
        storage.write(tensors, tmp_path / checkpoint.NAME, metadata | change_of)
        for use in (checkpoint.load, checkpoint.load_encoder):
            with pytest.raises(
                ValueError, match=r"checkpoint.safetensors: its settings cannot be used by th"
            ):
                use(tmp_path)
    for missing in ({"epoch": "two"}, {"queue": "[1"}, {"queue": "3"}):
        storage.write(tensors, tmp_path / checkpoint.NAME, metadata | missing)
        with pytest.raises(ValueError, match=r"checkpoint.safetensors is not a dynamix checkpoint"):
            checkpoint.load(tmp_path)


def test_a_checkpoint_that_nobody_may_read_is_no_damage(small_config, mixed_table, tmp_path, unreadable):
    finish(change(small_config, epochs=1), mixed_table, tmp_path)
    file = unreadable(tmp_path / checkpoint.NAME)
    for use in (checkpoint.load, checkpoint.load_encoder):
        with pytest.raises(
            PermissionError, match=r"^cannot read checkpoint.safetensors \(permission denied\)"
        ):
            use(file)


def test_others_may_read_a_checkpoint(small_config, mixed_table, tmp_path):
    """The mode is the umask's, as that of the log beside it."""
    finish(change(small_config, epochs=1), mixed_table, tmp_path)
    assert (tmp_path / checkpoint.NAME).stat().st_mode == (tmp_path / trainer.LOG).stat().st_mode


def test_a_full_disk_leaves_the_run_as_it_was(small_config, mixed_table, tmp_path, monkeypatch):
    config = change(small_config, epochs=2)
    finish(config, mixed_table, tmp_path / "unbroken")
    save, count = storage.save_file, []

    def fills(tensors, path, metadata):
        count.append(1)
        if len(count) > 1:
            path.write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        save(tensors, path, metadata)

    monkeypatch.setattr(storage, "save_file", fills)
    with pytest.raises(OSError, match=r"cannot write .*checkpoint.safetensors \(no space .*: free space"):
        finish(config, mixed_table, tmp_path / "run")
    monkeypatch.undo()
    assert checkpoint.load(tmp_path / "run").epoch == 0
    assert not [path for path in (tmp_path / "run").iterdir() if path.suffix == ".tmp"]
    finish(config, mixed_table, tmp_path / "run")
    assert_same_run(tmp_path / "unbroken", tmp_path / "run")


def test_a_full_disk_names_the_log(small_config, mixed_table, tmp_path):
    """It is written first: what the system says of it names no file."""
    if not Path("/dev/full").is_char_device():
        pytest.skip("no device that is always full")
    run = trainer._Run.open(small_config, mixed_table, tmp_path, torch.device("cpu"), None, False, False)
    record = finish(change(small_config, epochs=1), mixed_table, tmp_path / "other")[-1]
    (tmp_path / trainer.LOG).unlink(missing_ok=True)
    (tmp_path / trainer.LOG).symlink_to("/dev/full")
    with pytest.raises(
        OSError, match=rf"cannot write .*{trainer.LOG} \(no space left on device\): free space"
    ):
        run.finish(small_config, 0, record, ())
    assert not (tmp_path / checkpoint.NAME).exists()


def test_loaded_encoder_is_the_momentum_encoder(small_config, mixed_table, tmp_path):
    last = finish(small_config, mixed_table, tmp_path)[-1]
    encoder, config = checkpoint.load_encoder(tmp_path)
    assert config == small_config and not encoder.training
    assert all(torch.equal(v, encoder.state_dict()[k]) for k, v in last.momentum.state_dict().items())
    with pytest.raises(FileNotFoundError, match="no checkpoint"):
        checkpoint.load_encoder(tmp_path / "nowhere")


def test_the_seed_draws_the_initial_weights_too(small_config, mixed_table, tmp_path):
    frozen = change(small_config, epochs=1, iterations=1, opt__lr=0.0, opt__weight_decay=0.0)
    for seed in (0, 1):
        finish(change(frozen, seed=seed), mixed_table, tmp_path / str(seed))
    name = first_weight(tmp_path / "0")
    assert not torch.equal(weights(tmp_path / "0")[name], weights(tmp_path / "1")[name])


def test_unreadable_images_are_left_out_on_request(small_config, mixed_table, tmp_path):
    """A whole multi-camera identity and a single-camera one without a readable image: the run goes on."""
    rows = np.flatnonzero(np.isin(mixed_table.labels, [mixed_table.labels[0], mixed_table.labels[-1]]))
    names = [mixed_table.paths[row] for row in range(len(mixed_table))]
    for row in rows:
        names[row] = str(tmp_path / f"missing{row}.jpg")
    table = dataclasses.replace(mixed_table, paths=Paths.of(names))
    with pytest.raises(FileNotFoundError, match="missing"):
        finish(small_config, table, tmp_path / "strict")
    with pytest.warns(UserWarning, match=f"skipped {len(rows)} unreadable images"):
        last = finish(change(small_config, on_bad_image="skip"), table, tmp_path / "skip")[-1]
    assert (last.labels[rows] == -1).all() and np.isfinite(last.terms["total"])


def without_files(table, rows, folder):
    """The same table, in which the images of some rows are not there."""
    names = [table.paths[row] for row in range(len(table))]
    for row in rows:
        names[row] = str(folder / f"missing{row}.jpg")
    return dataclasses.replace(table, paths=Paths.of(names))


@pytest.mark.filterwarnings("ignore:skipped")
def test_a_resumed_run_knows_which_images_cannot_be_read(small_config, mixed_table, tmp_path):
    """Read from disk, an epoch meets some of them in its batches alone: the next one must not forget."""
    single = np.flatnonzero(mixed_table.videos >= 0)
    table = without_files(mixed_table, single[::4], tmp_path)
    config = change(
        small_config, on_bad_image="skip", memory_gb=0.0, workers=0, ecm__K=1, ecm__naive=False, epochs=3
    )
    finish(config, table, tmp_path / "unbroken")
    for stop in (1, 2):  # stopped in the middle of an epoch, so that the next sitting begins it anew
        for record in trainer.train(config, table, tmp_path / "resumed"):
            if isinstance(record, trainer.Step) and (record.epoch, record.step) == (stop, 1):
                break
        known = checkpoint.load(tmp_path / "resumed").skipped
        assert known and known <= set(single[::4].tolist())
    finish(config, table, tmp_path / "resumed")
    assert_same_run(tmp_path / "unbroken", tmp_path / "resumed")


def test_a_run_on_other_data_is_refused(small_config, mixed_table, tmp_path):
    config = change(small_config, epochs=2)
    for record in trainer.train(config, mixed_table, tmp_path):
        if isinstance(record, trainer.Epoch):
            break
    turned = mixed_table.select(np.roll(np.arange(len(mixed_table)), 7))
    with pytest.raises(ValueError, match="holds a run on other data.*or another folder"):
        finish(config, turned, tmp_path)
    moved = [str(path) + "x" for path in mixed_table.paths]
    elsewhere = dataclasses.replace(mixed_table, paths=Paths.of(moved))
    with pytest.raises(FileNotFoundError):  # it may lie in another folder, if only it is there
        finish(config, elsewhere, tmp_path)


def test_remix_needs_no_labels_of_videos_and_counts_its_clusters(small_config, mixed_table, tmp_path):
    labels = np.where(mixed_table.videos >= 0, -1, mixed_table.labels)
    table = dataclasses.replace(mixed_table, labels=labels)
    with pytest.raises(ValueError, match="has 0"):
        finish(small_config, table, tmp_path / "dynamix")
    config = change(small_config, method="remix", epochs=1, remix__min_samples=2, remix__eps=1.0)
    last = finish(config, table, tmp_path / "remix")[-1]
    logged = json.loads((tmp_path / "remix" / "log.jsonl").read_text().splitlines()[-1])
    found = dataclasses.asdict(last.clustering)
    assert logged["clustering"] == found and found["labeled"] <= found["images"] and found["pids"] >= 2
    assert (last.labels[table.videos >= 0] >= 0).sum() == found["labeled"]


def test_without_multi_camera_images_it_says_so(small_config, mixed_table, tmp_path):
    table = mixed_table.select(np.flatnonzero(mixed_table.videos >= 0))
    with pytest.raises(ValueError, match="no labeled multi-camera images"):
        finish(change(small_config, batch__ids_multi=0), table, tmp_path)


def test_people_numbered_across_videos_are_refused_by_video_scope(small_config, mixed_table, tmp_path):
    single = np.flatnonzero(mixed_table.videos >= 0)
    labels = mixed_table.labels.copy()
    labels[single[-1]] = labels[single[0]]  # the first and the last clip share a person
    table = dataclasses.replace(mixed_table, labels=labels)
    with pytest.raises(ValueError, match="images in several videos.*rm.scope"):
        finish(small_config, table, tmp_path)


def test_views_and_objective_name_the_same_views():
    assert set(method.VIEWS) | {"two"} == set(views.NAMES)  # two: pre-training's
    for name, used in method.VIEWS.items():
        assert {*used.encoder, *used.momentum} == set(views.NAMES[name])


def test_joining_chunks_keeps_every_row_in_order(monkeypatch):
    monkeypatch.setattr(method, "SEARCHED", 5)
    chunks = [(torch.arange(3 * k, 3 * k + 3), torch.full((3, 2), float(k))) for k in range(4)]
    joined = list(method._larger(iter(chunks)))
    assert [len(rows) for rows, _ in joined] == [6, 6]
    assert torch.cat([rows for rows, _ in joined]).tolist() == list(range(12))
    assert list(method._larger(iter([]))) == []


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_trains_on_a_gpu(small_config, mixed_table, tmp_path):
    for config in (small_config, change(small_config, rm__scope="global", rm__compare="previous")):
        last = list(trainer.train(config, mixed_table, tmp_path / config.rm.scope, device="cuda"))[-1]
        assert np.isfinite(last.terms["total"]) and last.report is not None


class Waiting(TorchDispatchMode):
    """Refuses what would make the host wait for a GPU: reading a value, or a size that depends on values."""

    NAMES = ("item", "_local_scalar_dense", "nonzero", "masked_select", "unique", "equal", "isin")

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__.lstrip("_")
        by_mask = name.startswith("index") and any(
            isinstance(i, torch.Tensor) and i.dtype in (torch.bool, torch.uint8)
            for i in (args[1] if len(args) > 1 and isinstance(args[1], (list, tuple)) else ())
        )
        if by_mask or any(name.startswith(each.lstrip("_")) for each in self.NAMES):
            raise AssertionError(f"{func} waits for the device")
        return func(*args, **(kwargs or {}))


SWITCHES = [
    {},
    {"ins__use_single": False, "aug__use_single": False, "cen__use_single": "centroids_only"},
    {"cen__use_single": "off", "cen__scope": "all", "cc__reduction": "camera_sum", "cc__hard_negatives": 2},
    {"ins__negatives": "same_type", "ins__include_self": False, "opt__name": "sgd", "aug__views": "C"},
]


def guarded(monkeypatch, guard):
    """From the second step on: the first one fetches the epoch's labels."""
    step, calls = trainer._Run.step, []

    def inside(*arguments):
        calls.append(arguments)
        if len(calls) == 1:
            return step(*arguments)
        with guard:
            return step(*arguments)

    monkeypatch.setattr(trainer._Run, "step", inside)
    return calls


@pytest.mark.parametrize("switch", SWITCHES)
def test_the_step_never_waits_for_the_device(small_config, mixed_table, tmp_path, monkeypatch, switch):
    calls = guarded(monkeypatch, Waiting())
    # The optimizer's step counters live on the CPU, here as on a GPU: reading them does not wait.
    config = change(small_config, epochs=1, iterations=3, **({"opt__name": "sgd"} | switch))
    finish(config, mixed_table, tmp_path)
    assert len(calls) == 3


def test_what_would_wait_is_noticed():
    x = torch.arange(4.0)
    works = (lambda: x.sum().item(), lambda: x[x > 1], lambda: x.unique(), lambda: (x > 1).nonzero())
    for work in works:
        with pytest.raises(AssertionError, match="waits"), Waiting():
            work()
    with Waiting():
        x[torch.tensor([1, 2])].masked_fill(x[:2] > 1, 0).logsumexp(0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("switch", [*SWITCHES, {"opt__name": "adamw"}])
def test_the_step_never_waits_for_a_gpu(small_config, mixed_table, tmp_path, monkeypatch, switch):
    class Strict:
        def __enter__(self):
            torch.cuda.set_sync_debug_mode("error")

        def __exit__(self, *_):
            torch.cuda.set_sync_debug_mode("default")

    calls = guarded(monkeypatch, Strict())
    config = change(small_config, epochs=1, iterations=4, **switch)
    assert len(list(trainer.train(config, mixed_table, tmp_path, device="cuda"))) == 5 and len(calls) == 4


def test_terms_are_a_mapping_of_plain_numbers():
    terms = trainer.Terms({"a": torch.tensor(1.5), "b": torch.tensor(2.0)}, torch.tensor([-1.0, 3.0]))
    assert dict(terms) == {"a": 1.5, "b": 2.0} and len(terms) == 2 and list(terms) == ["a", "b"]
    assert terms.logits == (-1.0, 3.0) and str(terms) == "{'a': 1.5, 'b': 2.0}"
    with pytest.raises(KeyError):
        terms["c"]


@pytest.mark.parametrize("ahead, seen", [(0, 5), (2, 7), (9, 8)])
def test_a_loss_checked_late_still_names_its_step_and_stops_before_writing(
    small_config, mixed_table, tmp_path, monkeypatch, ahead, seen
):
    """The third step of the second epoch goes wrong; `ahead` more are launched before it is known."""
    step, count = trainer._Run.step, []

    def wrong(self, *arguments):
        terms = step(self, *arguments)
        count.append(1)
        if len(count) == 6:
            terms = trainer.Terms({"ins": torch.tensor(torch.nan)}, torch.zeros(2))
        return terms

    monkeypatch.setattr(trainer._Run, "step", wrong)
    monkeypatch.setattr(trainer._Run, "ahead", ahead)
    records, config = [], change(small_config, epochs=2)
    with pytest.raises(FloatingPointError, match=r"'ins' is nan at epoch 1, step 1, rows \[\d+, .*lower"):
        for record in trainer.train(config, mixed_table, tmp_path, device="cpu"):
            records.append(record)
    assert len([r for r in records if isinstance(r, trainer.Step)]) == seen
    assert checkpoint.load(tmp_path).epoch == 0
    assert len((tmp_path / trainer.LOG).read_text().splitlines()) == 1


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_half_precision_and_layout_change_little(small_config, mixed_table, tmp_path, name):
    config = change(small_config, epochs=1, opt__name=name, opt__lr=1e-3)
    exact = finish(config, mixed_table, tmp_path / "exact")[-1].terms
    half = finish(change(config, opt__amp="bf16"), mixed_table, tmp_path / "half")[-1].terms
    assert half == pytest.approx(exact, rel=0.1) and half != exact


def test_embedding_shows_its_progress(small_config, mixed_table, tmp_path, monkeypatch):
    seen = []

    class Bar(trainer.tqdm):
        def __init__(self, *arguments, **options):
            seen.append((options["desc"], options["total"], options["disable"]))
            super().__init__(*arguments, **options | {"disable": True})

    monkeypatch.setattr(trainer, "tqdm", Bar)
    list(trainer.train(change(small_config, epochs=1), mixed_table, tmp_path, device="cpu", progress=True))
    assert seen == [("embedding", 1, False)] * 2  # the multi- and the single-camera images


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_compiled_training_is_close(small_config, mixed_table, world_roots, tmp_path):
    """In a process of its own: the tests' type checks are not for compiling."""
    config = ranks.configuration(epochs=1, iterations=2)
    with ranks.encoder_is(ranks.Small):
        exact = finish(config, mixed_table, tmp_path / "exact")[-1].terms
    (tmp_path / "config.json").write_text(to_json(change(config, opt__compile=True)))
    code = (
        "import sys, pathlib, torch; torch.set_num_threads(1)\n"
        "from dynamix import trainer; from dynamix.config import from_json; from tests import ranks\n"
        "config = from_json(pathlib.Path(sys.argv[1]).read_text())\n"
        "with ranks.encoder_is(ranks.Small):\n"
        "    table = ranks.table_of(*sys.argv[2:4])\n"
        "    for _ in trainer.train(config, table, sys.argv[4], device='cpu'): pass\n"
    )
    where = [tmp_path / "config.json", world_roots["plaza"], world_roots["videos"], tmp_path / "compiled"]
    subprocess.run([sys.executable, "-c", code, *map(str, where)], check=True)
    line = json.loads((tmp_path / "compiled" / trainer.LOG).read_text())
    assert line["terms"] == pytest.approx(exact, rel=1e-3)
    assert weights(tmp_path / "compiled").keys() == weights(tmp_path / "exact").keys()
