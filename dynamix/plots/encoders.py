"""Pictures of encoders: tokens, normalized maps, similarities, altered queries, a follower's lag."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from dynamix.plots.marks import Array, Item, as_array, as_images, crop, legend, legend_height, panel
from dynamix.plots.style import (
    BODY,
    INK,
    LINE,
    MARGIN,
    MUTED,
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

Values = Array | Sequence[float | int]

TALL, GAP = 4.1, 0.045  # inches, of a person and between its patches
CARDS = 2  # in a row
SAME, OTHER = SERIES[3], SERIES[2]
STYLES = ("-", (0, (5, 2)), (0, (1, 1.2)), (0, (6, 2, 1, 2)))


@styled
def tokens(image: Array, patch: int, shown: int, *, title: str, note: str = "") -> Figure:
    """A person (3, H, W), its patches apart, and the patch number `shown` enlarged.

    Raises:
        ValueError: a patch that does not tile the image, or no patch of that number.
    """
    pixels = as_images(image, "image", "3 H W")
    height, width = pixels.shape[:2]
    if patch < 1 or height % patch or width % patch:
        raise ValueError(f"a patch of {patch} does not tile an image of {height} x {width}")
    rows, columns = height // patch, width // patch
    if not 0 <= shown < rows * columns:
        raise ValueError(f"shown is {shown}; there are patches 0 to {rows * columns - 1}")
    side = TALL / rows
    done = page(TALL + GAP * (rows - 1) + 0.3, title, note)
    top, apart = done.top + 0.24, MARGIN + TALL * width / height + 0.5
    crop(done.axes, pixels, MARGIN, top + GAP * (rows - 1) / 2, TALL * width / height)
    _label(done, MARGIN, top - 0.1, f"an image, {height} × {width}")
    _label(done, apart, top - 0.1, f"{rows} × {columns} = {rows * columns} patches")
    for k in range(rows * columns):
        r, c = divmod(k, columns)
        x, y = apart + c * (side + GAP), top + r * (side + GAP)
        _tile(done.axes, pixels[r * patch : (r + 1) * patch, c * patch : (c + 1) * patch], x, y, side)
        if k == shown:
            done.axes.add_patch(Rectangle((x, y), side, side, fill=False, ec=INK, lw=2.0, zorder=5))
            middle = (x + side, y + side / 2)
    _enlarged(done, pixels, patch, shown, columns, apart + columns * (side + GAP) + 0.55, top, middle)
    return done.figure


def _tile(axes: Axes, pixels: np.ndarray, x: float, y: float, side: float) -> None:
    axes.imshow(pixels, extent=(x, x + side, y + side, y), aspect="auto", interpolation="nearest", zorder=2)


def _label(done: Page, x: float, y: float, text: str) -> None:
    write(done.axes, x, y, text, BODY, MUTED, va="baseline")


def _enlarged(
    done: Page, pixels: np.ndarray, patch: int, shown: int, columns: int, x: float, top: float,
    start: tuple[float, float],
) -> None:  # fmt: skip
    """The chosen patch, and how it becomes a token."""
    r, c = divmod(shown, columns)
    side, y = 1.35, top + 0.35
    _tile(done.axes, pixels[r * patch : (r + 1) * patch, c * patch : (c + 1) * patch], x, y, side)
    done.axes.add_patch(Rectangle((x, y), side, side, fill=False, ec=INK, lw=2.0, zorder=5))
    done.axes.plot([start[0], x], [start[1], y + side / 2], color=INK, lw=1.2, zorder=6)
    _label(done, x, y - 0.1, f"patch {shown}: row {r}, column {c}")
    steps = (
        f"3 × {patch} × {patch} = {3 * patch**2} numbers",
        "× a matrix, + a bias",
        "+ the position embedding",
        f"of row {r}, column {c}",
        f"= token {shown}",
    )
    for i, text in enumerate(steps):
        weight = "bold" if i == len(steps) - 1 else "normal"
        write(done.axes, x, y + side + 0.3 + 0.25 * i, text, BODY, INK, va="baseline", weight=weight)


@styled
def halves(
    images: Array,
    maps: Mapping[str, Array],
    moved: Mapping[str, Values],
    names: Sequence[str],
    *,
    title: str,
    note: str = "",
) -> Figure:
    """Several versions of an image (V, 3, H, W), the first as it is, and a map (V, h, w) per half.

    `moved` (V,) says how far each half's features went, as a share of their size.

    Raises:
        ValueError: shapes or names that disagree.
    """
    shown = as_images(images, "images", "V 3 H W")
    V = len(shown)
    if len(names) != V or list(maps) != list(moved):
        raise ValueError(f"give {V} names, and the same halves in maps and moved; got {list(names)}")
    drawn = {name: as_array(each, f"maps[{name!r}]") for name, each in maps.items()}
    shares = {name: as_array(each, f"moved[{name!r}]", (V,)) for name, each in moved.items()}
    columns = min(V, CARDS)
    card = (WIDTH - 2 * MARGIN - 0.14 * (columns - 1)) / columns
    width = (card - 0.2 - 0.06 * len(maps)) / (1 + len(maps))
    step = width * shown.shape[1] / shown.shape[2] + 0.88
    done = page(step * math.ceil(V / columns) + 0.14 * (math.ceil(V / columns) - 1), title, note)
    for v, name in enumerate(names):
        x, y = MARGIN + v % columns * (card + 0.14), done.top + v // columns * (step + 0.14)
        panel(done.axes, x, y, card, step)
        write(done.axes, x + 0.1, y + 0.22, name, BODY, INK, weight="bold", va="baseline")
        tall = crop(done.axes, shown[v], x + 0.1, y + 0.33, width)
        _label(done, x + 0.1, y + tall + 0.74, "as it is" if v == 0 else "moved by")
        for h, (half, each) in enumerate(drawn.items()):
            left = x + 0.1 + (h + 1) * (width + 0.06)
            limit = float(np.abs(each[0]).max()) or 1.0
            scale: dict[str, Any] = {"cmap": "PuOr", "vmin": -limit, "vmax": limit}
            box = (left, left + width, y + 0.33 + tall, y + 0.33)
            done.axes.imshow(each[v], extent=box, aspect="auto", zorder=2, **scale)
            text = "–" if v == 0 else f"{100 * shares[half][v]:.0f} %"
            place: dict[str, Any] = {"ha": "center", "va": "baseline"}
            write(done.axes, left + width / 2, y + tall + 0.52, half, SMALL, MUTED, **place)
            write(done.axes, left + width / 2, y + tall + 0.74, text, BODY, INK, weight="bold", **place)
    return done.figure


@styled
def pair_histograms(
    panels: Mapping[str, tuple[Values, Values]],
    *,
    title: str,
    note: str = "",
) -> Figure:
    """Cosines of pairs of one person and of two, a panel each; areas alike, dashes for two people.

    Raises:
        ValueError: no panel, or cosines that are not finite.
    """
    if not panels:
        raise ValueError("panels is empty: give at least one pair of similarities")
    pairs = {
        name: [as_array(each, f"panels[{name!r}]").astype(float).ravel() for each in both]
        for name, both in panels.items()
    }
    for name, both in pairs.items():
        if not all(len(each) and np.isfinite(each).all() for each in both):
            raise ValueError(f"panels[{name!r}] must hold finite similarities of both kinds")
    items = [_line_item(SAME, "-", "the same person"), _line_item(OTHER, (0, (4, 2)), "two people")]
    head = legend_height(items) + 0.3
    done = page(head + 1.75 + 0.3, title, note)
    legend(done.axes, done.top, items)
    slot = (WIDTH - 2 * MARGIN + 0.2) / len(pairs)
    edges = np.linspace(-1, 1, 61)
    for i, (name, both) in enumerate(pairs.items()):
        axes = chart(done, MARGIN + i * slot, done.top + head, slot - 0.2, 1.75, label=name)
        axes.set_title(name, pad=6)
        for each, color, style in zip(both, (SAME, OTHER), ("-", (0, (4, 2))), strict=True):
            share = np.histogram(each, edges)[0] / len(each)
            axes.stairs(share, edges, fill=True, color=color, alpha=0.3)
            axes.stairs(share, edges, color=color, linewidth=1.5, linestyle=style)
        axes.set(xlim=(-1, 1), yticks=[], xticks=(-0.5, 0, 0.5))
        axes.set_xlabel("cosine similarity", fontsize=SMALL)
        axes.spines["left"].set_visible(False)
    return done.figure


@styled
def lags(
    distances: Mapping[str, Sequence[float | int]],
    scores: Mapping[str, float | int],
    *,
    title: str,
    note: str = "",
) -> Figure:
    """How far followers are from what they follow, step by step; beside each line its mAP at the end.

    Raises:
        ValueError: no lines, lines of different lengths, or scores of other names.
    """
    lines = {name: np.asarray(each, float) for name, each in distances.items()}
    if not lines or len({each.shape for each in lines.values()}) != 1:
        raise ValueError("distances must hold lines of one length")
    if list(scores) != list(lines):
        raise ValueError(f"give a score for each of {', '.join(lines)}")
    words = {name: f"{name}: mAP {100 * scores[name]:.0f} %" for name in lines}
    side = max(text_width(text, BODY, "bold") for text in words.values()) + 0.2
    done = page(2.6 + 0.32, title, note)
    axes = chart(done, MARGIN + 0.55, done.top, WIDTH - 2 * MARGIN - 0.55 - side, 2.6, label="lags")
    ends = []
    for i, (name, each) in enumerate(lines.items()):
        axes.plot(np.arange(1, len(each) + 1), each, color=SERIES[i], linestyle=STYLES[i % len(STYLES)])
        ends.append((each[-1], name, SERIES[i]))
    count, most = len(next(iter(lines.values()))), max(float(each.max()) for each in lines.values())
    axes.set(xlim=(1, count), ylim=(0, 1.08 * most))
    level = -np.inf
    for value, name, color in sorted(ends):
        level = max(value, level + 0.085 * most)
        axes.annotate(
            words[name], (count, value), xytext=(count * 1.02, level), va="center", fontsize=BODY,
            color=color, weight="bold", annotation_clip=False,
        )  # fmt: skip
    axes.set_xlabel("step", fontsize=BODY)
    axes.set_ylabel("distance to the encoder's weights", fontsize=BODY)
    return done.figure


@styled
def alterations(
    losses: Mapping[str, Mapping[str, Sequence[float | int]]], *, title: str, note: str = ""
) -> Figure:
    """`losses`: encoder -> change of the queries -> mAP per seed; the first change is none.

    A hollow mark is the search as it was, a full one the altered search; small dots are seeds.

    Raises:
        ValueError: no encoder, or encoders with different changes.
    """
    changes = [tuple(each) for each in losses.values()]
    if not changes or len(set(changes)) != 1 or len(changes[0]) < 2:
        raise ValueError("give every encoder the same changes: none at all, and at least one other")
    names = changes[0][1:]
    row, labels = 0.2 * len(losses) + 0.16, max(text_width(name, BODY) for name in names) + 0.2
    items = [_dot_item(i, name) for i, name in enumerate(losses)]
    head = legend_height(items) + 0.08
    done = page(head + row * len(names) + 0.34, title, note)
    legend(done.axes, done.top, items)
    top = done.top + head
    axes = chart(done, MARGIN + labels, top, WIDTH - 2 * MARGIN - labels - 0.1, row * len(names), label="mAP")
    for r, change in enumerate(names):
        write(done.axes, MARGIN, top + (r + 0.5) * row + 0.04, change, BODY, INK, va="baseline")
        for i, each in enumerate(losses.values()):
            y = r + (i - (len(losses) - 1) / 2) * 0.2 / row
            _dumbbell(axes, y, each[changes[0][0]], each[change], i)
    for r in range(1, len(names)):
        axes.axhline(r - 0.5, color=LINE, linewidth=0.7)
    axes.set(ylim=(len(names) - 0.5, -0.5), yticks=[], xlim=(0, 100))
    axes.grid(axis="y", visible=False)
    axes.spines["left"].set_visible(False)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g} %")
    axes.set_xlabel("mAP", fontsize=BODY)
    return done.figure


def _dumbbell(
    axes: Axes, y: float, before: Sequence[float | int], after: Sequence[float | int], i: int
) -> None:
    start, end = 100 * float(np.mean(before)), 100 * float(np.mean(after))
    color, mark = SERIES[i], SERIES_MARKS[i]
    axes.plot([end, start], [y, y], color=color, linewidth=1.6, alpha=0.55)
    axes.plot([start], [y], mark, color=PAPER, markeredgecolor=color, markersize=5.5, zorder=4)
    axes.plot([end], [y], mark, color=color, markersize=6, zorder=4)
    if len(after) > 1:
        axes.plot(100 * np.asarray(after), [y] * len(after), ".", color=color, markersize=3.5, zorder=3)
    low = min(100 * min(after), end)
    text = _points(end - start)
    axes.annotate(
        text, (low, y), xytext=(-7, 0), textcoords="offset points", ha="right", va="center", fontsize=SMALL,
        color=color, weight="bold",
    )  # fmt: skip


@styled
def layers(
    found: Mapping[str, Mapping[str, Sequence[tuple[float | int, float | int]]]],
    *,
    title: str,
    note: str = "",
) -> Figure:
    """`found`: network -> layer -> mAP of queries as they are and altered, per seed; a panel a network.

    Raises:
        ValueError: no network, or a network without layers.
    """
    if not found or not all(found.values()):
        raise ValueError("give at least one network with at least one layer")
    items = [
        _line_item(SERIES[0], "-", "queries as they are"),
        _line_item(SERIES[1], (0, (4, 2)), "queries altered"),
    ]
    head = legend_height(items) + 0.32
    done = page(head + 2.3 + 0.34, title, note)
    legend(done.axes, done.top, items)
    room = (WIDTH - 2 * MARGIN - 0.4 + 0.25) / sum(map(len, found.values()))  # as much for every layer
    left = MARGIN + 0.4
    for p, (network, by_layer) in enumerate(found.items()):
        slot = room * len(by_layer)
        axes = chart(done, left, done.top + head, slot - 0.25, 2.3, label=network)
        axes.set_title(f"{network}: mAP after each layer", pad=6)
        values = 100 * np.array([np.asarray(each, float) for each in by_layer.values()])  # (L, seeds, 2)
        at = np.arange(len(values))
        for k, (color, style, mark) in enumerate(((SERIES[0], "-", "o"), (SERIES[1], (0, (4, 2)), "s"))):
            mean = values[..., k].mean(1)
            axes.plot(at, mean, color=color, linestyle=style, marker=mark, markersize=5.5, zorder=4)
            axes.plot(at, values[..., k], ".", color=color, markersize=3.5, alpha=0.6)
        for x, pair in zip(at, values.mean(1), strict=True):
            text = _points(pair[1] - pair[0])
            axes.annotate(
                text, (x, pair[1]), xytext=(3, -13), textcoords="offset points", ha="left", fontsize=SMALL,
                color=SERIES[1], weight="bold",
            )  # fmt: skip
        axes.set(ylim=(-9, 104), xlim=(-0.4, len(at) - 0.6))
        axes.set_xticks(at, [name.replace(" ", "\n") for name in by_layer])
        axes.set_yticks(
            (0, 25, 50, 75, 100), [f"{tick} %" for tick in (0, 25, 50, 75, 100)] if not p else [""] * 5
        )
        axes.grid(axis="x", visible=False)
        left += slot
    return done.figure


def _points(change: float) -> str:
    """A change in whole points, signed."""
    return f"{round(change):+d}".replace("-", "−") if round(change) else "0"


def _line_item(color: str, style: object, text: str) -> Item:
    def draw(axes: Axes, x: float, y: float) -> None:
        axes.plot([x - 0.14, x + 0.14], [y, y], color=color, linestyle=style, linewidth=2.0)  # type: ignore[arg-type]

    return draw, 0.3, text


def _dot_item(i: int, text: str) -> Item:
    def draw(axes: Axes, x: float, y: float) -> None:
        axes.plot([x], [y], SERIES_MARKS[i], color=SERIES[i], markersize=6.5)

    return draw, 0.18, text
