"""The picture of claims: a line for each, a verdict beyond two standard errors only."""

import math

import matplotlib.colors as colors
import numpy as np
import pytest

from dynamix import plots
from dynamix.plots.claims import LOOKS, half
from dynamix.plots.style import PAPER
from tests import naive

LINES = {
    "steps": [
        plots.Claimed("it helps", "Table 3", 5.0, (4.0, 6.0, 5.0)),
        plots.Claimed("it hurts", "Table 4", -5.0, (-7.0, -7.0)),
        plots.Claimed("once", "Table 9", 3.0, (9.0,)),
    ],
    "settings": [
        plots.Claimed("less is more", "Table 5", 2.0, (-8.0, -8.0)),
        plots.Claimed("who knows", "Table 6", 1.0, (1.0, 2.0)),
        plots.Claimed("later", "Table 7", -1.0, ()),
    ],
}
NOISE = 1.0


def drawn(groups=LINES, **options):
    return plots.claims(groups, **({"noise": NOISE, "unit": "points", "title": "Claims"} | options))


def panel(figure):
    return next(axes for axes in figure.axes if axes.get_label() == "claims")


def marks(figure):
    """x and color of every mark in the chart."""
    return [
        (float(each.get_offsets()[0][0]), colors.to_hex(each.get_facecolor()[0]).upper())
        for each in panel(figure).collections
        if len(each.get_offsets()) and hasattr(each, "get_sizes") and len(each.get_sizes())
    ]


def test_what_is_written():
    figure = drawn(note="A note.")
    page = [text.get_text() for text in figure.axes[0].texts]
    assert {"Claims", "A note.", "points", "paper", "here", "steps", "settings"} <= set(page)
    for each in (*LINES["steps"], *LINES["settings"]):
        assert each.text in page and each.where in page
    assert page.count("not run") == 1
    assert {"+5.0", "−5.0", "−7.0", "−8.0", "+1.5"} <= set(page)


def test_a_mark_at_every_difference_colored_by_its_verdict():
    found = marks(drawn())
    for value, look in ((5.0, "as printed"), (-7.0, "as printed"), (-8.0, "against"), (1.5, "chance")):
        assert (value, LOOKS[look][0]) in found
    assert (9.0, PAPER.upper()) in found  # one seed: hollow, whatever it says
    assert len(found) == 6 + 5  # the printed ones, and ours of those that ran


def test_one_seed_has_neither_verdict_nor_bar():
    only = drawn({"a": [plots.Claimed("once", "Table 9", 3.0, (9.0,))]})
    assert plots.Claimed("once", "", 3.0, (99.0,)).verdict(0.1) == "one seed"
    assert not [each for each in panel(only).collections if hasattr(each, "get_segments")]


def test_the_bar_is_two_standard_errors_of_a_difference():
    assert half(1.0, (0.0, 0.0)) == pytest.approx(2.0)
    rng = np.random.default_rng(0)
    a, b = rng.normal(0, 1.5, (2, 4000, 3)).mean(-1)
    assert half(1.5, (0.0, 0.0, 0.0)) == pytest.approx(2 * (a - b).std(), rel=0.05)
    ends = sorted(
        (segment[0][0], segment[1][0])
        for each in panel(drawn()).collections
        if hasattr(each, "get_segments")
        for segment in each.get_segments()
    )
    want = [(-10, -6), (-9.0, -5.0), (-0.5, 3.5)]
    for low, high in want:
        assert any(math.isclose(a, low) and math.isclose(b, high) for a, b in ends)


def test_differences_that_spread_more_than_the_noise_have_their_own_bar():
    wide = (2.0, 6.0, 13.0)
    assert half(1.0, wide) == pytest.approx(2 * naive.sample_std(wide) / math.sqrt(3))
    assert half(1.0, (2.0, 2.5)) == pytest.approx(2.0)
    assert plots.Claimed("", "", 5.0, (4.0, 5.0, 6.0)).verdict(1.0) == "as printed"
    assert plots.Claimed("", "", 5.0, (-1.0, 5.0, 11.0)).verdict(1.0) == "chance"


def test_one_scale_holds_everything():
    low, high = panel(drawn()).get_xlim()
    assert low < -10 and high > 5 + 2 * math.sqrt(2 / 3)


@pytest.mark.parametrize(
    ("groups", "noise", "message"),
    [({}, 1.0, "claims of nothing"), ({"a": []}, 1.0, "claims of nothing"), (LINES, 0.0, "noise is how far")],
)
def test_nothing_to_draw_is_refused(groups, noise, message):
    with pytest.raises(ValueError, match=message):
        drawn(groups, noise=noise)
