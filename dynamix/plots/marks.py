"""What is drawn on a page: crops, frames, and the marks that carry a meaning beside its color."""

from collections.abc import Callable, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Circle, FancyBboxPatch, Polygon
from torch import Tensor

from dynamix.plots.style import (
    BODY,
    CARD,
    INK,
    LINE,
    MARGIN,
    MUTED,
    PALETTE,
    PAPER,
    SMALL,
    TINTS,
    WIDTH,
    text_width,
    write,
)

Array = Tensor | np.ndarray


def as_images(images: Array, name: str, letters: str) -> np.ndarray:
    """uint8 crops (…, 3, H, W) as (…, H, W, 3) for drawing; another shape or type raises, naming `name`."""
    array = as_array(images, name)
    if (
        array.ndim != len(letters.split())
        or array.shape[-3] != 3
        or array.dtype != np.uint8
        or 0 in array.shape
    ):
        wanted = ", ".join(letters.split())
        raise ValueError(f"{name} must be uint8 crops of shape ({wanted}), got {array.dtype} {array.shape}")
    return np.moveaxis(array, -3, -1)


def as_array(values: Array | Sequence, name: str, shape: tuple[int, ...] | None = None) -> np.ndarray:
    """`values` as numpy; a shape other than `shape` raises, naming `name`."""
    array = values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    if shape is not None and array.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, got {array.shape}")
    return array


def crop(
    axes: Axes, image: np.ndarray, x: float, y: float, width: float, edge: str | None = None, **frame
) -> float:
    """Draw one crop with soft corners at (x, y), framed in color `edge`; returns its height."""
    height = width * image.shape[0] / image.shape[1]
    shown = axes.imshow(
        image, extent=(x, x + width, y + height, y), aspect="auto", interpolation="bicubic",
        interpolation_stage="rgba", zorder=2,
    )  # fmt: skip
    corners = rounded(x, y, width, height, 0.045)
    axes.add_patch(corners)
    corners.set(facecolor="none", edgecolor="none")
    shown.set_clip_path(corners)
    if edge:
        ring = rounded(x, y, width, height, 0.045)
        ring.set(**({"facecolor": "none", "edgecolor": edge, "linewidth": 2.4, "zorder": 4} | frame))
        axes.add_patch(ring)
    return height


def rounded(x: float, y: float, width: float, height: float, radius: float, **options) -> FancyBboxPatch:
    """A box with round corners; `options` are the patch's."""
    return FancyBboxPatch((x, y), width, height, boxstyle=f"round,pad=0,rounding_size={radius}", **options)


def veil(axes: Axes, x: float, y: float, width: float, height: float, fade: float = 0.55) -> None:
    """Fade and hatch a crop: it does not take part."""
    box = rounded(x, y, width, height, 0.045, facecolor=PAPER, edgecolor="none", alpha=fade, zorder=3)
    axes.add_patch(box)
    with matplotlib.rc_context({"hatch.linewidth": 0.6}):
        hatch = rounded(
            x, y, width, height, 0.045, facecolor="none", edgecolor=PALETTE["removed"], zorder=3.5
        )
    hatch.set(hatch="////", linewidth=1.6, linestyle=(0, (3, 2)))
    axes.add_patch(hatch)


def tag(
    axes: Axes, x: float, y: float, text: str, color: str, size: float = SMALL, ink: str = "white"
) -> None:
    """A word on a pill centered at (x, y)."""
    width = text_width(text, size, "bold") + 0.12
    pill = rounded(x - width / 2, y - 0.085, width, 0.17, 0.06, facecolor=color, edgecolor="none", zorder=6)
    axes.add_patch(pill)
    write(axes, x, y + 0.04, text, size, ink, ha="center", va="baseline", weight="bold", zorder=7)


def verdict(axes: Axes, x: float, y: float, right: bool, radius: float = 0.085) -> None:
    """A check mark or a cross on a disc: right and wrong stay readable without color."""
    color = PALETTE["correct" if right else "wrong"]
    axes.add_patch(Circle((x, y), radius, facecolor=color, edgecolor="white", linewidth=1.0, zorder=6))
    stroke: Any = {"color": "white", "linewidth": 1.6, "zorder": 7, "solid_capstyle": "round"}
    r = radius * 0.42
    if right:
        axes.plot([x - r, x - r * 0.25, x + r], [y, y + r * 0.75, y - r * 0.75], **stroke)
    else:
        axes.plot([x - r, x + r], [y - r, y + r], **stroke)
        axes.plot([x - r, x + r], [y + r, y - r], **stroke)


def swap_mark(axes: Axes, x: float, y: float, radius: float = 0.1) -> None:
    """Two opposite arrows on a disc: an identity switch."""
    wrong = PALETTE["wrong"]
    axes.add_patch(Circle((x, y), radius, facecolor=wrong, edgecolor="white", linewidth=1.0, zorder=6))
    for side in (-1, 1):
        tip, tail, level = x + side * radius * 0.6, x - side * radius * 0.6, y + side * radius * 0.3
        axes.plot([tail, tip], [level, level], color="white", linewidth=1.3, zorder=7)
        barb = [
            (tip + side * 0.012, level),
            (tip - side * 0.035, level - 0.033),
            (tip - side * 0.035, level + 0.033),
        ]
        axes.add_patch(Polygon(barb, facecolor="white", edgecolor="none", zorder=7))


def cut_mark(axes: Axes, x: float, top: float, bottom: float) -> None:
    """A dashed line with scissors: the tracker lost the person and started a new label."""
    axes.plot([x, x], [top, bottom], color=INK, linewidth=1.5, linestyle=(0, (3, 2)), zorder=5)
    write(
        axes, x, top - 0.02, "\N{BLACK SCISSORS}", 15.0, INK, ha="center", va="center", rotation=-90, zorder=6
    )


def bar(
    axes: Axes,
    x: float,
    y: float,
    width: float,
    height: float,
    tint: str,
    text: str,
    edge: str = "none",
    **options,
) -> None:
    """A tinted bar with a dark letter: a label."""
    box = rounded(x, y, width, height, 0.04, facecolor=tint, edgecolor=edge, linewidth=1.6, zorder=3)
    axes.add_patch(box)
    place = {"ha": "center", "va": "baseline", "weight": "bold", "zorder": 4} | options
    write(axes, x + width / 2, y + height / 2 + 0.042, text, SMALL, INK, **place)


def number(axes: Axes, x: float, y: float, value: int, radius: float = 0.085) -> None:
    """A person's number on a dark disc: the true identity."""
    axes.add_patch(Circle((x, y), radius, facecolor=INK, edgecolor="white", linewidth=1.0, zorder=6))
    write(axes, x, y + 0.038, str(value), 7.5, "white", ha="center", va="baseline", weight="bold", zorder=7)


def panel(axes: Axes, x: float, y: float, width: float, height: float) -> None:
    """A card behind things that belong together."""
    axes.add_patch(
        rounded(x, y, width, height, 0.08, facecolor=CARD, edgecolor=LINE, linewidth=0.8, zorder=0.5)
    )


Item = tuple[Callable[[Axes, float, float], None], float, str]  # draw(axes, x, y), its width, what it means
LEGEND_ROW = 0.25  # inches


def legend_rows(items: Sequence[Item], size: float = BODY) -> list[list[Item]]:
    """The items of a legend, in as many rows as the page's width needs."""
    rows: list[list[Item]] = [[]]
    used = 0.0
    for item in items:
        need = item[1] + 0.07 + text_width(item[2], size)
        if rows[-1] and used + need > WIDTH - 2 * MARGIN:
            rows.append([])
            used = 0.0
        rows[-1].append(item)
        used += need + 0.2
    return rows


def legend_height(items: Sequence[Item]) -> float:
    """Inches that `legend` takes."""
    return LEGEND_ROW * len(legend_rows(items))


def legend(axes: Axes, y: float, items: Sequence[Item], size: float = BODY) -> None:
    """Marks with their meanings, from the left margin on; `y` is the top."""
    for i, row in enumerate(legend_rows(items, size)):
        x, line = MARGIN, y + LEGEND_ROW * (i + 0.5)
        for draw, width, text in row:
            draw(axes, x + width / 2, line)
            write(axes, x + width + 0.07, line + 0.042, text, size, MUTED, va="baseline")
            x += width + 0.07 + text_width(text, size) + 0.2


def letter(index: int) -> str:
    """0 -> A … 25 -> Z, 26 -> AA: how a label is shown."""
    text = ""
    index += 1
    while index:
        index, rest = divmod(index - 1, 26)
        text = chr(65 + rest) + text
    return text


def tint(index: int) -> str:
    """The background of a label's letter."""
    return TINTS[index % len(TINTS)]
