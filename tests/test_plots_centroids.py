"""Pictures of centroids: draws, paths, errors and numbers are where the data put them."""

import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Circle, Rectangle
from matplotlib.text import Text

from dynamix import plots
from dynamix.plots.centroids import BEST, EXACT, FOLLOWER, Errors
from dynamix.plots.style import PALETTE, SERIES, WIDTH

CROPS = torch.randint(256, (2, 3, 3, 16, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
DRAWN = np.array([[[1, 0, 0], [0, 1, 1]], [[0, 1, 0], [1, 0, 0]]], dtype=bool)  # (E, P, n)


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def panels(figure: Figure) -> list:
    return [axes for axes in figure.axes if axes.get_label() != "page"]


def inside(figure: Figure) -> bool:
    """Nothing that is drawn leaves the page."""
    figure.draw_without_rendering()
    box, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    return min(box.x0, box.y0) > -0.01 and box.x1 < width + 0.01 and box.y1 < height + 0.01


class TestDraws:
    def figure(self, drawn=DRAWN):
        return plots.draws(CROPS, drawn, names=["Ann", "Bob"], title="T")

    def test_every_crop_once_and_a_full_disc_below_each_that_was_drawn(self):
        figure = self.figure()
        crops = figure.findobj(AxesImage)
        assert len(crops) == 6
        discs = [each for each in figure.findobj(Circle)][2:]  # the first two are the legend's
        assert len(discs) == 12
        full = [d for d in discs if to_hex(d.get_facecolor()) == PALETTE["single-camera"].lower()]
        places = {(round(d.center[0], 3), round(d.center[1], 3)) for d in full}
        assert len(places) == DRAWN.sum()
        for e, p, i in np.argwhere(DRAWN):
            left, right, bottom, _ = crops[3 * p + i].get_extent()
            assert (round((left + right) / 2, 3), round(bottom + 0.2 * (e + 0.6), 3)) in places

    def test_names_epochs_and_title_stand_in_it(self):
        figure = self.figure()
        assert {"T", "Ann", "Bob", "epoch 1", "epoch 2", "drawn", "not embedded"} <= set(texts(figure))
        assert figure.get_size_inches()[0] == WIDTH and inside(figure)

    def test_refuses_what_does_not_fit(self):
        with pytest.raises(ValueError, match=r"drawn must have shape \(E, 2, 3\), got \(2, 2, 2\)"):
            self.figure(DRAWN[:, :, :2])
        with pytest.raises(ValueError, match="names must name 2 identities, got 1"):
            plots.draws(CROPS, DRAWN, names=["Ann"], title="T")


class TestPursuit:
    exact = np.array([[0.0, 0.0], [1.0, 1.0], [2.0, 0.0]])
    images = exact[:, None] + np.array([[0.1, 0.2], [-0.1, -0.2]])  # (3, 2, 2)

    def figure(self, **paths):
        return plots.pursuit(self.images, self.exact, paths, title="T", exact_name="exact")

    def test_a_panel_per_path_with_both_paths_and_an_error_per_epoch(self):
        figure = self.figure(near=self.exact, far=self.exact + [0.0, 0.5])
        assert [axes.get_label() for axes in panels(figure)] == ["near", "far"]
        for axes, shift in zip(panels(figure), (0.0, 0.5), strict=True):
            by_color = {
                line.get_color(): line.get_xydata() for line in axes.lines if len(line.get_xydata()) == 3
            }
            np.testing.assert_allclose(by_color[EXACT], self.exact)
            np.testing.assert_allclose(by_color[FOLLOWER], self.exact + [0.0, shift])
            ends = [line.get_xydata() for line in axes.lines if line.get_linestyle() == "-"][:3]
            np.testing.assert_allclose([pair[1] - pair[0] for pair in ends], [[0.0, shift]] * 3)
        assert {"mean error 0.00", "mean error 0.50", "exact", "error"} <= set(texts(figure))
        assert inside(figure)

    def test_shows_the_images_of_the_first_and_last_epoch(self):
        (axes,) = panels(self.figure(near=self.exact))
        clouds = [line.get_xydata() for line in axes.lines if line.get_marker() == "."]
        np.testing.assert_allclose(clouds, self.images[[0, -1]])

    def test_refuses_what_does_not_fit(self):
        with pytest.raises(ValueError, match=r"paths\['short'\] must have shape \(3, 2\), got \(2, 2\)"):
            self.figure(short=self.exact[:2])
        with pytest.raises(ValueError, match="paths is empty"):
            self.figure()
        with pytest.raises(ValueError, match=r"images must have shape \(3, n, 2\)"):
            plots.pursuit(self.images[:2], self.exact, {"a": self.exact}, title="T", exact_name="e")
        with pytest.raises(ValueError, match=r"exact must have shape \(T, 2\)"):
            plots.pursuit(self.images, self.exact[:, :1], {"a": self.exact}, title="T", exact_name="e")


def panel(lines, **more):
    return Errors(title="P", x="alpha", y=more.pop("y", "error"), lines=lines, **more)


ONE = {"K = 1": ((0, 1, 2), (3.0, 1.0, 2.0))}
TWO = {"K = 2": ((0, 1, 2), (30.0, 10.0, 20.0)), "K = 1": ((0, 1), (1.0, 2.0))}


class TestErrors:
    def test_a_name_has_one_color_and_mark_in_all_panels(self):
        left, right = panels(plots.errors([panel(ONE), panel(TWO)], title="T"))
        assert [line.get_color() for line in left.lines] == [SERIES[0]]
        assert [(line.get_color(), line.get_marker()) for line in right.lines] == [
            (SERIES[1], "s"), (SERIES[0], left.lines[0].get_marker()),
        ]  # fmt: skip
        np.testing.assert_allclose(left.lines[0].get_xydata(), np.array(ONE["K = 1"]).T)

    def test_panels_of_one_measure_have_one_scale_and_others_their_own(self):
        left, right = panels(plots.errors([panel(ONE), panel(TWO)], title="T"))
        assert left.get_ylim() == right.get_ylim() and left.get_ylim()[0] == 0
        left, right = panels(plots.errors([panel(ONE), panel(TWO, y="other")], title="T"))
        assert left.get_ylim()[1] < 10 < right.get_ylim()[1]

    def test_a_formula_is_dashed_and_its_measurements_are_marks_alone(self):
        formula = {"K = 1": ((0, 2), (5.0, 4.0))}
        (axes,) = panels(plots.errors([panel(ONE, formula=formula)], title="T"))
        marks, dashes = axes.lines
        assert marks.get_linestyle() == "None" and marks.get_marker() == "o"
        assert dashes.get_linestyle() == "--" and dashes.get_color() == marks.get_color()
        np.testing.assert_allclose(dashes.get_xydata(), [[0, 5], [2, 4]])

    def test_the_lowest_point_is_ringed(self):
        (axes,) = panels(plots.errors([panel(ONE, lowest=True)], title="T"))
        np.testing.assert_allclose(axes.lines[-1].get_xydata(), [[1, 1]])
        assert axes.lines[-1].get_markerfacecolor() == "none"

    def test_axes_have_names_and_units(self):
        figure = plots.errors([panel(ONE, unit=" %", log_x=False)], title="T", note="N")
        figure.draw_without_rendering()
        (axes,) = panels(figure)
        assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_title(loc="left")) == ("alpha", "error", "P")
        assert all(label.get_text().endswith(" %") for label in axes.get_yticklabels())
        assert {"T", "N", "K = 1"} <= set(texts(figure)) and inside(figure)

    def test_logarithmic_where_asked(self):
        (axes,) = panels(plots.errors([panel({"a": ((1, 10), (1, 100))}, log_x=True, log_y=True)], title="T"))
        assert axes.get_xscale() == axes.get_yscale() == "log"

    @pytest.mark.parametrize(
        "bad, message",
        [
            ([], "panels is empty"),
            ([panel({"a": ((1, 2), (1,))})], "line 'a' has 2 x and 1 y"),
            ([panel({"a": ((), ())})], "line 'a' has 0 x"),
            ([panel(ONE, formula={"b": ((1,), (1,))})], "the formula 'b' predicts no line"),
            ([panel({f"{k}": ((1,), (1,)) for k in range(7)})], "7 names of lines"),
        ],
    )
    def test_refuses(self, bad, message):
        with pytest.raises(ValueError, match=message):
            plots.errors(bad, title="T")


class TestErrorGrid:
    values = np.array([[0.3, 0.1, 0.2], [0.0, 0.01, 0.4]])

    def figure(self, values=values):
        return plots.error_grid(
            values, ["1", "all"], ["a", "b", "c"], title="T", row_title="K", column_title="C"
        )

    def test_numbers_heads_and_a_frame_around_the_smallest_of_each_row(self):
        figure = self.figure()
        assert {"0.300", "0.100", "0.000", "0.400", "1", "all", "a", "c", "K", "C"} <= set(texts(figure))
        frames = [r for r in figure.findobj(Rectangle) if to_hex(r.get_edgecolor()) == BEST.lower()]
        assert len(frames) == 2
        middles = [(f.get_x() + f.get_width() / 2) for f in frames]
        at = {t.get_text(): t.get_position()[0] for t in figure.findobj(Text)}
        np.testing.assert_allclose(middles, [at["b"], at["a"]])
        assert inside(figure)

    def test_larger_is_darker(self):
        figure = self.figure()
        cells = [r for r in figure.findobj(Rectangle) if r.get_edgecolor()[3] == 0 and r.get_width() > 1]
        light = {round(sum(cell.get_facecolor()[:3]), 4): cell for cell in cells}
        assert len(cells) == 6 and len(light) == 6
        order = sorted(light, reverse=True)  # from the lightest
        columns = [round(light[key].get_x() + light[key].get_width() / 2, 2) for key in order]
        at = {t.get_text(): round(t.get_position()[0], 2) for t in figure.findobj(Text)}
        assert columns == [at[name] for name in ("a", "b", "b", "c", "a", "c")]

    def test_refuses_what_does_not_fit(self):
        with pytest.raises(ValueError, match=r"values must have shape \(2, 3\), got \(1, 3\)"):
            self.figure(self.values[:1])
        with pytest.raises(ValueError, match="values must be finite"):
            self.figure(self.values * np.nan)
