"""Pictures of scores: what mistakes and moved boxes do to them, and how sure they are."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dynamix.plots.marks import (
    Array,
    Item,
    as_array,
    as_images,
    crop,
    legend,
    legend_height,
)
from dynamix.plots.style import (
    BODY,
    CARD,
    INK,
    MARGIN,
    MUTED,
    PAPER,
    SERIES,
    SERIES_MARKS,
    SMALL,
    WIDTH,
    chart,
    page,
    styled,
    text_width,
    write,
)

STEP = SERIES[0]
Interval = tuple[float, float, float]  # low, estimate, high
Changes = Mapping[str, Mapping[str, tuple[float, float]]]  # row -> metric -> (before, after), fractions
MISTAKEN = ("evaluated rightly", "with the mistake")


@styled
def score_changes(
    panels: Mapping[str, Changes], *, title: str, note: str = "", states: tuple[str, str] = MISTAKEN
) -> Figure:
    """What changes do to scores, mistakes above all: per panel and row, each metric before and after.

    `states` names the two.

    Raises:
        ValueError: no panels, or panels with different rows or metrics.
    """
    if not panels:
        raise ValueError("panels is empty: give the changes of at least one model")
    first = next(iter(panels.values()))
    rows, metrics = list(first), list(next(iter(first.values())))
    for name, changes in panels.items():
        if list(changes) != rows or any(list(one) != metrics for one in changes.values()):
            raise ValueError(f"panels[{name!r}] must have the rows {rows} and the metrics {metrics}")
    items = [_mark_item(k, metric) for k, metric in enumerate(metrics)]
    items += [_ring_item(face, state) for face, state in zip((PAPER, MUTED), states, strict=True)]
    head, row = legend_height(items) + 0.36, 0.27 * len(metrics) + 0.2
    done = page(head + row * len(rows) + 0.42, title, note)
    legend(done.axes, done.top, items)
    names = max(text_width(line, BODY, "bold") for name in rows for line in name.split("\n")) + 0.2
    slot = (WIDTH - 2 * MARGIN - names) / len(panels)
    for r, name in enumerate(rows):
        lines = name.split("\n")
        for i, line in enumerate(lines):
            y = done.top + head + row * (r + 0.5) + 0.05 + 0.16 * (i - (len(lines) - 1) / 2)
            write(done.axes, MARGIN, y, line, BODY, INK, weight="bold", va="baseline")
    for p, (name, changes) in enumerate(panels.items()):
        box = (MARGIN + names + p * slot, done.top + head, slot - 0.2, row * len(rows))
        axes = chart(done, *box, label=name)
        axes.set_title(name, pad=8)
        _changes(axes, changes)
    return done.figure


def _changes(axes: Axes, changes: Changes) -> None:
    for r, one in enumerate(changes.values()):
        if r % 2 == 0:
            axes.axhspan(r - 0.5, r + 0.5, color=CARD, zorder=0, linewidth=0)
        for k, (before, after) in enumerate(one.values()):
            y = r + (k - (len(one) - 1) / 2) * 0.38
            color, mark = SERIES[k], SERIES_MARKS[k]
            axes.plot([100 * before, 100 * after], [y, y], color=color, linewidth=2, zorder=2)
            axes.plot(100 * before, y, mark, color=PAPER, markeredgecolor=color, markersize=7, zorder=3)
            axes.plot(100 * after, y, mark, color=color, markersize=6.5, zorder=4)
            far = max(before, after)
            axes.annotate(
                _signed(100 * (after - before)), (100 * far, y), xytext=(8, 0),
                textcoords="offset points", fontsize=SMALL, color=INK, va="center",
            )  # fmt: skip
    axes.set(xlim=(-4, 112), ylim=(len(changes) - 0.5, -0.5), yticks=[], xticks=range(0, 101, 20))
    axes.grid(axis="y", visible=False)
    axes.spines["left"].set_visible(False)
    axes.set_xlabel("score (%), and its change in points", fontsize=SMALL)


def _signed(points: float) -> str:
    text = f"{points:+.1f}".replace("-", "−")
    return "0.0" if text[1:] == "0.0" else text


def _mark_item(k: int, text: str) -> Item:
    def draw(axes: Axes, x: float, y: float) -> None:
        axes.plot([x - 0.14, x + 0.14], [y, y], color=SERIES[k], linewidth=2)
        axes.plot(x, y, SERIES_MARKS[k], color=SERIES[k], markersize=6.5)

    return draw, 0.3, text


def _ring_item(face: str, text: str) -> Item:
    def draw(axes: Axes, x: float, y: float) -> None:
        axes.plot(x, y, "o", color=face, markeredgecolor=MUTED, markersize=6.5)

    return draw, 0.14, text


@styled
def box_shifts(
    images: Array, shifts: Sequence[float | int], scores: Mapping[str, Sequence[float]], *, title: str,
    note: str = "",
) -> Figure:  # fmt: skip
    """One person's crop (S, 3, H, W) with its box moved by growing `shifts`, above the scores at each.

    `shifts` are shares of the box, `scores` maps a metric to S fractions.

    Raises:
        ValueError: numbers of crops, shifts and scores that disagree.
    """
    shown = as_images(images, "images", "S 3 H W")
    S = len(shown)
    x = 100 * as_array(shifts, "shifts", (S,)).astype(float)
    series = {
        name: 100 * as_array(one, f"scores[{name!r}]", (S,)).astype(float) for name, one in scores.items()
    }
    left, right = MARGIN + 0.55, WIDTH - MARGIN - 0.95
    slot = (right - left) / S
    width = min(0.95, slot - 0.12)
    tall = width * shown.shape[1] / shown.shape[2]
    done = page(tall + 0.2 + 2.05 + 0.45, title, note)
    for s in range(S):
        middle = left + slot * (s + 0.5)
        crop(done.axes, shown[s], middle - width / 2, done.top, width)
    axes = chart(done, left, done.top + tall + 0.2, right - left, 2.05, label="scores")
    places = np.arange(S) + 0.5
    ends = _apart([one[-1] for one in series.values()], 9.0)
    for k, (name, values) in enumerate(series.items()):
        axes.plot(places, values, color=SERIES[k], marker=SERIES_MARKS[k], markersize=6)
        axes.annotate(
            name, (places[-1], ends[k]), xytext=(12, 0), textcoords="offset points", va="center",
            color=SERIES[k], weight="bold", annotation_clip=False,
        )  # fmt: skip
        for place, value in zip(places, values, strict=True):
            other = np.mean([one[int(place - 0.5)] for one in series.values()])
            axes.annotate(
                f"{value:.0f}", (place, value), xytext=(0, 7 if value >= other else -15),
                textcoords="offset points", ha="center", fontsize=SMALL, color=SERIES[k],
            )  # fmt: skip
    axes.set(xlim=(0, S), xticks=places, xticklabels=[f"{value:.0f} %" for value in x], ylim=(0, 105))
    axes.set_xlabel("box moved by this share of its width and height, each in a direction of its own")
    axes.set_ylabel("score (%)")
    return done.figure


def _apart(values: list[float], least: float) -> list[float]:
    """`values` moved up where one stands less than `least` above the one below it."""
    order, placed = np.argsort(values), list(values)
    for lower, upper in zip(order[:-1], order[1:], strict=True):
        placed[upper] = max(placed[upper], placed[lower] + least)
    return placed


@styled
def intervals(
    panels: Mapping[str, Mapping[str, Interval]], *, title: str, note: str = "", unit: str = "score (%)"
) -> Figure:
    """Panels of rows, each an estimate with its interval (low, estimate, high), fractions.

    A panel whose intervals go below 0 holds differences: a line marks no difference.

    Raises:
        ValueError: no panels, a panel without rows, an interval not in ascending order.
    """
    if not panels or not all(panels.values()):
        raise ValueError("panels must hold at least one, each with rows")
    for name, rows in panels.items():
        for row, (low, middle, high) in rows.items():
            if not low <= middle <= high:
                raise ValueError(f"panels[{name!r}][{row!r}] is not low, estimate, high in ascending order")
    most = max(map(len, panels.values()))
    done = page(0.34 + 0.36 * most + 0.5, title, note)
    slot = (WIDTH - 2 * MARGIN) / len(panels)
    for p, (name, rows) in enumerate(panels.items()):
        names = max(text_width(row, BODY) for row in rows) + 0.15
        left = MARGIN + p * slot
        tall = 0.36 * len(rows)
        write(done.axes, left, done.top + 0.12, name, 10.0, INK, weight="bold", va="baseline")
        for r, row in enumerate(rows):
            write(done.axes, left, done.top + 0.34 + 0.36 * (r + 0.5) + 0.04, row, BODY, INK, va="baseline")
        axes = chart(done, left + names, done.top + 0.34, slot - names - 0.25, tall, label=name)
        _interval_panel(axes, list(rows.values()), unit)
    return done.figure


def _interval_panel(axes: Axes, rows: list[Interval], unit: str) -> None:
    differences = min(low for low, _, _ in rows) < 0
    for r, (low, middle, high) in enumerate(rows):
        sure = not differences or low > 0 or high < 0
        color = STEP if sure else MUTED
        axes.plot([100 * low, 100 * high], [r, r], color=color, linewidth=3, solid_capstyle="butt")
        for end in (low, high):
            axes.plot([100 * end] * 2, [r - 0.14, r + 0.14], color=color, linewidth=1.6)
        axes.plot(100 * middle, r, "o", color=color if sure else PAPER, markeredgecolor=color, markersize=6.5)
        text = _signed(100 * middle) if differences else f"± {50 * (high - low):.1f}"
        axes.annotate(
            text, (100 * high, r), xytext=(6, 0), textcoords="offset points",
            va="center", fontsize=SMALL, color=INK,
        )  # fmt: skip
    lowest, highest = 100 * min(low for low, _, _ in rows), 100 * max(high for _, _, high in rows)
    room = 0.06 * (highest - lowest)
    axes.set(ylim=(len(rows) - 0.5, -0.5), yticks=[], xlim=(lowest - room, highest + 4.5 * room))
    axes.grid(axis="y", visible=False)
    axes.spines["left"].set_visible(False)
    if differences:
        axes.axvline(0, color=INK, linewidth=1.2, linestyle=(0, (3, 2)), zorder=1)
    axes.set_xlabel("difference (points)" if differences else unit, fontsize=SMALL)
