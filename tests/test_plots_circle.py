"""Circles and their pushes: what is drawn stands where the numbers say, and wrong shapes are refused."""

import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, Polygon
from matplotlib.text import Text

from dynamix.plots.circle import Curves, Points, Ring, along, curves, rings
from dynamix.plots.style import PALETTE, SERIES, WIDTH

RIGHT_AND_UP = np.array([[1.0, 0.0], [0.0, 1.0]])


def drawn(*points: Points, columns: int = 1, **options) -> Figure:
    return rings([Ring(title="one", points=points, note="below")], columns=columns, title="T", **options)


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def big_circle(figure: Figure) -> Circle:
    return max(figure.findobj(Circle), key=lambda circle: circle.get_radius())


def place_of(figure: Figure, text: str) -> np.ndarray:
    """Where a letter stands, in radii from the center of the only circle, y up."""
    ring = big_circle(figure)
    (found,) = [each for each in figure.findobj(Text) if each.get_text() == text]
    return (np.array(found.get_position()) - ring.center) / ring.get_radius() * [1, -1]


def arrows(figure: Figure, legend: int = 1) -> list[np.ndarray]:
    """Start and end of all arrows but the legend's, in radii from the center, y up."""
    ring = big_circle(figure)
    found = [np.array(each._posA_posB) for each in figure.findobj(FancyArrowPatch)][legend:]
    return [(ends - ring.center) / ring.get_radius() * [1, -1] for ends in found]


def test_points_stand_at_their_angle_with_y_up():
    figure = drawn(Points(at=RIGHT_AND_UP, people=np.array([0, 1])))
    np.testing.assert_allclose(place_of(figure, "A"), [1, 0], atol=0.05)
    np.testing.assert_allclose(place_of(figure, "B"), [0, 1], atol=0.05)
    assert {"T", "one", "below", "image (its person's letter)"} <= set(texts(figure))


def test_tensors_and_arrays_draw_the_same():
    people = np.array([0, 1])
    first = drawn(Points(at=RIGHT_AND_UP, people=people))
    second = drawn(Points(at=torch.tensor(RIGHT_AND_UP), people=torch.tensor(people)))
    assert texts(first) == texts(second)


def test_the_edge_tells_the_source_in_color_and_line():
    figure = drawn(Points(at=RIGHT_AND_UP, people=np.array([0, 1]), single=np.array([False, True])))
    edges = {(to_hex(c.get_edgecolor()).upper(), c.get_linestyle()) for c in figure.findobj(Circle)}
    assert (PALETTE["multi-camera"], "-") in edges or (PALETTE["multi-camera"], "solid") in edges
    assert any(color == PALETTE["single-camera"] and line not in ("-", "solid") for color, line in edges)
    assert {"multi-camera", "single-camera"} <= set(texts(figure))


def test_along_keeps_what_turns_and_drops_what_stretches():
    push = np.array([[3.0, 2.0], [1.0, 5.0]])
    np.testing.assert_allclose(along(2 * RIGHT_AND_UP, push), [[0, 2], [1, 0]])


def test_arrows_are_tangent_and_share_one_scale():
    push = np.array([[3.0, 2.0], [1.0, 5.0]])
    first, second = arrows(drawn(Points(at=RIGHT_AND_UP, people=np.array([0, 1]), push=push)))
    np.testing.assert_allclose(first[1] - first[0], [0, 0.62], atol=1e-6)
    np.testing.assert_allclose(second[1] - second[0], [0.31, 0], atol=1e-6)


def test_all_of_the_push_where_asked():
    push = np.array([[4.0, 3.0], [0.0, 0.0]])
    (only,) = arrows(drawn(Points(at=RIGHT_AND_UP, people=np.array([0, 1]), push=push), tangent=False))
    way = only[1] - only[0]
    assert way[0] / way[1] == pytest.approx(4 / 3)


def test_no_push_no_arrow_and_no_word_of_it():
    figure = drawn(Points(at=RIGHT_AND_UP, people=np.array([0, 1]), push=np.zeros((2, 2))))
    assert arrows(figure) == []
    assert not figure.findobj(FancyArrowPatch)[1:]
    plain = drawn(Points(at=RIGHT_AND_UP, people=np.array([0, 1])))
    assert not plain.findobj(FancyArrowPatch)
    assert "where the loss pushes, and how hard" not in texts(plain)


def test_a_share_is_an_area():
    figure = drawn(Points(at=RIGHT_AND_UP, people=np.array([0, 1]), share=np.array([0.0, 1.0])))
    half = drawn(Points(at=RIGHT_AND_UP[:1], people=np.array([0]), share=np.array([0.5])))
    none, all_of_it = [c.get_radius() ** 2 for c in _discs(figure)]
    (middle,) = [c.get_radius() ** 2 for c in _discs(half)]
    assert middle == pytest.approx((none + all_of_it) / 2)


def _discs(figure: Figure) -> list[Circle]:
    """The images' discs: those on the circle's line."""
    ring = big_circle(figure)

    def far(disc: Circle) -> float:
        return float(np.hypot(*(np.array(disc.center) - ring.center)) / ring.get_radius())

    return [disc for disc in figure.findobj(Circle) if abs(far(disc) - 1) < 1e-6]


def test_momentum_features_lie_further_in():
    points = Points(at=RIGHT_AND_UP[:1], people=np.array([0]))
    keys = Points(at=RIGHT_AND_UP[:1], people=np.array([0]), mark="key")
    assert len(_discs(drawn(points))) == 1
    assert len(_discs(drawn(keys))) == 0
    assert "momentum feature (drawn further in)" in texts(drawn(keys))


def test_centroids_are_diamonds():
    figure = drawn(Points(at=0.5 * RIGHT_AND_UP, people=np.array([0, 1]), mark="centroid"))
    assert len(figure.findobj(Polygon)) == 3  # two and the legend's
    np.testing.assert_allclose(place_of(figure, "A"), [0.5, 0], atol=0.05)


def test_in_a_pile_only_the_last_is_named():
    at = np.array([[1.0, 0.0], [1.0, 0.001]])
    figure = drawn(Points(at=at, people=np.array([0, 0]), names=["A1", "A2"]))
    assert "A2" in texts(figure) and "A1" not in texts(figure)


def test_a_wrong_label_has_a_cross_and_its_text_stands_outside():
    points = Points(
        at=RIGHT_AND_UP, people=np.array([0, 1]), outside=["5%", ""], wrong=np.array([True, False])
    )
    figure = drawn(points)
    assert "wrong label" in texts(figure)
    crosses = [c for c in figure.findobj(Circle) if to_hex(c.get_facecolor()).upper() == PALETTE["wrong"]]
    assert len(crosses) == 2  # one and the legend's
    assert place_of(figure, "5%")[0] > 1.1


def test_rings_stand_in_rows():
    panels = [Ring(title=f"panel {k}", points=[]) for k in range(5)]
    figure = rings(panels, columns=2, title="T")
    at = {t.get_text(): t.get_position() for t in figure.findobj(Text) if "panel" in t.get_text()}
    assert at["panel 0"][1] == at["panel 1"][1] < at["panel 2"][1]
    assert at["panel 0"][0] == at["panel 4"][0] < at["panel 1"][0]
    assert figure.get_size_inches()[0] == WIDTH


@pytest.mark.parametrize("columns", [1, 2, 5])
def test_nothing_leaves_the_page(columns):
    push = np.array([[0.0, 2.0], [1.0, 0.0], [0.0, 1.0]])
    at = np.array([[1.0, 0.0], [0.0, -1.0], [-1.0, 0.0]])
    points = Points(at=at, people=np.arange(3), push=push, single=np.array([True, False, True]))
    figure = rings([Ring(title="one", points=[points])] * columns, columns=columns, title="T", tangent=False)
    figure.draw_without_rendering()
    box, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    assert min(box.x0, box.y0) > -0.01 and box.x1 < width + 0.01 and box.y1 < height + 0.01


@pytest.mark.parametrize(
    "change, message",
    [
        ({"at": np.ones((2, 3))}, r"at must have shape \(n, 2\)"),
        ({"people": np.zeros(3)}, "people must have shape"),
        ({"single": np.zeros(1, bool)}, "single must have shape"),
        ({"push": np.zeros(2)}, "push must have shape"),
        ({"share": np.zeros(3)}, "share must have shape"),
        ({"wrong": np.zeros(3, bool)}, "wrong must have shape"),
        ({"names": ["A"]}, "names must have 2 texts"),
        ({"outside": ["A"]}, "outside must have 2 texts"),
        ({"mark": "star"}, "unknown mark 'star'"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(change, message):
    points = {"at": RIGHT_AND_UP, "people": np.array([0, 1])} | change
    with pytest.raises(ValueError, match=message):
        drawn(Points(**points))


def test_no_panels_is_refused():
    with pytest.raises(ValueError, match="panels is empty"):
        rings([], columns=1, title="T")
    with pytest.raises(ValueError, match="panels is empty"):
        curves([], title="T")


def test_curves_draw_the_numbers_in_one_color_by_name():
    x = np.linspace(0, 1, 20)
    one = Curves(title="left", x="time, s", y="loss", lines={"a": (x, x), "b": (x, 2 * x)}, at={"here": 0.5})
    two = Curves(title="right", x="time, s", y="%", lines={"b": (x, 3 * x)}, limits=(0, 9))
    figure = curves([one, two], title="T")
    left, right = (next(a for a in figure.axes if a.get_label() == name) for name in ("left", "right"))
    np.testing.assert_allclose(left.lines[1].get_ydata(), 2 * x)
    assert left.lines[0].get_color() == SERIES[0]
    assert left.lines[1].get_color() == right.lines[0].get_color() == SERIES[1]
    assert list(left.lines[2].get_xdata()) == [0.5, 0.5]
    assert right.get_ylim() == (0, 9) and right.get_ylabel() == "%" and left.get_xlabel() == "time, s"
    assert {"a", "b", "here", "T"} <= set(texts(figure))


def test_curves_refuse_lines_of_unequal_length():
    with pytest.raises(ValueError, match="left: line 'a' needs as many y as x"):
        curves([Curves(title="left", x="", y="", lines={"a": ([1.0, 2.0], [1.0])})], title="T")
