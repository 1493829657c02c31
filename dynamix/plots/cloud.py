"""Features of one clip in the plane: images, their labels' centroids, and the true people behind them."""

from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Circle, FancyArrowPatch, Polygon
from scipy.spatial import ConvexHull, QhullError

from dynamix.plots.marks import letter, number, tint
from dynamix.plots.style import INK, MUTED, PALETTE, write

DOT, DIAMOND = 0.055, 0.12  # inches
CORNERS = np.array([[0, -1], [1, 0], [0, 1], [-1, 0]])


@dataclass(frozen=True)
class Plane:
    """The two directions in which features (n, D) vary most (PCA), fitted on one set and used for others."""

    center: np.ndarray
    axes: np.ndarray  # (D, 2)

    @classmethod
    def of(cls, features: np.ndarray) -> "Plane":
        center = features.mean(0)
        directions = np.linalg.svd(features - center, full_matrices=False)[2][:2].T
        largest = np.abs(directions).argmax(0)  # a direction has no sign of its own
        return cls(center, directions * np.sign(directions[largest, range(directions.shape[1])]))

    def __call__(self, features: np.ndarray) -> np.ndarray:
        return (features - self.center) @ self.axes


@dataclass(frozen=True)
class Frame:
    """Maps the plane into a box on the page, the same scale in both directions."""

    x: float
    y: float
    width: float
    height: float
    low: np.ndarray
    high: np.ndarray

    @classmethod
    def around(cls, points: np.ndarray, x: float, y: float, width: float, height: float) -> "Frame":
        return cls(x, y, width, height, points.min(0), points.max(0))

    def __call__(self, points: np.ndarray) -> np.ndarray:
        span = np.maximum(self.high - self.low, 1e-9)
        scale = min(self.width / span[0], self.height / span[1])
        middle = np.array([self.x + self.width / 2, self.y + self.height / 2])
        return middle + (points - (self.low + self.high) / 2) * scale


def people(axes: Axes, points: np.ndarray, truth: np.ndarray) -> None:
    """A dotted outline around each true person's images, with the person's number."""
    values = np.unique(truth[truth >= 0]).tolist()
    middle = points[truth >= 0].mean(0) if values else points.mean(0)
    for k, person in enumerate(values):
        mine = points[truth == person]
        outline = _outline(mine, 0.13)
        axes.add_patch(
            Polygon(
                outline, facecolor="#E7E4DA", edgecolor=MUTED, linewidth=0.9, linestyle=(0, (1, 2)), zorder=1
            )
        )
        away = outline - middle  # outside of the crowd
        x, y = outline[int((away**2).sum(1).argmax())]
        number(axes, x, y, k + 1)


def _outline(points: np.ndarray, margin: float) -> np.ndarray:
    """Hull of discs around the points."""
    turn = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    ring = margin * np.stack([np.cos(turn), np.sin(turn)], axis=1)
    grown = (points[:, None] + ring[None]).reshape(-1, 2)
    try:
        return grown[ConvexHull(grown).vertices]
    except QhullError:  # points that are not finite or all in one place
        return grown


def images(
    axes: Axes, points: np.ndarray, index: np.ndarray, out: np.ndarray, homes: dict[int, np.ndarray]
) -> None:
    """Images as dots in their label's tint, each tied to its label's centroid in `homes`; `out`: crosses."""
    for point, k, gone in zip(points, index.tolist(), out.tolist(), strict=True):
        if gone:
            r = 0.045
            for side in (-1, 1):
                axes.plot(
                    [point[0] - r, point[0] + r], [point[1] - side * r, point[1] + side * r],
                    color=PALETTE["removed"], linewidth=1.5, zorder=4,
                )  # fmt: skip
            continue
        if k in homes:
            axes.plot(*np.stack([point, homes[k]]).T, color=MUTED, linewidth=0.6, alpha=0.7, zorder=2)
        dot = Circle(tuple(point), DOT, facecolor=tint(k), edgecolor=INK, linewidth=0.7, zorder=4)
        axes.add_patch(dot)


def centroid(axes: Axes, point: np.ndarray, index: int, came: np.ndarray | None = None) -> None:
    """A label's centroid: a diamond with the label's letter; an arrow from where it `came`."""
    if came is not None and np.hypot(*(point - came)) > DIAMOND + 0.05:
        ghost = came + 0.05 * CORNERS
        axes.add_patch(Polygon(ghost, facecolor="white", edgecolor=INK, linewidth=1.0, zorder=5))
        arrow = FancyArrowPatch(
            tuple(came), tuple(point), arrowstyle="-|>", mutation_scale=9, color=INK, linewidth=1.4, zorder=5,
            shrinkA=0, shrinkB=7,
        )  # fmt: skip
        axes.add_patch(arrow)
    corners = point + DIAMOND * CORNERS
    axes.add_patch(Polygon(corners, facecolor=tint(index), edgecolor=INK, linewidth=1.2, zorder=6))
    write(
        axes,
        point[0],
        point[1] + 0.035,
        letter(index),
        7.5,
        INK,
        ha="center",
        va="baseline",
        weight="bold",
        zorder=7,
    )


def apart(points: np.ndarray, least: float, box: tuple[float, float, float, float]) -> np.ndarray:
    """Marks moved until hardly two are nearer than `least` inches, inside `box` (x0, y0, x1, y1)."""
    placed = points.astype(float).copy()
    for _ in range(200):
        gap = placed[:, None] - placed[None]
        far = np.hypot(gap[..., 0], gap[..., 1])
        near = (far < least) & ~np.eye(len(placed), dtype=bool)
        if not near.any():
            break
        i, j = np.nonzero(near)
        way = np.where(far[i, j, None] > 1e-9, gap[i, j] / np.maximum(far[i, j, None], 1e-9), [[0.6, 0.8]])
        way = np.where((far[i, j, None] <= 1e-9) & (i > j)[:, None], -way, way)
        np.add.at(placed, i, way * (0.51 * (least - far[i, j]))[:, None])
        placed = np.clip(placed, box[:2], box[2:])
    return placed
