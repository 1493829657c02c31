"""Differences under several conditions: a panel per effect, a row per condition, a dot per seed."""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

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
    wrap,
    write,
)

ROW, GAP = 0.36, 0.14  # inches


@styled
def effects(
    values: Mapping[str, Mapping[str, Sequence[float]]],
    *,
    band: float,
    unit: str,
    title: str,
    note: str = "",
) -> Figure:
    """`values`: condition -> effect -> a difference per seed (none: not run). Inside ±`band`: chance.

    Beyond the band a mean is colored: better, or worse, with a mark of its own. Raises ValueError without
    values, or where `band` is not positive.
    """
    panels = list(dict.fromkeys(effect for each in values.values() for effect in each))
    if not panels:
        raise ValueError("effects of nothing: give at least one condition with one effect")
    if band <= 0:
        raise ValueError(f"band is how far chance goes, more than 0; got {band}")
    labels = max(text_width(condition) for condition in values) + 0.2
    width = (WIDTH - 2 * MARGIN - labels - GAP * (len(panels) - 1)) / len(panels)
    heads = [wrap(panel, BODY, "bold", width) for panel in panels]
    head, body = 0.18 * max(map(len, heads)) + 0.1, ROW * len(values)
    done = page(head + body + 0.5, title, note)
    top = done.top + head
    for i, condition in enumerate(values):
        write(done.axes, MARGIN, top + (i + 0.5) * ROW, condition, BODY, INK)
    points = [abs(value) for each in values.values() for seeds in each.values() for value in seeds]
    far = 1.15 * max([band, *points])
    for i, (panel, lines) in enumerate(zip(panels, heads, strict=True)):
        left = MARGIN + labels + i * (width + GAP)
        write(done.axes, left, top - 0.1, "\n".join(lines), BODY, INK, weight="bold", va="bottom")
        axes = chart(done, left, top, width, body, label=panel, facecolor="none")
        _panel(axes, [each.get(panel, ()) for each in values.values()], band, far)
    middle = MARGIN + labels + (WIDTH - 2 * MARGIN - labels) / 2
    write(done.axes, middle, top + body + 0.42, unit, SMALL, MUTED, ha="center")
    return done.figure


def _panel(axes: Axes, rows: Sequence[Sequence[float]], band: float, far: float) -> None:
    axes.axvspan(-band, band, color=LINE, alpha=0.7, linewidth=0, zorder=0)
    axes.axvline(0, color=MUTED, linewidth=0.8, zorder=1)
    for i, points in enumerate(rows):
        if not points:
            axes.text(
                0,
                i + 0.5,
                "not run",
                fontsize=SMALL,
                color=MUTED,
                ha="center",
                va="center_baseline",
                bbox={"facecolor": PAPER, "edgecolor": "none", "pad": 1.5},
            )
            continue
        mean = sum(points) / len(points)
        color, mark = _look(mean, band)
        axes.hlines(i + 0.5, min(0.0, mean), max(0.0, mean), color=color, linewidth=2.4, zorder=2)
        axes.scatter(
            [mean], [i + 0.5], s=46, color=color, marker=mark, edgecolor=PAPER, linewidth=0.7, zorder=4
        )
        if len(points) > 1:
            axes.scatter(
                points,
                [i + 0.76] * len(points),
                s=11,
                facecolor=PAPER,
                edgecolor=INK,
                linewidth=0.8,
                zorder=3,
            )
        side, place = ("left", 7) if mean >= 0 else ("right", -7)
        axes.annotate(
            f"{mean:+.1f}".replace("-", "−"),
            (mean, i + 0.5),
            xytext=(place, 0),
            textcoords="offset points",
            ha=side,
            va="center_baseline",
            fontsize=SMALL,
            color=INK,
            zorder=5,
        )
    axes.set(xlim=(-far * 1.25, far * 1.25), ylim=(len(rows), 0), yticks=[])
    axes.xaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:+g}".replace("-", "−") if value else "0")
    axes.grid(axis="y", visible=False)
    axes.spines["left"].set_visible(False)


def _look(mean: float, band: float) -> tuple[str, str]:
    if abs(mean) <= band:
        return SERIES[0], "o"
    return (PALETTE["correct"], "^") if mean > 0 else (PALETTE["wrong"], "v")
