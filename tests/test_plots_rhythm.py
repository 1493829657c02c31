"""The picture of a whole training: what is written where, how losses are stacked, what is refused."""

import numpy as np
import pytest
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_hex

from dynamix import plots
from dynamix.plots.style import SERIES
from tests.test_plots import inside, texts

LOSSES = {"one": [4.0, 3.0, 2.0, 1.0], "two": [1.0, 1.0, 0.5, 0.5]}


def drawn(**more):
    options = {
        "losses": LOSSES,
        "lines": {"rate": [0.1, 0.2, 0.3, 0.4]},
        "epochs": {"moved": ["–", 1234]},
        "title": "T",
        "note": "N",
    }
    return plots.rhythm(**(options | more))


def axes_of(figure, label):
    return next(axes for axes in figure.axes if axes.get_label() == label)


def areas(figure):
    return [each for each in axes_of(figure, "losses").collections if isinstance(each, PolyCollection)]


def test_everything_is_named_and_on_the_page():
    figure = drawn()
    wanted = {"T", "N", "Once an epoch", "Every step", "epoch 1", "epoch 2", "moved", "–", "1,234"}
    assert wanted | {"one", "two", "rate", "optimizer steps"} <= set(texts(figure)) and inside(figure)


def test_losses_lie_upon_each_other():
    figure = drawn()
    assert [to_hex(each.get_facecolor()[0]) for each in areas(figure)] == [c.lower() for c in SERIES[:2]]
    tops = [each.get_paths()[0].vertices[:, 1].max() for each in areas(figure)]
    assert tops == [4.0, 5.0]


def test_the_legend_lists_the_losses_as_they_lie():
    height = {text.get_text(): text.get_position()[1] for text in drawn().axes[0].texts}
    assert height["two"] < height["one"]  # the page's y points down


def test_lines_are_drawn_step_by_step():
    line = axes_of(drawn(), "rate").lines[0]
    np.testing.assert_allclose(line.get_xdata(), [0.5, 1.5, 2.5, 3.5])
    np.testing.assert_allclose(line.get_ydata(), [0.1, 0.2, 0.3, 0.4])


def test_epochs_begin_at_the_ticks_and_at_their_columns():
    figure = drawn()
    assert axes_of(figure, "rate").get_xticks().tolist() == [0, 2, 4]
    figure.draw_without_rendering()
    second = next(text for text in figure.axes[0].texts if text.get_text() == "epoch 2")
    middle = axes_of(figure, "rate").transData.transform((2, 0))[0]
    assert 0 < second.get_window_extent().x0 - middle < 40


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"losses": {}}, "must not be empty"),
        ({"losses": {"one": [1.0, 2.0]}}, "one number for every step"),
        ({"epochs": {"a": [1, 2], "b": [1]}}, "one text for every epoch"),
        ({"epochs": {"a": [1, 2, 3]}}, "4 steps do not divide into 3 epochs"),
        ({"losses": {"one": [1.0, -2.0, 0.0, 0.0]}}, "negative"),
    ],
)
def test_what_does_not_fit_is_refused(wrong, said):
    with pytest.raises(ValueError, match=said):
        drawn(**wrong)
