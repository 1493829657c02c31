"""A step's worth is a difference of two rows of the same seed; the noise is that of Table 3's seeds."""

import math
import statistics

import pytest
from matplotlib.figure import Figure

from dynamix import plots
from dynamix.experiments import regimes
from dynamix.experiments.paired import noise
from dynamix.experiments.regimes import Effect, effects
from dynamix.experiments.report import Failure
from dynamix.experiments.tables.regimes import REGIMES, WORTH

SAME = "as in the tables"


def ended(seed, station, hall):
    scores = {world: {"rank1": 0.0, "mAP": mAP} for world, mAP in (("station", station), ("hall", hall))}
    return {"seed": seed, "scores": scores}


def test_seeds_are_paired_and_lonely_ones_left_out():
    found = {
        f"{SAME}: naive centroids": [ended(0, 0.4, 0.6), ended(1, 0.5, 0.5), Failure(2, "no")],
        f"{SAME}: + ECM": [ended(1, 0.6, 0.6), ended(0, 0.4, 0.7), ended(3, 0.9, 0.9)],
        f"{SAME}: hard": [ended(0, 0.1, 0.1)],
    }
    (only,) = effects(found)
    assert (only.regime, only.step) == (SAME, "Efficient Centroids")
    assert only.points == pytest.approx((5.0, 10.0))


def test_noise_is_pooled_over_rows():
    one, two = (0.50, 0.52, 0.54), (0.60, 0.66)
    found = {
        "+ ViT": [ended(i, v, v) for i, v in enumerate(one)],
        "+ RM": [ended(i, v, v) for i, v in enumerate(two)],
        "+ ECM": [ended(0, 0.1, 0.1)],
    }
    want = math.sqrt(
        (statistics.variance(100 * v for v in one) + statistics.variance(100 * v for v in two)) / 2
    )
    assert noise(found) == pytest.approx(want)
    with pytest.raises(ValueError, match="no row of table3 has two seeds"):
        noise({"+ ECM": [ended(0, 0.1, 0.1)]})


def test_the_figure_shows_what_has_run(monkeypatch):
    shown = {}
    monkeypatch.setattr(regimes, "ledger", lambda *_, **__: None)
    monkeypatch.setattr(regimes, "found_of", lambda table, *_: table.name)
    monkeypatch.setattr(regimes, "noise", lambda found: 1.0 if found == "table3" else None)
    points = [Effect(SAME, "the queue", (1.0,)), Effect(SAME, "hard instead of random", (-9.0,))]
    monkeypatch.setattr(regimes, "effects", lambda found: points if found == "regimes" else None)
    monkeypatch.setattr(
        plots, "effects", lambda values, **options: shown.update(values=values, **options) or Figure()
    )
    regimes.figure()
    assert list(shown["values"]) == list(REGIMES) and all(
        list(v) == list(WORTH) for v in shown["values"].values()
    )
    ran = {step: points for step, points in shown["values"][SAME].items() if points}
    assert ran == {"the queue": (1.0,), "hard instead of random": (-9.0,)}
    assert not any(points for name, v in shown["values"].items() if name != SAME for points in v.values())
    assert shown["band"] == pytest.approx(2 * math.sqrt(2))
