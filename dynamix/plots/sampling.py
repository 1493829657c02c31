"""Data Sampling in pictures: whom each rule chooses, the assignment on its matrix, who rests, who pushes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
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
    letter,
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
    Page,
    chart,
    page,
    styled,
    text_width,
    write,
)

MULTI, SINGLE = PALETTE["multi-camera"], PALETTE["single-camera"]
PARTNER = "#7A4E00"  # a dark single-camera: the one that was chosen for the anchor itself
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
            shade = (1 - costs[r, p] / max(costs.max(), 1e-12)) ** 4  # only what is near the best is dark
            box = Rectangle((left + p * wide + 0.02, y + r * high + 0.02), wide - 0.04, high - 0.04)
            box.set(facecolor=_shade(shade) if looked[r, p] else "none", edgecolor=LINE, linewidth=0.8)
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


def _shade(strength: float) -> tuple[float, ...]:
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


@dataclass(frozen=True)
class Push:
    """What one rule does to a labeled anchor, one number per run."""

    name: str
    single: Array  # (n,) share of the push that single-camera images send
    partner: Array  # (n,) of that, the share of the identity chosen for the anchor


@styled
def push_shares(rules: Sequence[Push], partners: int, *, title: str, note: str = "") -> Figure:
    """Who pushes a labeled anchor: labeled people, strangers, and of these the anchor's own partner.

    `partners`: strangers in a batch, of which one is the anchor's; the tick in a bar is its share by chance.
    """
    if not rules or partners < 1:
        raise ValueError("push_shares needs at least one rule and one partner")
    items = _share_legend(partners)
    row = 0.5
    done = page(0.24 + row * len(rules) + 0.1 + legend_height(items), title, note)
    axes, y0 = done.axes, done.top + 0.24
    left = MARGIN + 0.2 + max(text_width(each.name, 11.0, "bold") for each in rules)
    width = WIDTH - MARGIN - 1.5 - left
    end = {"ha": "right", "va": "baseline"}
    write(axes, left, done.top + 0.1, "share of all push on a labeled image", SMALL, MUTED, va="baseline")
    write(axes, WIDTH - MARGIN, done.top + 0.1, "partner / all strangers", SMALL, MUTED, **end)
    for k, each in enumerate(rules):
        single, partner = (
            as_array(v, f"{n} of {each.name}").astype(float).ravel()
            for v, n in ((each.single, "single"), (each.partner, "partner"))
        )
        if not len(single) or single.shape != partner.shape or np.ptp([*single, *partner, 0, 1]) > 1:
            raise ValueError(f"{each.name}: single and partner must be as many shares between 0 and 1")
        y, s, own = y0 + k * row, float(single.mean()), float((single * partner).mean())
        write(axes, MARGIN, y + 0.23, each.name, 11.0, INK, weight="bold", va="baseline")
        _parts(axes, left, y, width, s, own)
        chance = left + width * (1 - s / partners)
        axes.plot([chance] * 2, [y - 0.03, y + 0.37], color=INK, linewidth=1.4, zorder=6)
        write(axes, WIDTH - MARGIN, y + 0.225, f"{own / s:.0%}", 11.0, PARTNER, weight="bold", **end)
    legend(axes, y0 + row * len(rules) + 0.04, items)
    return done.figure


def _parts(axes: Axes, x: float, y: float, width: float, single: float, own: float) -> None:
    """A bar of one inch's third: labeled people, strangers of others, the partner at the right end."""
    for start, part, color, ink in (
        (0.0, 1 - single, MULTI, "white"),
        (1 - single, single - own, SINGLE, INK),
        (1 - own, own, PARTNER, "white"),
    ):
        box = Rectangle((x + width * start, y), width * part, 0.34, facecolor=color, edgecolor=PAPER)
        if color == PARTNER:
            with matplotlib.rc_context({"hatch.linewidth": 0.8}):
                box.set(hatch="////", edgecolor=PAPER)
        axes.add_patch(box)
        if width * part > 0.4 and color != PARTNER:
            place = {"ha": "center", "va": "baseline", "weight": "bold"}
            write(axes, x + width * (start + part / 2), y + 0.215, f"{part:.0%}", BODY, ink, **place)


def _share_legend(partners: int) -> list[Item]:
    def cell(color, hatch=""):
        def draw(axes, x, y):
            box = Rectangle((x - 0.1, y - 0.07), 0.2, 0.14, facecolor=color, edgecolor=PAPER, hatch=hatch)
            axes.add_patch(box)

        return draw

    def tick(axes, x, y):
        axes.plot([x, x], [y - 0.09, y + 0.09], color=INK, linewidth=1.4)

    return [
        (cell(MULTI), 0.2, "labeled people"),
        (cell(SINGLE), 0.2, "strangers chosen for others"),
        (cell(PARTNER, "////"), 0.2, "the anchor's own partner"),
        (tick, 0.05, f"partner by chance: 1 in {partners}"),
    ]


@styled
def push_matrix(rules: Sequence[tuple[str, Array]], *, title: str, note: str = "") -> Figure:
    """Push of each stranger (column) on each labeled person (row), (R, R) shares of the row's whole push.

    Column k was chosen for row k: the framed diagonal is all that a rule aims at.
    """
    if not rules:
        raise ValueError("rules is empty: give at least one matrix")
    R = len(as_array(rules[0][1], "push"))
    gap = 0.3
    wide = (WIDTH - 2 * MARGIN - gap * (len(rules) - 1)) / len(rules)
    size = min((wide - 0.24) / R, 0.42)
    high = 0.72 + size * R
    done = page(high + 0.1, title, note)
    found = [as_array(values, f"push of {name}", (R, R)).astype(float) for name, values in rules]
    most = max(float(each.max()) for each in found) or 1.0
    for k, ((name, _), values) in enumerate(zip(rules, found, strict=True)):
        _matrix(done, name, values, most, MARGIN + k * (wide + gap), size)
    return done.figure


def _matrix(done: Page, name: str, values: np.ndarray, most: float, x: float, size: float) -> None:
    axes, R = done.axes, len(values)
    total, own = float(values.sum(1).mean()), float(np.diagonal(values).mean())
    write(axes, x, done.top + 0.12, name, 11.0, INK, weight="bold", va="baseline")
    said = f"strangers {total:.0%}, partner {own:.0%}"
    write(axes, x, done.top + 0.29, said, SMALL, MUTED, va="baseline")
    left, top = x + 0.22, done.top + 0.62
    place: Any = {"ha": "center", "va": "baseline"}
    axes.plot([left, left + R * size], [top - 0.06] * 2, color=SINGLE, linewidth=3, solid_capstyle="butt")
    axes.plot([left - 0.06] * 2, [top, top + R * size], color=MULTI, linewidth=3, solid_capstyle="butt")
    for r in range(R):
        write(axes, left + (r + 0.5) * size, top - 0.12, letter(r).lower(), SMALL, MUTED, **place)
        write(axes, left - 0.16, top + (r + 0.5) * size + 0.04, letter(r), SMALL, MUTED, **place)
        for c in range(R):
            strength = values[r, c] / most
            color, corner = _shade(strength), (left + c * size, top + r * size)
            axes.add_patch(Rectangle(corner, size, size, facecolor=color, edgecolor=PAPER, linewidth=1.0))
            if values[r, c] >= 0.095 and size > 0.2:
                at = corner[0] + size / 2, corner[1] + size / 2 + 0.04
                write(axes, *at, f"{100 * values[r, c]:.0f}", SMALL - 1, INK, **place)
        spot = left + r * size + 0.015, top + r * size + 0.015
        axes.add_patch(
            Rectangle(
                spot, size - 0.03, size - 0.03, facecolor="none", edgecolor=RING, linewidth=1.6, zorder=4
            )
        )  # fmt: skip


__all__ = [
    "Choice", "Push", "Rest", "assignment", "push_matrix", "push_shares", "queues", "strangers",
]  # fmt: skip
