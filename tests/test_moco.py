"""Pre-training without labels: its loss, crops, queue and files, and the starts made of it."""

import contextlib
import dataclasses
import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import load_file

from dynamix import checkpoint, data, encoders, storage
from dynamix.config import Encoder, Moco, change, mini, paper, tiny, to_json
from dynamix.data.mannequins import worlds
from dynamix.data.table import Paths
from dynamix.experiments import starts
from dynamix.methods import moco
from tests import naive
from tests.conftest import SMALL

torch.set_num_threads(1)
SHORT = Moco(epochs=3, batch=8, queue=20, dim=6, ema=0.5, optimizer="adamw", lr=1e-3, weight_decay=0.05)
CONFIG = change(
    tiny, moco=SHORT, mannequins=SMALL, workers=0, encoder__width=4, encoder__dim=8, encoder__image=(64, 32)
)


@pytest.fixture(scope="module")
def table(world_roots):
    """28 images: three batches of 8 an epoch, and 4 left over."""
    return data.load("videos", world_roots["videos"]).select(np.arange(28))


@pytest.fixture(scope="module")
def unbroken(table, tmp_path_factory):
    """(folder, records) of a whole pre-training."""
    folder = tmp_path_factory.mktemp("moco") / "unbroken"
    return folder, finish(CONFIG, table, folder)


def finish(config, table, folder):
    return list(moco.pretrain(config, table, folder))


def tensors(folder, name=moco.STATE):
    return {key: value.clone() for key, value in load_file(folder / name).items()}  # not the file's memory


def assert_same_files(a, b):
    for name in (moco.STATE, moco.WEIGHTS):
        left, right = tensors(a, name), tensors(b, name)
        assert left.keys() == right.keys()
        assert [key for key in left if not torch.equal(left[key], right[key])] == []


# ---- the loss


def vectors(seed, *counts, dim=5):
    generator = torch.Generator().manual_seed(seed)
    made = (torch.randn(count, dim, generator=generator, dtype=torch.float64) for count in counts)
    return [F.normalize(x, dim=1) for x in made]


@pytest.mark.parametrize("sizes", [(1, 1), (1, 7), (4, 1), (6, 30), (3, 0)])
@pytest.mark.parametrize("tau", [0.07, 0.2, 1.0])
def test_contrast_is_the_formula(sizes, tau):
    count, queued = sizes
    given = vectors(queued, count, count, queued)
    found = moco.contrast(*given, tau)
    expected = naive.contrast(*(x.tolist() for x in given), tau)
    assert found.dtype == torch.float64 and found.item() == pytest.approx(expected, abs=1e-12)


def test_gradient_of_contrast():
    queries, keys, queue = vectors(0, 3, 3, 6)
    for x in (queries, keys, queue):
        x.requires_grad_()
    assert torch.autograd.gradcheck(lambda q: moco.contrast(q, keys, queue, 0.2), queries)
    moco.contrast(queries, keys, queue, 0.2).backward()
    assert queries.grad.abs().min() > 0 and keys.grad is None and queue.grad is None


# ---- the queue


@pytest.mark.parametrize("size", [1, 3, 8, 20])
def test_queue_holds_the_newest_keys(table, tmp_path, size):
    """Like a list from whose front the oldest leave, whether or not batches divide it or fit in it."""
    run = moco._Run.open(change(CONFIG, moco__queue=size), table, tmp_path, torch.device("cpu"))
    held = (-torch.arange(1.0, size + 1)).tolist()
    run.queue = torch.tensor(held)[:, None].repeat(1, 6)
    sent = 0
    for batch in (1, 3, 8, 8, 3, 8, 5, 1):
        keys = torch.arange(float(sent), sent + batch)
        sent += batch
        run._push(keys[:, None].repeat(1, 6))
        held = (held + keys.tolist())[-size:]
        assert all(torch.equal(column, run.queue[:, 0]) for column in run.queue.T)
        in_order = torch.cat((run.queue[run.at :], run.queue[: run.at]))[:, 0]
        assert in_order.tolist() == held  # `at` is where the oldest stands


# ---- the order of images


@pytest.mark.parametrize("count", [8, 23, 24, 31])
def test_every_image_once_an_epoch(count):
    batches = moco.order(CONFIG, count, 0)
    rows = [row for batch in batches for row in batch]
    assert len(batches) == count // 8 and {len(batch) for batch in batches} == {8}
    assert len(set(rows)) == len(rows) and set(rows) <= set(range(count))


def test_order_depends_on_seed_and_epoch():
    orders = [moco.order(change(CONFIG, seed=seed), 31, epoch) for seed in range(3) for epoch in range(3)]
    assert len({str(order) for order in orders}) == 9
    assert moco.order(CONFIG, 31, 0) == orders[0]
    left_out = {
        row for epoch in range(40) for row in set(range(31)) - set(sum(moco.order(CONFIG, 31, epoch), []))
    }
    assert left_out == set(range(31))  # not always the same images


# ---- crops and jitter


def pictures(count, seed=0, size=(64, 32)):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, *size), generator=generator, dtype=torch.uint8)


def test_strong_views():
    images, settings = pictures(6), Moco()
    found = moco.strong(images, settings, 3)
    assert found.dtype == torch.uint8 and found.shape == images.shape
    assert torch.equal(found, moco.strong(images, settings, 3))
    assert not torch.equal(found, moco.strong(images, settings, 4))
    assert torch.equal(images, pictures(6))
    state = torch.get_rng_state()
    moco.strong(images, settings, 5)
    assert torch.equal(state, torch.get_rng_state())


def test_each_image_has_its_own_crop_and_jitter():
    same = pictures(1).repeat(5, 1, 1, 1)
    for settings in (Moco(jitter=0.0), Moco(least_crop=1.0)):
        found = moco.strong(same, settings, 0)
        assert len({tuple(x.flatten().tolist()) for x in found}) == 5


def test_nothing_to_do_changes_nothing():
    images = pictures(20)
    assert torch.equal(moco.strong(images, Moco(least_crop=1.0, jitter=0.0), 1), images)


def drawn_crops(least, count=4000, seed=0):
    """Left, top, width and height of crops, as shares of the image, read off an image of coordinates."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(low, high, *shape):
        return low + (high - low) * torch.rand(count, *shape, generator=generator)

    height, width = 16, 8
    x = (torch.arange(width, dtype=torch.float64) + 0.5) / width
    y = (torch.arange(height, dtype=torch.float64) + 0.5) / height
    image = torch.stack((x.expand(height, width), y[:, None].expand(height, width)))
    seen = moco._cropped(image.expand(count, 2, height, width), least, uniform)
    assert seen.shape == (count, 2, height, width) and seen.dtype == torch.float64
    row, column = seen[:, 1, :, 4], seen[:, 0, 8, :]  # away from the border, which is repeated
    wide, tall = (column[:, 4] - column[:, 3]) * width, (row[:, 8] - row[:, 7]) * height
    left, top = (column[:, 3] + column[:, 4] - wide) / 2, (row[:, 7] + row[:, 8] - tall) / 2
    return left, top, wide, tall


@pytest.mark.parametrize("least", [0.2, 0.5, 0.75, 0.9, 1.0])
def test_crops_keep_the_stated_area_within_the_image(least):
    left, top, wide, tall = drawn_crops(least)
    area = wide * tall
    assert area.min() >= least - 1e-5 and area.max() <= 1 + 1e-5
    assert area.min() < least + 0.05 and area.max() > 0.95
    for start, length in ((left, wide), (top, tall)):
        assert start.min() > -1e-5 and (start + length).max() < 1 + 1e-5
    ratio = wide / tall
    assert ratio.min() > 3 / 4 - 1e-4 and ratio.max() < 4 / 3 + 1e-4
    if least < 0.75:
        assert ratio.min() < 0.77 and ratio.max() > 1.3
        free = left[wide < 0.9] / (1 - wide[wide < 0.9])
        assert free.min() < 0.01 and free.max() > 0.99 and abs(free.mean() - 0.5) < 0.03


def test_jitter_of_plain_colors():
    """A gray image only gets brighter and a tint; without gains, contrast keeps the mean, brightness not."""
    gray = torch.full((500, 3, 8, 4), 100, dtype=torch.uint8)
    found = moco.strong(gray, Moco(jitter=0.4), 0)
    assert (found == found[:, :, :1, :1]).all()  # still plain
    levels = found[:, :, 0, 0].float() / 100
    assert levels.min() >= 0.6 * 0.8 - 0.01 and levels.max() <= 1.4 * 1.2 + 0.01
    assert levels.min() < 0.55 and levels.max() > 1.55
    ratio = levels[:, 0] / levels[:, 1]
    assert ratio.min() > 0.8 / 1.2 - 0.02 and ratio.max() < 1.2 / 0.8 + 0.03 and ratio.std() > 0.1


# ---- the training


@pytest.mark.parametrize("memory", [1.0, 0.0])
@pytest.mark.filterwarnings("ignore:skipped")
def test_unreadable_images_are_in_no_batch(table, tmp_path, memory):
    """Held in memory they are known at once; read from disk, from the first epoch on, resumed or not."""
    gone = [3, 4, 11]
    names = [f"{table.paths[row]}{'x' if row in gone else ''}" for row in range(len(table))]
    damaged = dataclasses.replace(table, paths=Paths.of(names))
    config = change(CONFIG, on_bad_image="skip", memory_gb=memory)
    finish(config, damaged, tmp_path / "unbroken")
    for _ in moco.pretrain(config, damaged, tmp_path / "resumed"):
        break
    counts = json.loads(metadata(tmp_path / "resumed")["counts"])
    assert set(counts["skipped"]) <= set(gone) and (memory == 0 or counts["skipped"] == gone)
    finish(config, damaged, tmp_path / "resumed")
    assert_same_files(tmp_path / "unbroken", tmp_path / "resumed")
    for epoch in range(5):
        rows = sum(moco.order(config, 28, epoch, set(gone)), [])
        assert len(rows) == len(set(rows)) == 24 and not set(rows) & set(gone)


def metadata(folder):
    with safe_open(folder / moco.STATE, framework="pt") as file:
        return file.metadata()


@pytest.mark.filterwarnings("ignore:skipped")
@pytest.mark.parametrize("memory", [1.0, 0.0])
def test_too_few_readable_images_are_named(table, tmp_path, memory):
    names = [f"{table.paths[row]}{'x' if row > 5 else ''}" for row in range(len(table))]
    damaged = dataclasses.replace(table, paths=Paths.of(names))
    config = change(CONFIG, on_bad_image="skip", memory_gb=memory)
    with pytest.raises(ValueError, match=r"\d+ readable images are fewer than moco.batch \(8\)"):
        finish(config, damaged, tmp_path)


def test_other_data_are_refused_and_other_ways_to_read_are_not(table, tmp_path):
    short = change(CONFIG, moco__epochs=2)
    for _ in moco.pretrain(short, table, tmp_path):
        break
    with pytest.raises(ValueError, match="other settings.*moco.tau"):
        finish(change(short, moco__tau=0.3), table, tmp_path)
    with pytest.raises(ValueError, match="on other data"):
        finish(short, table.select(np.arange(27)), tmp_path)
    assert len(finish(change(short, memory_gb=0.0), table, tmp_path)) == 1


def test_records(unbroken):
    folder, records = unbroken
    assert [(r.epoch, r.steps) for r in records] == [(0, 3), (1, 3), (2, 3)]
    assert all(np.isfinite(r.loss) and r.loss > 0 for r in records)
    assert {path.name for path in folder.iterdir()} == {moco.STATE, moco.WEIGHTS}
    assert tensors(folder)["queue"].shape == (20, 6)
    assert torch.allclose(tensors(folder)["queue"].norm(dim=1), torch.ones(20), atol=1e-5)


def test_deterministic_and_leaves_the_global_random_state_alone(unbroken, table, tmp_path):
    torch.manual_seed(99)
    np.random.seed(7)
    state, numbers = torch.get_rng_state(), np.random.get_state()[1].tolist()
    again = finish(CONFIG, table, tmp_path)
    assert again == unbroken[1] and torch.equal(state, torch.get_rng_state())
    assert np.random.get_state()[1].tolist() == numbers
    assert_same_files(unbroken[0], tmp_path)
    other = finish(change(CONFIG, seed=1, moco__epochs=1), table, tmp_path / "other")
    assert other[0].loss != again[0].loss


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("after", [1, 2])
def test_resumed_equals_unbroken(unbroken, table, tmp_path, optimizer, after):
    folder, records = unbroken
    config = change(CONFIG, moco__optimizer=optimizer)
    if optimizer == "sgd":
        folder = tmp_path / "unbroken"
        records = finish(config, table, folder)
    interrupted = moco.pretrain(config, table, tmp_path / "resumed")
    for _ in range(after):
        next(interrupted)
    interrupted.close()
    assert finish(config, table, tmp_path / "resumed") == records[after:]
    assert_same_files(folder, tmp_path / "resumed")
    assert finish(config, table, tmp_path / "resumed") == []


def test_killed_within_an_epoch(unbroken, table, tmp_path, monkeypatch):
    contrast, calls = moco.contrast, []

    def dies(*arguments):
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return contrast(*arguments)

    monkeypatch.setattr(moco, "contrast", dies)
    with pytest.raises(KeyboardInterrupt):
        finish(CONFIG, table, tmp_path)
    monkeypatch.undo()
    assert len(finish(CONFIG, table, tmp_path)) == 2
    assert_same_files(unbroken[0], tmp_path)


@pytest.mark.parametrize("name", [moco.WEIGHTS, moco.STATE])
def test_killed_between_the_files(unbroken, table, tmp_path, monkeypatch, name):
    """Of the last epoch: neither file may be older than what a finished folder promises."""
    write, count = storage.write, []

    def dies(tensors, path, metadata):
        count.append(1)
        if len(count) > 4 and path.name == name:
            raise KeyboardInterrupt
        write(tensors, path, metadata)

    monkeypatch.setattr(storage, "write", dies)
    with pytest.raises(KeyboardInterrupt):
        finish(CONFIG, table, tmp_path)
    monkeypatch.undo()
    assert [record.epoch for record in finish(CONFIG, table, tmp_path)] == [2]
    assert_same_files(unbroken[0], tmp_path)


def spied(monkeypatch, config, table, folder):
    """(queries, keys, queue) of every step, and the decays of the momentum encoder."""
    contrast, update, seen, decays = moco.contrast, encoders.update_momentum, [], []

    def watched(queries, keys, queue, tau):
        assert queries.requires_grad and not keys.requires_grad and not queue.requires_grad
        seen.append((queries.detach().clone(), keys.clone(), queue.clone()))
        return contrast(queries, keys, queue, tau)

    def moved(followed, trained, decay, buffers):
        assert not any(p.requires_grad or p.grad is not None for p in followed.parameters())
        assert not any(module.training for module in followed.modules()) and trained.training
        decays.append(decay)
        update(followed, trained, decay, buffers)

    monkeypatch.setattr(moco, "contrast", watched)
    monkeypatch.setattr(encoders, "update_momentum", moved)
    records = finish(config, table, folder)
    return seen, decays, records


def test_steps(monkeypatch, table, tmp_path):
    seen, decays, records = spied(monkeypatch, change(CONFIG, moco__epochs=2), table, tmp_path)
    assert decays == [min(0.5, (1 + t) / (10 + t)) for t in range(6)]
    losses = [naive.contrast(*(x.tolist() for x in step), SHORT.tau) for step in seen]
    assert [r.loss for r in records] == pytest.approx([sum(losses[:3]) / 3, sum(losses[3:]) / 3], abs=1e-5)
    for queries, keys, queue in seen:
        for x in (queries, keys, queue):
            assert torch.allclose(x.norm(dim=1), torch.ones(len(x)), atol=1e-5)
        assert not torch.allclose(queries, keys, atol=1e-3)
    before, after = seen[0][2], seen[1][2]
    assert torch.equal(after[:8], seen[0][1]) and torch.equal(after[8:], before[8:])
    assert torch.equal(seen[3][2], torch.cat((seen[2][1][4:], seen[0][1][4:], seen[1][1], seen[2][1][:4])))


def test_views_differ_and_keys_do_not_tell_their_batch(monkeypatch, table, tmp_path):
    strong, seeds, shown = moco.strong, [], []

    def watched(images, settings, seed):
        seeds.append(seed)
        shown.append(images)
        return strong(images, settings, seed)

    monkeypatch.setattr(moco, "strong", watched)
    finish(CONFIG, table, tmp_path)
    assert len(seeds) == 18 and len(set(seeds)) == 18  # two views, three steps, three epochs
    assert all(not torch.equal(one, other) for one, other in zip(shown[::2], shown[1::2], strict=True))
    run = moco._Run.open(CONFIG, table, tmp_path, torch.device("cpu"))
    images = torch.randn(6, 3, 64, 32)
    with torch.no_grad():
        whole, part = run.followed(images), run.followed(images[:2])
    assert torch.allclose(whole[:2], part, atol=1e-5)


def test_momentum_encoder_after_one_step(table, tmp_path):
    config = change(CONFIG, moco__epochs=1, moco__batch=28)
    finish(config, table, tmp_path)
    state, start = tensors(tmp_path), encoders.build(config.encoder).state_dict()
    moved = 0.0
    for name, value in tensors(tmp_path, moco.WEIGHTS).items():
        short = name.removeprefix("momentum.")
        assert torch.equal(value, state[f"followed.encoder.{short}"])
        if value.is_floating_point():
            expected = 0.1 * start[short] + 0.9 * state[f"trained.encoder.{short}"]  # (1 + 0) / (10 + 0)
            assert torch.allclose(value, expected, atol=1e-6), name
            moved = max(moved, float((value - start[short]).abs().max()))
    assert moved > 1e-5


def test_learning_rate(monkeypatch, table, tmp_path):
    """Warm-up, then down along a cosine: never more than moco.lr, and near zero at the end."""
    rates, step = [], torch.optim.AdamW.step

    def watched(self, *arguments):
        rates.append(self.param_groups[0]["lr"])
        return step(self, *arguments)

    monkeypatch.setattr(torch.optim.AdamW, "step", watched)
    finish(change(CONFIG, moco__warmup_epochs=1.0), table, tmp_path)
    assert len(rates) == 9 and 0 < rates[0] < rates[1] < rates[2] < 1e-3
    assert rates[3:] == sorted(rates[3:], reverse=True) and rates[-1] < 0.05e-3
    cosine = [0.5e-3 * (1 + np.cos(np.pi * step / 9)) for step in range(9)]
    assert rates[3:] == pytest.approx(cosine[3:])


def test_it_learns(table, tmp_path):
    """More epochs tell views of an image from other images better than chance."""
    config = change(CONFIG, moco__epochs=12, moco__lr=3e-3, moco__queue=16)
    losses = [record.loss for record in finish(config, table, tmp_path)]
    assert np.mean(losses[-3:]) < np.mean(losses[1:4])


# ---- files


def test_weights_file_loads(unbroken, tmp_path):
    path = unbroken[0] / moco.WEIGHTS
    assert encoders.encoder_config(path, Encoder()) == dataclasses.replace(CONFIG.encoder, seed=0)
    assert encoders.encoder_config(path, Encoder(seed=5, weights="x")).seed == 5
    encoder = encoders.build(dataclasses.replace(CONFIG.encoder, seed=9))
    encoders.load_pretrained(encoder, path)
    saved = {k.removeprefix("momentum."): v for k, v in tensors(unbroken[0], moco.WEIGHTS).items()}
    assert any(name.startswith("neck.") for name in saved)
    state = encoder.state_dict()
    assert state.keys() == saved.keys()
    filled = [name for name in saved if not name.endswith("num_batches_tracked")]
    assert [name for name in filled if not torch.equal(state[name], saved[name])] == []
    loaded, config = checkpoint.load_encoder(path)
    assert config.encoder == CONFIG.encoder and not loaded.training
    images = torch.randn(2, 3, 64, 32)
    with torch.no_grad():
        assert torch.equal(loaded(images), encoder.eval()(images))


@pytest.mark.parametrize(
    "change_", [{"moco__tau": 0.3}, {"moco__epochs": 9}, {"encoder__seed": 4}, {"seed": 1}]
)
def test_other_settings_in_the_folder(unbroken, table, change_):
    with pytest.raises(
        ValueError, match="unbroken holds a pre-training with other settings .*: give another folder"
    ):
        finish(change(CONFIG, **change_), table, unbroken[0])


@pytest.mark.parametrize("damage", [b"", b"not a safetensors file at all", "cut"])
def test_damaged_state_is_named(unbroken, table, tmp_path, damage):
    whole = (unbroken[0] / moco.STATE).read_bytes()
    (tmp_path / moco.STATE).write_bytes(whole[: len(whole) // 2] if damage == "cut" else damage)
    with pytest.raises(ValueError, match=r"state.safetensors is not a pre-training .*: delete it"):
        finish(CONFIG, table, tmp_path)


def test_a_state_of_another_version_is_no_damage(unbroken, table, tmp_path):
    tensors, metadata = storage.read(unbroken[0] / moco.STATE)
    newer = metadata | {"config": metadata["config"].replace('"queue"', '"cue"')}
    storage.write(tensors, tmp_path / moco.STATE, newer)
    with pytest.raises(ValueError, match=r"state.safetensors: its settings cannot be used by this .*cue"):
        finish(CONFIG, table, tmp_path)


def test_a_state_that_may_not_be_read_is_not_called_damaged(unbroken, table, monkeypatch):
    """safetensors calls it missing; the remedy is a right, not another training."""

    def refuse(path, *_, **__):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("pathlib.Path.open", refuse)
    with pytest.raises(PermissionError, match="cannot read .*state.safetensors"):
        finish(CONFIG, table, unbroken[0])


def test_a_state_without_counts_is_named(table, tmp_path):
    storage.write({"queue": torch.zeros(2, 2)}, tmp_path / moco.STATE, {"config": to_json(CONFIG)})
    with pytest.raises(ValueError, match=r"state.safetensors is not a pre-training .*counts"):
        finish(CONFIG, table, tmp_path)


def test_too_few_images(table, tmp_path):
    with pytest.raises(ValueError, match=r"7 readable images are fewer than moco.batch \(8\)"):
        finish(CONFIG, table.select(np.arange(7)), tmp_path / "x")
    assert not (tmp_path / "x").exists()
    assert finish(change(CONFIG, moco__epochs=1), table.select(np.arange(8)), tmp_path / "x")[0].steps == 1


def test_a_loss_that_is_not_finite(table, tmp_path):
    with pytest.raises(FloatingPointError, match="the loss is nan in epoch 0: lower moco.lr"):
        finish(change(CONFIG, moco__optimizer="sgd", moco__lr=1e30), table, tmp_path)
    assert not (tmp_path / moco.STATE).exists()


def test_a_queue_smaller_than_a_batch_trains(table, tmp_path):
    record = finish(change(CONFIG, moco__epochs=1, moco__queue=3), table, tmp_path)[0]
    assert np.isfinite(record.loss)


def test_unreadable_images_are_left_out_on_request(table, tmp_path):
    names = [table.paths[row] for row in range(len(table))]
    names[3] = str(tmp_path / "missing.jpg")
    broken = dataclasses.replace(table, paths=Paths.of(names))
    with pytest.raises(FileNotFoundError, match="missing.jpg"):
        finish(CONFIG, broken, tmp_path / "strict")
    with pytest.warns(UserWarning, match="skipped 1 unreadable images"):
        skipped = finish(change(CONFIG, on_bad_image="skip", moco__epochs=1), broken, tmp_path / "skip")
    assert np.isfinite(skipped[0].loss)


def test_images_from_disk_train_like_images_in_memory(unbroken, table, tmp_path):
    record = finish(change(CONFIG, moco__epochs=1, memory_gb=0.0), table, tmp_path)[0]
    alone = finish(change(CONFIG, moco__epochs=1), table, tmp_path / "memory")[0]
    assert record.loss == pytest.approx(alone.loss, rel=0.02)


# ---- starts


@pytest.fixture
def cache(world_roots, tmp_path, monkeypatch):
    """An empty cache of starts beside the worlds that are drawn already; nothing is shipped."""
    monkeypatch.setenv("DYNAMIX_CACHE", str(world_roots["videos"].parent.parent))
    monkeypatch.setattr(starts, "SHIPPED", tmp_path / "shipped")
    (tmp_path / "shipped").mkdir()
    return tmp_path / "cache"


START = change(CONFIG, moco__epochs=2, moco__batch=64, moco__queue=64)


def made(cache, config=START, **options):
    return starts.make(config, cache, progress=False, **options)


IRRELEVANT = [
    {"seed": 7},
    {"epochs": 50, "iterations": 3, "method": "remix"},
    {"encoder__seed": 3, "encoder__weights": "abc"},
    {"rm__tau_rel": 0.9, "batch__ids_single": 2, "remix__eps": 0.5, "opt__lr": 1.0},
    {"mannequins__plaza": (5, 2, 1), "workers": 3, "memory_gb": 1.0},
]
RELEVANT = [
    {"encoder__width": 6},
    {"encoder__name": "plain_cnn"},
    {"encoder__normalization": "imagenet"},
    {"moco__epochs": 3},
    {"moco__tau": 0.1},
    {"mannequins__videos": (5, 3, 8)},
    {"mannequins__junk": 0.5},
    {"mannequins__seed": 1},
]


def test_key_is_what_pretraining_depends_on():
    for changes in IRRELEVANT:
        assert starts.name(change(START, **changes)) == starts.name(START), changes
    others = [starts.key(change(START, **changes)) for changes in RELEVANT]
    assert len({starts.key(START), *others}) == len(RELEVANT) + 1
    assert starts.key(mini) != starts.key(tiny)
    assert starts.name(START) == f"tiny-ibn_cnn-{starts.key(START)}.safetensors"


def test_make_trains_once(cache, monkeypatch):
    assert starts.existing(START, cache) is None
    path = made(cache)
    assert path == cache / "starts" / starts.name(START) == starts.existing(START, cache)
    left = {file.name for file in path.parent.iterdir() if file.suffix != ".lock"}
    assert left == {path.name}  # nothing of the training
    alone = change(START, seed=0, encoder__weights="", encoder__seed=0)
    videos = data.load("videos", worlds.build(SMALL, worlds=("videos",), progress=False)["videos"])
    finish(alone, videos, cache / "direct")
    expected = tensors(cache / "direct", moco.WEIGHTS)
    found = load_file(path)
    assert found.keys() == expected.keys() and all(torch.equal(found[k], expected[k]) for k in found)
    monkeypatch.setattr(moco, "pretrain", None)  # not asked again
    written = path.stat().st_mtime_ns
    assert made(cache, change(START, seed=3)) == path and path.stat().st_mtime_ns == written
    copy = made(cache, out=cache / "a" / "b")
    assert copy == cache / "a" / "b" / path.name and copy.read_bytes() == path.read_bytes()


def test_fresh_trains_again_to_the_same(cache):
    path = made(cache)
    before = tensors(path.parent, path.name)
    path.write_bytes(b"damaged")
    assert made(cache) == path and path.read_bytes() == b"damaged"  # what is there is believed
    made(cache, fresh=True)
    again = tensors(path.parent, path.name)
    assert before.keys() == again.keys() and all(torch.equal(before[k], again[k]) for k in before)


def test_fresh_does_not_go_on(cache, monkeypatch):
    counts = interrupted_after(monkeypatch, 1)
    with pytest.raises(KeyboardInterrupt):
        made(cache)
    made(cache, fresh=True)
    assert counts == [1, 2]


def test_who_comes_second_waits_and_takes_the_same(cache, monkeypatch):
    pytest.importorskip("fcntl")
    pretrain, lock, asked, second, trainings = moco.pretrain, worlds.lock, threading.Event(), [], []

    def locked(path):
        if trainings:
            asked.set()
        return lock(path)

    def slow(*arguments, **options):
        trainings.append(arguments[2])
        if len(trainings) == 1:
            second.append(pool.submit(made, cache))
            assert asked.wait(60)  # it has found no file, and comes to the lock
        yield from pretrain(*arguments, **options)

    monkeypatch.setattr(worlds, "lock", locked)
    monkeypatch.setattr(moco, "pretrain", slow)
    with ThreadPoolExecutor(1) as pool:
        assert made(cache) == second[0].result(60)
    assert len(trainings) == 1 and starts.existing(START, cache)


def test_without_locks_nobody_trains_in_another_s_folder(cache, monkeypatch):
    pretrain, homes = moco.pretrain, []
    monkeypatch.setattr(worlds, "lock", lambda path: contextlib.nullcontext(False))
    monkeypatch.setattr(moco, "pretrain", lambda *a, **o: (homes.append(a[2]), pretrain(*a, **o))[1])
    path = made(cache)
    assert homes == [path.with_name(f"{path.stem}.{os.getpid()}")] and list(path.parent.iterdir()) == [path]


def test_real_pretraining_has_no_source_here(cache):
    with pytest.raises(ValueError, match='profile "paper" .* name a file of weights .*--weights'):
        made(cache, paper)
    assert not (cache / "starts").exists()


def test_shipped_weights_come_first(cache, monkeypatch):
    shipped = starts.SHIPPED / starts.name(START)
    (cache / "starts").mkdir(parents=True)
    (cache / "starts" / starts.name(START)).write_bytes(b"cached")
    assert starts.existing(START, cache).read_bytes() == b"cached"
    shipped.write_bytes(b"shipped")
    monkeypatch.setattr(moco, "pretrain", None)
    assert starts.existing(START, cache) == shipped == made(cache)
    for out in (cache / "out", cache / "out", starts.SHIPPED):  # a copy may be there already
        assert made(cache, out=out).read_bytes() == b"shipped"
    assert starts.existing(change(START, moco__tau=0.9), cache) is None


def interrupted_after(monkeypatch, epochs):
    """`make` stops after so many epochs; afterwards, how many a call trains."""
    pretrain, counts = moco.pretrain, []

    def stops(*arguments, **options):
        counts.append(0)
        for record in pretrain(*arguments, **options):
            counts[-1] += 1
            yield record
            if len(counts) == 1 and counts[0] == epochs:
                raise KeyboardInterrupt

    monkeypatch.setattr(moco, "pretrain", stops)
    return counts


def test_make_goes_on_where_it_was_stopped(cache, monkeypatch):
    whole = load_file(made(cache / "whole"))
    counts = interrupted_after(monkeypatch, 1)
    with pytest.raises(KeyboardInterrupt):
        made(cache)
    assert starts.existing(START, cache) is None
    found = load_file(made(cache))
    assert counts == [1, 1] and all(torch.equal(found[k], whole[k]) for k in whole)


@pytest.mark.parametrize("changes", IRRELEVANT)
def test_another_run_of_the_same_start_goes_on(cache, monkeypatch, changes):
    """Whatever does not change the weights' name does not stop them from being finished."""
    counts = interrupted_after(monkeypatch, 1)
    with pytest.raises(KeyboardInterrupt):
        made(cache)
    made(cache, change(START, **changes))
    assert counts == [1, 1]


def test_default_cache_is_the_package_s(cache, monkeypatch, tmp_path):
    monkeypatch.setenv("DYNAMIX_CACHE", str(tmp_path / "elsewhere"))
    assert starts.existing(START) is None
    assert not (tmp_path / "elsewhere").exists()  # looking makes nothing
    (tmp_path / "elsewhere" / "starts").mkdir(parents=True)
    (tmp_path / "elsewhere" / "starts" / starts.name(START)).write_bytes(b"mine")
    assert starts.existing(START) == tmp_path / "elsewhere" / "starts" / starts.name(START)


def test_config_of_the_file_is_the_run_s(cache):
    """What the file says of itself can be read back without the run."""
    path = made(cache)
    loaded, config = checkpoint.load_encoder(path)
    assert config.encoder == START.encoder and json.loads(to_json(config))["encoder"]["dim"] == 8
    assert sum(p.numel() for p in loaded.parameters()) > 0
