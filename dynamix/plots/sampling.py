"""Pictures of sampling: whom each rule chooses, the assignment of a batch, who rests in the queue."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from dynamix.plots.batches import signed
from dynamix.plots.marks import (
    Array,
    Item,
    as_array,
    as_images,
    crop,
    legend,
    legend_height,
    rounded,
)
from dynamix.plots.style import (
    BODY,
    CARD,
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

MULTI, SINGLE = PALETTE["multi-camera"], PALETTE["single-camera"]
RESTING, SHADE, RING = "#C9CDD5", SERIES[3], INK
BAND = 0.045  # inches: the bar above a crop that says its kind


@dataclass(frozen=True)
class Choice:
    """Whom one rule puts beside the S labeled people, and how similar the pairs are."""

    name: str
    rule: str  # in a few words
    single: Array  # (S, 3, H, W)
    similarity: Array  # (S,)


@styled
def strangers(multi: Array, choices: Sequence[Choice], *, title: str, note: str = "") -> Figure:
    """The labeled people of one batch (S, 3, H, W) in a row, and below them whom each rule chooses."""
    people = as_images(multi, "multi", "S 3 H W")
    if not choices:
        raise ValueError("choices is empty: give at least one rule")
    S, H, W = people.shape[:3]
    names = 0.25 + max(
        1.05, *(text_width(each.name, 11.0, "bold") for each in choices),
        *(text_width(each.rule, SMALL) for each in choices),
    )  # fmt: skip
    width = min(0.56, (WIDTH - 2 * MARGIN - names) / S - 0.07)
    across = (WIDTH - 2 * MARGIN - names + 0.07) / S
    tall, step = width * H / W, width * H / W + 0.36
    done = page(tall + 0.2 + step * len(choices), title, note)
    axes, left = done.axes, MARGIN + names
    _name(axes, done.top + tall / 2, "labeled people", "of one mini-batch")
    for s in range(S):
        _headed(axes, people[s], left + s * across, done.top, width, MULTI)
    for k, each in enumerate(choices):
        y = done.top + tall + 0.2 + k * step
        shown = as_images(each.single, f"single of {each.name}", "S 3 H W")
        if shown.shape != people.shape:
            raise ValueError(f"single of {each.name} must hold {S} crops of {H} x {W}, got {shown.shape[:3]}")
        values = as_array(each.similarity, f"similarity of {each.name}", (S,)).astype(float)
        axes.plot([MARGIN, WIDTH - MARGIN], [y - 0.09] * 2, color=LINE, linewidth=0.8)
        _name(axes, y + tall / 2, each.name, each.rule)
        write(
            axes, MARGIN, y + tall / 2 + 0.3, f"on average {signed(values.mean())}", SMALL, INK, va="baseline"
        )
        for s in range(S):
            x = left + s * across
            _headed(axes, shown[s], x, y, width, SINGLE)
            place = {"ha": "center", "va": "baseline"}
            write(axes, x + width / 2, y + tall + 0.16, signed(values[s]), BODY, INK, **place)
    return done.figure


def _name(axes: Axes, y: float, name: str, rule: str) -> None:
    write(axes, MARGIN, y - 0.04, name, 11.0, INK, weight="bold", va="baseline")
    write(axes, MARGIN, y + 0.13, rule, SMALL, MUTED, va="baseline")


def _headed(axes: Axes, image: np.ndarray, x: float, y: float, width: float, color: str) -> None:
    """A crop under a bar in the color of its kind."""
    crop(axes, image, x, y, width)
    axes.add_patch(rounded(x, y - BAND, width, BAND, 0.012, facecolor=color, edgecolor="none", zorder=3))


@styled
def assignment(
    similarity: Array,
    chosen: Array,
    multi: Array,
    single: Array,
    *,
    cost: Array,
    title: str,
    note: str = "",
    wanted: Array | None = None,
    kept: Array | None = None,
) -> Figure:
    """A similarity matrix (R, P) with the chosen column of each row framed; the cheaper, the darker.

    `multi` (R, 3, H, W) and `single` (P, 3, H, W) are the people at its sides, `cost` (R, P) what is summed,
    `wanted` (R,) the column that each row would take by itself, `kept` (R, P) the entries that are looked at.
    """
    values = as_array(similarity, "similarity").astype(float)
    if values.ndim != 2:
        raise ValueError(f"similarity must have two dimensions, got {values.shape}")
    R, P = values.shape
    costs = as_array(cost, "cost", (R, P)).astype(float)
    columns = as_array(chosen, "chosen", (R,))
    looked = np.ones((R, P), bool) if kept is None else as_array(kept, "kept", (R, P))
    rows, tops = as_images(multi, "multi", "R 3 H W"), as_images(single, "single", "P 3 H W")
    if len(rows) != R or len(tops) != P:
        raise ValueError(f"{R} x {P} similarities need {R} and {P} crops, got {len(rows)} and {len(tops)}")
    small, ratio = P > 8, rows.shape[1] / rows.shape[2]
    wide, side = (WIDTH - 2 * MARGIN - 0.62) / P, 0.4 if small else 0.46
    top = min(wide - 0.06, 0.5)
    high, head = side * ratio + 0.08, top * ratio + 0.12
    items = _assignment_legend(wanted is not None, kept is not None)
    done = page(head + R * high + 0.1 + legend_height(items), title, note)
    left, y = WIDTH - MARGIN - P * wide, done.top + head
    for p in range(P):
        _headed(done.axes, tops[p], left + p * wide + (wide - top) / 2, done.top + BAND, top, SINGLE)
    for r in range(R):
        _headed(done.axes, rows[r], MARGIN, y + r * high + 0.04 + BAND / 2, side, MULTI)
        for p in range(P):
            strength = (1 - costs[r, p] / max(costs.max(), 1e-12)) ** 4  # only what is near the best is dark
            box = Rectangle((left + p * wide + 0.02, y + r * high + 0.02), wide - 0.04, high - 0.04)
            box.set(facecolor=shade(strength) if looked[r, p] else "none", edgecolor=LINE, linewidth=0.8)
            done.axes.add_patch(box)
            center = left + (p + 0.5) * wide, y + (r + 0.5) * high
            _entry(done.axes, center, values[r, p], costs[r, p], bool(looked[r, p]), small)
            if wanted is not None and int(as_array(wanted, "wanted", (R,))[r]) == p:
                _wish(done.axes, left + (p + 1) * wide - 0.2, y + r * high + 0.19)
        corner = left + int(columns[r]) * wide + 0.035, y + r * high + 0.035
        ring = rounded(*corner, wide - 0.07, high - 0.07, 0.05, facecolor="none", edgecolor=RING, zorder=5)
        ring.set_linewidth(2.4)
        done.axes.add_patch(ring)
    legend(done.axes, y + R * high + 0.1, items)
    return done.figure


def _entry(
    axes: Axes, center: tuple[float, float], value: float, cost: float, looked: bool, small: bool
) -> None:
    """A similarity, and below it what choosing it costs."""
    (x, y), size = center, SMALL if small else 11.0
    place = {"ha": "center", "va": "baseline", "zorder": 6}
    weight = "bold" if looked else "normal"
    write(axes, x, y + 0.03, signed(value), size, INK if looked else MUTED, weight=weight, **place)
    if not small:
        write(axes, x, y + 0.23, f"cost {cost:.2f}", SMALL, INK if looked else MUTED, **place)


def shade(strength: float) -> tuple[float, ...]:
    """From the card's color (0) to `SHADE` (1)."""
    light, dark = np.array(to_rgb(CARD)), np.array(to_rgb(SHADE))
    return tuple(light + (dark - light) * min(max(strength, 0.0), 1.0))


def _wish(axes: Axes, x: float, y: float) -> None:
    axes.plot([x], [y], marker="*", color=INK, markersize=9, markeredgecolor="white", zorder=6)


def _assignment_legend(wanted: bool, kept: bool) -> list[Item]:
    def cell(color, edge, width):
        def draw(axes, x, y):
            box = rounded(x - 0.12, y - 0.07, 0.24, 0.14, 0.03, facecolor=color, edgecolor=edge)
            box.set_linewidth(width)
            axes.add_patch(box)

        return draw

    items: list[Item] = [
        (cell("none", RING, 2.2), 0.24, "chosen"),
        (cell(SHADE, "none", 0.0), 0.24, "low cost"),
    ]
    if wanted:
        items.append((_wish, 0.14, "each row's own best"))
    if kept:
        items.append((cell("none", LINE, 0.8), 0.24, "not looked at"))
    else:
        items.insert(2, (cell(CARD, LINE, 0.8), 0.24, "high cost"))
    return items


@dataclass(frozen=True)
class Rest:
    """T iterations over P identities: who is in the batch, and who may not be drawn; (T, P) bool."""

    name: str
    chosen: Array
    resting: Array


@styled
def queues(panels: Sequence[Rest], *, title: str, note: str = "") -> Figure:
    """Identities (across) by iterations (down), one panel per queue; sorted by when they are first drawn."""
    if not panels:
        raise ValueError("panels is empty: give at least one queue")
    T, P = as_array(panels[0].chosen, "chosen").shape
    high = 0.062 * T
    block = 0.3 + high + 0.2
    items = _rest_legend()
    done = page(len(panels) * block + 0.12 + legend_height(items), title, note)
    colors = ListedColormap([PAPER, RESTING, SINGLE])
    for k, each in enumerate(panels):
        chosen = as_array(each.chosen, f"chosen of {each.name}", (T, P)).astype(bool)
        resting = as_array(each.resting, f"resting of {each.name}", (T, P)).astype(bool)
        first = np.where(chosen.any(0), chosen.argmax(0), T)
        order = np.argsort(first, kind="stable")
        y = done.top + k * block
        write(done.axes, MARGIN, y + 0.13, each.name, 10.0, INK, weight="bold", va="baseline")
        said = f"{int((first < T).sum())} of {P} identities drawn"
        end = {"ha": "right", "va": "baseline"}
        write(done.axes, WIDTH - MARGIN, y + 0.13, said, BODY, INK, **end)
        axes = chart(done, MARGIN + 0.42, y + 0.22, WIDTH - 2 * MARGIN - 0.42, high, label=each.name)
        state = np.where(chosen, 2, np.where(resting, 1, 0))[:, order]
        axes.pcolormesh(state, cmap=colors, vmin=-0.5, vmax=2.5, linewidth=0)
        axes.set(ylim=(T, 0), xticks=[], yticks=[0.5, T - 0.5], yticklabels=["1", str(T)])
        axes.set_ylabel("iteration", fontsize=SMALL, labelpad=-6)
        axes.grid(visible=False)
        axes.spines[["top", "right"]].set_visible(True)
    foot = done.top + len(panels) * block - 0.02
    words = "identities of the pool, in the order in which they are first drawn"
    write(done.axes, WIDTH - MARGIN, foot, words, SMALL, MUTED, ha="right", va="baseline")
    legend(done.axes, foot + 0.1, items)
    return done.figure


def _rest_legend() -> list[Item]:
    def cell(color, edge):
        def draw(axes, x, y):
            axes.add_patch(
                Rectangle((x - 0.07, y - 0.07), 0.14, 0.14, facecolor=color, edgecolor=edge, linewidth=0.8)
            )

        return draw

    return [
        (cell(SINGLE, "none"), 0.14, "in the batch"),
        (cell(RESTING, "none"), 0.14, "rests in the queue: barred"),
        (cell(PAPER, MUTED), 0.14, "free"),
    ]
