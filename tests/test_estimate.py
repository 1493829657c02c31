"""Estimates for `reproduce --plan`: each kind of encoder is timed once, the arithmetic is the training's."""

import math
from dataclasses import replace
from pathlib import Path

import pytest

from dynamix import data
from dynamix.config import change, profile
from dynamix.data.mannequins import worlds
from dynamix.experiments import estimate, plan
from dynamix.experiments.plan import Cost
from dynamix.experiments.spec import Spec, table_of

STEP, EMBED = 0.5, 200.0  # seconds a step, images a second


@pytest.fixture
def timed(monkeypatch):
    """Networks take STEP and embed EMBED; the list says which were timed."""
    asked = []

    def networks(config, device, pids):
        asked.append((config.encoder.name, config.batch.size, config.aug.views))
        return STEP, EMBED, 1, config.batch.size, ""

    monkeypatch.setattr(plan, "networks", networks)
    return asked


def test_a_run_is_its_steps_and_its_refreshes(timed, small_config, world_roots):
    spec = Spec(name="a", config=small_config)
    size, drawn = spec.config.mannequins, change(small_config, ecm__K=2)
    multi, clips = math.prod(size.plaza), math.prod(size.videos)
    people = size.videos[0] * size.videos[1]
    alone = change(small_config, batch__ids_single=0)
    remix = change(small_config, method="remix", iterations=1)
    embedded = {
        small_config: multi + clips,
        drawn: multi + 2 * people,
        change(drawn, ecm__naive=True): multi + clips,
        alone: multi,
        remix: multi + small_config.batch.size,
    }
    for config, images in embedded.items():
        at = replace(spec, config=config)
        expected = config.epochs * (config.iterations * STEP + images / EMBED)
        assert estimate.runs([at], progress=False)[at.key] == pytest.approx(expected)


def test_sizes_by_the_settings_are_those_of_the_worlds(timed, small_config, world_roots):
    spec = Spec(name="a", config=small_config, sources=("plaza",))
    table, _ = table_of(spec, world_roots)
    assert estimate._sizes(spec) == (len(table), plan.refreshed(table, small_config))
    people = worlds.build(small_config.mannequins, world_roots["plaza"].parent, worlds=("plaza",))
    everyone = len(data.load("plaza", people["plaza"], "all"))
    assert estimate._images(small_config, replace(spec.trained_on[0][0], split="all")) == everyone


def test_a_kind_of_encoder_is_timed_once(timed, small_config):
    wide = change(small_config, encoder__width=12)
    configs = [
        small_config, change(small_config, seed=1), change(small_config, epochs=7),
        change(small_config, encoder__weights="x"), wide, change(small_config, batch__images_single=4),
        change(small_config, aug__views="A"),
    ]  # fmt: skip
    specs = [Spec(name=str(n), config=config) for n, config in enumerate(configs)]
    found = estimate.runs(specs, progress=False)
    assert len(found) == len(configs) and len(timed) == 4


def test_real_data_is_read_as_the_training_reads_it(monkeypatch, small_config, mixed_table):
    """Images that do not fit in memory wait for their files; a table is read once for all its rows."""
    read = []
    cost = Cost(step=STEP, load=8.0, embed=EMBED, read=10.0, memory=1)
    monkeypatch.setattr(plan, "measure", lambda config, table: cost)
    monkeypatch.setattr(Spec, "roots", lambda spec: {})
    monkeypatch.setattr(estimate, "table_of", lambda spec, roots: read.append(spec) or (mixed_table, None))
    monkeypatch.setattr(plan, "_loaders", lambda config: 2)
    small = change(small_config, memory_gb=0.0)
    specs = [
        Spec(name=str(seed), config=change(config, seed=seed), folder=Path("data"), single=("videos",))
        for seed, config in enumerate((small, small, small_config))
    ]
    found = estimate.runs(specs, progress=False)
    waiting = small.epochs * (small.iterations * 8.0 / 2 + len(mixed_table) / 20.0)
    kept = len(mixed_table) / 20.0 + small.epochs * (small.iterations * STEP + len(mixed_table) / EMBED)
    assert [found[spec.key] for spec in specs] == pytest.approx([waiting, waiting, kept])
    assert len(read) == 1


def test_a_busy_machine_is_said_once(monkeypatch, small_config, capsys):
    monkeypatch.setattr(plan, "networks", lambda *_: (STEP, EMBED, 1, 4, "the machine was busy (why)"))
    configs = [small_config, change(small_config, encoder__width=12)]
    estimate.runs([Spec(name=str(n), config=config) for n, config in enumerate(configs)], progress=False)
    assert capsys.readouterr().err == "dynamix: the machine was busy (why)\n"


def test_pretraining_sees_every_image_each_epoch(timed):
    config = profile("gpu")
    steps = config.moco.epochs * math.prod(config.mannequins.videos) / config.batch.size
    assert estimate.pretraining(config) == pytest.approx(steps * STEP)
    assert timed == [("vit_small", config.batch.size, "economy")]


def test_real_networks_take_some_time(small_config):
    """No time is tested, only that it is one."""
    spec = Spec(name="a", config=change(small_config, iterations=2, epochs=1))
    (seconds,) = estimate.runs([spec], progress=False).values()
    assert 1e-4 < seconds < 600
