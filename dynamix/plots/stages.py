"""Relabeling stage by stage: one clip's features, labels and centroids, and the crops that changed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dynamix.plots import cloud
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
    number,
    panel,
    tag,
    tint,
    veil,
    verdict,
)  # fmt: skip
from dynamix.plots.relabeling import decisions
from dynamix.plots.style import (
    INK,
    MARGIN,
    MUTED,
    PALETTE,
    SMALL,
    WIDTH,
    page,
    styled,
    text_width,
    write,
)  # fmt: skip

SPACE, PAD, CLOUD = 0.14, 0.12, 2.15  # inches: between cards, inside them, height of a scatter
CROP, GAP, SHOWN = 0.41, 0.06, 8  # inches; crops shown per stage


@dataclass(frozen=True)
class Stage:
    """A clip's n images after one stage, and the centroids of its labels."""

    name: str
    rule: str  # what the stage did, in a few words
    change: Literal["tracker", "removed", "relabeled", "merged"]
    labels: Array  # (n,)
    removed: Array  # (n,) bool
    centroid_labels: Array  # (p,)
    centroids: Array  # (p, D)


@styled
def stages(
    crops: Array, features: Array, truth: Array, steps: Sequence[Stage], *, title: str, note: str = ""
) -> Figure:
    """Two by two cards, one per stage (Sec. 3.2): features by PCA, centroids with their moves, changed crops.

    `crops` (n, 3, H, W), unit `features` (n, D), `truth` (n,) with -1 = junk; the first of `steps` has the
    tracker's labels.
    """
    shown = as_images(crops, "crops", "n 3 H W")
    n = len(shown)
    real, unit = as_array(truth, "truth", (n,)), as_array(features, "features").astype(float)
    plane = cloud.Plane.of(unit)
    homes = [_homes(step, plane) for step in steps]
    all_labels = np.concatenate([as_array(step.labels, f"labels of {step.name}", (n,)) for step in steps])
    values = np.unique(all_labels).tolist()
    extent = np.concatenate([plane(unit), *(np.stack(list(h.values())) for h in homes if h)])
    card = (WIDTH - 2 * MARGIN - SPACE) / 2
    strip = CROP * shown.shape[1] / shown.shape[2] + 0.24
    tall = 0.52 + CLOUD + 0.26 + strip
    items = _legend()
    lines = -(-len(steps) // 2)
    done = page(lines * (tall + SPACE) - SPACE + 0.08 + legend_height(items), title, note)
    for k, step in enumerate(steps):
        x, y = MARGIN + (k % 2) * (card + SPACE), done.top + (k // 2) * (tall + SPACE)
        panel(done.axes, x, y, card, tall)
        head = f"({'abcdefgh'[k]}) {step.name}"
        write(done.axes, x + PAD, y + 0.22, head, 10.0, INK, weight="bold", va="baseline")
        write(done.axes, x + PAD, y + 0.4, step.rule, SMALL, MUTED, va="baseline")
        frame = cloud.Frame.around(extent, x + 0.32, y + 0.68, card - 0.64, CLOUD - 0.34)
        before = _last(homes[:k])
        _scatter(done.axes, frame, plane(unit), step, real, values, homes[k], before)
        words, rows = _changed(step, steps[k - 1] if k else None)
        _strip(
            done.axes, shown, real, step, steps[max(k - 1, 0)], values, words, rows, x + PAD, y + 0.52 + CLOUD
        )
    legend(done.axes, done.top + lines * (tall + SPACE) - SPACE + 0.08, items)
    return done.figure


def _homes(step: Stage, plane: cloud.Plane) -> dict[int, np.ndarray]:
    """Label -> place of its centroid, of the labels that own an image at this stage."""
    used = set(as_array(step.labels, "labels")[~as_array(step.removed, "removed").astype(bool)].tolist())
    points = plane(as_array(step.centroids, "centroids").astype(float))
    labels = as_array(step.centroid_labels, "centroid_labels", (len(points),)).tolist()
    return {label: point for label, point in zip(labels, points, strict=True) if label in used}


def _last(homes: Sequence[dict[int, np.ndarray]]) -> dict[int, np.ndarray]:
    return homes[-1] if homes else {}


def _scatter(
    axes: Axes,
    frame: cloud.Frame,
    points: np.ndarray,
    step: Stage,
    truth: np.ndarray,
    values: list[int],
    homes: dict[int, np.ndarray],
    before: dict[int, np.ndarray],
) -> None:
    places, labels = frame(points), as_array(step.labels, "labels")
    removed = as_array(step.removed, "removed").astype(bool)
    cloud.people(axes, places, truth)
    index = np.array([values.index(label) for label in labels.tolist()])
    at = {values.index(label): place for label, place in zip(homes, _placed(frame, homes), strict=True)}
    old = dict(zip(before, _placed(frame, before), strict=True))
    cloud.images(axes, places, index, removed, at)
    for k, point in at.items():
        came = old.get(values[k])
        cloud.centroid(axes, point, k, came)


def _placed(frame: cloud.Frame, homes: dict[int, np.ndarray]) -> np.ndarray:
    """Where the diamonds stand: those that would hide each other, a little apart."""
    if not homes:
        return np.empty((0, 2))
    box = (frame.x - 0.2, frame.y - 0.2, frame.x + frame.width + 0.2, frame.y + frame.height + 0.2)
    return cloud.apart(frame(np.stack(list(homes.values()))), 0.2, box)


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" + ("" if count == 1 else "s")


def _changed(step: Stage, before: Stage | None) -> tuple[str, np.ndarray]:
    """What to say over the strip, and the rows it shows: those that this stage changed, in frame order."""
    labels, removed = as_array(step.labels, "labels"), as_array(step.removed, "removed").astype(bool)
    if before is None:
        rows = np.sort(np.unique(labels, return_index=True)[1])
        return f"{_counted(len(rows), 'label')}, an image of each", rows
    old, gone = as_array(before.labels, "labels"), as_array(before.removed, "removed").astype(bool)
    if step.change == "removed":
        rows = np.flatnonzero(removed & ~gone)
        return f"{_counted(len(rows), 'image')} removed", rows
    rows = np.flatnonzero((labels != old) & ~removed)
    if step.change == "relabeled":
        return f"{_counted(len(rows), 'image')} relabeled", rows
    rows = rows[np.sort(np.unique(old[rows], return_index=True)[1])]
    return f"{_counted(len(rows), 'label')} merged into another", rows


def _strip(
    axes: Axes,
    crops: np.ndarray,
    truth: np.ndarray,
    step: Stage,
    before: Stage,
    values: list[int],
    words: str,
    rows: np.ndarray,
    x: float,
    y: float,
) -> None:
    """The changed crops: true person, old and new label, and whether that was right."""
    labels, old = as_array(step.labels, "labels"), as_array(before.labels, "labels")
    removed = as_array(step.removed, "removed").astype(bool)
    made = decisions(old, labels, removed, truth)
    people = np.unique(truth[truth >= 0]).tolist()
    shown = rows[:SHOWN]
    if len(rows) > SHOWN:
        words += f" (the first {SHOWN} shown)"
    write(axes, x, y + 0.12, words, SMALL, INK, va="baseline", weight="bold")
    if step is not before and len(rows):
        right = int(made.right[rows].sum())
        at = x + text_width(words, SMALL, "bold") + 0.1
        write(axes, at, y + 0.12, f"{right} of {len(rows)} rightly", SMALL, MUTED, va="baseline")
    for i, row in enumerate(shown.tolist()):
        left, top = x + i * (CROP + GAP), y + 0.24
        tall = crop(axes, crops[row], left, top, CROP)
        if truth[row] >= 0:
            number(axes, left + 0.07, top + 0.07, people.index(int(truth[row])) + 1, 0.08)
        else:
            tag(axes, left + CROP / 2, top + 0.12, "junk", PALETTE["removed"], 7.5)
        if removed[row]:
            veil(axes, left, top, CROP, tall, 0.25)
        if step is not before:
            verdict(axes, left + CROP - 0.06, top + tall - 0.06, bool(made.right[row]))
        _labels(axes, values.index(int(old[row])), values.index(int(labels[row])), left, top + tall + 0.04)


def _labels(axes: Axes, old: int, new: int, x: float, y: float) -> None:
    """A label, or two with an arrow between them."""
    if old == new:
        bar(axes, x, y, CROP, 0.15, tint(old), letter(old))
        return
    half = CROP / 2 - 0.055
    bar(axes, x, y, half, 0.15, tint(old), letter(old))
    bar(axes, x + CROP - half, y, half, 0.15, tint(new), letter(new))
    write(axes, x + CROP / 2, y + 0.115, "\N{RIGHTWARDS ARROW}", 7.0, INK, ha="center", va="baseline")


def _legend() -> list[Item]:
    def dot(axes: Axes, x: float, y: float) -> None:
        point, home = np.array([x - 0.12, y]), np.array([x + 0.1, y])
        cloud.images(axes, point[None], np.array([0]), np.array([False]), {0: home})
        cloud.centroid(axes, home, 0)

    def out(axes: Axes, x: float, y: float) -> None:
        cloud.images(axes, np.array([[x, y]]), np.array([0]), np.array([True]), {})

    def move(axes: Axes, x: float, y: float) -> None:
        cloud.centroid(axes, np.array([x + 0.12, y]), 1, np.array([x - 0.22, y]))

    return [
        (lambda a, u, v: number(a, u, v, 1), 0.18, "true person"),
        (dot, 0.4, "image and centroid"),
        (move, 0.45, "centroid moved"),
        (out, 0.12, "removed"),
        (lambda a, u, v: verdict(a, u, v, True), 0.17, "right"),
        (lambda a, u, v: verdict(a, u, v, False), 0.17, "wrong"),
    ]
