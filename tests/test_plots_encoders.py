"""Pictures of encoders show every patch, map, seed and layer where it belongs, and refuse wrong shapes."""

import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.text import Text

from dynamix import plots
from dynamix.plots.style import SERIES, WIDTH

LOSSES = {
    "one": {"none": [0.9, 0.8], "cast": [0.5, 0.6], "noise": [0.85, 0.85]},
    "two": {"none": [0.7], "cast": [0.2], "noise": [0.75]},
}
LAYERS = {"net": {"first": [(0.2, 0.1), (0.4, 0.3)], "last one": [(0.9, 0.5), (0.9, 0.7)]}}


def image(*shape: int) -> torch.Tensor:
    return torch.randint(
        256, (*shape, 3, 32, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def panel(figure: Figure, label: str):
    return next(axes for axes in figure.axes if axes.get_label() == label)


def every_figure() -> dict[str, Figure]:
    maps = torch.linspace(-1, 1, 3 * 8 * 4).view(3, 8, 4)
    moved = {"instance": [0.0, 0.02, 0.35], "batch": [0.0, 0.5, 1.0]}
    return {
        "tokens": plots.tokens(image(), 8, 5, title="T"),
        "halves": plots.halves(
            image(3), {"instance": maps, "batch": -maps}, moved, ["as is", "fog", "cast"], title="T"
        ),
        "pairs": plots.pair_histograms({"a": ([0.5, 0.6], [0.0, -0.2, 0.1]), "b": ([0.9], [0.1])}, title="T"),
        "lags": plots.lags(
            {"slow": [0, 1, 2.0], "fast": [0, 0.5, 0.4]}, {"slow": 0.1, "fast": 0.55}, title="T"
        ),
        "alterations": plots.alterations(LOSSES, title="T"),
        "layers": plots.layers(LAYERS, title="T"),
    }


FIGURES = every_figure()


@pytest.mark.parametrize("name", FIGURES)
def test_title_and_page(name):
    figure = FIGURES[name]
    figure.draw_without_rendering()
    box, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    assert "T" in texts(figure) and width == WIDTH
    assert min(box.x0, box.y0) > -0.01 and box.x1 < width + 0.01 and box.y1 < height + 0.01


def test_every_patch_is_drawn_once_and_the_shown_one_large():
    pixels = image().permute(1, 2, 0).numpy()
    drawn = FIGURES["tokens"].findobj(AxesImage)
    patches = [each.get_array() for each in drawn if each.get_array().shape[:2] == (8, 8)]
    assert len(patches) == 4 * 2 + 1
    for k, patch in enumerate(patches[:-1]):
        r, c = divmod(k, 2)
        assert np.array_equal(patch, pixels[8 * r : 8 * r + 8, 8 * c : 8 * c + 8])
    assert np.array_equal(patches[-1], patches[5])
    assert {"4 × 2 = 8 patches", "patch 5: row 2, column 1", "3 × 8 × 8 = 192 numbers", "= token 5"} <= set(
        texts(FIGURES["tokens"])
    )


def test_maps_of_a_half_share_the_colors_of_the_original():
    maps = [each for each in FIGURES["halves"].findobj(AxesImage) if each.get_array().shape == (8, 4)]
    assert len(maps) == 6
    assert {each.get_clim() for each in maps[::2]} == {(-1.0, 1.0)}  # the first half's original ends at -1
    shown = texts(FIGURES["halves"])
    assert [text for text in shown if text.endswith(" %")] == ["2 %", "50 %", "35 %", "100 %"]
    assert {"as is", "fog", "cast"} <= set(shown) and shown.count("moved by") == 2


def test_histograms_are_shares_of_their_pairs():
    axes = panel(FIGURES["pairs"], "a")
    sums = [patch.get_data().values.sum() for patch in axes.patches]
    assert np.allclose(sums, 1) and len(sums) == 4  # filled and outlined, of two kinds
    assert axes.get_xlim() == (-1, 1)


def test_followers_end_with_their_score():
    lines = panel(FIGURES["lags"], "lags").lines
    assert [line.get_ydata().tolist() for line in lines] == [[0, 1, 2], [0, 0.5, 0.4]]
    assert len({line.get_linestyle() for line in lines}) == 2
    assert {"slow: mAP 10 %", "fast: mAP 55 %"} <= set(texts(FIGURES["lags"]))


def test_dumbbells_go_from_the_mean_without_a_change_to_the_mean_with_it():
    axes = panel(FIGURES["alterations"], "mAP")
    bars = [
        line.get_xdata() for line in axes.lines if len(line.get_xdata()) == 2 and line.get_alpha() == 0.55
    ]
    assert np.allclose(bars, [[55, 85], [20, 70], [85, 85], [75, 70]])
    shown = texts(FIGURES["alterations"])
    assert {"−30", "−50", "0", "+5", "cast", "noise", "one", "two"} <= set(shown) and "none" not in shown
    dots = [line.get_xdata() for line in axes.lines if line.get_marker() == "."]
    assert np.allclose(dots, [[50, 60], [85, 85]])  # seeds, where there are several


def test_layers_show_both_means_every_seed_and_the_loss():
    axes = panel(FIGURES["layers"], "net")
    means = [line for line in axes.lines if line.get_linestyle() != "None"]
    assert np.allclose([line.get_ydata() for line in means], [[30, 90], [20, 60]])
    assert [to_hex(line.get_color()).upper() for line in means] == [SERIES[0], SERIES[1]]
    assert sum(line.get_marker() == "." for line in axes.lines) == 4
    assert {"−10", "−30", "last\none", "100 %"} <= set(texts(FIGURES["layers"]))


@pytest.mark.parametrize(
    ("draw", "words"),
    [
        (lambda: plots.tokens(image(), 7, 0, title="T"), "does not tile"),
        (lambda: plots.tokens(image(), 8, 8, title="T"), "patches 0 to 7"),
        (lambda: plots.halves(image(2), {}, {}, ["a"], title="T"), "give 2 names"),
        (lambda: plots.halves(image(1), {"a": image()}, {"a": [1, 2]}, ["a"], title="T"), "moved"),
        (lambda: plots.pair_histograms({}, title="T"), "panels is empty"),
        (lambda: plots.pair_histograms({"a": ([float("nan")], [0.1])}, title="T"), "finite"),
        (lambda: plots.lags({"a": [1], "b": [1, 2]}, {}, title="T"), "one length"),
        (lambda: plots.lags({"a": [1]}, {"b": 1.0}, title="T"), "a score for each of a"),
        (lambda: plots.alterations({"a": {"none": [1.0]}}, title="T"), "same changes"),
        (lambda: plots.alterations(LOSSES | {"c": {"none": [1], "fog": [1]}}, title="T"), "same changes"),
        (lambda: plots.layers({"a": {}}, title="T"), "at least one"),
    ],
)
def test_wrong_shapes_are_refused(draw, words):
    with pytest.raises(ValueError, match=words):
        draw()
