"""Pictures of single-camera clips: what the tracker delivered."""

from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dynamix.plots.marks import (
    Array,
    Item,
    as_array,
    as_images,
    bar,
    crop,
    cut_mark,
    legend,
    legend_height,
    letter,
    number,
    swap_mark,
    tag,
    tint,
    veil,
)
from dynamix.plots.style import MARGIN, PALETTE, WIDTH, page

BAR = 0.19  # height of a label's bar, inches


@dataclass(frozen=True)
class Marks:
    """The tracker's errors in strips of true people, (R, C) bool each."""

    cut: np.ndarray  # here the person goes on under a new label of their own
    switch: np.ndarray  # from here on the person carries somebody else's label
    wrong: np.ndarray  # carries somebody else's label
    junk: np.ndarray


def tracker_errors(tracker: np.ndarray, truth: np.ndarray) -> Marks:
    """Where a tracker went wrong, in strips of true people over time.

    `tracker` (R, C) labels and `truth` (R, C) identities, -1 = junk, in frame order.
    A label belongs to the person who has most of its images, the earliest on a tie.
    """
    junk = truth < 0
    owner = {label: _owner(tracker, truth, label) for label in np.unique(tracker).tolist()}
    wrong = ~junk & (np.vectorize(owner.__getitem__, otypes=[np.int64])(tracker) != truth)
    cut, switch = np.zeros_like(junk), np.zeros_like(junk)
    for r in range(len(tracker)):
        seen = np.flatnonzero(~junk[r])
        for before, c in zip(seen[:-1], seen[1:], strict=True):
            if tracker[r, c] != tracker[r, before]:
                switch[r, c] = wrong[r, c]
                # Junk in between already carries the new label: the cut is where the label changes.
                new = before + 1 + int(np.argmax(tracker[r, before + 1 : c + 1] == tracker[r, c]))
                cut[r, new] = not wrong[r, c] and not wrong[r, before]
        if len(seen):
            switch[r, seen[0]] = wrong[r, seen[0]]
    return Marks(cut, switch, wrong, junk)


def _owner(tracker: np.ndarray, truth: np.ndarray, label: int) -> int:
    mine = (tracker == label) & (truth >= 0)
    if not mine.any():
        return -1
    people, counts = np.unique(truth[mine], return_counts=True)
    most = people[counts == counts.max()]
    if len(most) == 1:
        return int(most[0])
    first = [np.flatnonzero((mine & (truth == person)).any(axis=0))[0] for person in most]
    return int(most[int(np.argmin(first))])


def clips(images: Array, tracker: Array, truth: Array, *, title: str) -> Figure:
    """Strips of single-camera clips: each row one person over time, the bar below is the tracker's label.

    `images` (R, C, 3, H, W) in frame order, `tracker` (R, C) labels, `truth` (R, C) identities, -1 = junk.
    Cuts, identity switches and junk boxes are found against the truth and marked.
    """
    shown = as_images(images, "images", "R C 3 H W")
    R, C = shown.shape[:2]
    labels, real = as_array(tracker, "tracker", (R, C)), as_array(truth, "truth", (R, C))
    marks = tracker_errors(labels, real)
    names = 0.45
    gap = 0.1
    width = min(0.86, (WIDTH - 2 * MARGIN - names + gap) / C - gap)
    step = strip_height(shown, width) + 0.24
    marked = clip_legend()
    done = page(0.1 + R * step + legend_height(marked), title, _count_errors(marks))
    strips(done.axes, shown, labels, real, marks, MARGIN, done.top + 0.1, width, gap, step, names)
    legend(done.axes, done.top + 0.1 + R * step, marked)
    return done.figure


def strip_height(shown: np.ndarray, width: float) -> float:
    """Height in inches of a strip with its bar."""
    return width * shown.shape[-3] / shown.shape[-2] + 0.05 + BAR


def strips(
    axes: Axes,
    shown: np.ndarray,
    labels: np.ndarray,
    truth: np.ndarray,
    marks: Marks,
    x: float,
    y: float,
    width: float,
    gap: float,
    step: float,
    names: float,
) -> None:
    """The strips of `clips` at (x, y) inches; `names` inches are left for the people's numbers."""
    tall = width * shown.shape[-3] / shown.shape[-2]
    people = np.unique(truth[truth >= 0]).tolist()
    values = np.unique(labels).tolist()
    for r in range(len(shown)):
        top = y + r * step
        own = truth[r][truth[r] >= 0]
        if len(own) and names:
            number(axes, x + 0.12, top + tall / 2, people.index(majority(own)) + 1, 0.12)
        for c in range(shown.shape[1]):
            left = x + names + c * (width + gap)
            edge = PALETTE["wrong"] if marks.wrong[r, c] else None
            crop(axes, shown[r, c], left, top, width, edge)
            if marks.junk[r, c]:
                veil(axes, left, top, width, tall)
                tag(axes, left + width / 2, top + tall / 2, "junk", PALETTE["removed"])
            if marks.switch[r, c]:
                swap_mark(axes, left + 0.03, top + 0.05, 0.12)
            if marks.cut[r, c]:
                cut_mark(axes, left - gap / 2, top + 0.02, top + tall + 0.05 + BAR)
        _label_bars(axes, labels[r], marks.wrong[r], values, x + names, top + tall + 0.05, width, gap)


def _label_bars(
    axes: Axes,
    labels: np.ndarray,
    wrong: np.ndarray,
    values: list[int],
    x: float,
    y: float,
    width: float,
    gap: float,
) -> None:
    """One bar per run of equal labels, as long as the run."""
    starts = [0, *(np.flatnonzero(np.diff(labels)) + 1).tolist(), len(labels)]
    for a, b in zip(starts[:-1], starts[1:], strict=True):
        index = values.index(int(labels[a]))
        edge = PALETTE["wrong"] if wrong[a:b].any() else "none"
        left = x + a * (width + gap)
        bar(axes, left, y, (b - a) * (width + gap) - gap, BAR, tint(index), letter(index), edge)


def clip_legend() -> list[Item]:
    """What the marks of `clips` mean."""
    return [
        (lambda a, u, v: number(a, u, v, 1), 0.18, "person"),
        (lambda a, u, v: bar(a, u - 0.17, v - 0.085, 0.34, 0.17, tint(0), "A"), 0.34, "tracker's label"),
        (lambda a, u, v: cut_mark(a, u, v - 0.04, v + 0.1), 0.16, "cut: same person, new label"),
        (lambda a, u, v: swap_mark(a, u, v), 0.2, "switch: another's label"),
        (lambda a, u, v: tag(a, u, v, "junk", PALETTE["removed"]), 0.4, "box on nobody"),
    ]


def _count_errors(marks: Marks) -> str:
    cuts, switches, junk = (int(mask.sum()) for mask in (marks.cut, marks.switch, marks.junk))
    return (
        f"The tracker's errors in these {marks.cut.size} boxes: {_plural(cuts, 'cut')}, "
        f"{_plural(switches, 'identity switch', 'es')}, {_plural(junk, 'junk box', 'es')}. "
        "Time runs to the right."
    )


def _plural(count: int, word: str, ending: str = "s") -> str:
    return f"{count} {word}{ending if count != 1 else ''}"


def majority(values: np.ndarray) -> int:
    found, counts = np.unique(values, return_counts=True)
    return int(found[counts.argmax()])
