"""Differences as printed beside differences as measured: a line per claim, on one scale of points."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean, stdev

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from dynamix.plots.marks import Item, legend, legend_height
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
)  # fmt: skip

ROW, HEAD, NUMBER = 0.27, 0.34, 0.62  # inches; the last is a column of numbers
LOOKS = {  # color and mark of ours
    "as printed": (PALETTE["correct"], "D", "here, the same way"),
    "against": (PALETTE["wrong"], "X", "here, the other way"),
    "chance": (SERIES[0], "o", "here, no more than chance"),
    "one seed": (MUTED, "o", "one seed: cannot tell"),
}


@dataclass(frozen=True)
class Claimed:
    """`text` from table `where`: the printed difference, and ours for each seed (none: not run)."""

    text: str
    where: str
    paper: float
    ours: Sequence[float]

    def verdict(self, noise: float) -> str:
        """Whether ours goes the printed way beyond two standard errors; a key of `LOOKS`.

        One seed has no verdict: other settings than those that `noise` was measured in may be noisier.
        """
        if len(self.ours) < 2:
            return "one seed"
        mean = fmean(self.ours)
        if abs(mean) <= half(noise, self.ours):
            return "chance"
        return "as printed" if mean * self.paper > 0 else "against"


def half(noise: float, differences: Sequence[float]) -> float:
    """Two standard errors of the mean of `differences`, one a seed.

    Of two rows whose seeds spread by `noise`, or as the differences do themselves where that is more: few
    seeds may lie close together by chance, and rows trained from scratch spread more than others.
    """
    seeds = len(differences)
    own = stdev(differences) / math.sqrt(seeds) if seeds > 1 else 0.0
    return 2 * max(noise * math.sqrt(2 / seeds), own)


@styled
def claims(
    groups: Mapping[str, Sequence[Claimed]], *, noise: float, unit: str, title: str, note: str = ""
) -> Figure:
    """`groups`: heading -> claims. `noise`: standard deviation of one row over seeds, in `unit`.

    Raises ValueError without claims, or where `noise` is not positive.
    """
    lines = [each for group in groups.values() for each in group]
    if not lines:
        raise ValueError("claims of nothing: give at least one group with one claim")
    if noise <= 0:
        raise ValueError(f"noise is how far seeds move a row, more than 0; got {noise}")
    items = _items()
    body = HEAD * len(groups) + ROW * len(lines)
    done = page(0.24 + body + 0.5 + legend_height(items), title, note)
    top = done.top + 0.24
    labels = 1.07 * max(text_width(each.text) for each in lines) + 0.2  # few pixels draw letters wider
    places = max(text_width(each.where, SMALL) for each in lines) + 0.2
    left = MARGIN + labels + places
    width = WIDTH - MARGIN - 2 * NUMBER - left
    for x, head in ((left + width + NUMBER, "paper"), (left + width + 2 * NUMBER, "here")):
        write(done.axes, x, done.top + 0.12, head, BODY, MUTED, ha="right")
    axes = chart(done, left, top, width, body, label="claims", facecolor="none")
    axes.axvline(0, color=MUTED, linewidth=0.8, zorder=1)
    y = 0.0
    for heading, group in groups.items():
        write(done.axes, MARGIN, top + y + 0.2, heading, BODY, INK, weight="bold")
        y += HEAD
        for i, each in enumerate(group):
            if i % 2 == 0:
                stripe = {"facecolor": CARD, "edgecolor": "none", "zorder": 0.2}
                done.axes.axhspan(
                    top + y, top + y + ROW, MARGIN / WIDTH - 0.005, 1 - MARGIN / WIDTH + 0.005, **stripe
                )
            middle = y + ROW / 2
            write(done.axes, MARGIN + 0.06, top + middle, each.text, BODY, INK)
            write(done.axes, MARGIN + labels, top + middle, each.where, SMALL, MUTED)
            _line(axes, each, middle, noise)
            _numbers(done, each, left + width + NUMBER, top + middle)
            y += ROW
    _scale(axes, lines, noise, body)
    write(done.axes, left + width / 2, top + body + 0.36, unit, SMALL, MUTED, ha="center")
    legend(done.axes, top + body + 0.5, items)
    return done.figure


def _line(axes: Axes, each: Claimed, y: float, noise: float) -> None:
    _printed(axes, each.paper, y)
    if not each.ours:
        return
    mean, look = fmean(each.ours), each.verdict(noise)
    if look != "one seed":
        reach = half(noise, each.ours)
        axes.hlines(y, mean - reach, mean + reach, color=LOOKS[look][0], linewidth=1.8, zorder=3)
    _here(axes, mean, y, look=look)


def _printed(axes: Axes, x: float, y: float) -> None:
    axes.scatter([x], [y], s=38, marker="D", facecolor=PAPER, edgecolor=INK, linewidth=1.1, zorder=2)


def _here(axes: Axes, x: float, y: float, look: str) -> None:
    color, mark, _ = LOOKS[look]
    face, edge, width = (PAPER, color, 1.4) if look == "one seed" else (color, PAPER, 0.7)
    axes.scatter([x], [y], s=46, marker=mark, facecolor=face, edgecolor=edge, linewidth=width, zorder=4)


def _items() -> list[Item]:
    made: list[Item] = [(_printed, 0.15, "as printed, real data")]
    return made + [(partial(_here, look=look), 0.15, text) for look, (_, _, text) in LOOKS.items()]


def _numbers(done: Page, each: Claimed, right: float, y: float) -> None:
    write(done.axes, right, y, _signed(each.paper), BODY, MUTED, ha="right")
    text, color = (_signed(fmean(each.ours)), INK) if each.ours else ("not run", MUTED)
    write(done.axes, right + NUMBER, y, text, BODY, color, ha="right")


def _signed(value: float) -> str:
    return f"{value:+.1f}".replace("-", "−")


def _scale(axes: Axes, lines: Sequence[Claimed], noise: float, body: float) -> None:
    """One that holds every mark and every bar."""
    values = [each.paper for each in lines] + [0.0]
    for each in lines:
        if each.ours:
            reach = half(noise, each.ours)
            values += [fmean(each.ours) - reach, fmean(each.ours) + reach]
    room = 0.04 * (max(values) - min(values)) + 0.1
    axes.set(xlim=(min(values) - room, max(values) + room), ylim=(body, 0), yticks=[])
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    axes.xaxis.set_major_formatter(lambda value, _: _signed(value).removesuffix(".0") if value else "0")
    axes.grid(axis="y", visible=False)
    axes.grid(axis="x", color=LINE)
    axes.spines["left"].set_visible(False)
