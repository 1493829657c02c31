"""Rank-1 of many methods: the printed numbers in one panel, ours in another, each on its own scale."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from dynamix.plots.marks import Item, legend, legend_height
from dynamix.plots.style import (
    BODY,
    INK,
    LINE,
    MARGIN,
    MUTED,
    PAPER,
    SERIES,
    SMALL,
    WIDTH,
    Page,
    chart,
    page,
    styled,
    text_width,
    write,
)  # fmt: skip

HIGHLIGHTS = {"DynaMix": SERIES[0], "ReMix": SERIES[1]}
OTHERS = ("o", "s", "^", "v", "P", "X", "D", "<", ">")  # marks of the other methods, by order of appearance
ROW, HEAD, SPACE = 0.37, 0.3, 0.5  # inches


@dataclass(frozen=True)
class Benchmark:
    """A line of the printed panel: trained on one dataset, tested on another, method -> rank-1 in percent."""

    trained: str
    tested: str
    rank1: Mapping[str, float]


@styled
def methods(
    benchmarks: Sequence[Benchmark],
    ours: Mapping[str, Sequence[float]] | None = None,
    *,
    title: str,
    note: str = "",
) -> Figure:
    """Printed rank-1 of methods per benchmark as dots; beside it `ours` (name -> percent per seed) as bars.

    Benchmarks of one test set stand together. DynaMix and ReMix are highlighted and carry their numbers.
    """
    if not benchmarks:
        raise ValueError("benchmarks is empty: give at least one")
    names = list(dict.fromkeys(name for each in benchmarks for name in each.rank1))
    looks = _looks(names)
    items: list[Item] = [_item(name, looks) for name in sorted(names, key=lambda n: n not in HIGHLIGHTS)]
    tests = list(dict.fromkeys(each.tested for each in benchmarks))
    height = ROW * len(benchmarks) + HEAD * len(tests)
    side = 2.5 if ours else 0.0
    done = page(0.3 + height + 0.3 + legend_height(items), title, note)
    top = done.top + 0.3
    write(
        done.axes, MARGIN, done.top + 0.1, "Printed, real datasets", 10.0, INK, weight="bold", va="baseline"
    )
    labels = max(text_width(each.trained) for each in benchmarks) + 0.2
    width = WIDTH - 2 * MARGIN - labels - side - (SPACE if ours else 0.1)
    axes = chart(done, MARGIN + labels, top, width, height, label="printed", facecolor="none")
    _lines(done, axes, benchmarks, tests, looks, top, labels)
    axes.set(xlim=(0, 106), ylim=(height, 0), yticks=[], xticks=range(0, 101, 20))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g} %")
    axes.grid(axis="y", visible=False)
    if ours:
        left = WIDTH - MARGIN - side
        text = "Ours, Mannequins"
        write(done.axes, left, done.top + 0.1, text, 10.0, INK, weight="bold", va="baseline")
        _ours(chart(done, left, top, side - 0.05, height, label="ours"), ours, height)
    legend(done.axes, top + height + 0.3, items)
    return done.figure


def _looks(names: Sequence[str]) -> dict[str, dict]:
    """Marker options of each method."""
    looks, marks = {}, iter(OTHERS * len(names))
    for name in names:
        if name in HIGHLIGHTS:
            mark = "o" if name == "DynaMix" else "D"
            looks[name] = {
                "marker": mark,
                "s": 85 if mark == "o" else 62,
                "color": HIGHLIGHTS[name],
                "zorder": 5,
            }
        else:
            looks[name] = {"marker": next(marks), "s": 34, "color": "#9AA1AE", "zorder": 4}
    return looks


def _item(name: str, looks: Mapping[str, dict]) -> Item:
    def draw(axes: Axes, x: float, y: float) -> None:
        axes.scatter([x], [y], edgecolor=PAPER, linewidth=0.8, **looks[name])

    return draw, 0.15, name


def _lines(
    done: Page,
    axes: Axes,
    benchmarks: Sequence[Benchmark],
    tests: Sequence[str],
    looks: Mapping[str, dict],
    top: float,
    labels: float,
) -> None:
    """Headings and rows; what is written left of the chart stands `labels` inches before it."""
    axes_width, y = axes.get_position().width * WIDTH, 0.0
    for test in tests:
        head = f"Tested on {test}, trained on"
        box = {"facecolor": PAPER, "edgecolor": "none", "pad": 1.5}
        axes.text(
            -labels / axes_width * 106,
            y + 0.19,
            head,
            fontsize=BODY,
            color=INK,
            weight="bold",
            bbox=box,
            zorder=9,
        )
        y += HEAD
        for each in (b for b in benchmarks if b.tested == test):
            middle = y + ROW / 2
            write(done.axes, MARGIN + 0.06, top + middle + 0.042, each.trained, BODY, MUTED, va="baseline")
            axes.hlines(middle, 0, 100, color=LINE, linewidth=1.0)
            for name, value in each.rank1.items():
                axes.scatter([value], [middle], edgecolor=PAPER, linewidth=0.8, **looks[name])
            _numbers(axes, each.rank1, middle)
            y += ROW


def _numbers(axes: Axes, rank1: Mapping[str, float], y: float) -> None:
    """The highlighted methods' numbers: DynaMix's beside its dot, ReMix's below, clear of other dots."""
    for name, place, side in (("DynaMix", (8, 0), "left"), ("ReMix", (0, -11), "center")):
        if name in rank1:
            axes.annotate(
                f"{rank1[name]:.1f}", (rank1[name], y), xytext=place, textcoords="offset points", ha=side,
                va="center_baseline", fontsize=BODY, color=HIGHLIGHTS[name], weight="bold", zorder=6,
                bbox={"facecolor": PAPER, "edgecolor": "none", "pad": 0.4},
            )  # fmt: skip


def _ours(axes: Axes, ours: Mapping[str, Sequence[float]], height: float) -> None:
    """Bars over seeds with the names above them: they are long."""
    step = min(height / len(ours), 1.1)
    rows = {name: np.asarray(values, float) for name, values in ours.items()}
    most = max(values.max() for values in rows.values())
    for i, (name, values) in enumerate(rows.items()):
        y, mean = i * step + 0.46, values.mean()
        color = HIGHLIGHTS.get(name, "#B9C0CC")
        axes.barh(y, mean, height=0.26, color=color)
        axes.scatter(values, [y] * len(values), s=18, facecolor=PAPER, edgecolor=INK, linewidth=0.9, zorder=5)
        spread = f" ± {values.std(ddof=1):.1f}" if len(values) > 1 else ""
        axes.annotate(
            f"{mean:.1f}{spread}", (max(mean, values.max()), y), xytext=(6, 0), textcoords="offset points",
            va="center_baseline", fontsize=BODY, color=INK, weight="bold" if name in HIGHLIGHTS else "normal",
        )  # fmt: skip
        axes.text(0.01 * most, i * step + 0.2, name, fontsize=BODY, color=INK, va="center_baseline")
    axes.set(xlim=(0, most * 1.45), ylim=(height, 0), yticks=[])
    axes.xaxis.set_major_locator(MaxNLocator(nbins=4))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g} %")
    axes.grid(axis="y", visible=False)
    axes.tick_params(labelsize=SMALL)
