"""Pictures of label refinement draw what they are given, and refuse what does not fit."""

import numpy as np
import pytest
import torch
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.text import Text

from dynamix import plots
from dynamix.centroids import CentroidsMemory
from dynamix.plots.refinement import FATES, fates
from dynamix.plots.style import PALETTE
from dynamix.relabeling import relabel
from dynamix.similarity import unit


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def inside(figure: Figure) -> bool:
    """Nothing that is drawn leaves the page."""
    figure.draw_without_rendering()
    box, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    return min(box.x0, box.y0) > -0.01 and box.x1 < width + 0.01 and box.y1 < height + 0.01


def axes_of(figure: Figure, label: str):
    return next(axes for axes in figure.axes if axes.get_label() == label)


class TestDecisionMap:
    own = np.array([0.9, 0.2, 0.3, 0.7, 0.55])
    other = np.array([0.3, 0.8, 0.4, 0.65, 0.58])
    kinds = ("right label", "wrong label", "junk", "right label", "wrong label")

    def draw(self, **changes) -> Figure:
        given = {"own": self.own, "other": self.other, "kinds": self.kinds} | changes
        return plots.decision_map(**given, tau_rel=0.6, tau_remove=0.5, title="The map")

    def test_says_what_relabel_does(self):
        generator = torch.Generator().manual_seed(0)
        centroids, features = (unit(torch.randn(n, 3, generator=generator)) for n in (2, 400))
        memory, labels = CentroidsMemory(torch.arange(2), centroids), torch.arange(400) % 2
        done = relabel(features, labels, memory)
        cosine = (features @ centroids.T).numpy()
        rows = np.arange(400)
        said = fates(cosine[rows, rows % 2], cosine[rows, 1 - rows % 2], 0.6, 0.5)
        want = np.where(done.removed, 2, np.where(done.labels != labels, 1, 0))
        assert np.bincount(want, minlength=3).min() > 10  # each fate is met
        np.testing.assert_array_equal(said, want)

    def test_points_stand_where_the_similarities_say_in_the_color_of_their_kind(self):
        drawn = {}
        for cloud in axes_of(self.draw(), "map").findobj(PathCollection):
            drawn[to_hex(cloud.get_facecolor()[0]).upper()] = cloud.get_offsets().tolist()
        assert drawn == {
            PALETTE["correct"]: [[0.9, 0.3], [0.7, 0.65]],
            PALETTE["wrong"]: [[0.2, 0.8], [0.55, 0.58]],
            PALETTE["removed"]: [[0.3, 0.4]],
        }

    def test_counts_each_kind_and_its_fate(self):
        found = texts(self.draw())
        start = found.index("2 with wrong label")
        assert found[start + 1 : start + 7] == ["kept", "1", "50%", "relabeled", "1", "50%"]
        start = found.index("1 junk")
        assert found[start + 7 : start + 10] == ["removed", "1", "100%"]
        assert FATES == ("kept", "relabeled", "removed")

    def test_names_the_thresholds_and_stays_on_the_page(self):
        figure = self.draw()
        assert {"tau_rel 0.6", "tau_remove 0.5", "RELABEL", "REMOVE", "KEEP"} <= set(texts(figure))
        assert inside(figure)

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"other": np.zeros(4)}, "other must have shape"),
            ({"kinds": ("right",) * 5}, "unknown kind 'right'"),
            ({"own": np.array([np.nan, 0, 0, 0, 0])}, "finite"),
        ],
    )
    def test_refuses(self, changes, words):
        with pytest.raises(ValueError, match=words):
            self.draw(**changes)


class TestRepairs:
    def draw(self, **changes) -> Figure:
        given = {
            "steps": ("before", "after"),
            "quality": {"precision": (0.8, 0.9), "F1": (0.7, 0.85)},
            "mistakes": {"junk\nboxes": (7, 3), "switches": (5, 0)},
        }
        return plots.repairs(**(given | changes), title="What is left")

    def test_draws_shares_and_counts(self):
        figure = self.draw()
        lines = [line.get_ydata().tolist() for line in axes_of(figure, "quality").lines]
        assert sorted(lines) == [[70.0, 85.0], [80.0, 90.0]]
        bars = [bar.get_height() for bar in axes_of(figure, "junk\nboxes").patches]
        assert bars == [7, 3]
        assert {"7", "3", "5", "0", "F1 85.0", "precision 90.0", "junk", "boxes"} <= set(texts(figure))
        assert inside(figure)

    def test_names_of_lines_that_end_together_stay_apart(self):
        figure = self.draw(quality={"precision": (0.8, 0.9), "recall": (0.7, 0.9)})
        at = [note.xy[1] for note in axes_of(figure, "quality").texts]
        assert abs(at[0] - at[1]) > 1

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"quality": {}}, "at least one series"),
            ({"mistakes": {"junk": (1, 2, 3)}}, "'junk' has 3 values for 2 steps"),
        ],
    )
    def test_refuses(self, changes, words):
        with pytest.raises(ValueError, match=words):
            self.draw(**changes)


class TestMergeGraphs:
    points = np.random.default_rng(0).normal(size=(30, 2))
    chain = np.stack([np.arange(11), np.arange(1, 12)], 1)  # joins the first twelve
    pair = np.array([[20, 25]])

    def draw(self, points=None, graphs=None) -> Figure:
        small, large = np.arange(30), np.arange(30)
        small[25], large[:12] = 20, 0
        given = [plots.MergeGraph("high", self.pair, small), plots.MergeGraph("low", self.chain, large)]
        given = given if graphs is None else graphs
        return plots.merge_graphs(self.points if points is None else points, given, title="Graphs")

    def test_counts_what_is_left_and_alarms_beyond_ten(self):
        figure = self.draw()
        calm, alarm = "29 of 30 left, the largest joins 2", "19 of 30 left, the largest joins 12"
        color = {t.get_text(): t.get_color() for t in figure.findobj(Text)}
        assert color[alarm] == PALETTE["wrong"] != color[calm]
        assert inside(figure)

    def test_draws_edges_and_members(self):
        figure = self.draw()
        for name, edges, red in (("high", self.pair, 0), ("low", self.chain, 12)):
            axes = axes_of(figure, name)
            lines = next(iter(axes.findobj(LineCollection))).get_segments()
            np.testing.assert_allclose(lines, self.points[edges])
            assert [len(c.get_offsets()) for c in axes.findobj(PathCollection)][2] == red

    def test_a_graph_without_edges_is_drawn(self):
        lonely = plots.MergeGraph("none", np.empty((0, 2), int), np.arange(30))
        assert "30 of 30 left, the largest joins 1" in texts(self.draw(graphs=[lonely]))

    def test_refuses(self):
        with pytest.raises(ValueError, match="needs graphs"):
            self.draw(graphs=[])
        with pytest.raises(ValueError, match="points"):
            self.draw(points=np.zeros((30, 3)))
        with pytest.raises(ValueError, match="component of x"):
            self.draw(graphs=[plots.MergeGraph("x", self.pair, np.arange(29))])


class TestThresholdCurves:
    panels = {"Largest": {"global": (9, 2), "video": (2, 1)}, "F1": {"global": (10.0, 80.0)}}

    def draw(self, panels=None) -> Figure:
        given = self.panels if panels is None else panels
        return plots.threshold_curves((0.6, 0.8), given, {"here": 0.7}, axis="tau", title="Curves")

    def test_draws_lines_and_marks(self):
        figure = self.draw()
        lines = axes_of(figure, "Largest").lines
        assert [list(line.get_ydata()) for line in lines[:2]] == [[9, 2], [2, 1]]
        assert list(lines[2].get_xdata()) == [0.7, 0.7]
        assert texts(figure).count("here") == 2
        assert {"global", "video", "tau", "Largest", "F1"} <= set(texts(figure))
        assert inside(figure)

    def test_a_line_keeps_its_look_over_panels(self):
        figure = self.draw({"a": {"x": (1, 2), "y": (1, 2)}, "b": {"y": (1, 2)}})
        first, second = axes_of(figure, "a").lines[1], axes_of(figure, "b").lines[0]
        assert (first.get_color(), first.get_marker()) == (second.get_color(), second.get_marker())

    def test_refuses(self):
        with pytest.raises(ValueError, match="panels is empty"):
            self.draw({})
        with pytest.raises(ValueError, match="'global' has 3 values for 2"):
            self.draw({"Largest": {"global": (1, 2, 3)}})


class TestChain:
    crops = torch.randint(256, (4, 3, 16, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))

    def test_shows_every_crop_and_number(self):
        figure = plots.chain(self.crops, np.array([0.9, 0.81, 0.7]), -0.25, title="Chain")
        assert len(figure.findobj(AxesImage)) == 4
        assert {"0.90", "0.81", "0.70", "first and last: −0.25"} <= set(texts(figure))
        assert inside(figure)

    def test_a_long_chain_stays_on_the_page(self):
        many = self.crops[torch.arange(12) % 4]
        assert inside(plots.chain(many, np.full(11, 0.7), 0.1, title="Chain"))

    def test_refuses(self):
        with pytest.raises(ValueError, match="at least two"):
            plots.chain(self.crops[:1], np.empty(0), 0.0, title="Chain")
        with pytest.raises(ValueError, match="links must have shape"):
            plots.chain(self.crops, np.ones(4), 0.0, title="Chain")


def test_the_same_picture_gives_the_same_bytes(tmp_path):
    files = [tmp_path / "a.png", tmp_path / "b.png"]
    for file in files:
        plots.save(TestDecisionMap().draw(), file)
    assert files[0].read_bytes() == files[1].read_bytes()
