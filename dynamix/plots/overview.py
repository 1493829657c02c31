"""The methods at a glance: what happens once an epoch and in every iteration, with real objects in it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle

from dynamix.plots import cloud
from dynamix.plots.batches import signed
from dynamix.plots.diagram import Box, arrow, card, cells, network, note, strips
from dynamix.plots.marks import (
    Array,
    as_array,
    as_images,
    bar,
    crop,
    cut_mark,
    legend,
    legend_height,
    letter,
    number,
    rounded,
    swap_mark,
    tag,
    tint,
    veil,
)  # fmt: skip
from dynamix.plots.style import (
    BODY,
    INK,
    MARGIN,
    MUTED,
    PALETTE,
    PAPER,
    SMALL,
    WIDTH,
    Page,
    page,
    styled,
    write,
)

TOP, BOTTOM, BETWEEN = 2.95, 2.3, 0.62  # inches: the two bands and the space between
CROP = 0.37  # the widest crop, inches
LOSSES = {"ins": "instance", "aug": "augmentation", "cen": "centroids", "cc": "camera centroids"}


@dataclass(frozen=True)
class Data:
    """A multi-camera person (C, 3, H, W), and a track (n, 3, H, W): the tracker's labels and errors (n,)."""

    multi: Array
    track: Array
    labels: Array
    cut: Array  # here the person goes on under a new label
    switch: Array  # from here on under somebody else's
    junk: Array


@dataclass(frozen=True)
class Decision:
    """One decision of relabeling: crops (1 or 2, 3, H, W), the labels it is about, similarity, threshold."""

    name: str  # filter, relabel or merge
    crops: Array
    old: int
    new: int
    similarity: float
    threshold: float


@dataclass(frozen=True)
class Matching:
    """Similarities (R, C) of some columns, the column chosen in each row, the median of all `columns`."""

    similarity: Array
    chosen: Array
    median: float
    columns: int


@dataclass(frozen=True)
class Batch:
    """One image of each of some pairs, (P, 3, H, W) each, and how many PIDs x images a side has."""

    multi: Array
    single: Array
    size: tuple[int, int]


@styled
def overview(
    data: Data,
    decisions: Sequence[Decision],
    multi_centroids: Array,
    single_centroids: Array,
    labels: Array,
    matching: Matching,
    batch: Batch,
    weights: dict[str, float],
    *,
    alpha: float,
    title: str,
    note: str = "",
) -> Figure:
    """DynaMix's epoch (above) and iteration (below), left to right (Fig. 2).

    `multi_centroids`, `single_centroids` (p, D), the latter of `labels` (p,); `weights` of the loss terms.
    """
    done, top, bottom = _bands((2.3, 0.8, 2.15, 1.7), (2.6, 1.75, 1.15, 1.45), title, note)
    values = _values(data, decisions, labels)
    _data(done.axes, data, values, card(done.axes, top[0], "Data"))
    _momentum(done.axes, top[1])
    _decisions(done.axes, decisions, values, card(done.axes, top[2], "Relabeling Module"))
    mu = "\N{GREEK SMALL LETTER MU}"
    update = f"{mu} \N{LEFTWARDS ARROW} {alpha:g} {mu} + {1 - alpha:g} mean"
    inside = card(done.axes, top[3], "Efficient Centroids")
    _centroids(done.axes, multi_centroids, single_centroids, labels, values, update, inside)
    _matching(done.axes, matching, card(done.axes, bottom[0], "Data Sampling Module"))
    _batch(done.axes, batch, card(done.axes, bottom[1], "Mixed mini-batch"))
    _encoders(done.axes, bottom[2])
    _losses(done.axes, weights, card(done.axes, bottom[3], "Losses"))
    _flow(done.axes, top, bottom, top[3], "centroids of both kinds")
    _legend(done, bottom[0].bottom + 0.12)
    return done.figure


@styled
def remix_overview(
    data: Data,
    points: Array,
    clusters: Array,
    truth: Array,
    multi_centroids: Array,
    single_centroids: Array,
    batch: Batch,
    weights: dict[str, float],
    *,
    title: str,
    note: str = "",
) -> Figure:
    """ReMix's epoch and iteration: pseudo-labels by clustering a clip, then random mixing (ReMix, Fig. 2).

    `points` (n, D) features of one clip with their `clusters` (n,), -1 = noise, and identities `truth`.
    """
    done, top, bottom = _bands((2.3, 0.8, 2.15, 1.7), (3.6, 1.6, 1.9), title, note)
    _data(done.axes, data, None, card(done.axes, top[0], "Data"))
    _momentum(done.axes, top[1])
    _clusters(done.axes, points, clusters, truth, card(done.axes, top[2], "Pseudo-labels"))
    names = np.arange(len(as_array(single_centroids, "single_centroids")))
    inside = card(done.axes, top[3], "Centroids")
    _centroids(
        done.axes, multi_centroids, single_centroids, names, names.tolist(), "afresh each epoch", inside
    )
    _batch(done.axes, batch, card(done.axes, bottom[0], "Mixed mini-batch, drawn at random"))
    _encoders(done.axes, bottom[1])
    _losses(done.axes, weights, card(done.axes, bottom[2], "Losses"))
    _flow(done.axes, top, bottom, top[2], "")
    _legend(done, bottom[0].bottom + 0.12, tracker=False)
    return done.figure


def _bands(
    above: Sequence[float], below: Sequence[float], title: str, text: str
) -> tuple[Page, list[Box], list[Box]]:
    """The page, and the cards' boxes in its two bands."""
    height = 0.22 + TOP + BETWEEN + BOTTOM + 0.12
    done = page(height + legend_height(_items()), title, text)
    y = done.top + 0.22
    for place, words in ((done.top + 0.1, "Once an epoch"), (y + TOP + BETWEEN - 0.12, "Every iteration")):
        write(done.axes, MARGIN, place, words, 10.0, MUTED, weight="bold", va="baseline")
    return done, _boxes(above, y, TOP), _boxes(below, y + TOP + BETWEEN, BOTTOM)


def _boxes(widths: Sequence[float], y: float, height: float) -> list[Box]:
    gap = (WIDTH - 2 * MARGIN - sum(widths)) / (len(widths) - 1)
    starts = MARGIN + np.cumsum([0.0, *widths[:-1]]) + gap * np.arange(len(widths))
    return [Box(float(x), y, width, height) for x, width in zip(starts, widths, strict=True)]


def _values(data: Data, decisions: Sequence[Decision], labels: Array) -> list[int]:
    """All labels shown, in the order that gives them their letters."""
    shown = [*as_array(data.labels, "labels").tolist(), *(v for d in decisions for v in (d.new, d.old))]
    return list(dict.fromkeys([*shown, *as_array(labels, "labels").tolist()]))


def _row(
    axes: Axes, images: np.ndarray, x: float, y: float, room: float, gap: float = 0.04, most: float = CROP
) -> tuple[float, float]:
    """Crops side by side in `room` inches; returns a crop's width and height."""
    width = min((room + gap) / len(images) - gap, most)
    for k, image in enumerate(images):
        tall = crop(axes, image, x + k * (width + gap), y, width)
    return width, tall


def _stripe(axes: Axes, kind: str, x: float, y: float, width: float) -> None:
    axes.add_patch(rounded(x, y, width, 0.045, 0.015, facecolor=PALETTE[kind], edgecolor="none", zorder=3))


def _data(axes: Axes, data: Data, values: list[int] | None, box: Box) -> None:
    """A person over cameras; a track with what its tracker got wrong (or, without `values`, no labels)."""
    multi, track = as_images(data.multi, "multi", "C 3 H W"), as_images(data.track, "track", "n 3 H W")
    note(axes, box.x, box.y + 0.1, "multi-camera, labeled by hand")
    _stripe(axes, "multi-camera", box.x, box.y + 0.17, box.width)
    _, tall = _row(axes, multi, box.x, box.y + 0.26, box.width, most=0.4)
    y = box.y + 0.26 + tall + 0.24
    words = "single-camera, a tracker's labels" if values else "single-camera clips, no labels"
    note(axes, box.x, y, words)
    _stripe(axes, "single-camera", box.x, y + 0.07, box.width)
    width, tall = _row(axes, track, box.x, y + 0.2, box.width, most=0.4)
    if not values:
        return
    labels, cut, switch, junk = (
        as_array(each, name, (len(track),))
        for each, name in zip(
            (data.labels, data.cut, data.switch, data.junk), ("labels", "cut", "switch", "junk"), strict=True
        )
    )
    for k, label in enumerate(labels.tolist()):
        x = box.x + k * (width + 0.04)
        if junk[k]:
            veil(axes, x, y + 0.2, width, tall)
        if cut[k]:
            cut_mark(axes, x - 0.02, y + 0.22, y + 0.2 + tall + 0.2)
        if switch[k]:
            swap_mark(axes, x + 0.03, y + 0.24, 0.1)
        bar(
            axes,
            x,
            y + 0.2 + tall + 0.05,
            width,
            0.16,
            tint(values.index(label)),
            letter(values.index(label)),
        )


def _momentum(axes: Axes, box: Box) -> None:
    network(axes, Box(box.x, box.middle - 0.55, box.width, 1.1), "momentum\nencoder", solid=False)


def _decisions(axes: Axes, decisions: Sequence[Decision], values: list[int], box: Box) -> None:
    """Filter, relabel and merge, one real case each."""
    step = box.height / max(len(decisions), 1)
    for k, each in enumerate(decisions):
        shown, y = as_images(each.crops, f"crops of {each.name}", "n 3 H W"), box.y + k * step
        width = (step - 0.1) * shown.shape[2] / shown.shape[1]
        for i, image in enumerate(shown):
            tall = crop(axes, image, box.x + i * (width + 0.03), y + 0.04, width)
        if each.name == "filter":
            veil(axes, box.x, y + 0.04, width, tall, 0.2)
        x = box.x + 2 * width + 0.03 + 0.1
        sign = {"filter": "<", "relabel": ">", "merge": "\N{GREATER-THAN OR EQUAL TO}"}[each.name]
        write(axes, x, y + 0.17, each.name, BODY, INK, weight="bold", va="baseline")
        note(axes, x, y + 0.34, f"{signed(each.similarity, 3)} {sign} {each.threshold:g}")
        old, new = values.index(each.old), values.index(each.new)
        bar(axes, x, y + 0.43, 0.3, 0.16, tint(old), letter(old))
        write(axes, x + 0.4, y + 0.55, "\N{RIGHTWARDS ARROW}", SMALL, INK, ha="center", va="baseline")
        if each.name == "filter":
            tag(axes, x + 0.68, y + 0.51, "out", PALETTE["removed"], 7.5)
        else:
            bar(axes, x + 0.5, y + 0.43, 0.3, 0.16, tint(new), letter(new))


def _centroids(
    axes, multi: Array, single: Array, labels: Array, values: list[int], update: str, box: Box
) -> None:
    """Centroids as strips: multi-camera ones, then single-camera ones with their letters."""
    left, right = as_array(multi, "multi_centroids"), as_array(single, "single_centroids")
    note(axes, box.x, box.y + 0.1, "multi-camera")
    _stripe(axes, "multi-camera", box.x, box.y + 0.17, box.width)
    strips(axes, left, Box(box.x, box.y + 0.27, box.width, 0.15 * len(left) - 0.03))
    y = box.y + 0.27 + 0.15 * len(left) + 0.2
    note(axes, box.x, y, "single-camera")
    _stripe(axes, "single-camera", box.x, y + 0.07, box.width)
    strips(axes, right, Box(box.x + 0.3, y + 0.17, box.width - 0.3, 0.2 * len(right) - 0.03))
    for k, label in enumerate(as_array(labels, "labels", (len(right),)).tolist()):
        index = values.index(label)
        bar(axes, box.x, y + 0.17 + 0.2 * k, 0.25, 0.17, tint(index), letter(index))
    write(axes, box.x, box.bottom, update, SMALL, INK, va="baseline")


def _matching(axes: Axes, matching: Matching, box: Box) -> None:
    """The similarity matrix, white at the median, with a ring on the cell chosen in each row."""
    values = as_array(matching.similarity, "similarity").astype(float)
    R, C = values.shape
    chosen = as_array(matching.chosen, "chosen", (R,))
    x, y = box.x + 0.17, box.y + 0.2
    side = min((box.width - 0.17) / C, 1.2 / R)
    grid = Box(x, y, side * C, side * R)
    cells(axes, values, grid, matching.median)
    for r, c in enumerate(chosen.tolist()):
        ring = Circle(
            (x + (c + 0.5) * side, y + (r + 0.5) * side), 0.36 * side, facecolor="none", edgecolor=INK
        )
        ring.set(linewidth=1.6, zorder=4)
        axes.add_patch(ring)
    note(axes, x, y - 0.07, f"{C} of {matching.columns:,} single-camera PIDs")
    note(axes, box.x + 0.04, grid.middle, "multi-camera", rotation=90, ha="center", va="center")
    ramp = Box(x, grid.bottom + 0.1, 0.62, 0.1)
    cells(axes, np.linspace(-1, 1, 31)[None], ramp)
    words = f"white: the median, {signed(matching.median)}"
    note(axes, ramp.right + 0.08, ramp.bottom, words)
    note(axes, x, ramp.bottom + 0.19, "rings: chosen, nearest to it in sum")


def _batch(axes: Axes, batch: Batch, box: Box) -> None:
    multi, single = as_images(batch.multi, "multi", "P 3 H W"), as_images(batch.single, "single", "P 3 H W")
    width = min(box.width, len(multi) * (CROP + 0.04) - 0.04)
    y = box.y + 0.1
    for images, kind in ((multi, "multi-camera"), (single, "single-camera")):
        _stripe(axes, kind, box.x, y - 0.06, width)
        _, tall = _row(axes, images, box.x, y + 0.03, width)
        y += tall + 0.15
    text = "2 \N{MULTIPLICATION SIGN} {} PIDs \N{MULTIPLICATION SIGN} {} images".format(*batch.size)
    write(axes, box.x, box.bottom, text, SMALL, INK, va="baseline")


def _encoders(axes: Axes, box: Box) -> None:
    """The trained encoder, and the momentum encoder that follows it."""
    upper, lower = _two_networks(box)
    network(axes, upper, "encoder")
    network(axes, lower, "momentum\nencoder", solid=False)
    x = box.x + 0.36 * box.width
    arrow(axes, (x, upper.bottom - 0.04), (x, lower.y + 0.02), dashed=True)
    note(axes, x + 0.08, (upper.bottom + lower.y) / 2 + 0.04, "EMA")


def _two_networks(box: Box) -> tuple[Box, Box]:
    return Box(box.x, box.y + 0.12, box.width, 0.8), Box(box.x, box.bottom - 0.92, box.width, 0.8)


def _losses(axes: Axes, weights: dict[str, float], box: Box) -> None:
    step = box.height / len(weights)
    for k, (term, weight) in enumerate(weights.items()):
        y = box.y + k * step + 0.02
        pill = rounded(
            box.x, y, box.width, step - 0.07, 0.06, facecolor=PAPER, edgecolor=MUTED, linewidth=0.9
        )
        axes.add_patch(pill)
        name = f"${'' if weight == 1 else f'{weight:g}'}\\,L_{{\\mathrm{{{term}}}}}$"
        write(axes, box.x + 0.08, y + 0.19, name, 10.0, INK, va="baseline", zorder=3)
        note(axes, box.x + 0.08, y + step - 0.14, LOSSES[term], zorder=3)


def _clusters(axes: Axes, points: Array, clusters: Array, truth: Array, box: Box) -> None:
    """One clip's features with the clusters found in it."""
    features = as_array(points, "points").astype(float)
    labels, real = (
        as_array(clusters, "clusters", (len(features),)),
        as_array(truth, "truth", (len(features),)),
    )
    flat = cloud.Plane.of(features)(features)
    note(axes, box.x, box.y + 0.1, "clips clustered one by one")
    places = cloud.Frame.around(flat, box.x + 0.2, box.y + 0.4, box.width - 0.4, box.height - 0.75)(flat)
    cloud.people(axes, places, real)
    kinds = np.unique(labels[labels >= 0]).tolist()
    homes = {k: places[labels == k].mean(0) for k in kinds}
    cloud.images(axes, places, labels, labels < 0, homes)
    for k, home in homes.items():
        cloud.centroid(axes, home, k)
    note(axes, box.x, box.bottom, "DBSCAN; crosses: noise")


def _flow(axes: Axes, top: list[Box], bottom: list[Box], source: Box, words: str) -> None:
    """Arrows: along both bands, from `source` to the batch, from the centroids to the losses."""
    networks, first, last = bottom[-2], bottom[0], bottom[-1]
    for band in (top, bottom):
        for a, b in zip(band[:-1], band[1:], strict=True):
            levels = [each.middle for each in _two_networks(networks)] if networks in (a, b) else [a.middle]
            for level in levels:
                arrow(axes, (a.right + 0.04, level), (b.x - 0.04, level))
    start, turn, level = source.x + 0.35, first.right - 0.45, source.bottom + 0.26
    arrow(axes, (start, source.bottom + 0.03), (start, level), (turn, level), (turn, first.y - 0.04))
    note(axes, start - 0.1, level - 0.06, words, ha="right")
    down = last.right - 0.35
    arrow(axes, (down, top[-1].bottom + 0.03), (down, last.y - 0.04))


def _items(tracker: bool = True) -> list:
    marks: list = [
        (lambda a, u, v: network(a, Box(u - 0.12, v - 0.09, 0.24, 0.18), ""), 0.24, "trained"),
        (
            lambda a, u, v: network(a, Box(u - 0.12, v - 0.09, 0.24, 0.18), "", solid=False),
            0.24,
            "no gradient",
        ),
    ]
    if tracker:
        marks += [
            (lambda a, u, v: bar(a, u - 0.14, v - 0.08, 0.28, 0.16, tint(0), "A"), 0.28, "label"),
            (lambda a, u, v: cut_mark(a, u, v - 0.07, v + 0.11), 0.16, "label cut"),
            (lambda a, u, v: swap_mark(a, u, v, 0.1), 0.2, "another's label"),
            (lambda a, u, v: veil(a, u - 0.07, v - 0.1, 0.14, 0.2), 0.16, "junk or removed"),
        ]
    else:
        marks.append((lambda a, u, v: number(a, u, v, 1), 0.18, "true person"))
    return marks


def _legend(done: Page, y: float, tracker: bool = True) -> None:
    legend(done.axes, y, _items(tracker))
