"""Centroids from few images: who was drawn, how an average follows, and how far off it is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Rectangle

from dynamix.plots.marks import Array, Item, as_array, as_images, crop, legend, legend_height
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

Line = tuple[Sequence[float | int], Sequence[float | int]]  # x and y
DOT, STRIP = 0.07, 0.2  # inches: radius of a draw's disc, height of an epoch's row of discs
EXACT, FOLLOWER, BEST = INK, SERIES[1], SERIES[2]


@styled
def draws(images: Array, drawn: Array, *, names: Sequence[str], title: str, note: str = "") -> Figure:
    """Crops (P, n, 3, H, W) of identities, with a disc per epoch, full where drawn (E, P, n)."""
    shown = as_images(images, "images", "P n 3 H W")
    P, n = shown.shape[:2]
    taken = as_array(drawn, "drawn").astype(bool)
    if taken.ndim != 3 or taken.shape[1:] != (P, n):
        raise ValueError(f"drawn must have shape (E, {P}, {n}), got {taken.shape}")
    if len(names) != P:
        raise ValueError(f"names must name {P} identities, got {len(names)}")
    epochs = [f"epoch {e + 1}" for e in range(len(taken))]
    left = MARGIN + max(text_width(word, BODY, "bold") for word in (*names, *epochs)) + 0.15
    width = min((WIDTH - MARGIN - left + 0.08) / n - 0.08, 0.85)
    tall = width * shown.shape[2] / shown.shape[3]
    block = tall + STRIP * len(taken) + 0.26
    items = [_disc_item(True, "drawn"), _disc_item(False, "not embedded")]
    head = legend_height(items) + 0.06
    done = page(head + block * P - 0.2, title, note)
    legend(done.axes, done.top, items)
    for p in range(P):
        y = done.top + head + block * p
        write(done.axes, left - 0.15, y + tall / 2, names[p], BODY, INK, weight="bold", ha="right")
        for e, word in enumerate(epochs):
            level = y + tall + STRIP * (e + 0.6)
            write(done.axes, left - 0.15, level + 0.035, word, SMALL, MUTED, ha="right", va="baseline")
        for i in range(n):
            x = left + i * (width + 0.08)
            crop(done.axes, shown[p, i], x, y, width)
            for e in range(len(taken)):
                _disc(done.axes, x + width / 2, y + tall + STRIP * (e + 0.6), bool(taken[e, p, i]))
    return done.figure


def _disc(axes: Axes, x: float, y: float, full: bool) -> None:
    face, edge = (PALETTE["single-camera"], INK) if full else (PAPER, PALETTE["neutral"])
    axes.add_patch(Circle((x, y), DOT, facecolor=face, edgecolor=edge, linewidth=1.0, zorder=5))


def _disc_item(full: bool, text: str) -> Item:
    return (lambda axes, x, y: _disc(axes, x, y, full)), 2 * DOT, text


@styled
def pursuit(
    images: Array, exact: Array, paths: Mapping[str, Array], *, title: str, note: str = "", exact_name: str
) -> Figure:
    """One identity in the plane, a panel per follower: its images (T, n, 2), `exact` (T, 2), `paths` (T, 2).

    A thin line joins where the follower is with where it should be at the same epoch: its error.
    """
    place = as_array(exact, "exact")
    if place.ndim != 2 or place.shape[1] != 2:
        raise ValueError(f"exact must have shape (T, 2), got {place.shape}")
    cloud = as_array(images, "images")
    if cloud.ndim != 3 or cloud.shape[::2] != place.shape:
        raise ValueError(f"images must have shape ({len(place)}, n, 2), got {cloud.shape}")
    if not paths:
        raise ValueError("paths is empty: give at least one follower")
    follow = {name: as_array(path, f"paths[{name!r}]", place.shape) for name, path in paths.items()}
    items = [
        _path_item(EXACT, "o", "-", exact_name), _path_item(FOLLOWER, "D", (0, (3, 1.5)), "what Eq. 3 keeps"),
        (_error_item, 0.3, "error"), (_cloud_item, 0.12, "images, first and last epoch"),
    ]  # fmt: skip
    head = legend_height(items)
    slot = (WIDTH - 2 * MARGIN + 0.16) / len(follow)
    side = slot - 0.16
    ends = np.concatenate([cloud[0], cloud[-1], place, *follow.values()])
    edge = 0.03 * np.ptp(ends, axis=0)
    low, high = ends.min(0) - edge, ends.max(0) + edge
    tall = min(side * float((high[1] - low[1]) / (high[0] - low[0])), 4.0)
    done = page(head + 0.5 + tall, title, note)
    legend(done.axes, done.top, items)
    for i, (name, path) in enumerate(follow.items()):
        box = (MARGIN + i * slot, done.top + head + 0.5, side, tall)
        axes = chart(done, *box, label=name, aspect="equal")
        axes.set(xticks=[], yticks=[], xlim=(low[0], high[0]), ylim=(low[1], high[1]))
        for spine in axes.spines.values():
            spine.set_visible(False)
        off = np.hypot(*(path - place).T).mean()
        write(done.axes, box[0], box[1] - 0.25, name, 10.0, INK, weight="bold", va="baseline")
        write(done.axes, box[0], box[1] - 0.07, f"mean error {off:.2f}", SMALL, MUTED, va="baseline")
        _pursue(axes, cloud, place, path)
    return done.figure


def _pursue(axes: Axes, cloud: np.ndarray, place: np.ndarray, path: np.ndarray) -> None:
    for when, fade in ((0, 0.45), (-1, 0.9)):
        axes.plot(*cloud[when].T, ".", color=PALETTE["neutral"], alpha=fade, markersize=4, zorder=1)
    for right, kept in zip(place, path, strict=True):
        axes.plot(*np.stack([right, kept]).T, color=MUTED, linewidth=0.9, zorder=2)
    axes.plot(*place.T, "-o", color=EXACT, markersize=4.5, linewidth=1.4, markeredgecolor=PAPER, zorder=4)
    axes.plot(
        *path.T, marker="D", linestyle=(0, (3, 1.5)), color=FOLLOWER, markersize=5, linewidth=1.4,
        markeredgecolor=PAPER, zorder=5,
    )  # fmt: skip


def _path_item(color: str, mark: str, style: Any, text: str) -> Item:
    def draw(axes: Axes, x: float, y: float) -> None:
        axes.plot([x - 0.16, x + 0.16], [y, y], color=color, linestyle=style, linewidth=1.6)
        axes.plot([x], [y], color=color, marker=mark, markersize=5.5, markeredgecolor=PAPER)

    return draw, 0.32, text


def _error_item(axes: Axes, x: float, y: float) -> None:
    axes.plot([x - 0.14, x + 0.14], [y, y], color=MUTED, linewidth=0.9)


def _cloud_item(axes: Axes, x: float, y: float) -> None:
    axes.plot([x - 0.04, x + 0.04], [y + 0.02, y - 0.03], ".", color=PALETTE["neutral"], markersize=5)


@dataclass(frozen=True, kw_only=True)
class Errors:
    """One panel of `errors`: what was measured as marks on lines, what a formula predicts as dashes."""

    title: str
    x: str
    y: str
    lines: Mapping[str, Line]
    formula: Mapping[str, Line] = field(default_factory=dict)  # by the name of the line it predicts
    lowest: bool = False  # ring each line's lowest point
    log_x: bool = False
    log_y: bool = False
    unit: str = ""  # behind the numbers of the y axis


@styled
def errors(panels: Sequence[Errors], *, title: str, note: str = "") -> Figure:
    """Errors against what they depend on, panels side by side; a name has one color and mark in all.

    Panels of one `y` have one scale.

    Raises:
        ValueError: no panel, a line without points or of unequal sides, a formula for no line, seven names.
    """
    if not panels:
        raise ValueError("panels is empty: give at least one")
    for panel in panels:
        for name, (x, y) in (*panel.lines.items(), *panel.formula.items()):
            if not len(x) or len(x) != len(y):
                raise ValueError(f"{panel.title}: line {name!r} has {len(x)} x and {len(y)} y")
        for name in panel.formula:
            if name not in panel.lines:
                raise ValueError(f"{panel.title}: the formula {name!r} predicts no line of the panel")
    names = list(dict.fromkeys(name for panel in panels for name in panel.lines))
    if len(names) > len(SERIES):
        raise ValueError(f"{len(names)} names of lines, and colors for {len(SERIES)}: give fewer")
    items = [_path_item(*_look(k), name) for k, name in enumerate(names)]
    if any(panel.formula for panel in panels):
        items.append((_formula_item, 0.3, "formula"))
    if any(panel.lowest for panel in panels):
        items.append((_lowest_item, 0.16, "lowest"))
    head = legend_height(items)
    done = page(head + 2.92, title, note)
    legend(done.axes, done.top, items)
    slot, drawn = (WIDTH - 2 * MARGIN) / len(panels), []
    for i, panel in enumerate(panels):
        box = (MARGIN + i * slot + 0.56, done.top + head + 0.36, slot - 0.72, 2.25)
        axes = chart(done, *box, label=panel.title)
        axes.set_title(panel.title, x=-0.02, pad=9)
        _error_panel(axes, panel, names)
        drawn.append(axes)
    for panel, axes in zip(panels, drawn, strict=True):  # the same measure, the same scale
        alike = [other.get_ylim() for each, other in zip(panels, drawn, strict=True) if each.y == panel.y]
        axes.set_ylim(min(low for low, _ in alike), max(high for _, high in alike))
    return done.figure


def _look(k: int) -> tuple[str, str, Any]:
    """Color, mark and line style of the k-th name."""
    return SERIES[k], SERIES_MARKS[k], "-"


def _formula_item(axes: Axes, x: float, y: float) -> None:
    axes.plot([x - 0.14, x + 0.14], [y, y], color=MUTED, linestyle=(0, (2, 1.5)), linewidth=1.4)


def _lowest_item(axes: Axes, x: float, y: float) -> None:
    axes.plot(
        [x], [y], "o", markersize=10, markerfacecolor="none", markeredgecolor=MUTED, markeredgewidth=1.3
    )


def _error_panel(axes: Axes, panel: Errors, names: list[str]) -> None:
    for name, (x, y) in panel.lines.items():
        color, mark, style = _look(names.index(name))
        predicted = name in panel.formula
        axes.plot(
            x, y, color=color, marker=mark, linestyle="none" if predicted else style, markersize=6,
            linewidth=1.8, markeredgecolor=PAPER, zorder=4,
        )  # fmt: skip
        if predicted:
            axes.plot(*panel.formula[name], color=color, linestyle=(0, (2, 1.5)), linewidth=1.4, zorder=3)
        if panel.lowest:
            at = int(np.argmin(y))
            ring: Any = {"markerfacecolor": "none", "markeredgecolor": color, "markeredgewidth": 1.3}
            axes.plot([x[at]], [y[at]], "o", markersize=11, zorder=5, **ring)
    if panel.log_x:
        axes.set_xscale("log")
    if panel.log_y:
        axes.set_yscale("log")
    elif min(min(y) for _, y in panel.lines.values()) >= 0:
        axes.set_ylim(bottom=0)
    ticks = sorted({float(value) for x, _ in panel.lines.values() for value in x})
    if len(ticks) <= 8:
        axes.set_xticks(ticks)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,g}")
    axes.minorticks_off()
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}{panel.unit}")
    axes.margins(x=0.06)
    axes.set_xlabel(panel.x, fontsize=SMALL)
    axes.set_ylabel(panel.y, fontsize=SMALL)


@styled
def error_grid(
    values: Array, rows: Sequence[str], columns: Sequence[str], *, title: str, note: str = "",
    row_title: str, column_title: str, digits: int = 3,
) -> Figure:  # fmt: skip
    """Numbers (R, C) as a grid, the darker the larger; the smallest of each row is framed."""
    numbers = as_array(values, "values", (len(rows), len(columns)))
    if not np.isfinite(numbers).all():
        raise ValueError("values must be finite")
    left = MARGIN + max(text_width(name, BODY, "bold") for name in (*rows, row_title)) + 0.2
    across, tall = (WIDTH - MARGIN - left) / len(columns), 0.42
    done = page(0.55 + tall * len(rows), title, note)
    write(done.axes, left, done.top + 0.1, column_title, SMALL, MUTED, va="baseline")
    write(done.axes, MARGIN, done.top + 0.4, row_title, SMALL, MUTED, va="baseline")
    for c, name in enumerate(columns):
        middle = left + across * (c + 0.5)
        write(done.axes, middle, done.top + 0.4, name, BODY, INK, weight="bold", ha="center", va="baseline")
    shade = np.log(np.maximum(numbers, 10.0**-digits))
    shade = (shade - shade.min()) / max(float(np.ptp(shade)), 1e-9)
    for r, name in enumerate(rows):
        y = done.top + 0.5 + tall * r
        write(done.axes, MARGIN, y + tall / 2 + 0.04, name, BODY, INK, weight="bold", va="baseline")
        for c in range(len(columns)):
            best = c == int(numbers[r].argmin())
            _cell(done.axes, left + across * c, y, across, tall, float(shade[r, c]), best)
            ink = PAPER if shade[r, c] > 0.55 else INK
            text = f"{numbers[r, c]:.{digits}f}"
            at = {"ha": "center", "va": "baseline", "weight": "bold" if best else "normal", "zorder": 4}
            write(done.axes, left + across * (c + 0.5), y + tall / 2 + 0.04, text, BODY, ink, **at)
    return done.figure


def _cell(axes: Axes, x: float, y: float, width: float, height: float, shade: float, best: bool) -> None:
    light, dark = np.array([0.93, 0.92, 0.89]), np.array([0.133, 0.173, 0.29])  # CARD to SERIES[0]
    color = tuple((light + shade * (dark - light)).tolist())
    axes.add_patch(
        Rectangle((x + 0.02, y + 0.02), width - 0.04, height - 0.04, facecolor=color, edgecolor="none")
    )
    if best:
        frame: Any = {"facecolor": "none", "edgecolor": BEST, "linewidth": 2.4, "zorder": 3}
        axes.add_patch(Rectangle((x + 0.03, y + 0.03), width - 0.06, height - 0.06, **frame))
