"""Pictures of merging: the graph of similar identities, what a threshold does, a chain of look-alikes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from dynamix.plots.marks import Array, Item, as_array, as_images, crop, legend, legend_height, panel
from dynamix.plots.style import (
    BODY,
    CARD,
    INK,
    MARGIN,
    MUTED,
    PALETTE,
    PAPER,
    SERIES,
    SERIES_MARKS,
    SMALL,
    WIDTH,
    chart,
    page,
    styled,
    write,
)


@dataclass(frozen=True)
class MergeGraph:
    """One panel of `merge_graphs`: PIDs joined by edges, and each PID's component."""

    name: str
    edges: Array  # (E, 2) rows of the points
    component: Array  # (P,)


@styled
def merge_graphs(points: Array, graphs: Sequence[MergeGraph], *, title: str, note: str = "") -> Figure:
    """The same PIDs in the plane, three graphs a row; a component beyond max(10, 1 %) of them is an alarm.

    `points` (P, 2). An alarming component is drawn red with crosses; others that join PIDs are dark.

    Raises:
        ValueError: no graphs, or shapes that disagree.
    """
    places = as_array(points, "points").astype(float)
    if not graphs or places.ndim != 2 or places.shape[1] != 2:
        raise ValueError(f"merge_graphs needs graphs and points (P, 2), got {len(graphs)} and {places.shape}")
    across, gap, head, tall = 3, 0.14, 0.48, 1.4
    width = (WIDTH - 2 * MARGIN - gap * (across - 1)) / across
    lines = -(-len(graphs) // across)
    items = _graph_legend()
    body = lines * (head + tall + gap)
    done = page(body + legend_height(items), title, note)
    for k, graph in enumerate(graphs):
        x, y = MARGIN + (k % across) * (width + gap), done.top + (k // across) * (head + tall + gap)
        panel(done.axes, x, y, width, head + tall)
        roots = as_array(graph.component, f"component of {graph.name}", (len(places),))
        sizes = np.unique(roots, return_inverse=True, return_counts=True)
        size = sizes[2][sizes[1]]
        alarm = size > max(10, 0.01 * len(places))
        write(done.axes, x + 0.12, y + 0.2, graph.name, BODY, INK, weight="bold", va="baseline")
        words = f"{len(sizes[0])} of {len(places)} left, the largest joins {size.max()}"
        color = PALETTE["wrong"] if alarm.any() else MUTED
        write(done.axes, x + 0.12, y + 0.37, words, SMALL, color, va="baseline")
        axes = chart(done, x + 0.1, y + head, width - 0.2, tall - 0.08, label=graph.name)
        _graph(axes, places, as_array(graph.edges, f"edges of {graph.name}"), size, alarm)
    legend(done.axes, done.top + body, items)
    return done.figure


def _graph(axes: Axes, places: np.ndarray, edges: np.ndarray, size: np.ndarray, alarm: np.ndarray) -> None:
    axes.axis("off")
    ends = places[edges.reshape(-1, 2)]
    colors = [PALETTE["wrong"] if alarm[i] else INK for i in edges.reshape(-1, 2)[:, 0]]
    axes.add_collection(LineCollection(list(ends), colors=colors, linewidths=0.5, zorder=2))
    for mine, color, mark, area in (
        (size == 1, PALETTE["neutral"], "o", 9),
        ((size > 1) & ~alarm, INK, "D", 14),
        (alarm, PALETTE["wrong"], "X", 20),
    ):
        axes.scatter(
            places[mine, 0],
            places[mine, 1],
            s=area,
            marker=mark,
            facecolor=color,
            edgecolor=CARD,
            linewidth=0.4,
            zorder=3,
        )
    low, high = places.min(0), places.max(0)
    room = 0.05 * np.maximum(high - low, 1e-9)
    axes.set(xlim=(low[0] - room[0], high[0] + room[0]), ylim=(low[1] - room[1], high[1] + room[1]))


def _graph_legend() -> list[Item]:
    def mark(style: str, color: str) -> Any:
        return lambda a, u, v: a.plot([u], [v], style, color=color, markersize=5.5)

    return [
        (mark("o", PALETTE["neutral"]), 0.12, "PID on its own"),
        (mark("D", INK), 0.12, "merged with a few"),
        (mark("X", PALETTE["wrong"]), 0.14, "in a component of more than 10"),
    ]


@styled
def threshold_curves(
    taus: Sequence[float | int],
    panels: Mapping[str, Mapping[str, Sequence[float | int]]],
    marks: Mapping[str, float | int],
    *,
    axis: str,
    title: str,
    note: str = "",
) -> Figure:
    """Side by side, what a threshold does: panel title -> name of a line -> one value for each of `taus`.

    `marks` are dashed lines across all panels; lines keep color and mark over the panels.

    Raises:
        ValueError: no panels, or a line that has not one value a threshold.
    """
    names = list(dict.fromkeys(name for lines in panels.values() for name in lines))
    if not names:
        raise ValueError("panels is empty: give at least one line")
    for head, lines in panels.items():
        for name, values in lines.items():
            if len(values) != len(taus):
                raise ValueError(f"{head}: {name!r} has {len(values)} values for {len(taus)} thresholds")
    items = [_line_item(k, name) for k, name in enumerate(names)]
    top = legend_height(items) + 0.52
    done = page(top + 2.3 + 0.42, title, note)
    legend(done.axes, done.top, items)
    slot = (WIDTH - 2 * MARGIN) / len(panels)
    for i, (head, lines) in enumerate(panels.items()):
        axes = chart(done, MARGIN + i * slot + 0.42, done.top + top, slot - 0.62, 2.3, label=head)
        axes.set_title(head, x=-0.02, pad=20)
        for name, values in lines.items():
            _curve(axes, taus, values, names.index(name))
        axes.set_xlabel(axis, fontsize=SMALL)
        axes.set_ylim(bottom=0)
        for k, (word, value) in enumerate(sorted(marks.items(), key=lambda mark: mark[1])):
            axes.axvline(value, color=INK, linewidth=1.2, linestyle=(0, (4, 3)), zorder=1)
            axes.annotate(
                word, (value, 1), xycoords=("data", "axes fraction"), xytext=(0, 3),
                textcoords="offset points", fontsize=SMALL, color=INK,
                ha=("right", "left")[k % 2] if len(marks) > 1 else "center",
            )  # fmt: skip
    return done.figure


DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.5)))


def _line_item(k: int, name: str) -> Item:
    def draw(axes: Axes, x: float, y: float) -> None:
        axes.plot([x - 0.17, x + 0.17], [y, y], color=SERIES[k % 6], linestyle=DASHES[k % 3])
        axes.plot([x], [y], SERIES_MARKS[k % 6], color=SERIES[k % 6], markeredgecolor=PAPER, markersize=6)

    return draw, 0.36, name


def _curve(axes: Axes, x: Sequence[float | int], y: Sequence[float | int], k: int) -> None:
    axes.plot(
        x, y, color=SERIES[k % 6], linestyle=DASHES[k % 3], marker=SERIES_MARKS[k % 6], markersize=5,
        markeredgecolor=PAPER, linewidth=1.8,
    )  # fmt: skip


@styled
def chain(crops: Array, links: Array, ends: float | int, *, title: str, note: str = "") -> Figure:
    """PIDs (n, 3, H, W) of one component, each as similar to the next as `links` (n - 1,) says.

    `ends` is the similarity of the first and the last.

    Raises:
        ValueError: fewer than two crops, or links that do not fit.
    """
    shown = as_images(crops, "crops", "n 3 H W")
    n = len(shown)
    if n < 2:
        raise ValueError(f"a chain has at least two links, got {n} crops")
    near = as_array(links, "links", (n - 1,)).astype(float)
    between = 0.09
    width = min(1.0, (WIDTH - 2 * MARGIN - between * (n - 1)) / n)
    tall = width * shown.shape[1] / shown.shape[2]
    done = page(tall + 0.94, title, note)
    left, top = MARGIN, done.top + 0.32
    for i in range(n):
        x = left + i * (width + between)
        crop(done.axes, shown[i], x, top, width)
        if i < n - 1:
            ends_at = x + width / 2 + 0.05, x + 1.5 * width + between - 0.05
            _bracket(done.axes, *ends_at, top - 0.05, -0.08, INK)
            seam, words = x + width + between / 2, f"{near[i]:.2f}"
            write(done.axes, seam, top - 0.19, words, BODY, INK, ha="center", weight="bold", va="baseline")
    right, level = left + n * (width + between) - between, top + tall + 0.2
    _bracket(done.axes, left + width / 2, right - width / 2, level - 0.12, 0.12, PALETTE["wrong"])
    words = f"first and last: {ends:.2f}".replace("-", "\N{MINUS SIGN}")
    at = (left + right) / 2
    write(
        done.axes, at, level + 0.24, words, BODY, PALETTE["wrong"], ha="center", weight="bold", va="baseline"
    )
    return done.figure


def _bracket(axes: Axes, x: float, right: float, y: float, depth: float, color: str) -> None:
    """A line from `x` to `right` with feet at `y`, `depth` below them."""
    axes.plot([x, x, right, right], [y, y + depth, y + depth, y], color=color, linewidth=1.4)
