"""The README's first picture: noisy tracks, what relabeling makes of them, and what training then finds."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dynamix.plots.clips import BAR, clip_legend, strip_height, strips, tracker_errors
from dynamix.plots.crops import (
    BESIDE,
    GAP,
    block_height,
    check_results,
    query_scale,
    ranked_block,
)
from dynamix.plots.marks import (
    Array,
    Item,
    as_array,
    as_images,
    bar,
    crop,
    legend,
    legend_height,
    letter,
    panel,
    tag,
    tint,
    veil,
    verdict,
)
from dynamix.plots.relabeling import Decisions, decisions
from dynamix.plots.style import INK, MARGIN, MUTED, PALETTE, SMALL, WIDTH, page, write

HEADINGS = ("The tracker's labels", "After relabeling", "Search, trained on both")
VERDICTS: list[Item] = [
    (lambda a, u, v: verdict(a, u, v, True), 0.17, "right"),
    (lambda a, u, v: verdict(a, u, v, False), 0.17, "wrong"),
    (lambda a, u, v: tag(a, u, v, "out", PALETTE["removed"]), 0.34, "removed"),
]
HEAD, PAD, SPACE = 0.42, 0.1, 0.13  # inches: a column's heading, inside its card, between cards


def hero(
    images: Array,
    tracker: Array,
    truth: Array,
    after: Array,
    removed: Array,
    queries: Array,
    results: Mapping[str, tuple[Array, Array]],
    *,
    title: str,
    note: str = "",
    headings: tuple[str, str, str] = HEADINGS,
) -> Figure:
    """Three columns: noisy tracks as in `clips`; the same crops under their new labels; `ranked_lists`.

    `images` (R, C, 3, H, W) with labels `tracker`, `after`, `removed` and identities `truth`, (R, C) each;
    `queries` (Q, 3, H, W) and `results` as in `ranked_lists`. Best with R = 3, C = 4, T = 3, Q = 2.
    """
    shown = as_images(images, "images", "R C 3 H W")
    shape = shown.shape[:2]
    old, real = as_array(tracker, "tracker", shape), as_array(truth, "truth", shape)
    new, gone = as_array(after, "after", shape), as_array(removed, "removed", shape).astype(bool)
    asked = as_images(queries, "queries", "Q 3 H W")
    found = check_results(results, len(asked))
    T = max(crops.shape[1] for crops, _ in found.values())
    rows, across = _rows(new, gone)
    scale = query_scale(len(found))
    columns = [shape[1], across, T + scale]

    room = WIDTH - 2 * MARGIN - 2 * SPACE - 6 * PAD - BESIDE + (3 + scale) * GAP
    width = min(0.7, room / sum(columns) - GAP)
    step = strip_height(shown, width) + 0.17
    block = block_height(asked[0], len(found), width) + 0.14
    body = HEAD + max(step * len(shown), step * len(rows), block * len(asked))
    # Shorter columns spread a little, towards the foot of the tallest.
    step = min((body - HEAD) / max(len(shown), len(rows)), 1.25 * step)
    marks, items = tracker_errors(old, real), [*clip_legend()[1:], *VERDICTS]
    done = page(body + 0.06 + legend_height(items), title, note)

    x, places = MARGIN, []
    for i, count in enumerate(columns):
        wide = count * (width + GAP) - GAP + 2 * PAD + (BESIDE - scale * GAP if i == 2 else 0.0)
        panel(done.axes, x, done.top, wide, body)
        _heading(done.axes, i, headings[i], x, done.top)
        places.append(x + PAD)
        x += wide + SPACE
    top = done.top + HEAD
    strips(done.axes, shown, old, real, marks, places[0], top, width, GAP, step, 0.0)
    made = decisions(old.ravel(), new.ravel(), gone.ravel(), real.ravel())
    _regrouped(
        done.axes, shown.reshape(-1, *shown.shape[2:]), old, new, made, rows, places[1], top, width, step
    )
    for q, query in enumerate(asked):
        lists = {name: (top_crops[q], correct[q]) for name, (top_crops, correct) in found.items()}
        ranked_block(done.axes, query, lists, places[2], top - 0.06 + q * block, width)
    legend(done.axes, done.top + body + 0.06, items)
    return done.figure


Run = tuple[int | None, np.ndarray, int]  # new label (None = removed), the images, the slot they start at


def _rows(after: np.ndarray, removed: np.ndarray) -> tuple[list[list[Run]], int]:
    """A row per new label, the removed images beside the first row with room; and the slots in a row."""
    flat, gone = after.ravel(), removed.ravel()
    rows: list[list[Run]] = [
        [(label, np.flatnonzero((flat == label) & ~gone), 0)] for label in np.unique(flat[~gone]).tolist()
    ]
    out = np.flatnonzero(gone)
    across = max([len(row[0][1]) for row in rows], default=len(out))
    if len(out):
        free = [row for row in rows if across - len(row[0][1]) >= len(out)]
        if free:
            free[0].append((None, out, across - len(out)))
        else:
            rows.append([(None, out, 0)])
    return rows, max(across, len(out))


def _heading(axes: Axes, i: int, text: str, x: float, y: float) -> None:
    write(axes, x + PAD, y + 0.2, f"{i + 1}", 11.0, MUTED, va="baseline", weight="bold")
    write(axes, x + PAD + 0.17, y + 0.2, text, 10.0, INK, va="baseline", weight="bold")


def _regrouped(
    axes: Axes,
    crops: np.ndarray,
    old: np.ndarray,
    new: np.ndarray,
    made: Decisions,
    rows: list[list[Run]],
    x: float,
    y: float,
    width: float,
    step: float,
) -> None:
    """One bar per new label; changed images framed right or wrong, removed ones veiled."""
    values = np.unique(np.concatenate([old.ravel(), new.ravel()])).tolist()
    tall = width * crops.shape[1] / crops.shape[2]
    for r, row in enumerate(rows):
        top = y + r * step
        for label, images, start in row:
            left, wide = x + start * (width + GAP), len(images) * (width + GAP) - GAP
            for i, image in enumerate(images.tolist()):
                at, right = left + i * (width + GAP), bool(made.right[image])
                plain = made.kind[image] == "kept" and right
                crop(
                    axes,
                    crops[image],
                    at,
                    top,
                    width,
                    None if plain else PALETTE["correct" if right else "wrong"],
                )
                if label is None:
                    veil(axes, at, top, width, tall, 0.3)
                if not plain:
                    verdict(axes, at + width - 0.06, top + tall - 0.06, right)
            if label is None:
                tag(axes, left + wide / 2, top + tall + 0.05 + BAR / 2, "out", PALETTE["removed"], SMALL)
            else:
                index = values.index(label)
                bar(axes, left, top + tall + 0.05, wide, BAR, tint(index), letter(index))
