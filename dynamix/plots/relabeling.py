"""Relabeling as a picture: a clip's images under their new labels, each decision held against the truth."""

from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dynamix.plots.clips import majority
from dynamix.plots.marks import (
    LEGEND_ROW,
    Array,
    Item,
    as_array,
    as_images,
    bar,
    crop,
    legend,
    letter,
    number,
    panel,
    tag,
    tint,
    veil,
    verdict,
)
from dynamix.plots.style import BODY, INK, MARGIN, MUTED, PALETTE, SMALL, WIDTH, page, text_width, write


@dataclass(frozen=True)
class Decisions:
    """What relabeling did with each image, and whether it was right; (n,) each."""

    kind: np.ndarray  # "kept", "moved", "merged" or "removed"
    right: np.ndarray  # bool, against the truth
    owner: dict[int, int]  # new label -> the person who has most of its images, -1 = nobody


def decisions(before: np.ndarray, after: np.ndarray, removed: np.ndarray, truth: np.ndarray) -> Decisions:
    """Read the decisions off the labels: a label that all of its images left was merged, one image moved.

    A removal is right if the box is junk; any other decision if the image ends with its own person.
    """
    owner = {}
    for label in np.unique(after[~removed]).tolist():
        people = truth[(after == label) & ~removed & (truth >= 0)]
        owner[label] = majority(people) if len(people) else -1
    target = {}
    for label in np.unique(before).tolist():
        went = after[(before == label) & ~removed]
        target[label] = label if (went == label).any() or not len(went) else majority(went)
    goes = np.array([target[b] for b in before.tolist()])
    kind = np.where(after == before, "kept", np.where(goes == after, "merged", "moved"))
    kind = np.where(removed, "removed", kind)
    home = np.array([owner.get(a, -1) for a in after.tolist()])
    right = np.where(removed, truth < 0, (truth >= 0) & (home == truth))
    return Decisions(kind, right, owner)


def relabeling(
    crops: Array, before: Array, after: Array, removed: Array, truth: Array, *, title: str
) -> Figure:
    """One clip's images grouped by their new label (Sec. 3.2): what was kept, moved, merged and removed.

    `crops` (n, 3, H, W); `before`, `after` (n,) labels; `removed` (n,) bool; `truth` (n,), -1 = junk.
    """
    shown = as_images(crops, "crops", "n 3 H W")
    n = len(shown)
    old, new = as_array(before, "before", (n,)), as_array(after, "after", (n,))
    gone, real = as_array(removed, "removed", (n,)).astype(bool), as_array(truth, "truth", (n,))
    made = decisions(old, new, gone, real)
    groups = cards(new, gone)
    width, boxes, body = fit_cards(groups, shown.shape[1] / shown.shape[2])
    done = page(body + 0.08 + LEGEND_ROW, title, _count_decisions(made))
    draw_cards(done.axes, shown, old, new, real, made, groups, boxes, MARGIN, done.top, width)
    legend(done.axes, done.top + body + 0.08, relabeling_legend())
    return done.figure


CARD_PAD, CARD_HEAD, CARD_FOOT, CARD_GAP = 0.1, 0.28, 0.4, 0.06  # inches


def cards(after: np.ndarray, removed: np.ndarray) -> list[tuple[int | None, np.ndarray]]:
    """(new label, rows) in ascending order of label, then (None, removed rows) if there are any."""
    groups: list[tuple[int | None, np.ndarray]] = [
        (label, np.flatnonzero((after == label) & ~removed)) for label in np.unique(after[~removed]).tolist()
    ]
    return groups + ([(None, np.flatnonzero(removed))] if removed.any() else [])


def fit_cards(groups: list[tuple[int | None, np.ndarray]], tall: float) -> tuple[float, list, float]:
    """The widest crops (height = `tall` x width) with which the page stays short: (width, boxes, height)."""
    for width in np.arange(0.8, 0.5, -0.02).tolist():
        boxes, body = flow(groups, width, width * tall, WIDTH - 2 * MARGIN)
        if body <= 9.0:
            break
    return width, boxes, body


def flow(
    groups: list[tuple[int | None, np.ndarray]], width: float, height: float, room: float
) -> tuple[list[tuple[float, float, int, float, float]], float]:
    """Where the cards go, line by line: (x, y, crops across, width, height) each; and the total height."""
    most = max(1, int((room - 2 * CARD_PAD + CARD_GAP) // (width + CARD_GAP)))
    boxes, x, y, line = [], 0.0, 0.0, 0.0
    for _, rows in groups:
        across = min(len(rows), most)
        wide = max(across * (width + CARD_GAP) - CARD_GAP + 2 * CARD_PAD, 1.5)
        tall = CARD_HEAD + -(-len(rows) // across) * (height + CARD_FOOT) + 0.06
        if x and x + wide > room + 1e-6:
            x, y, line = 0.0, y + line + 0.12, 0.0
        boxes.append((x, y, across, wide, tall))
        x, line = x + wide + 0.12, max(line, tall)
    return boxes, y + line


def draw_cards(axes, shown, old, new, truth, made, groups, boxes, x, y, width) -> None:
    """The cards of `relabeling` at (x, y) inches."""
    values = np.unique(np.concatenate([old, new])).tolist()
    people = np.unique(truth[truth >= 0]).tolist()
    tall = width * shown.shape[1] / shown.shape[2]
    for (label, rows), (left, top, across, wide, high) in zip(groups, boxes, strict=True):
        panel(axes, x + left, y + top, wide, high)
        _card_head(axes, label, old[rows], made, rows, values, people, x + left, y + top, wide)
        for i, row in enumerate(rows.tolist()):
            at = x + left + CARD_PAD + (i % across) * (width + CARD_GAP)
            level = y + top + CARD_HEAD + (i // across) * (tall + CARD_FOOT)
            _decided_crop(axes, shown[row], row, old, new, truth, made, values, people, at, level, width)


def _card_head(axes, label, old, made, rows, values, people, x, y, wide) -> None:
    """The new label, whose it is, and what was merged into it."""
    line = y + CARD_HEAD / 2
    if label is None:
        tag(axes, x + 0.43, line, "removed", PALETTE["removed"])
        return
    index = values.index(label)
    bar(axes, x + CARD_PAD, line - 0.09, 0.32, 0.18, tint(index), letter(index))
    whose = f"person {people.index(made.owner[label]) + 1}" if made.owner[label] >= 0 else "nobody"
    joined = sorted({int(b) for b in old[made.kind[rows] == "merged"]})
    longer = f"{whose}: {' + '.join(letter(values.index(b)) for b in [label, *joined])} merged"
    text = longer if joined and text_width(longer) < wide - 0.6 else whose
    write(axes, x + CARD_PAD + 0.4, line + 0.042, text, BODY, INK, va="baseline")


def _decided_crop(axes, image, row, old, new, truth, made, values, people, x, y, width) -> None:
    """One crop: true person on it, old and new label and the decision below it."""
    kind, right = str(made.kind[row]), bool(made.right[row])
    plain = kind == "kept" and right
    tall = crop(axes, image, x, y, width, None if plain else PALETTE["correct" if right else "wrong"])
    if truth[row] >= 0:
        number(axes, x + 0.05, y + 0.05, people.index(int(truth[row])) + 1)
    else:
        tag(axes, x + width / 2, y + 0.13, "junk", PALETTE["removed"], 7.5)
    if kind == "removed":
        veil(axes, x, y, width, tall, 0.3)
    if not plain:
        verdict(axes, x + width - 0.06, y + tall - 0.06, right)
    a, b = values.index(int(old[row])), values.index(int(new[row]))
    foot = y + tall + 0.05
    if kind in ("kept", "removed"):
        bar(axes, x, foot, width, 0.15, tint(a), letter(a))
    else:
        half = width / 2 - 0.06
        bar(axes, x, foot, half, 0.15, tint(a), letter(a))
        bar(axes, x + width - half, foot, half, 0.15, tint(b), letter(b))
        write(
            axes, x + width / 2, foot + 0.115, "\N{RIGHTWARDS ARROW}", SMALL, INK, ha="center", va="baseline"
        )
    word = ("kept" if right else "missed") if kind == "kept" else kind
    write(axes, x + width / 2, foot + 0.27, word, SMALL, MUTED if plain else INK, ha="center", va="baseline")


def relabeling_legend() -> list[Item]:
    """What the marks of `relabeling` mean."""
    return [
        (lambda a, u, v: number(a, u, v, 1), 0.18, "true person"),
        (_arrow_sample, 0.5, "tracker's label \N{RIGHTWARDS ARROW} new label"),
        (lambda a, u, v: verdict(a, u, v, True), 0.17, "right decision"),
        (lambda a, u, v: verdict(a, u, v, False), 0.17, "wrong or missed"),
    ]


def _arrow_sample(axes: Axes, x: float, y: float) -> None:
    bar(axes, x - 0.25, y - 0.075, 0.2, 0.15, tint(1), "B")
    bar(axes, x + 0.05, y - 0.075, 0.2, 0.15, tint(0), "A")
    write(axes, x, y + 0.04, "\N{RIGHTWARDS ARROW}", SMALL, INK, ha="center", va="baseline")


def _count_decisions(made: Decisions) -> str:
    parts = []
    for kind in ("moved", "merged", "removed"):
        here = made.kind == kind
        parts.append(f"{int(here.sum())} {kind} ({int(made.right[here].sum())} rightly)")
    missed = int((~made.right[made.kind == "kept"]).sum())
    return f"Of {len(made.kind)} images: {', '.join(parts)}, {missed} kept that should not have been."
