"""Clusters of one clip, held against the true people in it, and the quality of the clusters of all clips."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from dynamix.plots import cloud
from dynamix.plots.diagram import Box
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
)  # fmt: skip
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
    Page,
    chart,
    page,
    styled,
    text_width,
    write,
)  # fmt: skip

SPACE, PAD, LEFT, UPPER, CROP, GAP = 0.14, 0.12, 5.6, 3.0, 0.4, 0.05  # inches


@styled
def clusters(
    crops: Array,
    features: Array,
    found: Array,
    truth: Array,
    quality: Mapping[str, Array],
    *,
    title: str,
    note: str = "",
) -> Figure:
    """One clip's features by PCA with its clusters; their crops; `quality`: name -> one share per clip.

    `crops` (n, 3, H, W), `features` (n, D), `found` (n,) clusters, -1 = noise, `truth` (n,), -1 = junk.
    """
    shown = as_images(crops, "crops", "n 3 H W")
    n = len(shown)
    labels, real = as_array(found, "found", (n,)), as_array(truth, "truth", (n,))
    rows = [(k, np.flatnonzero(labels == k)) for k in np.unique(labels).tolist()]
    rows.sort(key=lambda row: row[0] if row[0] >= 0 else n)  # noise last
    across = int((LEFT - 2 * PAD - 0.5 + GAP) // (CROP + GAP))
    tall = CROP * shown.shape[1] / shown.shape[2]
    lines = sum(-(-len(each) // across) for _, each in rows)
    lower = 0.36 + lines * (tall + 0.08) + 0.06
    items = _legend()
    done = page(UPPER + SPACE + lower + 0.08 + legend_height(items), title, note)
    _scatter(done, as_array(features, "features").astype(float), labels, real, MARGIN, done.top, LEFT)
    x = MARGIN + LEFT + SPACE
    _quality(done, quality, Box(x, done.top, WIDTH - MARGIN - x, UPPER + SPACE + lower))
    y = done.top + UPPER + SPACE
    panel(done.axes, MARGIN, y, LEFT, lower)
    write(done.axes, MARGIN + PAD, y + 0.22, "Its clusters", 10.0, INK, weight="bold", va="baseline")
    people = np.unique(real[real >= 0]).tolist()
    at = y + 0.36
    for k, each in rows:
        if k >= 0:
            bar(done.axes, MARGIN + PAD, at + tall / 2 - 0.1, 0.34, 0.2, tint(k), letter(k))
        else:
            write(done.axes, MARGIN + PAD, at + tall / 2, "noise", SMALL, MUTED)
        for i, row in enumerate(each.tolist()):
            x, top = MARGIN + PAD + 0.5 + (i % across) * (CROP + GAP), at + (i // across) * (tall + 0.08)
            crop(done.axes, shown[row], x, top, CROP)
            if real[row] >= 0:
                number(done.axes, x + 0.07, top + 0.07, people.index(int(real[row])) + 1, 0.08)
            else:
                tag(done.axes, x + CROP / 2, top + 0.12, "junk", PALETTE["removed"], 7.0)
        at += -(-len(each) // across) * (tall + 0.08)
    legend(done.axes, y + lower + 0.08, items)
    return done.figure


def _scatter(
    done: Page, features: np.ndarray, labels: np.ndarray, truth: np.ndarray, x: float, y: float, width: float
) -> None:
    panel(done.axes, x, y, width, UPPER)
    write(
        done.axes,
        x + PAD,
        y + 0.22,
        "The clip with most tracking errors",
        10.0,
        INK,
        weight="bold",
        va="baseline",
    )
    flat = cloud.Plane.of(features)(features)
    places = cloud.Frame.around(flat, x + 0.35, y + 0.58, width - 0.7, UPPER - 0.9)(flat)
    cloud.people(done.axes, places, truth)
    homes = {k: places[labels == k].mean(0) for k in np.unique(labels[labels >= 0]).tolist()}
    cloud.images(done.axes, places, labels, labels < 0, homes)
    for k, home in homes.items():
        cloud.centroid(done.axes, home, k)


def _quality(done: Page, quality: Mapping[str, Array], box: Box) -> None:
    """A histogram of each measure over the clips."""
    panel(done.axes, box.x, box.y, box.width, box.height)
    values = {name: as_array(each, name).astype(float) for name, each in quality.items()}
    count = len(next(iter(values.values())))
    write(
        done.axes, box.x + PAD, box.y + 0.22, f"All {count:,} clips", 10.0, INK, weight="bold", va="baseline"
    )
    step = (box.height - 0.4) / len(values)
    for k, (name, each) in enumerate(values.items()):
        y, color = box.y + 0.4 + k * step, PALETTE["removed"] if name == "noise" else SERIES[0]
        known = each[np.isfinite(each)]
        mean = float(known.mean()) if len(known) else float("nan")
        write(done.axes, box.x + PAD, y + 0.1, name, BODY, INK, weight="bold", va="baseline")
        at = box.x + PAD + text_width(name, BODY, "bold") + 0.1
        write(done.axes, at, y + 0.1, f"mean {100 * mean:.1f} %", SMALL, MUTED, va="baseline")
        axes = chart(done, box.x + 0.2, y + 0.2, box.width - 0.4, step - 0.55, label=name, facecolor="none")
        axes.hist(known, np.linspace(0, 1, 21).tolist(), color=color, alpha=0.4)
        axes.plot(
            [mean], [0], marker="^", markersize=7, color=color, markeredgecolor=PAPER, zorder=5, clip_on=False
        )
        axes.set(xlim=(0, 1), yticks=[], xticks=[0, 0.5, 1])
        axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:g} %")
        axes.spines["left"].set_visible(False)
        axes.grid(axis="y", visible=False)


def _legend() -> list[Item]:
    def dot(axes, x, y):
        point, home = np.array([x - 0.12, y]), np.array([x + 0.1, y])
        cloud.images(axes, point[None], np.array([0]), np.array([False]), {0: home})
        cloud.centroid(axes, home, 0)

    return [
        (lambda a, u, v: number(a, u, v, 1), 0.18, "true person"),
        (dot, 0.4, "image and its cluster"),
        (
            lambda a, u, v: cloud.images(a, np.array([[u, v]]), np.array([0]), np.array([True]), {}),
            0.12,
            "noise",
        ),
        (
            lambda a, u, v: a.plot([u], [v], marker="^", markersize=7, color=SERIES[0]),
            0.14,
            "mean over clips",
        ),
    ]
