"""Mini-batches over consecutive iterations, as each rule of Data Sampling composes them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from dynamix.plots.marks import Array, Item, as_array, as_images, crop, legend, legend_height, panel, rounded
from dynamix.plots.style import (
    BODY,
    INK,
    MARGIN,
    MUTED,
    PALETTE,
    SMALL,
    WIDTH,
    Page,
    chart,
    page,
    styled,
    write,
)  # fmt: skip

SPACE, PAD, GAP = 0.12, 0.1, 0.03  # inches: between cards, inside them, between the crops of a pair
CHOSEN, ALL = "#222C4A", "#B9C0CC"


@dataclass(frozen=True)
class Mode:
    """What one rule chose: S pairs in each of T iterations, and all its similarities of the epoch."""

    name: str
    rule: str  # in a few words
    multi: Array  # (T, S, 3, H, W)
    single: Array  # (T, S, 3, H, W)
    similarity: Array  # (T, S) of the pairs shown
    chosen: Array  # (n,) of all pairs of the epoch


@styled
def batches(modes: Sequence[Mode], every: Array, target: float, *, title: str, note: str = "") -> Figure:
    """One column per mode: pairs iteration by iteration, then how similar they are (Sec. 3.4, Table 8).

    `every` (n,): similarities of all pairs there are; `target`: their median.
    """
    if not modes:
        raise ValueError("modes is empty: give at least one")
    shown = [
        (
            as_images(m.multi, f"multi of {m.name}", "T S 3 H W"),
            as_images(m.single, f"single of {m.name}", "T S 3 H W"),
        )
        for m in modes
    ]
    if len({pair.shape for both in shown for pair in both}) > 1:
        raise ValueError("all modes must show equally many pairs of crops of one size")
    T, S, H, W = shown[0][0].shape[:4]
    card = min((WIDTH - 2 * MARGIN + SPACE) / len(modes) - SPACE, 2.4)
    across = 2 if S > 1 else 1
    width = (card - 2 * PAD - 0.12 * (across - 1)) / (2 * across) - GAP / 2
    tall = width * H / W
    block = 0.27 + -(-S // across) * (tall + 0.24) + 0.04
    head, chart_height = 0.55, 1.15
    body = head + T * block + 0.34 + chart_height + 0.36
    items = _legend()
    done = page(body + 0.08 + legend_height(items), title, note)
    bins = np.linspace(*_limits(modes, every), 46)
    for k, (mode, (left, right)) in enumerate(zip(modes, shown, strict=True)):
        x = MARGIN + k * (card + SPACE)
        panel(done.axes, x, done.top, card, body)
        write(done.axes, x + PAD, done.top + 0.22, mode.name, 11.0, INK, weight="bold", va="baseline")
        write(done.axes, x + PAD, done.top + 0.4, mode.rule, SMALL, MUTED, va="baseline")
        values = as_array(mode.similarity, f"similarity of {mode.name}", (T, S))
        for t in range(T):
            y = done.top + head + t * block
            write(
                done.axes, x + PAD, y + 0.16, f"iteration {t + 1}", SMALL, MUTED, va="baseline", weight="bold"
            )
            for s in range(S):
                place = (
                    x + PAD + (s % across) * (2 * width + GAP + 0.12),
                    y + 0.25 + (s // across) * (tall + 0.24),
                )
                _pair(done, left[t, s], right[t, s], float(values[t, s]), *place, width)
        foot = done.top + head + T * block + 0.34
        _distribution(
            done, mode, as_array(every, "every"), target, bins, x + PAD, foot, card - 2 * PAD, chart_height
        )
    legend(done.axes, done.top + body + 0.08, items)
    return done.figure


def signed(value: float, digits: int = 2) -> str:
    """A number with a true minus and no minus before zero."""
    return f"{round(float(value), digits) + 0.0:.{digits}f}".replace("-", "\N{MINUS SIGN}")


def _pair(
    done: Page, left: np.ndarray, right: np.ndarray, value: float, x: float, y: float, width: float
) -> None:
    """A multi-camera person, the single-camera one beside, their similarity below."""
    tall = crop(done.axes, left, x, y, width)
    crop(done.axes, right, x + width + GAP, y, width)
    for start, kind in ((x, "multi-camera"), (x + width + GAP, "single-camera")):
        box = rounded(
            start, y - 0.035, width, 0.035, 0.012, facecolor=PALETTE[kind], edgecolor="none", zorder=3
        )
        done.axes.add_patch(box)
    write(
        done.axes, x + width + GAP / 2, y + tall + 0.13, signed(value), BODY, INK, ha="center", va="baseline"
    )


def _distribution(done, mode, every, target, bins, x, y, width, height) -> None:
    """Similarities of the chosen pairs against those of all pairs, each scaled to its own area."""
    axes = chart(done, x, y, width, height, label=f"similarity {mode.name}", facecolor="none")
    axes.hist(every, bins, density=True, color=ALL, alpha=0.75)
    chosen = as_array(mode.chosen, f"chosen of {mode.name}").astype(float)
    axes.hist(chosen, bins, density=True, histtype="stepfilled", color=CHOSEN, alpha=0.35)
    axes.hist(chosen, bins, density=True, histtype="step", color=CHOSEN, linewidth=1.4)
    axes.axvline(target, color=INK, linewidth=1.2, linestyle=(0, (3, 2)))
    axes.set(xlim=(bins[0], bins[-1]), yticks=[])
    axes.spines["left"].set_visible(False)
    axes.grid(visible=False)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=3, min_n_ticks=2))
    axes.set_xlabel("cosine similarity", fontsize=SMALL, labelpad=1)
    text = f"mean {signed(chosen.mean())}, {len(chosen):,} pairs"
    write(done.axes, x, y - 0.08, text, SMALL, INK, va="baseline")


def _limits(modes: Sequence[Mode], every: Array) -> tuple[float, float]:
    values = np.concatenate(
        [as_array(every, "every").ravel(), *(as_array(m.chosen, "chosen").ravel() for m in modes)]
    )
    if not len(values) or not np.isfinite(values).all():
        raise ValueError("similarities must be finite, and there must be some")
    margin = 0.02 * max(float(np.ptp(values)), 0.1)
    return float(values.min()) - margin, float(values.max()) + margin


def _legend() -> list[Item]:
    def swatch(color: str, edge: str = "none"):
        def draw(axes, x, y):
            axes.add_patch(rounded(x - 0.1, y - 0.06, 0.2, 0.12, 0.02, facecolor=color, edgecolor=edge))

        return draw

    def line(axes, x, y):
        axes.plot([x, x], [y - 0.09, y + 0.09], color=INK, linewidth=1.2, linestyle=(0, (3, 2)))

    return [
        (swatch(PALETTE["multi-camera"]), 0.2, "multi-camera"),
        (swatch(PALETTE["single-camera"]), 0.2, "single-camera"),
        (swatch(ALL), 0.2, "all pairs"),
        (swatch("#ACB0BC", CHOSEN), 0.2, "chosen pairs, whole epoch"),
        (line, 0.05, "median of all pairs"),
    ]
