"""Pictures of one ranking: counted by hand, a strip of hits, precision over recall."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from dynamix.plots.marks import (
    Array,
    Item,
    as_array,
    as_images,
    crop,
    legend,
    legend_height,
    panel,
    veil,
    verdict,
)
from dynamix.plots.style import (
    BODY,
    INK,
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

KINDS = {
    "correct": "same person",
    "wrong": "somebody else",
    "own camera": "same person,\nsame camera",
    "junk": "junk box",
}
LARGE = 10.5  # points, of the arithmetic
STEP, TRAPEZOID = SERIES[0], SERIES[4]


@styled
def ranking_by_hand(
    query: Array, images: Array, kinds: Sequence[str], similarity: Array, *, title: str, note: str = ""
) -> Figure:
    """A query (3, H, W) and the whole ranking of a small gallery (T, 3, H, W), best first, counted below.

    `kinds` says of each image "correct", "wrong", "own camera" or "junk"; the last two are struck out and
    take no rank. `similarity` (T,) is printed.

    Raises:
        ValueError: shapes that disagree, another kind, no correct image.
    """
    asked, found = as_images(query, "query", "3 H W"), as_images(images, "images", "T 3 H W")
    T = len(found)
    values = as_array(similarity, "similarity", (T,)).astype(float)
    if len(kinds) != T or not set(kinds) <= set(KINDS) or "correct" not in kinds:
        raise ValueError(f"kinds must name {T} of {', '.join(KINDS)}, one of them correct; got {list(kinds)}")
    width = min(1.2, (WIDTH - 2 * MARGIN - 0.3 - 0.12 * (T - 1)) / (T + 1))
    tall = width * asked.shape[0] / asked.shape[1]
    ranks = _ranks(kinds)
    lines = _arithmetic([rank for rank, kind in zip(ranks, kinds, strict=True) if kind == "correct"])
    done = page(0.3 + tall + 0.82 + 0.3 * len(lines) + 0.16, title, note)
    top = done.top + 0.3
    write(done.axes, MARGIN + width / 2, top - 0.1, "query", BODY, MUTED, ha="center", va="baseline")
    crop(done.axes, asked, MARGIN, top, width, INK, linewidth=1.4)
    step = (WIDTH - 2 * MARGIN - 0.3 - width - T * width) / max(T - 1, 1) + width
    for t, kind in enumerate(kinds):
        x = MARGIN + width + 0.3 + t * min(step, width + 0.25)
        _candidate(done.axes, found[t], x, top, width, tall, kind, ranks[t])
        hits = sum(k == "correct" for k in kinds[: t + 1])
        _below(done.axes, x + width / 2, top + tall + 0.2, kind, values[t], hits, ranks[t])
    y = top + tall + 0.82
    panel(done.axes, MARGIN, y, WIDTH - 2 * MARGIN, 0.3 * len(lines) + 0.14)
    for i, (name, text) in enumerate(lines):
        line = y + 0.3 * i + 0.28
        write(done.axes, MARGIN + 0.15, line, name, LARGE, INK, weight="bold", va="baseline")
        write(done.axes, MARGIN + 0.75, line, text, LARGE, INK, va="baseline")
    return done.figure


def _ranks(kinds: Sequence[str]) -> list[int]:
    """1, 2, ... over what counts; 0 for what is removed."""
    ranks, last = [], 0
    for kind in kinds:
        counts = kind in ("correct", "wrong")
        last += counts
        ranks.append(last if counts else 0)
    return ranks


def _candidate(axes: Axes, image, x, y, width, tall, kind, rank) -> None:
    head = f"rank {rank}" if rank else "removed"
    write(
        axes, x + width / 2, y - 0.1, head, BODY, INK if rank else MUTED, ha="center", va="baseline",
        weight="bold" if rank else "normal",
    )  # fmt: skip
    if rank:
        crop(axes, image, x, y, width, PALETTE[kind])
        verdict(axes, x + width - 0.11, y + tall - 0.11, kind == "correct", 0.1)
    else:
        crop(axes, image, x, y, width)
        veil(axes, x, y, width, tall, 0.2)


def _below(axes: Axes, x: float, y: float, kind: str, value: float, hits: int, rank: int) -> None:
    write(axes, x, y, f"cosine {value:.2f}", SMALL, MUTED, ha="center", va="baseline")
    if kind == "correct":
        write(axes, x, y + 0.27, f"{hits} / {rank}", 13.0, INK, ha="center", va="baseline", weight="bold")
        write(axes, x, y + 0.44, "hits / rank", SMALL, MUTED, ha="center", va="baseline")
    else:
        words = KINDS[kind].split("\n")
        for i, word in enumerate(words):
            write(axes, x, y + 0.2 + 0.15 * i, word, SMALL, MUTED, ha="center", va="baseline")


def _arithmetic(ranks: list[int]) -> list[tuple[str, str]]:
    """The three scores of one query with a match at each of `ranks`, written out."""
    M, first, last = len(ranks), ranks[0], ranks[-1]
    shown = [f"{m}/{r}" for m, r in enumerate(ranks, 1)]
    terms = " + ".join(shown if M <= 6 else [*shown[:4], "…", shown[-1]])
    average = sum(m / r for m, r in enumerate(ranks, 1)) / M
    before = "" if first == 1 else f"0 up to rank {first - 1}, "
    return [
        ("CMC", f"first match at rank {first}: {before}1 from rank {first} on"),
        ("AP", f"({terms}) / {M} = {average:.3f}"),
        ("INP", f"{M} matches, the last at rank {last}: {M} / {last} = {M / last:.3f}"),
    ]


@styled
def ranking_strips(rankings: Mapping[str, Array], *, title: str, note: str = "", shown: int = 60) -> Figure:
    """Whole rankings as strips, best left: a tall bar is a match; rank-1, AP and INP beside each.

    `rankings` maps a name to its booleans by rank; only the first `shown` ranks are drawn.

    Raises:
        ValueError: no rankings, or one without a match.
    """
    lists = {name: as_array(one, f"rankings[{name!r}]").astype(bool) for name, one in rankings.items()}
    if not lists or not all(one.any() for one in lists.values()):
        raise ValueError("rankings must hold at least one, each with a match")
    row, columns = 0.62, ("rank-1", "AP", "INP")
    done = page(0.24 + row * len(lists) + 0.3 + legend_height(STRIP_ITEMS), title, note)
    names = max(text_width(name, BODY, "bold") for name in lists) + 0.16
    left, right = MARGIN + names, WIDTH - MARGIN - 0.6 * len(columns)
    cell = (right - 0.1 - left) / shown
    for c, column in enumerate(columns):
        x = right + 0.6 * (c + 0.5)
        write(done.axes, x, done.top + 0.08, column, BODY, MUTED, ha="center", va="baseline")
    for i, (name, hits) in enumerate(lists.items()):
        y = done.top + 0.24 + row * i
        write(done.axes, MARGIN, y + 0.32, name, BODY, INK, weight="bold", va="baseline")
        _strip(done.axes, hits[:shown], left, y, cell)
        for c, value in enumerate(_scores(hits)):
            text = f"{100 * value:.0f} %"
            x = right + 0.6 * (c + 0.5)
            write(done.axes, x, y + 0.33, text, LARGE, INK, ha="center", va="baseline", weight="bold")
    y = done.top + 0.24 + row * len(lists) + 0.06
    for rank in (1, *range(10, shown + 1, 10)):
        x = left + cell * (rank - 0.5)
        write(done.axes, x, y, f"{'rank ' if rank == 1 else ''}{rank}", SMALL, MUTED, ha="center")
    legend(done.axes, y + 0.16, STRIP_ITEMS)
    return done.figure


def _scores(hits: np.ndarray) -> tuple[float, float, float]:
    ranks = 1 + np.flatnonzero(hits)
    each = np.arange(1, len(ranks) + 1) / ranks
    return float(hits[0]), float(each.mean()), float(each[-1])


def _strip(axes: Axes, hits: np.ndarray, left: float, y: float, cell: float) -> None:
    for k, hit in enumerate(hits):
        tall = 0.46 if hit else 0.16
        color = PALETTE["correct"] if hit else PALETTE["neutral"]
        box = Rectangle((left + k * cell, y + 0.5 - tall), 0.82 * cell, tall, facecolor=color, linewidth=0)
        axes.add_patch(box)


def _block(color: str, tall: float):
    def draw(axes: Axes, x: float, y: float) -> None:
        axes.add_patch(Rectangle((x - 0.05, y + 0.09 - tall), 0.1, tall, facecolor=color, linewidth=0))

    return draw


STRIP_ITEMS: list[Item] = [
    (_block(PALETTE["correct"], 0.18), 0.14, "same person, another camera"),
    (_block(PALETTE["neutral"], 0.07), 0.24, "somebody else"),
]


@styled
def precision_recall(correct: Array, step: Array, trapezoid: Array, *, title: str, note: str = "") -> Figure:
    """One ranking's precision over recall with the area under it taken both ways; all queries beside it.

    `correct` (G,) is one ranking; `step` and `trapezoid` (Q,) are every query's average precision.

    Raises:
        ValueError: a ranking without a match, numbers of queries that disagree.
    """
    hits = as_array(correct, "correct").astype(bool)
    a = as_array(step, "step").astype(float)
    b = as_array(trapezoid, "trapezoid", a.shape).astype(float)
    if not hits.any():
        raise ValueError("correct holds no match: the average precision of that query does not exist")
    items: list[Item] = [_line_item(STEP, "-", "step"), _line_item(TRAPEZOID, (0, (3, 2)), "trapezoid")]
    head = legend_height(items) + 0.1
    done = page(head + 3.35, title, note)
    legend(done.axes, done.top, items)
    y = done.top + head + 0.3
    left = chart(done, MARGIN + 0.5, y, 3.45, 2.55, label="curve")
    _areas(left, 1 + np.flatnonzero(hits))
    right = chart(done, MARGIN + 4.75, y, 3.1, 2.55, label="queries")
    right.set_title("All queries: what the trapezoid takes off", x=-0.02, pad=9)
    right.scatter(100 * a, 100 * (a - b), s=26, color=STEP, alpha=0.55, edgecolor=PAPER, linewidth=0.6)
    mean = 100 * float((a - b).mean())
    right.axhline(mean, color=TRAPEZOID, linewidth=1.4, linestyle=(0, (3, 2)))
    right.annotate(
        f"mean {mean:.1f}", (0.995, mean), xycoords=("axes fraction", "data"), xytext=(0, 3), ha="right",
        textcoords="offset points", fontsize=SMALL, color=INK,
    )  # fmt: skip
    right.set_xlabel("AP of a query, step (%)", fontsize=SMALL)
    right.set_ylabel("step − trapezoid (points)", fontsize=SMALL)
    right.set(xlim=(-3, 103))
    return done.figure


def _areas(axes: Axes, ranks: np.ndarray) -> None:
    M, m = len(ranks), np.arange(1, len(ranks) + 1)
    after, before = m / ranks, np.where(ranks > 1, (m - 1) / np.maximum(ranks - 1, 1), 1.0)
    for k in range(M):
        x = [100 * k / M, 100 * (k + 1) / M]
        axes.fill_between(x, 0, 100 * after[k], color=STEP, alpha=0.13, linewidth=0)
        axes.plot(x, [100 * after[k]] * 2, color=STEP, linewidth=2, solid_capstyle="butt")
        axes.plot(x, [100 * before[k], 100 * after[k]], color=TRAPEZOID, linewidth=1.8, linestyle=(0, (3, 2)))
        axes.plot(x[1], 100 * after[k], "o", color=INK, markersize=4.5, zorder=5)
        axes.annotate(
            f"{m[k]}/{ranks[k]}", (x[1], 100 * after[k]), xytext=(-3, 5), textcoords="offset points",
            ha="right", fontsize=SMALL, color=INK,
        )  # fmt: skip
    step, trapezoid = 100 * after.mean(), 50 * (after + before).mean()
    axes.set_title(f"One query: AP {step:.1f} % or {trapezoid:.1f} %", x=-0.02, pad=9)
    axes.set_xlabel("recall: matches found (%)", fontsize=SMALL)
    axes.set_ylabel("precision: hits / rank (%)", fontsize=SMALL)
    axes.set(xlim=(0, 103), ylim=(0, 118 * max(after.max(), before.max())))


def _line_item(color: str, line: Any, text: str) -> Item:
    def draw(axes: Axes, x: float, y: float) -> None:
        axes.plot([x - 0.16, x + 0.16], [y, y], color=color, linewidth=2, linestyle=line)

    return draw, 0.34, text
