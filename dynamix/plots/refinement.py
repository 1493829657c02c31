"""Pictures of label refinement: filter and relabel as a map, and what each step mends."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Polygon, Rectangle

from dynamix.plots.marks import Array, Item, as_array, legend, legend_height
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
    write,
)

# Name of a kind of image -> its meaning in PALETTE and its mark.
KINDS = {
    "right label": ("correct", "o"),
    "wrong label": ("wrong", "X"),
    "junk": ("removed", "s"),
}
FATES = ("kept", "relabeled", "removed")


def fates(own: np.ndarray, other: np.ndarray, tau_rel: float | int, tau_remove: float | int) -> np.ndarray:
    """What Sec. 3.2 does with each image (n,): an index into `FATES`; the own centroid wins ties."""
    best = np.maximum(own, other)
    return np.where(best < tau_remove, 2, np.where((other > own) & (other > tau_rel), 1, 0))


@styled
def decision_map(
    own: Array,
    other: Array,
    kinds: Sequence[str],
    *,
    tau_rel: float | int,
    tau_remove: float | int,
    title: str,
) -> Figure:
    """Each image by its similarity to its own centroid and to the best other one, over the rule's regions.

    `own`, `other` (n,) cosines; `kinds` (n,) of "right label", "wrong label", "junk". A table counts which
    kind met which fate.

    Raises:
        ValueError: an unknown kind, lengths that disagree, similarities that are not finite.
    """
    x = as_array(own, "own").astype(float)
    y, kind = as_array(other, "other", x.shape).astype(float), as_array(kinds, "kinds", x.shape)
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError("own and other must be finite: leave out images without another centroid")
    unknown = sorted(set(kind.tolist()) - set(KINDS))
    if unknown:
        raise ValueError(f"unknown kind {unknown[0]!r}; there are {', '.join(KINDS)}")
    items = [_kind_item(name) for name in KINDS]
    side = 3.9
    done = page(legend_height(items) + 0.1 + side + 0.3, title)
    legend(done.axes, done.top, items)
    top = done.top + legend_height(items) + 0.1
    axes = chart(done, MARGIN + 0.55, top, side, side, label="map")
    low = float(np.floor(min(x.min(), y.min(), tau_remove - 0.1) * 10) / 10)
    _regions(axes, low, tau_rel, tau_remove)
    for name, (meaning, mark) in reversed(KINDS.items()):
        mine = kind == name
        axes.scatter(
            x[mine], y[mine], s=12 if name == "right label" else 26, marker=mark, facecolor=PALETTE[meaning],
            edgecolor=PAPER, linewidth=0 if name == "right label" else 0.4,
            zorder=4 if name == "right label" else 5,
        )  # fmt: skip
    axes.set(xlim=(low, 1), ylim=(low, 1), xlabel="cosine to the own centroid")
    axes.set_ylabel("cosine to the best other centroid")
    _fate_table(
        done.axes, fates(x, y, tau_rel, tau_remove), kind, MARGIN + 0.55 + side + 0.3, top + 0.2,
    )  # fmt: skip
    return done.figure


def _kind_item(name: str) -> Item:
    meaning, mark = KINDS[name]

    def draw(axes: Axes, x: float, y: float) -> None:
        axes.plot([x], [y], mark, color=PALETTE[meaning], markeredgecolor=PAPER, markersize=7)

    return draw, 0.15, name


def _regions(axes: Axes, low: float, tau_rel: float | int, tau_remove: float | int) -> None:
    """The three regions of the plane, named, and the lines that part them."""
    axes.grid(visible=False)
    axes.add_patch(
        Rectangle(
            (low, low),
            tau_remove - low,
            tau_remove - low,
            facecolor="#E4E2DA",
            linewidth=0,
            zorder=1,
        )  # fmt: skip
    )
    axes.add_patch(
        Polygon([(low, tau_rel), (tau_rel, tau_rel), (1, 1), (low, 1)], facecolor="#E3E0F0", zorder=1)
    )
    axes.plot([low, 1], [low, 1], color=MUTED, linewidth=0.8, linestyle=(0, (1, 2)), zorder=2)
    dashed: Any = {"color": INK, "linewidth": 1.3, "linestyle": (0, (4, 3)), "zorder": 3}
    axes.plot([low, tau_rel], [tau_rel, tau_rel], **dashed)
    axes.plot([low, tau_remove, tau_remove], [tau_remove, tau_remove, low], **dashed)
    boxed: Any = {"bbox": {"facecolor": PAPER, "edgecolor": "none", "alpha": 0.85, "pad": 1.5}, "zorder": 6}
    pad = 0.015 * (1 - low) / 0.6
    axes.text(low + pad, 1 - pad, "RELABEL", weight="bold", va="top", **boxed)
    axes.text(low + pad, low + pad, "REMOVE", weight="bold", va="bottom", **boxed)
    axes.text(1 - pad, low + pad, "KEEP", weight="bold", ha="right", va="bottom", **boxed)
    axes.text(low + pad, tau_rel + pad / 2, f"tau_rel {tau_rel:g}", fontsize=SMALL, va="bottom", **boxed)
    axes.text(
        low + pad, tau_remove - pad / 2, f"tau_remove {tau_remove:g}", fontsize=SMALL, va="top", **boxed
    )


def _fate_table(axes: Axes, fate: np.ndarray, kind: np.ndarray, x: float, y: float) -> None:
    """How many images of each kind lie in each region."""
    write(axes, x, y, "What lies where", BODY + 1, INK, weight="bold", va="baseline")
    for k, name in enumerate(KINDS):
        top = y + 0.42 + 1.05 * k
        total = int((kind == name).sum())
        _kind_item(name)[0](axes, x + 0.07, top - 0.04)
        write(axes, x + 0.22, top, f"{total} with {name}" if "label" in name else f"{total} {name}", BODY,
              INK, weight="bold", va="baseline")  # fmt: skip
        for i, what in enumerate(FATES):
            count = int(((kind == name) & (fate == i)).sum())
            line = top + 0.21 * (i + 1)
            write(axes, x + 0.22, line, what, BODY, MUTED, va="baseline")
            write(axes, x + 1.35, line, str(count), BODY, INK, ha="right", va="baseline")
            share = f"{count / total:.0%}" if total else ""
            write(axes, x + 1.95, line, share, BODY, MUTED, ha="right", va="baseline")


@styled
def repairs(
    steps: Sequence[str],
    quality: Mapping[str, Sequence[float | int]],
    mistakes: Mapping[str, Sequence[int]],
    *,
    title: str,
    note: str = "",
) -> Figure:
    """After each step: shares such as precision, recall, F1 as lines; counts of each kind of mistake as bars.

    Raises:
        ValueError: nothing to draw, or a series that has not one value a step.
    """
    if not quality or not mistakes:
        raise ValueError("quality and mistakes must have at least one series each")
    for name, values in {**quality, **mistakes}.items():
        if len(values) != len(steps):
            raise ValueError(f"{name!r} has {len(values)} values for {len(steps)} steps")
    tall = 2.75
    done = page(0.3 + tall + 0.3, title, note)
    half = (WIDTH - 2 * MARGIN) / 2
    axes = chart(done, MARGIN + 0.45, done.top + 0.3, half - 1.15, tall, label="quality")
    axes.set_title("Pairs of images", x=-0.02, pad=9)
    _quality_lines(axes, quality, len(steps))
    _step_ticks(axes, steps)
    rows = len(mistakes)
    high = (tall - 0.14 * (rows - 1)) / rows
    for i, (name, values) in enumerate(mistakes.items()):
        top = done.top + 0.3 + i * (high + 0.14)
        each = chart(done, MARGIN + half + 1.45, top, half - 1.5, high, label=name)
        if i == 0:
            each.set_title("Mistakes that are left", x=-0.62, pad=9)
        _mistake_bars(each, values)
        lines = name.split("\n")
        for k, line in enumerate(lines):
            write(
                done.axes, MARGIN + half + 1.3, top + high - 0.14 - 0.16 * (len(lines) - 1 - k), line,
                BODY if k == 0 else SMALL, INK if k == 0 else MUTED, ha="right", va="baseline",
                weight="bold" if k == 0 else "normal",
            )  # fmt: skip
        if i < rows - 1:
            each.set_xticks([])
        else:
            _step_ticks(each, steps)
    return done.figure


def _quality_lines(axes: Axes, quality: Mapping[str, Sequence[float | int]], steps: int) -> None:
    """Lines with their names at the end, a little apart."""
    ends = {name: 100 * float(values[-1]) for name, values in quality.items()}
    span = 100 * (max(max(v) for v in quality.values()) - min(min(v) for v in quality.values()))
    least, at = max(span, 1.0) * 0.09, -np.inf
    for name in sorted(ends, key=ends.__getitem__):
        at = max(ends[name], at + least)
        k = list(quality).index(name)
        color, mark = SERIES[k % len(SERIES)], SERIES_MARKS[k % 6]
        axes.plot(
            range(steps), 100 * np.asarray(quality[name]), color=color, marker=mark, markersize=6,
            markeredgecolor=PAPER, linewidth=2.6 if name == "F1" else 1.6,
        )  # fmt: skip
        axes.annotate(
            f"{name} {ends[name]:.1f}", (steps - 1, at), xytext=(9, 0), textcoords="offset points",
            va="center", fontsize=SMALL, color=color, weight="bold", annotation_clip=False,
        )  # fmt: skip
    axes.set_ylabel("percent", fontsize=SMALL)


def _mistake_bars(axes: Axes, values: Sequence[int]) -> None:
    top = max(*values, 1)
    for i, value in enumerate(values):
        color = PALETTE["neutral"] if i == 0 else PALETTE["wrong"]
        axes.bar([i], [value], width=0.62, color=color, alpha=0.9)
        axes.annotate(
            str(value), (i, value), xytext=(0, 2), textcoords="offset points", ha="center", fontsize=SMALL,
            color=INK, weight="bold",
        )  # fmt: skip
    axes.set(ylim=(0, 1.35 * top), yticks=[])
    axes.spines["left"].set_visible(False)


def _step_ticks(axes: Axes, steps: Sequence[str]) -> None:
    axes.set_xticks(range(len(steps)), steps)
    axes.set_xlim(-0.45, len(steps) - 0.55)
    axes.grid(axis="x", visible=False)
