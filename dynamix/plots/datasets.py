"""What a dataset holds: how far cameras move colors, the worlds side by side, a tracker's identities."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from dynamix.plots.clips import majority
from dynamix.plots.marks import (
    Array,
    Item,
    as_array,
    as_images,
    bar,
    crop,
    legend,
    legend_height,
    letter,
    number,
    tag,
    tint,
    veil,
)
from dynamix.plots.style import (
    BODY,
    INK,
    LINE,
    MARGIN,
    MUTED,
    PALETTE,
    PAPER,
    SERIES,
    SMALL,
    WIDTH,
    chart,
    page,
    styled,
    text_width,
    write,
)

Pairs = tuple[Array, Array]  # the distances of a kind of pair (n,), and one such pair of crops (2, 3, H, W)


@styled
def pair_distances(kinds: Mapping[str, Pairs], *, title: str, unit: str, note: str = "") -> Figure:
    """Distances of several kinds of pairs of images, a row each, beside a pair of the median distance.

    Each row is scaled to its own peak; the triangle and the number are its median.

    Raises:
        ValueError: no kinds, wrong shapes, distances that are not finite.
    """
    if not kinds:
        raise ValueError("kinds is empty: give the distances of at least one kind of pair")
    values, shown = {}, {}
    for name, (distances, pair) in kinds.items():
        values[name] = as_array(distances, f"distances of {name!r}").astype(float).ravel()
        shown[name] = as_images(pair, f"crops of {name!r}", "2 3 H W")
        if len(shown[name]) != 2 or not len(values[name]) or not np.isfinite(values[name]).all():
            raise ValueError(f"{name!r} needs finite distances and two crops")
    wide, row = 0.62, 0.28
    tall = max(wide * pair.shape[1] / pair.shape[2] for pair in shown.values())
    step = tall + row
    lines = [line for name in values for line in name.split("\n")]
    names = max(text_width(line, BODY, "bold") for line in lines) + 0.2
    left = MARGIN + names + 2 * wide + 0.06 + 0.3
    done = page(step * len(values) + 0.28, title, note)
    axes = chart(
        done, left, done.top, WIDTH - MARGIN - 0.1 - left, step * len(values) - 0.12, label="distances"
    )
    high = 1.02 * max(np.quantile(each, 0.995) for each in values.values())
    edges = np.linspace(0, high, 51)
    for i, (name, each) in enumerate(values.items()):
        y = done.top + i * step
        _names(done.axes, MARGIN, y + 0.32 * tall, name, f"{len(each):,} pairs")
        for k in range(2):
            crop(done.axes, shown[name][k], MARGIN + names + k * (wide + 0.06), y, wide)
        _ridge(axes, each, edges, len(values) - 1 - i, SERIES[i % len(SERIES)])
    axes.set(xlim=(0, high), ylim=(-0.06, len(values) - 0.06), yticks=[])
    axes.set_xlabel(unit, fontsize=BODY)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="y", visible=False)
    return done.figure


def _names(axes: Axes, x: float, y: float, name: str, count: str) -> None:
    """A row's name, in as many lines as it has, and a count under it."""
    lines = name.split("\n")
    for i, line in enumerate(lines):
        write(axes, x, y + 0.17 * i, line, BODY, INK, weight="bold", va="baseline")
    write(axes, x, y + 0.17 * len(lines), count, SMALL, MUTED, va="baseline")


def _ridge(axes: Axes, values: np.ndarray, edges: np.ndarray, level: int, color: str) -> None:
    counts, _ = np.histogram(values.clip(max=edges[-1]), edges)
    heights = level + 0.66 * counts / max(counts.max(), 1)
    axes.stairs(heights, edges, baseline=level, fill=True, color=color, alpha=0.3)
    axes.stairs(heights, edges, baseline=level, color=color, linewidth=1.4)
    axes.axhline(level, color=LINE, linewidth=0.8)
    median = float(np.median(values))
    axes.plot([median] * 2, [level, level + 0.72], color=color, linewidth=1.4, linestyle=(0, (3, 2)))
    axes.plot([median], [level], marker="^", markersize=7, color=color, markeredgecolor=PAPER, zorder=5)
    axes.annotate(
        f"median {median:.0f}", (median, level + 0.72), xytext=(0, 3), textcoords="offset points",
        ha="center", fontsize=BODY, color=INK, weight="bold",
    )  # fmt: skip


@dataclass(frozen=True)
class WorldRow:
    """One dataset: a person through some of its cameras, and the mean color of each of its cameras."""

    name: str
    note: str  # a line under the name
    images: Array  # (n, 3, H, W)
    colors: Array  # (cameras, 3) in 0 .. 255
    text: str  # one or two lines under the colors


@styled
def world_rows(rows: Sequence[WorldRow], *, title: str, note: str = "") -> Figure:
    """Datasets in rows: one person's crops, and beside them the mean color of every camera, to scale.

    The bar of a camera is as high as its color is bright.

    Raises:
        ValueError: no rows, wrong shapes.
    """
    if not rows:
        raise ValueError("rows is empty: give at least one dataset")
    images = [as_images(row.images, f"images of {row.name}", "n 3 H W") for row in rows]
    colors = [as_array(row.colors, f"colors of {row.name}").astype(float) for row in rows]
    for row, each in zip(rows, colors, strict=True):
        if each.ndim != 2 or each.shape[1] != 3 or not len(each):
            raise ValueError(f"colors of {row.name} must be (cameras, 3), got {each.shape}")
    names = max(text_width(text, BODY, "bold") for row in rows for text in (row.name, row.note)) + 0.12
    below = max(text_width(line, SMALL) for row in rows for line in row.text.split("\n"))
    most, right = max(map(len, images)), max(below, 2.0)
    wide = min(0.7, (WIDTH - 2 * MARGIN - names - right - 0.3) / most - 0.06)
    tall = wide * images[0].shape[1] / images[0].shape[2]
    step = tall + 0.14
    done = page(0.2 + step * len(rows), title, note)
    x, brightest = WIDTH - MARGIN - right, max(float(each.mean(1).max()) for each in colors)
    for left, head in ((MARGIN + names, "one person"), (x, "mean color of each camera")):
        write(done.axes, left, done.top + 0.06, head, SMALL, MUTED, va="baseline")
    for i, row in enumerate(rows):
        y = done.top + 0.18 + i * step
        write(done.axes, MARGIN, y + tall / 2 - 0.04, row.name, BODY, INK, weight="bold", va="baseline")
        write(done.axes, MARGIN, y + tall / 2 + 0.13, row.note, SMALL, MUTED, va="baseline")
        for k, image in enumerate(images[i]):
            crop(done.axes, image, MARGIN + names + k * (wide + 0.06), y, wide)
        _swatches(done.axes, colors[i] / brightest, colors[i], (x, y, right, tall - 0.44))
        for k, line in enumerate(row.text.split("\n")):
            write(done.axes, x, y + tall - 0.24 + 0.16 * k, line, SMALL, INK, va="baseline")
    return done.figure


def _swatches(
    axes: Axes, shares: np.ndarray, colors: np.ndarray, place: tuple[float, float, float, float]
) -> None:
    x, y, width, height = place
    cell = min(width / len(colors), 0.38)
    for k, color in enumerate(colors):
        high = height * float(shares[k].mean())
        box = Rectangle(
            (x + k * cell, y + height - high), cell * (0.9 if len(colors) < 12 else 1), high,
            facecolor=color.clip(0, 255) / 255, linewidth=0, label="camera",
        )  # fmt: skip
        axes.add_patch(box)
    axes.plot([x, x + width], [y + height] * 2, color=LINE, linewidth=1)


@styled
def delivered(images: Array, labels: Array, truth: Array, *, title: str) -> Figure:
    """A clip as a dataset delivers it: a row per tracker identity, each box under its true person's number.

    `images` (n, 3, H, W) in frame order; `labels` (n,) of the tracker; `truth` (n,) identities, -1 = junk.

    Raises:
        ValueError: shapes that disagree, a clip of nobody.
    """
    shown = as_images(images, "images", "n 3 H W")
    given, real = as_array(labels, "labels", (len(shown),)), as_array(truth, "truth", (len(shown),))
    people = np.unique(real[real >= 0]).tolist()
    if not people:
        raise ValueError("truth holds junk alone: give a clip of somebody")
    groups = [np.flatnonzero(given == label) for label in np.unique(given)]
    side, gap, right = 0.5, 0.08, 1.75
    most = max(map(len, groups))
    wide = min(0.66, (WIDTH - 2 * MARGIN - side - right) / most - gap)
    tall = wide * shown.shape[1] / shown.shape[2]
    step = tall + 0.16
    items = _delivered_items()
    done = page(step * len(groups) + legend_height(items), title, _delivered_note(groups, real, people))
    for k, rows in enumerate(groups):
        y = done.top + k * step
        bar(done.axes, MARGIN, y, 0.36, tall, tint(k), letter(k))
        own = _most(real[rows])
        for c, row in enumerate(rows):
            x = MARGIN + side + c * (wide + gap)
            _delivered_box(done.axes, shown[row], x, y, wide, tall, int(real[row]), own, people)
        held = _holds(real[rows], people)
        x = MARGIN + side + len(rows) * (wide + gap) + 0.06
        for i, line in enumerate(held):
            middle = y + tall / 2 + 0.17 * (i - (len(held) - 1) / 2) + 0.04
            write(done.axes, x, middle, line, BODY, INK if i == 0 else MUTED, va="baseline")
    legend(done.axes, done.top + step * len(groups), items)
    return done.figure


def _most(real: np.ndarray) -> int:
    """Whom an identity mostly shows; -1 = nobody."""
    return majority(real[real >= 0]) if (real >= 0).any() else -1


def _delivered_box(axes, image, x, y, wide, tall, person, own, people) -> None:
    crop(axes, image, x, y, wide, PALETTE["wrong"] if person >= 0 and person != own else None)
    if person < 0:
        veil(axes, x, y, wide, tall, 0.35)
        tag(axes, x + wide / 2, y + tall / 2, "junk", PALETTE["removed"])
    else:
        number(axes, x + 0.12, y + 0.12, people.index(person) + 1, 0.1)


def _holds(real: np.ndarray, people: Sequence[int]) -> list[str]:
    """What an identity really holds, in words."""
    inside = [people.index(person) + 1 for person in np.unique(real[real >= 0])]
    if not inside:
        return ["nobody"]
    if len(inside) == 1:
        return [f"person {inside[0]}"]
    return [f"{len(inside)} people: {' and '.join(map(str, inside))}", "under one label"]


def _delivered_items() -> list[Item]:
    return [
        (lambda a, u, v: bar(a, u - 0.17, v - 0.085, 0.34, 0.17, tint(0), "A"), 0.34, "tracker's identity"),
        (lambda a, u, v: number(a, u, v, 1), 0.18, "who it truly is"),
        (_ring, 0.2, "not the one the identity mostly shows"),
        (lambda a, u, v: tag(a, u, v, "junk", PALETTE["removed"]), 0.4, "no whole person"),
    ]


def _ring(axes: Axes, x: float, y: float) -> None:
    box = Rectangle((x - 0.06, y - 0.09), 0.12, 0.18, facecolor="none", edgecolor=PALETTE["wrong"])
    axes.add_patch(box)
    box.set_linewidth(2.2)


def _delivered_note(groups: Sequence[np.ndarray], real: np.ndarray, people: Sequence[int]) -> str:
    split = sum(sum((real[rows] == one).any() for rows in groups) > 1 for one in people)
    many = f"all {split}" if split == len(people) else f"{split} of the {len(people)}"
    return (
        f"{len(people)} people became {len(groups)} identities; {many} are found under more than one. "
        "Time runs to the right."
    )


@dataclass(frozen=True)
class Backgrounds:
    """One kind of clips: a track's crops, and the background of every box by the track it belongs to."""

    name: str
    images: Array  # (n, 3, H, W)
    values: Array  # (N,) brightness of the background, 0 .. 255
    groups: Array  # (N,) which track, 0 .. G - 1
    text: str  # a line under the name


@styled
def backgrounds(kinds: Sequence[Backgrounds], *, title: str, note: str = "") -> Figure:
    """Kinds of clips side by side: one track of each, and below it how bright its backgrounds are.

    A column of dots is a track; the gray bar spans its boxes.

    Raises:
        ValueError: no kinds, wrong shapes.
    """
    if not kinds:
        raise ValueError("kinds is empty: give at least one kind of clips")
    gap = 0.35
    half = (WIDTH - 2 * MARGIN - gap * (len(kinds) - 1)) / len(kinds)
    images = [as_images(kind.images, f"images of {kind.name}", "n 3 H W") for kind in kinds]
    wide = min(half / max(map(len, images)) - 0.05, 0.8)
    tall = wide * images[0].shape[1] / images[0].shape[2]
    done = page(0.44 + tall + 0.25 + 2.1 + 0.25, title, note)
    values = [as_array(kind.values, f"values of {kind.name}").astype(float) for kind in kinds]
    span = min(each.min() for each in values) - 8, max(each.max() for each in values) + 8
    for k, kind in enumerate(kinds):
        x = MARGIN + k * (half + gap)
        write(done.axes, x, done.top + 0.1, kind.name, BODY + 1, INK, weight="bold", va="baseline")
        write(done.axes, x, done.top + 0.29, kind.text, BODY, MUTED, va="baseline")
        for c, image in enumerate(images[k]):
            crop(done.axes, image, x + c * (wide + 0.05), done.top + 0.44, wide)
        y = done.top + 0.44 + tall + 0.25
        axes = chart(done, x + 0.42, y, half - 0.42, 2.1, label=kind.name)
        _columns(axes, values[k], as_array(kind.groups, f"groups of {kind.name}", values[k].shape))
        axes.set_ylim(span)
        if k == 0:
            axes.set_ylabel("brightness of the background", fontsize=SMALL)
    return done.figure


def _columns(axes: Axes, values: np.ndarray, groups: np.ndarray) -> None:
    """A column of dots a group, in the order of their means."""
    each = sorted((values[groups == g] for g in np.unique(groups)), key=np.mean)
    for i, column in enumerate(each):
        axes.plot([i, i], [column.min(), column.max()], color=PALETTE["neutral"], linewidth=4, zorder=2)
        axes.scatter(
            np.full(len(column), i), column, s=15, color=PALETTE["single-camera"], edgecolor=INK,
            linewidth=0.4, zorder=3,
        )  # fmt: skip
    axes.set(xlim=(-0.8, len(each) - 0.2), xticks=[])
    axes.set_xlabel(f"{len(each)} tracks, darkest first", fontsize=SMALL)
    axes.grid(axis="x", visible=False)
