"""A whole training on one page: what changes once an epoch above, what changes with every step below."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from dynamix.plots.marks import Array, as_array
from dynamix.plots.style import (
    BODY,
    CARD,
    INK,
    LINE,
    MARGIN,
    MUTED,
    SERIES,
    SMALL,
    WIDTH,
    Page,
    chart,
    page,
    styled,
    wrap,
    write,
)

NAMES = 2.06  # inches left of the charts, for what they show
ROW, TALL, LOW, GAP = 0.25, 2.1, 0.72, 0.24  # inches: a line of the table, the charts, between them


@styled
def rhythm(
    losses: Mapping[str, Array | Sequence[float]],
    lines: Mapping[str, Array | Sequence[float]],
    epochs: Mapping[str, Sequence[str | int]],
    *,
    title: str,
    note: str = "",
) -> Figure:
    """Losses stacked over all steps, a chart for each of `lines`, and above what each epoch began with.

    `losses` and `lines` hold a number for every step, `epochs` a short text or number for every epoch; all
    epochs have equally many steps. Raises ValueError where the sizes disagree, or a loss is negative.
    """
    steps, count = _sizes(losses, lines, epochs)
    table, charts = ROW * (len(epochs) + 1), TALL + len(lines) * (LOW + GAP)
    done = page(0.28 + table + 0.4 + charts + 0.32, title, note)
    top, bottom = done.top + 0.28, done.top + 0.28 + table + 0.4 + charts
    _bands(done, top - 0.02, bottom, count)
    _heading(done, done.top + 0.12, "Once an epoch")
    _table(done, top, epochs, count)
    at = top + table + 0.4
    _heading(done, at - 0.2, "Every step")
    axes = chart(done, MARGIN + NAMES, at, WIDTH - 2 * MARGIN - NAMES, TALL, label="losses", facecolor="none")
    _stack(axes, losses, steps)
    _axis(axes, steps, count, bottom=not lines)
    _legend(done, at, list(losses))
    at += TALL + GAP
    for k, (name, values) in enumerate(lines.items()):
        last = k == len(lines) - 1
        axes = chart(done, MARGIN + NAMES, at, WIDTH - 2 * MARGIN - NAMES, LOW, label=name, facecolor="none")
        axes.plot(np.arange(steps) + 0.5, as_array(values, name), color=INK, linewidth=1.8)
        _axis(axes, steps, count, bottom=last)
        for i, text in enumerate(wrap(name, BODY, width=NAMES - 0.5)):
            write(done.axes, MARGIN, at + 0.14 + 0.17 * i, text, BODY, INK)
        at += LOW + GAP
    return done.figure


def _sizes(losses: Mapping, lines: Mapping, epochs: Mapping) -> tuple[int, int]:
    """How many steps and epochs there are."""
    if not losses or not epochs:
        raise ValueError("losses and epochs must not be empty: give at least one row of each")
    lengths = {name: len(values) for name, values in (*losses.items(), *lines.items())}
    counts = {name: len(values) for name, values in epochs.items()}
    for sizes in (lengths, counts):
        if len(set(sizes.values())) > 1 or 0 in sizes.values():
            raise ValueError(f"one number for every step, one text for every epoch; got {sizes}")
    steps, count = next(iter(lengths.values())), next(iter(counts.values()))
    if steps % count:
        raise ValueError(f"{steps} steps do not divide into {count} epochs")
    if any((as_array(values, name) < 0).any() for name, values in losses.items()):
        raise ValueError("a loss is negative: areas cannot be stacked")
    return steps, count


def _bands(done: Page, top: float, bottom: float, count: int) -> None:
    """Every other epoch shaded, from its column of the table down through all charts."""
    width = (WIDTH - 2 * MARGIN - NAMES) / count
    for k in range(count):
        x = MARGIN + NAMES + k * width
        if k % 2 == 0:
            done.axes.add_patch(Rectangle((x, top), width, bottom - top, facecolor=CARD, edgecolor="none"))
        done.axes.plot([x, x], [top, bottom], color=MUTED, linewidth=0.9, linestyle=(0, (3, 3)))


def _heading(done: Page, y: float, text: str) -> None:
    write(done.axes, MARGIN, y, text, 10.0, MUTED, weight="bold")


def _table(done: Page, top: float, epochs: Mapping[str, Sequence[str | int]], count: int) -> None:
    width = (WIDTH - 2 * MARGIN - NAMES) / count
    rows = {"": [f"epoch {k + 1}" for k in range(count)], **epochs}
    for i, (name, values) in enumerate(rows.items()):
        y = top + (i + 0.5) * ROW
        write(done.axes, MARGIN, y, name, BODY, INK)
        for k, value in enumerate(values):
            text = f"{value:,}" if isinstance(value, int) else value
            x, weight = MARGIN + NAMES + k * width + 0.1, "bold" if i == 0 else "normal"
            write(done.axes, x, y, text, BODY, INK, weight=weight)


def _stack(axes: Axes, losses: Mapping[str, Array | Sequence[float]], steps: int) -> None:
    values = [as_array(each, name).astype(float) for name, each in losses.items()]
    colors = [SERIES[k % len(SERIES)] for k in range(len(values))]
    x = np.arange(steps) + 0.5
    axes.stackplot(x, values, colors=colors, alpha=0.88, linewidth=0)
    for level in np.cumsum(values, axis=0):  # a light seam: areas are told apart without their colors
        axes.plot(x, level, color=CARD, linewidth=0.9)
    axes.set_ylim(0, 1.04 * np.sum(values, axis=0).max())


def _axis(axes: Axes, steps: int, count: int, *, bottom: bool) -> None:
    axes.set(xlim=(0, steps), xticks=np.linspace(0, steps, count + 1).round().astype(int))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=4 if axes.get_label() == "losses" else 3))
    axes.grid(axis="x", visible=False)
    axes.spines["bottom"].set_color(LINE)
    axes.tick_params(labelbottom=bottom)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    if bottom:
        axes.set_xlabel("optimizer steps", fontsize=SMALL)


def _legend(done: Page, top: float, names: list[str]) -> None:
    """The losses in the order they lie upon each other."""
    for i, (k, name) in enumerate(reversed(list(enumerate(names)))):
        y = top + 0.2 + 0.3 * i
        box = Rectangle((MARGIN, y - 0.1), 0.18, 0.18, facecolor=SERIES[k % len(SERIES)], alpha=0.88)
        done.axes.add_patch(box)
        write(done.axes, MARGIN + 0.26, y, name, BODY, INK)
