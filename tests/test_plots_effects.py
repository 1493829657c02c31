"""The picture of differences: a panel per effect, a number per mean, colored only beyond chance."""

import matplotlib.colors as colors
import pytest
from matplotlib.collections import PathCollection

from dynamix import plots
from dynamix.plots.style import PALETTE, SERIES

VALUES = {
    "small world": {"queue": (1.0, 3.0), "hard": (-8.0, -10.0)},
    "large world": {"queue": (6.0,)},
}


def drawn(**options):
    return plots.effects(VALUES, band=2.5, unit="points", title="Effects", **options)


def panel(figure, name):
    return next(axes for axes in figure.axes if axes.get_label() == name)


def test_a_panel_for_each_effect_and_a_number_for_each_mean():
    figure = drawn(note="A note.")
    assert [axes.get_label() for axes in figure.axes[1:]] == ["queue", "hard"]
    assert [text.get_text() for text in panel(figure, "queue").texts] == ["+2.0", "+6.0"]
    assert [text.get_text() for text in panel(figure, "hard").texts] == ["−9.0", "not run"]
    page = {text.get_text() for text in figure.axes[0].texts}
    assert {"Effects", "A note.", "points", "small world", "large world", "queue", "hard"} <= page


def scatters(figure, name):
    return [each for each in panel(figure, name).collections if isinstance(each, PathCollection)]


def test_only_a_mean_beyond_the_band_is_colored():
    figure = drawn()
    means = [
        colors.to_hex(dots.get_facecolor()[0]).upper()
        for name in ("queue", "hard")
        for dots in scatters(figure, name)
        if dots.get_sizes()[0] > 20
    ]
    assert means == [SERIES[0], PALETTE["correct"], PALETTE["wrong"]]


def test_a_dot_for_each_seed_where_there_are_several():
    assert sorted(len(each.get_offsets()) for each in scatters(drawn(), "queue")) == [1, 1, 2]


def test_all_panels_have_one_scale_that_holds_every_dot():
    limits = {axes.get_xlim() for axes in drawn().axes[1:]}
    ((low, high),) = limits
    assert low == -high and high > 10


def test_before_anything_ran_every_line_says_so():
    figure = plots.effects({"a": {"queue": ()}, "b": {"queue": ()}}, band=2.0, unit="", title="")
    assert [text.get_text() for text in panel(figure, "queue").texts] == ["not run", "not run"]


@pytest.mark.parametrize(
    ("values", "band", "message"),
    [
        ({}, 1.0, "effects of nothing"),
        ({"a": {}}, 1.0, "effects of nothing"),
        (VALUES, 0.0, "band is how far"),
    ],
)
def test_nothing_to_draw_is_refused(values, band, message):
    with pytest.raises(ValueError, match=message):
        plots.effects(values, band=band, unit="", title="")
