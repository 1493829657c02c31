"""What a diagram of a method is made of: cards with headings, arrows, networks, strips of color."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.patches import FancyArrowPatch, Polygon

from dynamix.plots.marks import panel
from dynamix.plots.style import BODY, INK, MUTED, PAPER, SMALL, write

LOW, HIGH = "#2F7F98", "#8C4FA3"  # values below and above the middle of a scale
SCALE = LinearSegmentedColormap.from_list("around", [LOW, "#A9D0DC", "#FDFCF8", "#D9B7E3", HIGH])
PAD, HEAD = 0.1, 0.3  # inches


@dataclass(frozen=True)
class Box:
    """A rectangle on the page, in inches."""

    x: float
    y: float
    width: float
    height: float

    @property
    def right(self) -> float:
        return self.x + self.width

    @property
    def bottom(self) -> float:
        return self.y + self.height

    @property
    def middle(self) -> float:
        return self.y + self.height / 2


def card(axes: Axes, box: Box, heading: str) -> Box:
    """A card with its heading; returns the room inside."""
    panel(axes, box.x, box.y, box.width, box.height)
    write(axes, box.x + PAD, box.y + 0.2, heading, BODY, INK, weight="bold", va="baseline")
    return Box(box.x + PAD, box.y + HEAD, box.width - 2 * PAD, box.height - HEAD - PAD)


def arrow(axes: Axes, *points: tuple[float, float], dashed: bool = False) -> None:
    """An arrow through `points`, its head at the last."""
    x, y = zip(*points, strict=True)
    style: dict[str, Any] = {"linestyle": (0, (3, 2))} if dashed else {}
    if len(points) > 2:
        axes.plot(x[:-1], y[:-1], color=INK, linewidth=1.6, zorder=3, solid_joinstyle="round", **style)
    head = FancyArrowPatch(
        points[-2], points[-1], arrowstyle="-|>,head_length=5,head_width=3", color=INK, linewidth=1.6,
        zorder=3, shrinkA=0, shrinkB=0, **style,
    )  # fmt: skip
    axes.add_patch(head)


def network(axes: Axes, box: Box, name: str, solid: bool = True) -> None:
    """A network as a funnel; a network that no gradient trains has a dashed edge."""
    inset = 0.16 * box.height
    corners = [
        (box.x, box.y),
        (box.right, box.y + inset),
        (box.right, box.bottom - inset),
        (box.x, box.bottom),
    ]
    face, ink = (INK, "white") if solid else (PAPER, INK)
    shape = Polygon(corners, facecolor=face, edgecolor=INK, linewidth=1.4, zorder=3, joinstyle="round")
    if not solid:
        shape.set_linestyle((0, (3, 2)))
    axes.add_patch(shape)
    write(
        axes, box.x + box.width / 2, box.middle, name, SMALL, ink, ha="center", va="center", weight="bold",
        zorder=4, linespacing=1.2,
    )  # fmt: skip


def cells(axes: Axes, values: np.ndarray, box: Box, middle: float = 0.0) -> None:
    """A matrix (R, C) as colored cells: white at `middle`, teal below, purple above."""
    far = max(float(np.abs(values - middle).max()), 1e-9)
    R, C = values.shape
    axes.pcolormesh(
        np.linspace(box.x, box.right, C + 1), np.linspace(box.y, box.bottom, R + 1), values, cmap=SCALE,
        vmin=middle - far, vmax=middle + far, zorder=2, edgecolors="none", antialiased=False,
    )  # fmt: skip


def strips(axes: Axes, vectors: np.ndarray, box: Box, gap: float = 0.03) -> None:
    """Vectors (n, D), a strip of color each."""
    tall = (box.height + gap) / len(vectors) - gap
    for k, vector in enumerate(vectors):
        cells(
            axes,
            vector[None] / max(np.abs(vector).max(), 1e-9),
            Box(box.x, box.y + k * (tall + gap), box.width, tall),
        )


def note(axes: Axes, x: float, y: float, text: str, **options) -> None:
    """Small muted text at a baseline."""
    write(axes, x, y, text, SMALL, MUTED, **({"va": "baseline"} | options))
