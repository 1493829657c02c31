"""Profiles hold the paper's and the benchmark's settings; impossible settings are refused by name."""

import dataclasses
import json
import re

import numpy as np
import pytest
import torch

from dynamix import fields
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
        ({"dsm__queue_fraction": -1.0}, "dsm.queue_fraction is -1.0: .* of at least 0 or none"),
        ({"epochs": 0}, "epochs"),
        ({"seed": -1}, "seed is -1: it must be a whole number of at least 0"),
        ({"batch__ids_multi": 0, "batch__ids_single": 0}, "both 0"),
    ],
)
def test_impossible_settings_are_refused(changes, named):
    with pytest.raises(ValueError, match=named):
        change(mini, **changes)


FIELDS = [
    (section, name, hint)
    for section, part in fields.hints(Config).items()
    if dataclasses.is_dataclass(part)
    for name, hint in fields.hints(part).items()
] + [("", name, hint) for name, hint in fields.hints(Config).items() if not dataclasses.is_dataclass(hint)]


def key(section: str, name: str, mark: str) -> str:
    return f"{section}{mark}{name}" if section else name


@pytest.mark.parametrize(
    "value", ["maybe", "2.5x", None, float("nan"), float("inf"), -7, [0, 4], {}, "", (0, 0), (1, 2, 3, 4)]
)
def test_every_setting_refuses_what_it_cannot_be(value):
    """In one line that names the setting and the value, in Python as in JSON."""
    refused = 0
    for section, name, hint in FIELDS:
        if fields._fits(value, hint):
            continue
        refused += 1
        with pytest.raises(ValueError, match=rf"^{key(section, name, '.')} is .*: it must be .+") as told:
            change(mini, **{key(section, name, "__"): value})
        assert "\n" not in str(told.value) and repr(value) in str(told.value)
        plain = json.loads(to_json(mini))
        (plain[section] if section else plain)[name] = value
        with pytest.raises(ValueError, match=name):
            from_json(json.dumps(plain))
    assert refused > 80


def test_every_setting_has_a_range_or_choices():
    """A bare number would accept any: a share of 7, a size of -1."""
    assert [key(*field[:2], ".") for field in FIELDS if field[2] in (int, float)] == []


@pytest.mark.parametrize(
    "text", ["abc", "0,001", "1e-3,iterations=3", "4GB", "", "nan", "inf", "1e999", "-1", "true"]
)
def test_text_that_is_no_such_number_is_refused(text):
    for name in ("opt.lr", "memory_gb", "epochs", "encoder.dim", "mannequins.fragment", "remix.eps"):
        with pytest.raises(ValueError, match="it must be a (whole )?number") as told:
            override(mini, [f"{name}={text}"])
        assert str(told.value).startswith(f"--set {name}={text}: ")


@pytest.mark.parametrize(
    "text, allowed",
    [
        ("rm.on=maybe", "true or false"),
        ("rm.on=2", "true or false"),
        ("rm.tau_rel=high", "a number from -1 to 1"),
        ("rm.tau_merge=", "a number from -1 to 1"),
        ("ecm.K=ALL", "a whole number of at least 1 or all"),
        ("ecm.K=2.5", "a whole number of at least 1 or all"),
        ("ecm.K=none", "a whole number of at least 1 or all"),
        ("workers=-1", "a whole number of at least 0"),
        ("opt.ema=2", "a number of at least 0 and below 1"),
        ("encoder.image=5", "2 numbers, as 64x32"),
        ("encoder.image=64x0", "each a whole number of at least 1"),
        ("mannequins.plaza=64x32", "3 numbers"),
        ("dsm.mode=Median", "one of median, mean"),
        ("opt.weight_decay=-1", "a number of at least 0"),
    ],
)
def test_settings_given_as_text_say_what_is_allowed(text, allowed):
    with pytest.raises(ValueError, match=re.escape(f"--set {text}: it must be ") + f".*{allowed}"):
        override(mini, [text])


@pytest.mark.parametrize(
    "text, field, value",
    [
        *((f"rm.on={word}", "rm__on", word in ("true", "True", "on", "yes")) for word in (
            "true", "True", "on", "yes", "false", "False", "off", "NO")),
        ("encoder.image=96x48", "encoder__image", (96, 48)),
        ("encoder.image=96,48", "encoder__image", (96, 48)),
        ("encoder.image=(96, 48)", "encoder__image", (96, 48)),
        ("mannequins.plaza=8x2x1", "mannequins__plaza", (8, 2, 1)),
        ("ecm.K=all", "ecm__K", "all"),
        ("ecm.K=8", "ecm__K", 8),
        ("opt.lr=1", "opt__lr", 1.0),
        ("cen.use_single=off", "cen__use_single", "off"),
        ("rm.tau_rel= 0.7", "rm__tau_rel", 0.7),
    ],
)  # fmt: skip
def test_text_is_read_by_the_type_of_its_setting(text, field, value):
    made = override(mini, [text])
    assert made == change(mini, **{field: value})
    assert from_json(to_json(made)) == made


def test_settings_given_as_text_take_effect_together():
    """Each alone would be refused: an image both removed and relabeled, two lengths of the queue."""
    made = override(mini, ["rm.tau_remove=0.7", "rm.tau_rel=0.8"])
    assert (made.rm.tau_remove, made.rm.tau_rel) == (0.7, 0.8)
    made = override(mini, ["dsm.queue_epochs=3", "dsm.queue_fraction=none"])
    assert (made.dsm.queue_epochs, made.dsm.queue_fraction) == (3.0, None)


@pytest.mark.parametrize(
    "texts, told",
    [
        (["opt.lr=1", "opt.lr=2"], "set twice"),
        (["profile=paper"], "--profile"),
        (["encoder.weights=x"], "--weights"),
    ],
)
def test_settings_given_as_text_that_would_mislead_are_refused(texts, told):
    with pytest.raises(ValueError, match=told):
        override(mini, texts)


@pytest.mark.parametrize(
    "text", ["[]", "3", '{"rm": 5}', '{"rm": [1]}', "{", '"x"', '{"rm": {"on": "false"}}']
)
def test_json_that_is_no_config_is_refused_in_one_line(text):
    with pytest.raises(ValueError) as told:
        from_json(text)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("name", ["tau", "rm__tau", "colour__x", "rm__on__x"])
def test_unknown_settings_in_python_are_named(name):
    with pytest.raises(ValueError, match=name.replace("__", ".")):
        change(mini, **{name: 1})


def test_numbers_of_numpy_are_kept_as_plain_ones():
    made = change(mini, remix__k1=np.int64(5), opt__lr=np.float32(0.5))
    assert from_json(to_json(made)) == made and type(made.remix.k1) is int


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
