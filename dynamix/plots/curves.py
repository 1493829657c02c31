"""Charts: training curves, result bars, similarity histograms."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from dynamix.plots.marks import Array, as_array, legend, legend_height
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
    write,
)

Points = list[tuple[int, float]]


@styled
def training_curves(runs: Mapping[str, Sequence[Mapping[str, Any]]], *, title: str) -> Figure:
    """Per epoch: total loss; pseudo-label F1, raw and refined; mAP averaged over the unseen worlds.

    `runs` maps a name to its epoch records: `epoch`, `terms` with `total`, and where there are any
    `quality_before`, `quality_after` (with `f1`) and `scores` (world -> `mAP`), fractions in [0, 1].
    A panel without data is left out.
    """
    if not runs or not all(len(records) for records in runs.values()):
        raise ValueError("runs is empty or has a run without records: give at least one epoch of each")
    panels = _curve_panels(runs)
    items = [_series_item(k, name) for k, name in enumerate(runs)]
    head = legend_height(items)
    done = page(head + 2.62, title)
    legend(done.axes, done.top, items)
    slot = (WIDTH - 2 * MARGIN) / len(panels)
    last = max(records[-1]["epoch"] + 1 for records in runs.values())
    side = max(0.04 * last, 0.3)
    for i, (name, unit, lines) in enumerate(panels):
        axes = chart(
            done, MARGIN + i * slot + 0.48, done.top + head + 0.32, slot - 0.6, 1.95, label=name,
        )  # fmt: skip
        axes.set_title(name, x=-0.02, pad=9)
        _curve_panel(axes, lines, unit)
        axes.set_xlim(1 - side, last + side)
    return done.figure


def _curve_panels(runs: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[tuple[str, str, list]]:
    """(title, unit, [(run number, dashed, points)]) of the panels that have data."""
    loss, quality, scores = [], [], []
    for k, records in enumerate(runs.values()):
        loss.append((k, False, _points(records, lambda r: r["terms"]["total"])))
        quality.append((k, True, _points(records, lambda r: 100 * r["quality_before"]["f1"])))
        quality.append((k, False, _points(records, lambda r: 100 * r["quality_after"]["f1"])))
        scores.append((k, False, _points(records, _mean_map)))
    panels = [
        ("Total loss", "", loss),
        ("Pseudo-label F1", " %", quality),
        ("mAP on unseen worlds", " %", scores),
    ]
    kept = [(name, unit, [line for line in lines if line[2]]) for name, unit, lines in panels]
    return [each for each in kept if each[2]]


def _mean_map(record: Mapping[str, Any]) -> float:
    values = [scores["mAP"] for scores in record["scores"].values()]
    return 100 * sum(values) / len(values) if values else math.nan


def _points(records: Sequence[Mapping[str, Any]], value) -> Points:
    """(epoch, value) of the records that have it; epochs are shown from 1."""
    points = []
    for record in records:
        try:
            y = float(value(record))
        except (KeyError, TypeError):  # an epoch without this measurement
            continue
        if math.isfinite(y):
            points.append((int(record["epoch"]) + 1, y))
    return points


def _curve_panel(axes: Axes, lines: list[tuple[int, bool, Points]], unit: str) -> None:
    for k, dashed, points in lines:
        x, y = zip(*points, strict=True)
        color = SERIES[k % len(SERIES)]
        mark = SERIES_MARKS[k % len(SERIES_MARKS)]
        style: dict[str, Any] = {"linestyle": (0, (2, 2)), "linewidth": 1.4} if dashed else {"linewidth": 2.0}
        if not dashed:
            style |= {
                "marker": mark,
                "markersize": 4.5,
                "markevery": max(1, len(x) // 6),
                "markeredgecolor": PAPER,
            }
        axes.plot(x, y, color=color, **style)
    axes.set_xlabel("epoch", fontsize=SMALL)
    axes.margins(x=0.04, y=0.12)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=5, min_n_ticks=1))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}{unit}")
    if any(dashed for _, dashed, _ in lines):
        axes.plot([], [], color=MUTED, linestyle=(0, (2, 2)), linewidth=1.4, label="tracker's labels")
        axes.plot([], [], color=MUTED, linewidth=2, label="after relabeling")
        axes.legend(loc="best", fontsize=SMALL, labelcolor=MUTED, handlelength=1.8)


def _series_item(k: int, name: str) -> tuple:
    color, mark = SERIES[k % len(SERIES)], SERIES_MARKS[k % len(SERIES_MARKS)]

    def draw(axes: Axes, x: float, y: float) -> None:
        axes.plot([x - 0.14, x + 0.14], [y, y], color=color, linewidth=2.0)
        axes.plot([x], [y], color=color, marker=mark, markersize=5.5, markeredgecolor=PAPER)

    return draw, 0.3, name


@styled
def results_bars(table: Sequence[Mapping[str, Any]], *, title: str, highlight: str | None = None) -> Figure:
    """A results table as bars: mean over seeds, its standard deviation, and every seed as a dot.

    A row is `{"name": …, "rank1": …, "mAP": …}`; a metric is the seeds' scores, or a mapping with `mean`,
    `std` and perhaps `values`; fractions in [0, 1]. The row `highlight` (default: the last) stands out.
    """
    rows = [(str(row["name"]), _spread(row, "rank1"), _spread(row, "mAP")) for row in table]
    if not rows:
        raise ValueError("table is empty: give at least one row")
    strong = rows[-1][0] if highlight is None else highlight
    if strong not in [name for name, _, _ in rows]:
        raise ValueError(f"highlight {strong!r} names no row of the table")
    names = max(text_width(name, BODY, "bold") for name, _, _ in rows) + 0.15
    if names > 3.4:
        raise ValueError("table has a row whose name does not fit beside its bars: shorten it to 40 letters")
    several = any(len(spread[2]) > 1 or spread[1] > 0 for row in rows for spread in row[1:])
    note = "Bars: mean over seeds. Lines: ± standard deviation. Dots: the seeds." if several else ""
    height = 0.42 * len(rows) + 0.1
    done = page(0.3 + height + 0.22, title, note)
    slot = (WIDTH - 2 * MARGIN - names) / 2
    for i, metric in enumerate(("Rank-1", "mAP")):
        axes = chart(done, MARGIN + names + i * slot, done.top + 0.3, slot - 0.3, height, label=metric)
        axes.set_title(metric, pad=6)
        _bars(axes, [(name, spread[i]) for name, *spread in rows], strong)
        if i == 0:
            _row_names(done, [name for name, _, _ in rows], strong, names, height)
    return done.figure


def _spread(row: Mapping[str, Any], metric: str) -> tuple[float, float, list[float]]:
    """(mean, standard deviation, seeds) in percent."""
    if metric not in row:
        raise ValueError(f"table row {row.get('name')!r} has no {metric!r}")
    value = row[metric]
    if isinstance(value, Mapping):
        seeds = [100 * float(v) for v in value.get("values", ())]
        return 100 * float(value["mean"]), 100 * float(value.get("std", 0.0)), seeds
    seeds = [100 * float(v) for v in np.atleast_1d(value)]
    return float(np.mean(seeds)), float(np.std(seeds, ddof=1)) if len(seeds) > 1 else 0.0, seeds


def _bars(axes: Axes, rows: list[tuple[str, tuple[float, float, list[float]]]], strong: str) -> None:
    for y, (name, (mean, std, seeds)) in enumerate(rows):
        color = SERIES[0] if name == strong else "#B9C0CC"
        axes.barh(y, mean, height=0.62, color=color)
        axes.hlines(
            y - 0.12, mean - std, mean + std, color=MUTED if name != strong else "#8FA0C8", linewidth=2.2
        )
        axes.scatter(
            seeds,
            [y + 0.14] * len(seeds),
            s=22,
            facecolor=PAPER,
            edgecolor=INK,
            linewidth=0.9,
            alpha=0.9,
            zorder=5,
        )
        far = max([mean + std, *seeds])
        text = f"{mean:.1f}" + (f" ± {std:.1f}" if std > 0 else "")
        axes.annotate(
            text, (far, y), xytext=(6, 0), textcoords="offset points", va="center", fontsize=BODY, color=INK,
            weight="bold" if name == strong else "normal",
        )  # fmt: skip
    most = max(max([mean + std, *seeds]) for _, (mean, std, seeds) in rows)
    axes.set(xlim=(0, max(most, 1.0) * 1.5), ylim=(len(rows) - 0.5, -0.5), yticks=[])
    axes.xaxis.set_major_locator(MaxNLocator(nbins=4))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g} %")
    axes.grid(axis="y", visible=False)


def _row_names(done: Page, names: list[str], strong: str, width: float, height: float) -> None:
    for i, name in enumerate(names):
        y = done.top + 0.3 + (i + 0.5) * height / len(names)
        weight = "bold" if name == strong else "normal"
        write(
            done.axes,
            MARGIN + width - 0.12,
            y + 0.042,
            name,
            BODY,
            INK,
            ha="right",
            va="baseline",
            weight=weight,
        )


@styled
def similarity_histograms(
    groups: Mapping[str, Array | Sequence[float]], thresholds: Mapping[str, float], *, title: str
) -> Figure:
    """Distributions of cosine similarities, one row per group, with the thresholds across all rows.

    A group named as a meaning of `PALETTE` takes its color. Each row is scaled to its own peak; the tick
    below marks the median.
    """
    if not groups:
        raise ValueError("groups is empty: give at least one group of similarities")
    values = {
        name: as_array(each, f"groups[{name!r}]").astype(float).ravel() for name, each in groups.items()
    }
    for name, each in values.items():
        if not len(each) or not np.isfinite(each).all():
            raise ValueError(f"groups[{name!r}] must hold finite similarities, got {len(each)} values")
    low = min(each.min() for each in values.values())
    high = max([1.0, *(each.max() for each in values.values())])
    edges = np.linspace(min(low, *thresholds.values(), 0.0) if thresholds else min(low, 0.0), high, 61)
    row, head = 0.72, 0.36 if thresholds else 0.1
    names = min(max(text_width(name, BODY, "bold") for name in values) + 0.2, 2.6)
    done = page(head + row * len(values) + 0.36, title)
    axes = chart(
        done,
        MARGIN + names,
        done.top + head,
        WIDTH - 2 * MARGIN - names - 0.1,
        row * len(values),
        label="histograms",
    )
    for i, (name, each) in enumerate(values.items()):
        _ridge(axes, each, edges, len(values) - 1 - i, PALETTE.get(name, SERIES[i % len(SERIES)]))
        y = done.top + head + (i + 0.62) * row
        write(done.axes, MARGIN, y, name, BODY, INK, weight="bold", va="baseline")
        write(done.axes, MARGIN, y + 0.17, f"{len(each):,} values", SMALL, MUTED, va="baseline")
    _threshold_lines(axes, thresholds)
    axes.set(xlim=(edges[0], edges[-1]), ylim=(-0.12, len(values)), yticks=[])
    axes.set_xlabel("cosine similarity", fontsize=BODY)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="y", visible=False)
    return done.figure


def _ridge(axes: Axes, values: np.ndarray, edges: np.ndarray, level: int, color: str) -> None:
    """One histogram standing on `level`, its peak 0.8 above, with the median below it."""
    counts, _ = np.histogram(values, edges)
    heights = level + 0.8 * counts / max(counts.max(), 1)
    axes.stairs(heights, edges, baseline=level, fill=True, color=color, alpha=0.35)
    axes.stairs(heights, edges, baseline=level, color=color, linewidth=1.4)
    axes.axhline(level, color=LINE, linewidth=0.8)
    axes.plot(
        [np.median(values)], [level], marker="^", markersize=7, color=color, markeredgecolor=PAPER, zorder=5
    )


def _threshold_lines(axes: Axes, thresholds: Mapping[str, float]) -> None:
    """Dashed lines with their names on top, on two levels so that neighbors do not collide."""
    for i, (name, value) in enumerate(sorted(thresholds.items(), key=lambda item: item[1])):
        axes.axvline(value, color=INK, linewidth=1.3, linestyle=(0, (4, 3)))
        axes.annotate(
            f"{name} {value:g}", (value, 1), xycoords=("data", "axes fraction"), xytext=(0, 4 + 13 * (i % 2)),
            textcoords="offset points", ha="center", fontsize=BODY, color=INK,
        )  # fmt: skip
