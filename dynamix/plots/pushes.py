"""Pictures of what a batch does to an anchor: who pushes it, and how much of it comes from the chosen one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from dynamix.plots.marks import (
    Array,
    Item,
    as_array,
    legend,
    legend_height,
    letter,
)
from dynamix.plots.sampling import MULTI, RING, SINGLE, shade
from dynamix.plots.style import (
    BODY,
    INK,
    MARGIN,
    MUTED,
    PAPER,
    SMALL,
    WIDTH,
    Page,
    page,
    styled,
    text_width,
    write,
)

PARTNER = "#7A4E00"  # a dark single-camera: the one that was chosen for the anchor itself


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
            color, corner = shade(strength), (left + c * size, top + r * size)
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
