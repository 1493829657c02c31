"""Features of length one in the plane: who stands where on the circle, and where a loss pushes them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, Polygon
from matplotlib.patheffects import withStroke

from dynamix.plots.marks import Array, Item, as_array, legend, legend_height, letter, tint, verdict
from dynamix.plots.style import (
    BODY,
    INK,
    LINE,
    MARGIN,
    MUTED,
    PALETTE,
    PAPER,
    SERIES,
    SERIES_MARKS,
    SMALL,
    WIDTH,
    Page,
    chart,
    page,
    styled,
    text_width,
    wrap,
    write,
)

SIZE = {"image": 0.105, "key": 0.05, "centroid": 0.15, "anchor": 0.105}  # inches
LEAST, MOST = 0.045, 0.17  # inches: a partner with no share of the force, and one with all of it
ORDER = ("key", "centroid", "image", "anchor")  # from the back to the front
CORNERS = np.array([[0, -1], [1, 0], [0, 1], [-1, 0]])
INSET = 0.84  # of the radius: momentum features lie further in, so that nothing covers them
LONGEST = 0.62  # of the radius: the longest arrow of a figure
SOLID, DASHED = "-", (0, (2.2, 1.4))


@dataclass(frozen=True, kw_only=True)
class Points:
    """Some features of one kind; `people` decides letter and tint, `single` color and line of the edge."""

    at: Array  # (n, 2)
    people: Array  # (n,) int from 0
    single: Array | None = None  # (n,) bool; None: the edge says nothing
    mark: str = "image"  # or "key", a momentum feature; "centroid"; "anchor"
    push: Array | None = None  # (n, 2), for example minus the gradient
    names: Sequence[str] | None = None  # inside the marks instead of letters
    outside: Sequence[str] | None = None  # beside the marks, away from the center
    wrong: Array | None = None  # (n,) bool: carries a wrong label
    share: Array | None = None  # (n,) in [0, 1]: of the force on an anchor, drawn as area


@dataclass(frozen=True, kw_only=True)
class Ring:
    """One circle of `rings`."""

    title: str
    points: Sequence[Points]
    note: str = ""  # under the circle


@styled
def rings(
    panels: Sequence[Ring],
    *,
    columns: int,
    title: str,
    note: str = "",
    tangent: bool = True,
) -> Figure:
    """Circles side by side, `columns` in a row, with the pushes on their points as arrows.

    `tangent` draws only what moves a point along the circle. One scale holds for all arrows of the figure,
    such that the longest is a fixed part of the radius.

    Raises:
        ValueError: no panel, an unknown mark, sizes that disagree.
    """
    if not panels or columns < 1:
        raise ValueError("panels is empty: give at least one, and at least one column")
    for panel in panels:
        for points in panel.points:
            _check(panel, points)
    slot = (WIDTH - 2 * MARGIN) / columns
    edge = _edge_of(panels, tangent)
    radius = min(slot / 2 - edge, 1.3)
    titles = [wrap(panel.title, BODY, "bold", slot - 0.1) for panel in panels]
    notes = [wrap(panel.note, SMALL, width=slot - 0.1) if panel.note else [] for panel in panels]
    above = 0.17 * max(map(len, titles)) + 0.08
    below = 0.155 * max(map(len, notes)) + 0.1
    ring = 2 * (radius + edge)
    items = _legend_items(panels)
    head = legend_height(items) + 0.1
    rows = math.ceil(len(panels) / columns)
    done = page(head + rows * (above + ring + below) - 0.1, title, note)
    legend(done.axes, done.top, items)
    scale = _scale(panels, tangent)
    for k, panel in enumerate(panels):
        x = MARGIN + slot * (k % columns + 0.5)
        y = done.top + head + (k // columns) * (above + ring + below)
        text = {"ha": "center", "va": "baseline"}
        for i, line in enumerate(titles[k]):
            write(done.axes, x, y + 0.13 + 0.17 * i, line, BODY, INK, weight="bold", **text)
        for i, line in enumerate(notes[k]):
            write(done.axes, x, y + above + ring + 0.05 + 0.155 * i, line, SMALL, MUTED, **text)
        _ring(done, panel, np.array([x, y + above + ring / 2]), radius, scale, tangent)
    return done.figure


def _edge_of(panels: Sequence[Ring], tangent: bool) -> float:
    """Inches around a circle that marks, arrows and texts need."""
    every = [points for panel in panels for points in panel.points]
    if any(points.outside for points in every):
        return 0.36
    if any(points.push is not None for points in every):
        return 0.24 if tangent else 0.5
    return 0.15


def along(at: np.ndarray, push: np.ndarray) -> np.ndarray:
    """The part of `push` (n, 2) that moves `at` (n, 2) along the circle through it."""
    out = at / np.linalg.norm(at, axis=1, keepdims=True)
    return push - (push * out).sum(1, keepdims=True) * out


def _check(panel: Ring, points: Points) -> None:
    at = as_array(points.at, "at")
    if at.ndim != 2 or at.shape[1] != 2:
        raise ValueError(f"{panel.title}: at must have shape (n, 2), got {at.shape}")
    if points.mark not in SIZE:
        raise ValueError(f"{panel.title}: unknown mark {points.mark!r}; there are {', '.join(SIZE)}")
    for name in ("people", "single", "wrong", "share", "push"):
        if (value := getattr(points, name)) is not None:
            as_array(value, f"{panel.title}: {name}", at.shape if name == "push" else at.shape[:1])
    for name in ("names", "outside"):
        value = getattr(points, name)
        if value is not None and len(value) != len(at):
            raise ValueError(f"{panel.title}: {name} must have {len(at)} texts, got {len(value)}")


def _pushes(points: Points, tangent: bool) -> np.ndarray:
    at = as_array(points.at, "at").astype(float)
    if points.push is None:
        return np.zeros_like(at)
    push = as_array(points.push, "push").astype(float)
    return along(at, push) if tangent else push


def _scale(panels: Sequence[Ring], tangent: bool) -> float:
    pushes = [np.linalg.norm(_pushes(p, tangent), axis=1) for panel in panels for p in panel.points]
    longest = max((float(lengths.max(initial=0)) for lengths in pushes), default=0.0)
    return (LONGEST if tangent else 0.75 * LONGEST) / longest if longest > 0 else 0.0


def _ring(done: Page, panel: Ring, center: np.ndarray, radius: float, scale: float, tangent: bool) -> None:
    axes = done.axes
    axes.add_patch(
        Circle(tuple(center), radius, facecolor="white", edgecolor=LINE, linewidth=1.4, zorder=0.6)
    )
    flip = np.array([1, -1])  # the page's y points down
    order = sorted(panel.points, key=lambda points: list(ORDER).index(points.mark))
    for points in order:
        at = as_array(points.at, "at").astype(float)
        places = center + radius * flip * at * (INSET if points.mark == "key" else 1)
        for k, (place, push) in enumerate(zip(places, _pushes(points, tangent), strict=True)):
            _arrow(axes, place, radius * scale * flip * push, _size(points, k))
            covered = len(places) > k + 1 and bool(
                (np.hypot(*(places[k + 1 :] - place).T) < _size(points, k)).any()
            )
            _mark(axes, points, k, place, named=not covered)
            if points.outside is not None and points.outside[k]:
                _beside(axes, points, k, place, center)


def _size(points: Points, k: int) -> float:
    if points.share is None:
        return SIZE[points.mark]
    return math.sqrt(LEAST**2 + (MOST**2 - LEAST**2) * float(points.share[k]))


def _arrow(axes: Axes, place: np.ndarray, push: np.ndarray, size: float) -> None:
    length = float(np.hypot(*push))
    if length < 0.04:
        return
    start = place + push / length * (size + 0.02)
    axes.add_patch(_arrow_patch(start, start + push))


def _arrow_patch(start: np.ndarray, end: np.ndarray) -> FancyArrowPatch:
    """An arrow whose head shrinks with it, so that a short one is still an arrow."""
    head = min(11.0, 3.0 + 40 * float(np.hypot(*(end - start))))
    return FancyArrowPatch(
        tuple(start), tuple(end), arrowstyle="-|>,head_length=0.35,head_width=0.2", mutation_scale=head,
        color=INK, linewidth=1.7, shrinkA=0, shrinkB=0, zorder=6.5, joinstyle="miter",
    )  # fmt: skip


def _edge(points: Points, k: int) -> tuple[str, Any]:
    if points.single is None:
        return INK, SOLID
    return (PALETTE["single-camera"], DASHED) if points.single[k] else (PALETTE["multi-camera"], SOLID)


def _mark(axes: Axes, points: Points, k: int, place: np.ndarray, *, named: bool) -> None:
    """Mark number `k`; in a pile only the last one is `named`."""
    person, size, depth = int(points.people[k]), _size(points, k), 3 + ORDER.index(points.mark) + 0.01 * k
    color, line = _edge(points, k)
    look: Any = {"facecolor": tint(person), "edgecolor": color, "linewidth": 1.8, "linestyle": line}
    if points.mark == "key":
        look |= {"linewidth": 1.2, "linestyle": SOLID}
    if points.mark == "anchor":
        look |= {"facecolor": INK, "edgecolor": "white", "linewidth": 1.0}
    if points.mark == "centroid":
        axes.add_patch(Polygon(place + size * CORNERS, **look, zorder=depth))
    else:
        axes.add_patch(Circle(tuple(place), size, **look, zorder=depth))
    if points.mark != "key" and size > 0.07 and named:
        text = letter(person) if points.names is None else points.names[k]
        ink, halo = ("white", INK) if points.mark == "anchor" else (INK, tint(person))
        write(axes, place[0], place[1] + 0.036, text, 7.5 if len(text) < 2 else 6.5, ink, ha="center",
              va="baseline", weight="bold", zorder=7.5,
              path_effects=[withStroke(linewidth=2.2, foreground=halo)])  # fmt: skip
    if points.wrong is not None and points.wrong[k]:
        verdict(axes, place[0] + 0.75 * size, place[1] - 0.75 * size - 0.02, right=False, radius=0.065)


def _beside(axes: Axes, points: Points, k: int, place: np.ndarray, center: np.ndarray) -> None:
    text = (points.outside or [])[k]
    way = (place - center) / max(float(np.hypot(*(place - center))), 1e-9)
    room = 0.1 if points.wrong is not None and points.wrong[k] else 0.05
    half = 0.5 * (abs(way[0]) * text_width(text, SMALL) + abs(way[1]) * 0.1)
    x, y = place + (_size(points, k) + room + half) * way
    write(axes, x, y + 0.035, text, SMALL, INK, ha="center", va="baseline", zorder=8)


def _legend_items(panels: Sequence[Ring]) -> list[Item]:
    every = [points for panel in panels for points in panel.points]
    items: list[Item] = []
    for single, text in ((False, "multi-camera"), (True, "single-camera")):
        if any(p.single is not None and bool((as_array(p.single, "single") == single).any()) for p in every):
            items.append((_source(single), 0.2, text))
    texts = {
        "anchor": "anchor",
        "image": "image (its person's letter)",
        "key": "momentum feature (drawn further in)",
        "centroid": "centroid",
    }
    for mark, text in texts.items():
        if any(p.mark == mark and len(p.at) for p in every):
            items.append((_shape(mark), 0.2, text))
    if any(p.share is not None for p in every):
        items.append((_share_item, 0.46, "none, all of the force"))
    if any(p.push is not None for p in every):
        items.append((_push_item, 0.3, "where the loss pushes, and how hard"))
    if any(p.wrong is not None and bool(as_array(p.wrong, "wrong").any()) for p in every):
        items.append((lambda axes, x, y: verdict(axes, x, y, right=False, radius=0.075), 0.16, "wrong label"))
    return items


def _source(single: bool) -> Any:
    color, style = (PALETTE["single-camera"], DASHED) if single else (PALETTE["multi-camera"], SOLID)
    return lambda axes, x, y: axes.add_patch(
        Circle((x, y), 0.085, facecolor="none", edgecolor=color, linewidth=1.8, linestyle=style)
    )


def _shape(mark: str) -> Any:
    def draw(axes: Axes, x: float, y: float) -> None:
        at = np.array([x, y])
        look: Any = {"facecolor": INK if mark == "anchor" else tint(9), "edgecolor": INK, "linewidth": 1.2}
        size = min(SIZE[mark], 0.095)
        axes.add_patch(
            Polygon(at + size * CORNERS, **look) if mark == "centroid" else Circle((x, y), size, **look)
        )

    return draw


def _share_item(axes: Axes, x: float, y: float) -> None:
    for place, size in ((x - 0.17, LEAST), (x + 0.06, MOST * 0.8)):
        axes.add_patch(Circle((place, y), size, facecolor=tint(9), edgecolor=INK, linewidth=1.2))


def _push_item(axes: Axes, x: float, y: float) -> None:
    axes.add_patch(_arrow_patch(np.array([x - 0.15, y]), np.array([x + 0.15, y])))


Line = tuple[Array | Sequence[float | int], Array | Sequence[float | int]]


@dataclass(frozen=True, kw_only=True)
class Curves:
    """One panel of `curves`: lines by name, and values of x that deserve a line across."""

    title: str
    x: str
    y: str
    lines: Mapping[str, Line]
    at: Mapping[str, float | int] = field(default_factory=dict)
    limits: tuple[float | int, float | int] | None = None  # of y


@styled
def curves(panels: Sequence[Curves], *, title: str, note: str = "") -> Figure:
    """Smooth lines side by side, named where they end or at their mark in a legend.

    Raises:
        ValueError: no panel, or a line with other than as many y as x.
    """
    if not panels:
        raise ValueError("panels is empty: give at least one")
    for panel in panels:
        for name, (x, y) in panel.lines.items():
            if not len(x) or len(x) != len(y):
                raise ValueError(f"{panel.title}: line {name!r} needs as many y as x")
    names = list(dict.fromkeys(name for panel in panels for name in panel.lines))
    items = [_line_item(k, name) for k, name in enumerate(names)]
    head = legend_height(items)
    done = page(head + 2.92, title, note)
    legend(done.axes, done.top, items)
    slot = (WIDTH - 2 * MARGIN) / len(panels)
    for i, panel in enumerate(panels):
        box = (MARGIN + i * slot + 0.58, done.top + head + 0.5, slot - 0.8, 2.05)
        axes = chart(done, *box, label=panel.title)
        axes.set_title("\n".join(wrap(panel.title, 10.0, "bold", slot - 0.5)), x=-0.02, pad=18)
        for name, (x, y) in panel.lines.items():
            _curve(axes, as_array(x, "x"), as_array(y, "y"), names.index(name))
        axes.margins(x=0.02)
        if panel.limits:
            axes.set_ylim(panel.limits)
        for text, value in panel.at.items():
            axes.axvline(value, color=MUTED, linewidth=1.0, linestyle=(0, (2, 2)), zorder=1)
            axes.annotate(text, (value, 1.0), xycoords=axes.get_xaxis_transform(), xytext=(0, 3), ha="center",
                          textcoords="offset points", fontsize=SMALL, color=MUTED)  # fmt: skip
        axes.set_xlabel(panel.x, fontsize=SMALL)
        axes.set_ylabel(panel.y, fontsize=SMALL)
    return done.figure


def _curve(axes: Axes, x: np.ndarray, y: np.ndarray, k: int) -> None:
    every = max(len(x) // 8, 1)
    axes.plot(x, y, color=SERIES[k % len(SERIES)], marker=SERIES_MARKS[k % 6], markersize=5.0, linewidth=1.8,
              markevery=(every // 2, every), markeredgecolor=PAPER)  # fmt: skip


def _line_item(k: int, name: str) -> Item:
    def draw(axes: Axes, x: float, y: float) -> None:
        color = SERIES[k % len(SERIES)]
        axes.plot([x - 0.14, x + 0.14], [y, y], color=color)
        axes.plot([x], [y], color=color, marker=SERIES_MARKS[k % 6], markersize=5.5, markeredgecolor=PAPER)

    return draw, 0.3, name
