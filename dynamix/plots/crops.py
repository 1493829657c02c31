"""Pictures of crops: contact sheets, ranked lists, mixed mini-batches."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dynamix.plots.marks import LEGEND_ROW, Array, Item, as_array, as_images, crop, legend, panel, verdict
from dynamix.plots.style import (
    BODY,
    INK,
    LINE,
    MARGIN,
    MUTED,
    PALETTE,
    PAPER,
    SMALL,
    WIDTH,
    chart,
    page,
    styled,
    text_width,
    write,
)

GAP = 0.06  # inches between crops


def sheet(
    images: Array,
    *,
    title: str,
    rows: Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
) -> Figure:
    """A contact sheet of crops (R, C, 3, H, W), such as people by cameras; `rows`, `columns` name them."""
    shown = as_images(images, "images", "R C 3 H W")
    R, C = shown.shape[:2]
    _check_names(rows, R, "rows")
    _check_names(columns, C, "columns")
    left = MARGIN + (max(text_width(name) for name in rows) + 0.12 if rows else 0.0)
    tall = shown.shape[2] / shown.shape[3]
    room = WIDTH - MARGIN - left
    width = min(1.1, (room + GAP) / C - GAP, max(11 / (R * tall), 0.5))  # two screens at most
    across = width + min((room - C * width) / max(C - 1, 1), 0.3)
    height = width * tall
    head = 0.22 if columns else 0.0
    sheet = page(head + R * (height + GAP) - GAP, title)
    for c, name in enumerate(columns or ()):
        x = left + c * across + width / 2
        write(sheet.axes, x, sheet.top + 0.08, name, BODY, MUTED, ha="center")
    for r in range(R):
        y = sheet.top + head + r * (height + GAP)
        if rows:
            write(sheet.axes, left - 0.12, y + height / 2, rows[r], BODY, MUTED, ha="right")
        for c in range(C):
            crop(sheet.axes, shown[r, c], left + c * across, y, width)
    return sheet.figure


def ranked_lists(queries: Array, results: Mapping[str, tuple[Array, Array]], *, title: str) -> Figure:
    """What each model finds for each query, best first: correct and wrong matches framed and marked.

    `queries` (Q, 3, H, W); `results` maps a model's name to its top crops (Q, T, 3, H, W) and whether each
    is correct (Q, T).
    """
    asked = as_images(queries, "queries", "Q 3 H W")
    found = check_results(results, len(asked))
    T = max(crops.shape[1] for crops, _ in found.values())
    across = 2 if T <= 5 and len(asked) > 1 else 1  # blocks side by side
    block = (WIDTH - 2 * MARGIN - 0.2 * (across - 1)) / across
    width = min(0.85, (block - 0.2 - BESIDE - GAP * (T - 1)) / (T + query_scale(len(found))))
    tall = block_height(asked[0], len(found), width) + 0.2
    lines = -(-len(asked) // across)
    done = page(lines * (tall + 0.1) + LEGEND_ROW, title)
    for q in range(len(asked)):
        x = MARGIN + (q % across) * (block + 0.2)
        y = done.top + (q // across) * (tall + 0.1)
        panel(done.axes, x, y, block, tall)
        rows = {name: (crops[q], correct[q]) for name, (crops, correct) in found.items()}
        ranked_block(done.axes, asked[q], rows, x + 0.1, y + 0.1, width)
    legend(done.axes, done.top + lines * (tall + 0.1), verdict_legend())
    return done.figure


NAME, BESIDE = 0.2, 0.16  # inches: height of a model's name, space between query and results


def query_scale(models: int) -> float:
    """How much larger than a result the query is drawn."""
    return 1.0 if models == 1 else 1.6


def block_height(query: np.ndarray, models: int, width: float) -> float:
    """Height in inches of `ranked_block`."""
    return models * (NAME + width * query.shape[0] / query.shape[1] + 0.08) - 0.08


def ranked_block(
    axes: Axes,
    query: np.ndarray,
    rows: Mapping[str, tuple[np.ndarray, np.ndarray]],
    x: float,
    y: float,
    width: float,
) -> None:
    """One query (H, W, 3) and a row of its top crops per model, at (x, y) inches."""
    height = width * query.shape[0] / query.shape[1]
    large = width * query_scale(len(rows))
    write(axes, x, y + 0.1, "query", BODY, MUTED, va="baseline")
    crop(axes, query, x, y + NAME, large, INK, linewidth=1.2)
    for m, (name, (crops, correct)) in enumerate(rows.items()):
        top, left = y + m * (NAME + height + 0.08), x + large + BESIDE
        write(axes, left, top + 0.1, name, BODY, INK, weight="bold", va="baseline")
        count = f"{int(correct.sum())} of {len(correct)}"
        write(
            axes, left + text_width(name, BODY, "bold") + 0.08, top + 0.1, count, BODY, MUTED, va="baseline"
        )
        for t, image in enumerate(crops):
            at, right = left + t * (width + GAP), bool(correct[t])
            crop(axes, image, at, top + NAME, width, PALETTE["correct" if right else "wrong"])
            verdict(axes, at + width - 0.06, top + NAME + height - 0.06, right)


def verdict_legend() -> list[Item]:
    """What the two frames mean."""
    return [
        (lambda a, u, v: verdict(a, u, v, True), 0.17, "same person, another camera"),
        (lambda a, u, v: verdict(a, u, v, False), 0.17, "somebody else"),
    ]


def check_results(
    results: Mapping[str, tuple[Array, Array]], Q: int
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Results of `ranked_lists` as arrays ready to draw; wrong shapes raise, naming the model."""
    if not results:
        raise ValueError("results is empty: give at least one model's top crops")
    found = {}
    for name, (images, correct) in results.items():
        crops = as_images(images, f"results[{name!r}]", "Q T 3 H W")
        if len(crops) != Q:
            raise ValueError(f"results[{name!r}] has {len(crops)} queries, queries has {Q}")
        found[name] = (crops, as_array(correct, f"correct of results[{name!r}]", crops.shape[:2]))
    return found


@styled
def mixed_batch(
    multi: Array,
    single: Array,
    similarity: Array,
    *,
    title: str,
    target: float | None = None,
    candidates: Array | None = None,
) -> Figure:
    """A mini-batch as the sampler composed it (Sec. 3.4): each row one matched pair of PIDs.

    `multi` and `single` (P, K, 3, H, W) are the pair's crops, `similarity` (P,) that of their centroids;
    `target` is the similarity the sampler aimed at (the median over all candidates). `candidates` (P, C):
    similarities of each row's multi-camera person to all single-camera people, shown behind the dot.
    """
    left, right = as_images(multi, "multi", "P K 3 H W"), as_images(single, "single", "P K 3 H W")
    P, K = left.shape[:2]
    if right.shape[:2] != (P, K):
        raise ValueError(f"single must hold {P} x {K} crops as multi does, got {right.shape[:2]}")
    values = as_array(similarity, "similarity", (P,)).astype(float)
    crowd = None if candidates is None else as_array(candidates, "candidates").astype(float)
    if crowd is not None and (crowd.ndim != 2 or len(crowd) != P or not crowd.size):
        raise ValueError(f"candidates must hold similarities of {P} people, got {crowd.shape}")
    width = min(0.62, 4.2 / P, (WIDTH - 2 * MARGIN - 1.6) / (2 * K) - GAP)
    width = max(width, 0.3)
    height = width * left.shape[2] / left.shape[3]
    side, step = K * (width + GAP) - GAP, height + 0.1
    done = page(0.3 + P * step + (0.3 if crowd is None else 0.45), title)
    top, far = done.top + 0.3, WIDTH - MARGIN - side
    for x, name, kind in ((MARGIN, "multi-camera people", "multi"), (far, "single-camera people", "single")):
        color = PALETTE[f"{kind}-camera"]
        done.axes.plot([x, x + side], [top - 0.09] * 2, color=color, linewidth=4, solid_capstyle="butt")
        start = min(x, WIDTH - MARGIN - text_width(name, BODY, "bold"))
        write(done.axes, start, top - 0.2, name, BODY, INK, weight="bold", va="baseline")
    for p in range(P):
        y = top + p * step
        for k in range(K):
            crop(done.axes, left[p, k], MARGIN + k * (width + GAP), y, width)
            crop(done.axes, right[p, k], far + k * (width + GAP), y, width)
    _similarity_axis(done, values, target, crowd, MARGIN + side, far, top, step, height)
    return done.figure


def _similarity_axis(done, values, target, crowd, start, end, top, step, height) -> None:
    """Between the two sides: one dot per pair on a common similarity axis, candidates as a hill behind it."""
    x, width = start + 0.25, end - start - 0.5
    axes = chart(done, x, top, width, step * len(values) - 0.1, label="similarity")
    hills = crowd is not None
    every = np.concatenate([values, crowd.ravel()]) if hills else values
    low, high = min(-0.1, every.min() - 0.1), max(0.6, every.max() + (0.03 if hills else 0.15))
    lines = np.arange(len(values)) * step + height * (0.7 if hills else 0.5)
    axes.set(
        xlim=(low, high),
        ylim=(step * len(values) - 0.1, 0),
        yticks=[],
        xlabel="cosine similarity of the pair"
        + ("" if crowd is None else "\ngray: to all single-camera people"),
    )
    axes.spines["left"].set_visible(False)
    axes.grid(visible=False)
    axes.hlines(lines, low, high, color=LINE, linewidth=1)
    if hills:
        _hills(axes, crowd, lines, 0.6 * step, np.linspace(low, high, 49))
    if target is not None:
        axes.axvline(target, color=MUTED, linewidth=1.4, linestyle=(0, (4, 3)))
        axes.annotate(
            f"median of all candidates {target:.2f}", (target, 1), xycoords=("data", "axes fraction"),
            xytext=(0, 5), textcoords="offset points", ha="center", fontsize=SMALL, color=MUTED,
        )  # fmt: skip
    axes.scatter(values, lines, s=70, color=INK, zorder=5, edgecolor="white", linewidth=1.2, clip_on=False)
    for value, line in zip(values, lines, strict=True):
        axes.annotate(
            f"{value:.2f}", (value, line), xytext=(0, -8 if hills else 8), textcoords="offset points",
            ha="center", va="top" if hills else "bottom", fontsize=BODY, color=INK, weight="bold", zorder=6,
            bbox={"facecolor": PAPER, "edgecolor": "none", "pad": 0.8},
        )  # fmt: skip


def _hills(axes, crowd, lines, tall, edges) -> None:
    """A histogram of each row of `crowd` standing on its line, all at one scale."""
    counts = np.stack([np.histogram(row, edges)[0] for row in crowd])
    for line, row in zip(lines, tall * counts / counts.max(), strict=True):
        axes.stairs(line - row, edges, baseline=line, fill=True, color=PALETTE["neutral"], alpha=0.55)


def _check_names(names: Sequence[str] | None, count: int, what: str) -> None:
    if names is not None and len(names) != count:
        raise ValueError(f"{what} must name {count} {what}, got {len(names)}")
