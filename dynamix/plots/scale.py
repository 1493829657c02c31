"""Pictures of cost: where an epoch's time goes, how costs grow, what the benchmarks measured."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import LogLocator

from dynamix.plots.marks import legend, legend_height, rounded
from dynamix.plots.style import (
    BODY,
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
    text_width,
    write,
)

# Light and dark in turns, so that neighbors differ without color as well.
SHARES = ("#222C4A", "#C9A26B", "#4E93A8", "#D9B8DD", "#7C8A2B", "#D2699E")
DARK = {"#222C4A", "#4E93A8", "#7C8A2B"}
OURS, OTHERS = SERIES[0], MUTED
EPOCH_ROW = 0.74  # inches
UNITS = (("years", 365.25 * 86400), ("days", 86400.0), ("h", 3600.0), ("min", 60.0), ("s", 1.0), ("ms", 1e-3))


def duration(seconds: float | int) -> str:
    """Seconds in the unit that people would use: 36.0 h, 1.2 min, 340 ms."""
    unit, size = next(((u, s) for u, s in UNITS if seconds >= 1.5 * s), UNITS[-1])
    value = seconds / size
    return f"{value:,.0f} {unit}" if value >= 99.5 or unit == "ms" else f"{value:.1f} {unit}"


def amount(value: float | int) -> str:
    """A large number in a few letters: 434K, 1.7M, 100M."""
    for letter, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("K", 1e3)):
        if value >= size:
            value, unit = value / size, letter
            return f"{value:,.0f}{unit}" if value >= 100 else f"{value:.3g}{unit}"
    return f"{value:.3g}"


@styled
def epoch_bars(rows: Mapping[str, Mapping[str, float | int]], *, title: str, note: str = "") -> Figure:
    """The shares of an epoch's parts, one bar a row, with the epoch's length behind it; seconds in.

    Raises:
        ValueError: no rows, rows with different parts, a row without any time.
    """
    if not rows:
        raise ValueError("rows is empty: give the seconds of at least one epoch")
    parts = list(next(iter(rows.values())))
    for name, seconds in rows.items():
        if list(seconds) != parts or not sum(seconds.values()) > 0 or len(parts) > len(SHARES):
            raise ValueError(f"rows[{name!r}] must have the parts {', '.join(parts)} and some time in them")
    items = [_swatch(SHARES[k], part) for k, part in enumerate(parts)]
    head = legend_height(items) + 0.12
    done = page(head + EPOCH_ROW * len(rows) - 0.12, title, note)
    legend(done.axes, done.top, items)
    names = max(text_width(name, BODY, "bold") for name in rows) + 0.15
    totals = [duration(sum(seconds.values())) for seconds in rows.values()]
    after = max(text_width(total, 11.0, "bold") for total in totals) + 0.15
    width = WIDTH - 2 * MARGIN - names - after
    for i, (name, seconds) in enumerate(rows.items()):
        y = done.top + head + EPOCH_ROW * i
        write(done.axes, MARGIN, y + 0.26, name, BODY, INK, weight="bold", va="baseline")
        small = _share_bar(done.axes, MARGIN + names, y, width, list(seconds.values()))
        rest = ", ".join(f"{parts[k]} {_percent(seconds[parts[k]] / sum(seconds.values()))}" for k in small)
        write(done.axes, MARGIN + names + width, y + 0.51, rest, SMALL, MUTED, ha="right", va="baseline")
        write(
            done.axes,
            WIDTH - MARGIN,
            y + 0.27,
            totals[i],
            11.0,
            INK,
            weight="bold",
            ha="right",
            va="baseline",
        )
    return done.figure


def _swatch(color: str, text: str) -> tuple:
    def draw(axes: Axes, x: float, y: float) -> None:
        axes.add_patch(rounded(x - 0.08, y - 0.07, 0.16, 0.14, 0.03, facecolor=color, edgecolor="none"))

    return draw, 0.16, text


def _share_bar(axes: Axes, x: float, y: float, width: float, values: list[float | int]) -> list[int]:
    """A bar of 0.36 inches, with percentages and times; returns the shares that have no room for them."""
    total, small = sum(values), []
    for k, value in enumerate(values):
        part = width * value / total
        axes.add_patch(Rectangle((x, y), part, 0.36, facecolor=SHARES[k], edgecolor=PAPER, linewidth=1.0))
        place: Any = {"color": "white" if SHARES[k] in DARK else INK, "ha": "center", "va": "baseline"}
        percent, time = _percent(value / total), duration(value)
        if part > text_width(time, SMALL - 1) + 0.1:
            write(axes, x + part / 2, y + 0.16, percent, SMALL, weight="bold", **place)
            write(axes, x + part / 2, y + 0.295, time, SMALL - 1, **place)
        elif part > text_width(percent, SMALL, "bold") + 0.06:
            write(axes, x + part / 2, y + 0.22, percent, SMALL, weight="bold", **place)
        else:
            small.append(k)
        x += part
    return small


def _percent(share: float | int) -> str:
    return f"{share:.0%}" if share >= 0.01 else f"{share:.1%}" if share >= 0.001 else "< 0.1%"


Line = tuple[Sequence[float | int], Sequence[float | int]]  # sizes and costs


@dataclass(frozen=True, kw_only=True)
class Growth:
    """One panel of `growth`: costs against a size, both on logarithmic axes."""

    title: str
    x: str  # what grows
    y: str  # the cost and its unit
    lines: Mapping[str, Line]
    dashed: Mapping[str, Line] = field(default_factory=dict)  # not ours
    labels: Mapping[str, str] = field(default_factory=dict)  # name of a line -> what stands at its end


@styled
def growth(panels: Sequence[Growth], *, title: str, note: str = "") -> Figure:
    """Costs against size, side by side: a straight line is a power law and its slope the exponent.

    Raises:
        ValueError: no panel, a line without points or with ones that have no logarithm.
    """
    if not panels:
        raise ValueError("panels is empty: give at least one")
    for panel in panels:
        for name, (x, y) in {**panel.lines, **panel.dashed}.items():
            if not len(x) or len(x) != len(y) or min(*x, *y, 1.0) <= 0:
                raise ValueError(f"{panel.title}: line {name!r} needs as many positive costs as sizes")
    names = list(dict.fromkeys(name for panel in panels for name in panel.lines))
    others = list(dict.fromkeys(name for panel in panels for name in panel.dashed))
    items = [_line_item(SERIES[k % len(SERIES)], SERIES_MARKS[k % 6], name) for k, name in enumerate(names)]
    items += [_line_item(OTHERS, "X", name, dashed=True) for name in others]
    head = legend_height(items) if len(items) > 1 else 0.0
    done = page(head + 2.9, title, note)
    if head:
        legend(done.axes, done.top, items)
    slot = (WIDTH - 2 * MARGIN) / len(panels)
    for i, panel in enumerate(panels):
        axes = chart(
            done, MARGIN + i * slot + 0.62, done.top + head + 0.34, slot - 0.9, 2.1, label=panel.title
        )
        axes.set_title(panel.title, x=-0.02, pad=9)
        _growth_panel(axes, panel, names)
    return done.figure


def _line_item(color: str, mark: str, name: str, dashed: bool = False) -> tuple:
    style: Any = (0, (2, 2)) if dashed else "-"

    def draw(axes: Axes, x: float, y: float) -> None:
        axes.plot([x - 0.14, x + 0.14], [y, y], color=color, linewidth=2.0, linestyle=style)
        axes.plot([x], [y], color=color, marker=mark, markersize=5.5, markeredgecolor=PAPER)

    return draw, 0.3, name


def _growth_panel(axes: Axes, panel: Growth, names: list[str]) -> None:
    axes.set(xscale="log", yscale="log")
    for name, (x, y) in panel.lines.items():
        k = names.index(name)
        _line(axes, x, y, SERIES[k % len(SERIES)], SERIES_MARKS[k % 6], "-", panel.labels.get(name, ""))
    for name, (x, y) in panel.dashed.items():
        _line(axes, x, y, OTHERS, "X", (0, (2, 2)), panel.labels.get(name, ""))
    sizes = sorted({float(v) for x, _ in [*panel.lines.values(), *panel.dashed.values()] for v in x})
    axes.set_xticks(sizes[:: math.ceil(len(sizes) / 4)], minor=False)
    axes.margins(x=0.12, y=0.15)
    low, high = axes.get_ylim()
    if high < 8 * low:  # a flat line must look flat
        low, high = math.sqrt(low * high) / 4, math.sqrt(low * high) * 4
        axes.set_ylim(low, high)
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 3.0) if high < 300 * low else (1.0,), numticks=9))
    axes.xaxis.set_major_formatter(lambda value, _: amount(value))
    axes.yaxis.set_major_formatter(lambda value, _: amount(value))
    axes.minorticks_off()
    axes.set_xlabel(panel.x, fontsize=SMALL)
    axes.set_ylabel(panel.y, fontsize=SMALL)


def _line(
    axes: Axes,
    x: Sequence[float | int],
    y: Sequence[float | int],
    color: str,
    mark: str,
    style: Any,
    label: str,
) -> None:
    axes.plot(
        x, y, color=color, linestyle=style, marker=mark, markersize=5.5, markeredgecolor=PAPER, linewidth=1.8
    )
    if label:
        axes.annotate(
            label, (x[-1], y[-1]), xytext=(6, -3), textcoords="offset points", fontsize=SMALL, color=color,
            weight="bold",
        )  # fmt: skip


@styled
def dumbbells(
    rows: Mapping[str, tuple[float | int, float | int]],
    ends: tuple[str, str],
    *,
    title: str,
    note: str = "",
    limits: Mapping[str, float | int] | None = None,
    show: Callable[[float], str] = duration,
) -> Figure:
    """Two costs of each row on one logarithmic axis, the first hollow; `limits` are lines across.

    Raises:
        ValueError: no rows, or a cost that has no logarithm.
    """
    if not rows or min(value for pair in rows.values() for value in pair) <= 0:
        raise ValueError("rows must hold pairs of positive costs")
    names = max(text_width(name, BODY, "bold") for name in rows) + 0.25
    items = [_dot_item(ends[0], hollow=True), _dot_item(ends[1], hollow=False)]
    done = page(legend_height(items) + 0.2 + 0.42 * len(rows) + 0.1, title, note)
    legend(done.axes, done.top, items)
    top = done.top + legend_height(items) + (0.2 if limits else 0.04)
    axes = chart(done, MARGIN + names, top, WIDTH - 2 * MARGIN - names, 0.42 * len(rows), label="costs")
    for i, (name, (first, second)) in enumerate(rows.items()):
        write(done.axes, MARGIN, top + 0.42 * (i + 0.5) + 0.04, name, BODY, INK, weight="bold", va="baseline")
        axes.plot([first, second], [i, i], color=SERIES[3], linewidth=2.4, zorder=2)
        axes.plot([first], [i], "o", color=PAPER, markeredgecolor=OURS, markersize=7, markeredgewidth=1.6)
        axes.plot([second], [i], "o", color=OURS, markersize=8)
        for value, side in ((min(first, second), -1), (max(first, second), 1)):
            axes.annotate(
                show(value), (value, i), xytext=(8 * side, 0), textcoords="offset points", fontsize=SMALL,
                ha="right" if side < 0 else "left", va="center", color=INK,
                bbox={"facecolor": PAPER, "edgecolor": "none", "pad": 0.8},
            )  # fmt: skip
    values = [value for pair in rows.values() for value in pair]
    axes.set(xscale="log", ylim=(len(rows) - 0.5, -0.5), yticks=[], xlim=(min(values) / 30, max(values) * 30))
    axes.minorticks_off()
    axes.set_xticks([])
    axes.spines["left"].set_visible(False)
    axes.spines["bottom"].set_visible(False)
    for name, value in (limits or {}).items():
        axes.axvline(value, color=PALETTE["wrong"], linewidth=1.2, linestyle=(0, (4, 3)), zorder=1)
        axes.annotate(
            name, (value, 1), xycoords=("data", "axes fraction"), xytext=(0, 3), textcoords="offset points",
            ha="center", fontsize=SMALL, color=PALETTE["wrong"],
        )  # fmt: skip
    return done.figure


def _dot_item(text: str, hollow: bool) -> tuple:
    def draw(axes: Axes, x: float, y: float) -> None:
        face = PAPER if hollow else OURS
        axes.plot([x], [y], "o", color=face, markeredgecolor=OURS, markersize=7, markeredgewidth=1.6)

    return draw, 0.18, text
