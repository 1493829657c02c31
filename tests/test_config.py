"""Profiles hold the paper's and the benchmark's settings; impossible settings are refused by name."""

import dataclasses

import pytest
import torch

from dynamix.config import (
    PROFILES,
    Config,
    change,
    differences,
    from_json,
    identity,
    mini,
    override,
    paper,
    profile,
    to_json,
)
from dynamix.trainer import learning_rate


def test_defaults_are_the_papers():
    assert paper == Config()
    assert (paper.epochs, paper.iterations, paper.batch.size) == (100, 400, 64)
    assert (paper.ins.tau_multi, paper.ins.tau_single, paper.aug.tau) == (0.1, 0.2, 0.1)
    assert (paper.cen.tau_multi, paper.cen.tau_single, paper.cc.weight) == (0.5, 0.6, 0.5)
    assert (paper.rm.tau_rel, paper.rm.tau_remove, paper.rm.tau_merge) == (0.6, 0.5, 0.8)
    assert (paper.ecm.K, paper.ecm.alpha, paper.dsm.queue_epochs, paper.opt.ema) == (4, 0.3, 30, 0.999)
    assert (paper.opt.name, paper.opt.lr, paper.opt.weight_decay) == ("sgd", 1e-3, 1e-4)


@pytest.mark.parametrize("name", PROFILES)
def test_json_round_trip(name):
    assert from_json(to_json(profile(name))) == profile(name)


def test_unknown_setting_and_profile_are_named():
    with pytest.raises(ValueError, match="colour"):
        from_json('{"colour": 1}')
    with pytest.raises(ValueError, match="huge.*tiny, mini, gpu, paper"):
        profile("huge")


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"rm__tau_remove": 0.7}, "tau_remove.*exceeds.*tau_rel"),
        ({"rm__tau_merge": 1.5}, "tau_merge"),
        ({"rm__start_epoch": 0}, "start_epoch"),
        ({"ecm__K": 0}, "ecm.K"),
        ({"ecm__alpha": 1.0}, "ecm.alpha"),
        ({"dsm__queue_epochs": None, "dsm__queue_fraction": None}, "exactly one"),
        ({"dsm__queue_fraction": 0.5, "dsm__queue_epochs": 3.0}, "exactly one"),
        ({"dsm__queue_fraction": -1.0}, "negative"),
        ({"epochs": 0}, "epochs"),
        ({"seed": -1}, "seed must be at least 0"),
    ],
)
def test_impossible_settings_are_refused(changes, named):
    with pytest.raises(ValueError, match=named):
        change(mini, **changes)


@pytest.mark.parametrize(
    "name, value",
    [("opt__name", "sdg"), ("rm__compare", "x"), ("method", "resnet")],
)
def test_a_typo_does_not_pick_a_default(name, value):
    with pytest.raises((ValueError, TypeError), match=f"{value}"):  # TypeError: the test run's type checks
        change(mini, **{name: value})


@pytest.mark.parametrize("value", [2.5, "many", True])
def test_a_number_that_is_not_whole_is_refused(value):
    with pytest.raises((ValueError, TypeError), match="k1"):  # TypeError: the test run's type checks
        change(mini, remix__k1=value)
    with pytest.raises((ValueError, TypeError), match="whole|k1"):
        override(mini, [f"remix.k1={value}"])


def test_differences_name_what_is_learned_differently():
    assert differences(mini, change(mini, workers=9, memory_gb=0.5, on_bad_image="skip")) == []
    assert differences(mini, change(mini, seed=3, rm__tau_rel=0.7)) == ["rm.tau_rel", "seed"]


def test_who_clusters():
    assert not mini.clusters and change(mini, method="remix").clusters
    assert not change(mini, method="remix", remix__labels="given").clusters


def test_settings_given_as_text():
    made = override(mini, ["rm.tau_merge=0.85", "dsm.mode=random", "ecm.K=4", "opt.ema_ramp=False"])
    assert made == change(mini, rm__tau_merge=0.85, dsm__mode="random", ecm__K=4, opt__ema_ramp=False)
    assert override(mini, ["opt.lr=1"]).opt.lr == 1.0
    for wrong in ("rm.tau_merge", "tau=1", "rm=1"):
        with pytest.raises(ValueError, match="section.field=value"):
            override(mini, [wrong])


def test_identity_depends_on_changes_only():
    assert identity(mini) == identity(from_json(to_json(mini)))
    seeds = {identity(change(mini, seed=seed)) for seed in range(5)}
    assert len(seeds) == 5
    assert identity(change(mini, rm__on=False)) != identity(mini)
    assert identity(mini) != identity(paper)


def test_config_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        mini.seed = 3


def test_warm_up_then_constant():
    rates = [learning_rate(paper, epoch, 0) for epoch in (0, 5, 10, 99)]
    assert rates == pytest.approx([1e-4, 5.5e-4, 1e-3, 1e-3])
    assert learning_rate(paper, 0, 399) == pytest.approx(1e-4)  # moves once an epoch


def test_cosine_ends_at_zero_and_steps_fall():
    last = learning_rate(mini, mini.epochs - 1, mini.iterations - 1)
    assert 0 < last < 1e-3 * mini.opt.lr
    middle = learning_rate(mini, 9, 0)  # half way between warm-up and end
    assert middle == pytest.approx(mini.opt.lr / 2)
    stepped = change(paper, opt__schedule="step")
    rates = torch.tensor([learning_rate(stepped, epoch, 0) for epoch in (39, 40, 70)])
    torch.testing.assert_close(rates, torch.tensor([1e-3, 1e-4, 1e-5]))
