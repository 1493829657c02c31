"""Pictures of datasets draw every crop and number they are given, mark the truth, and refuse wrong shapes."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import FancyBboxPatch, Rectangle
from matplotlib.text import Text

from dynamix import plots
from dynamix.plots.datasets import Backgrounds, WorldRow
from dynamix.plots.style import PALETTE, WIDTH

NEAR, FAR = np.array([1.0, 2.0, 9.0]), np.array([30.0, 40.0, 50.0, 60.0, 70.0])
LABELS = np.array([7, 7, 7, 9, 9, 7])
TRUTH = np.array([4, 4, 2, 2, -1, 4])


def crops(*shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (*shape, 3, 16, 8), dtype=torch.uint8, generator=generator)


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def world(name: str, cameras: int, level: float) -> WorldRow:
    colors = np.full((cameras, 3), level) * np.array([1.0, 0.5, 0.0])
    return WorldRow(name, "for some dataset", crops(cameras), colors, "a line\nand another that is longer")


def clips(name: str) -> Backgrounds:
    values = np.array([10.0, 30.0, 200.0, 100.0, 120.0])
    return Backgrounds(name, crops(3), values, np.array([5, 5, 8, 6, 6]), "a line")


def every_figure() -> dict[str, Figure]:
    pairs = {"near\nby": (NEAR, crops(2)), "far": (FAR, crops(2))}
    return {
        "distances": plots.pair_distances(pairs, title="T", unit="levels"),
        "worlds": plots.world_rows([world("one", 2, 60), world("two", 5, 120)], title="T"),
        "delivered": plots.delivered(crops(6), LABELS, TRUTH, title="T"),
        "backgrounds": plots.backgrounds([clips("still"), clips("moving")], title="T", note="N"),
    }


FIGURES = every_figure()


@pytest.mark.parametrize("name", FIGURES)
def test_title_and_page(name):
    figure = FIGURES[name]
    figure.draw_without_rendering()
    box, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    assert "T" in texts(figure) and width == WIDTH
    assert min(box.x0, box.y0) > -0.01 and box.x1 < width + 0.01 and box.y1 < height + 0.01


@pytest.mark.parametrize(
    ("name", "count"), [("distances", 4), ("worlds", 7), ("delivered", 6), ("backgrounds", 6)]
)
def test_every_crop_is_drawn(name, count):
    assert len(FIGURES[name].findobj(AxesImage)) == count


def test_distances_name_rows_counts_and_medians():
    shown = texts(FIGURES["distances"])
    assert {"near", "by", "far", "3 pairs", "5 pairs", "median 2", "median 50", "levels"} <= set(shown)
    (axes,) = (axes for axes in FIGURES["distances"].axes if axes.get_label() == "distances")
    marks = [line.get_xdata()[0] for line in axes.lines if line.get_marker() == "^"]
    assert list(marks) == [2, 50]


def test_a_camera_is_a_bar_of_its_color_as_high_as_it_is_bright():
    bars = [box for box in FIGURES["worlds"].findobj(Rectangle) if box.get_label() == "camera"]
    assert len(bars) == 7
    heights = np.array([bar.get_height() for bar in bars])
    assert np.allclose(2 * heights[:2], heights[2:4]) and np.allclose(heights[2:], heights[2])
    assert to_hex(bars[0].get_facecolor()) == "#3c1e00" and to_hex(bars[2].get_facecolor()) == "#783c00"
    assert {"one", "two", "a line", "and another that is longer"} <= set(texts(FIGURES["worlds"]))


def test_an_identity_says_whom_it_holds():
    shown = texts(FIGURES["delivered"])
    assert {"2 people: 1 and 2", "under one label", "person 1", "A", "B"} <= set(shown)
    # Person 2 of the truth (4) is in A alone, person 1 (2) in both.
    assert any("2 people became 2 identities; 1 of the 2 are found under more than one" in t for t in shown)
    assert shown.count("junk") == 2  # the box and the legend


def test_the_foreign_box_alone_is_framed():
    rings = FIGURES["delivered"].findobj(FancyBboxPatch)
    framed = [ring for ring in rings if to_hex(ring.get_edgecolor()).upper() == PALETTE["wrong"]]
    assert len(framed) == 1  # row 2: person 1 under A, which mostly shows person 2


def test_an_identity_of_junk_holds_nobody():
    figure = plots.delivered(crops(2), np.array([0, 1]), np.array([-1, 3]), title="T")
    assert {"nobody", "person 1"} <= set(texts(figure))


def test_all_people_are_counted_in_words():
    figure = plots.delivered(crops(2), np.array([0, 1]), np.array([3, 3]), title="T")
    assert any("1 people became 2 identities; all 1 are" in text for text in texts(figure))


def test_tracks_are_columns_sorted_by_brightness_on_one_scale():
    panels = {axes.get_label(): axes for axes in FIGURES["backgrounds"].axes}
    still = panels["still"]
    dots = [points.get_offsets().tolist() for points in still.collections]
    assert dots == [[[0, 10], [0, 30]], [[1, 100], [1, 120]], [[2, 200]]]
    assert still.get_ylim() == panels["moving"].get_ylim() == (2, 208)
    assert to_hex(still.collections[0].get_facecolor()[0]).upper() == PALETTE["single-camera"]
    assert "3 tracks, darkest first" in texts(FIGURES["backgrounds"])


@pytest.mark.parametrize(
    ("draw", "said"),
    [
        (lambda: plots.pair_distances({}, title="T", unit="u"), "empty"),
        (lambda: plots.pair_distances({"a": (NEAR, crops(3))}, title="T", unit="u"), "two crops"),
        (lambda: plots.pair_distances({"a": (np.array([np.nan]), crops(2))}, title="T", unit="u"), "finite"),
        (lambda: plots.world_rows([], title="T"), "empty"),
        (lambda: plots.world_rows([WorldRow("a", "", crops(2), np.zeros(3), "")], title="T"), "cameras, 3"),
        (lambda: plots.delivered(crops(6), LABELS[:5], TRUTH, title="T"), "labels"),
        (lambda: plots.delivered(crops(2), np.zeros(2, int), np.full(2, -1), title="T"), "junk alone"),
        (lambda: plots.backgrounds([], title="T"), "empty"),
        (lambda: plots.backgrounds([replace(clips("a"), groups=NEAR)], title="T"), "groups of a"),
    ],
)
def test_wrong_input_is_refused(draw, said):
    with pytest.raises(ValueError, match=said):
        draw()
