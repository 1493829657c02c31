"""Pictures of evaluation print the right arithmetic, draw every image and refuse wrong shapes."""

import matplotlib.patches
import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.text import Text

from dynamix import plots
from dynamix.plots.style import PALETTE, WIDTH

KINDS = ["own camera", "wrong", "correct", "junk", "wrong", "correct"]
CHANGES = {"one mistake": {"rank-1": (0.5, 0.7), "mAP": (0.4, 0.4)}}
FIRST = np.array([False, True, False, True])


def crops(*shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (*shape, 3, 16, 8), dtype=torch.uint8, generator=generator)


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def panel(figure: Figure, label: str):
    return next(axes for axes in figure.axes if axes.get_label() == label)


def every_figure() -> dict[str, Figure]:
    return {
        "by_hand": plots.ranking_by_hand(crops(), crops(6), KINDS, np.linspace(0.9, 0.4, 6), title="T"),
        "strips": plots.ranking_strips({"a": FIRST, "b": ~FIRST}, title="T", shown=4),
        "precision_recall": plots.precision_recall(
            FIRST, np.array([0.5, 0.9]), np.array([0.3, 0.8]), title="T"
        ),
        "changes": plots.score_changes({"net": CHANGES, "colors": CHANGES}, title="T"),
        "boxes": plots.box_shifts(crops(3), (0, 0.1, 0.2), {"rank-1": (0.6, 0.4, 0.2)}, title="T"),
        "intervals": plots.intervals(
            {"alone": {"ten": (0.2, 0.5, 0.8)}, "pair": {"x": (-0.1, 0.05, 0.2), "y": (0.1, 0.2, 0.3)}},
            title="T",
        ),
    }


FIGURES = every_figure()


@pytest.mark.parametrize("name", FIGURES)
def test_title_and_page(name):
    figure = FIGURES[name]
    figure.draw_without_rendering()
    box, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    assert "T" in texts(figure) and width == WIDTH
    assert min(box.x0, box.y0) > -0.01 and box.x1 < width + 0.01 and box.y1 < height + 0.01


def test_what_is_removed_takes_no_rank():
    shown = texts(FIGURES["by_hand"])
    assert [text for text in shown if text.startswith(("rank ", "removed"))] == [
        "removed", "rank 1", "rank 2", "removed", "rank 3", "rank 4",
    ]  # fmt: skip
    assert {"same person,", "same camera", "junk box", "cosine 0.90", "cosine 0.40"} <= set(shown)
    assert shown.count("somebody else") == 2


def test_the_arithmetic_is_that_of_the_formulas():
    shown = set(texts(FIGURES["by_hand"]))
    assert {
        "1 / 2",
        "2 / 4",
        "(1/2 + 2/4) / 2 = 0.500",
        "2 matches, the last at rank 4: 2 / 4 = 0.500",
    } <= shown
    assert "first match at rank 2: 0 up to rank 1, 1 from rank 2 on" in shown


def test_frames_have_the_color_of_the_verdict_and_only_what_counts_has_one():
    drawn = FIGURES["by_hand"].findobj(matplotlib.patches.FancyBboxPatch)
    edges = [to_hex(patch.get_edgecolor()).upper() for patch in drawn]
    assert edges.count(PALETTE["correct"]) == 2 and edges.count(PALETTE["wrong"]) == 2
    assert edges.count(PALETTE["removed"]) == 2
    assert len(FIGURES["by_hand"].findobj(AxesImage)) == 7


def test_strips_draw_a_tall_bar_per_match_and_print_scores():
    bars = FIGURES["strips"].findobj(matplotlib.patches.Rectangle)
    tall = [bar for bar in bars if to_hex(bar.get_facecolor()).upper() == PALETTE["correct"]]
    assert sum(bar.get_height() > 0.4 for bar in tall) == 4
    shown = texts(FIGURES["strips"])
    # a: matches at 2 and 4; b: at 1 and 3
    assert [text for text in shown if text.endswith(" %")] == ["0 %", "50 %", "50 %", "100 %", "83 %", "67 %"]


def test_scores_of_a_strip_count_ranks_that_are_not_drawn():
    shown = texts(plots.ranking_strips({"a": np.arange(8) % 8 == 7}, title="T", shown=4))
    assert [text for text in shown if text.endswith(" %")] == ["0 %", "12 %", "12 %"]


def test_both_areas_are_drawn_and_named():
    curve = panel(FIGURES["precision_recall"], "curve")
    assert curve.get_title(loc="left") == "One query: AP 50.0 % or 33.3 %"  # (0 + 1/2 + 1/3 + 1/2) / 4
    drawn = [line.get_ydata().tolist() for line in curve.lines if len(line.get_xdata()) == 2]
    assert np.allclose(drawn, [[50, 50], [0, 50], [50, 50], [100 / 3, 50]])
    queries = panel(FIGURES["precision_recall"], "queries")
    assert np.allclose(queries.collections[0].get_offsets(), [[50, 20], [90, 10]])
    assert "mean 15.0" in texts(FIGURES["precision_recall"])


def test_changes_are_printed_in_points():
    shown = texts(FIGURES["changes"])
    assert shown.count("+20.0") == 2 and shown.count("0.0") == 2
    assert {"one mistake", "net", "colors", "evaluated rightly", "with the mistake"} <= set(shown)
    less = plots.score_changes({"net": {"a": {"mAP": (0.5, 0.4)}}}, title="T")
    assert "−10.0" in texts(less)
    named = plots.score_changes({"net": CHANGES}, title="T", states=("as it is", "centered"))
    assert {"as it is", "centered"} <= set(texts(named)) and "with the mistake" not in texts(named)


def test_boxes_stand_above_their_scores():
    figure = FIGURES["boxes"]
    axes = panel(figure, "scores")
    assert len(figure.findobj(AxesImage)) == 3
    assert axes.lines[0].get_ydata().tolist() == [60, 40, 20]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["0 %", "10 %", "20 %"]
    page = panel(figure, "page")
    left, width = axes.get_position().x0 * WIDTH, axes.get_position().width * WIDTH
    middles = [(image.get_extent()[0] + image.get_extent()[1]) / 2 for image in page.images]
    assert np.allclose(middles, [left + width * x / 3 for x in (0.5, 1.5, 2.5)])


def test_equal_ends_are_written_apart():
    figure = plots.box_shifts(crops(1), (0,), {"a": (0.5,), "b": (0.5,)}, title="T")
    places = [text.xy[1] for text in panel(figure, "scores").texts if text.get_text() in "ab"]
    assert abs(places[0] - places[1]) >= 9


def test_differences_get_a_zero_line_and_doubtful_ones_are_hollow():
    shown = texts(FIGURES["intervals"])
    assert {"± 30.0", "+5.0", "+20.0", "difference (points)", "score (%)"} <= set(shown)
    pair, alone = panel(FIGURES["intervals"], "pair"), panel(FIGURES["intervals"], "alone")
    dots = [line for line in pair.lines if line.get_marker() == "o"]
    faces, edges = (
        [to_hex(getattr(d, f"get_marker{k}")()) for d in dots] for k in ("facecolor", "edgecolor")
    )
    assert faces[0] != edges[0] and faces[1] == edges[1]
    dashed = [[line for line in axes.lines if line.get_linestyle() == "--"] for axes in (pair, alone)]
    assert [len(lines) for lines in dashed] == [1, 0]


@pytest.mark.parametrize(
    "call, named",
    [
        (lambda: plots.ranking_by_hand(crops(), crops(2), ["correct"], np.ones(2), title="T"), "kinds"),
        (lambda: plots.ranking_by_hand(crops(), crops(1), ["right"], np.ones(1), title="T"), "kinds"),
        (lambda: plots.ranking_by_hand(crops(), crops(1), ["wrong"], np.ones(1), title="T"), "correct"),
        (lambda: plots.ranking_by_hand(crops(), crops(1), ["correct"], np.ones(2), title="T"), "similarity"),
        (lambda: plots.ranking_strips({}, title="T"), "rankings"),
        (lambda: plots.ranking_strips({"a": np.zeros(3, bool)}, title="T"), "match"),
        (lambda: plots.precision_recall(np.zeros(3, bool), np.ones(1), np.ones(1), title="T"), "correct"),
        (lambda: plots.precision_recall(FIRST, np.ones(1), np.ones(2), title="T"), "trapezoid"),
        (lambda: plots.score_changes({}, title="T"), "panels"),
        (lambda: plots.score_changes({"a": CHANGES, "b": {"other": {}}}, title="T"), "'b'"),
        (lambda: plots.box_shifts(crops(2), (0,), {"a": (0.5, 0.4)}, title="T"), "shifts"),
        (lambda: plots.box_shifts(crops(2), (0, 1), {"a": (0.5,)}, title="T"), "'a'"),
        (lambda: plots.intervals({}, title="T"), "panels"),
        (lambda: plots.intervals({"a": {"b": (0.5, 0.4, 0.6)}}, title="T"), "ascending"),
    ],
)
def test_wrong_shapes_are_named(call, named):
    with pytest.raises(ValueError, match=named):
        call()
