"""The one visual language: colors with fixed meanings, a page measured in inches, and `save`.

A picture of crops is one axes whose data unit is the inch, y pointing down, so that nothing depends on an
automatic layout. Colors never stand alone: every meaning also has a letter, a mark or a line style.
"""

import io
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.image import AxesImage
from matplotlib.textpath import TextPath
from PIL import Image
from torch import Tensor

from dynamix import disk

Array = Tensor | np.ndarray

P = ParamSpec("P")
R = TypeVar("R")

# Fixed meanings in every picture; distinct under the three kinds of color blindness.
PALETTE = {
    "multi-camera": "#1F5FB0",
    "single-camera": "#EFA51A",
    "correct": "#17AD86",
    "wrong": "#C4302B",
    "removed": "#5E6070",
    "neutral": "#A9AEB8",
}
INK, MUTED, PAPER, CARD, LINE = "#20242C", "#5B6270", "#FBFAF6", "#F0EEE7", "#D9D6CC"
# Labels and identities: light tints under dark letters, so that no tint is taken for a meaning above.
TINTS = (
    "#BCD9F5", "#F8DDA4", "#CBE7B5", "#EBC8EC", "#F6C7BC", "#BFE7E4", "#D3CDF3", "#E8E39B", "#E0CDB8",
    "#CFD4DA",
)  # fmt: skip
# Runs and groups in charts.
SERIES = ("#222C4A", "#8C4FA3", "#B07A35", "#4E93A8", "#D2699E", "#7C8A2B")
SERIES_MARKS = ("o", "s", "D", "^", "v", "P")

WIDTH, PIXELS, MARGIN = 8.5, 1700, 0.28  # inches, pixels, inches; GitHub shows 850 pixels
BODY, SMALL, TITLE = 9.0, 8.0, 13.0  # points

RC: Any = {
    "figure.facecolor": PAPER, "savefig.facecolor": PAPER, "axes.facecolor": PAPER,
    "figure.dpi": PIXELS / WIDTH, "font.family": "DejaVu Sans", "font.size": BODY, "text.color": INK,
    "axes.edgecolor": MUTED, "axes.labelcolor": MUTED, "axes.linewidth": 0.8, "axes.spines.top": False,
    "axes.spines.right": False, "axes.grid": True, "axes.axisbelow": True, "grid.color": LINE,
    "grid.linewidth": 0.7, "axes.titlesize": 10.0, "axes.titleweight": "bold", "axes.titlelocation": "left",
    "axes.titlecolor": INK, "xtick.color": MUTED, "ytick.color": MUTED, "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL, "hatch.linewidth": 0.6,
    "xtick.major.size": 0, "ytick.major.size": 0, "legend.frameon": False, "legend.fontsize": BODY,
    "lines.linewidth": 2.0, "lines.solid_capstyle": "round", "svg.hashsalt": "dynamix",
}  # fmt: skip


def use_style() -> None:
    """Use this look for everything drawn from here on; a notebook then shows figures that end a cell."""
    matplotlib.rcParams.update(RC)
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if shell is not None:
        formatters = shell.display_formatter.formatters
        formatters["image/png"].for_type(Figure, _notebook_png)
        formatters["image/jpeg"].for_type(Figure, _notebook_jpeg)


def styled(draw: Callable[P, R]) -> Callable[P, R]:
    """`draw` in this look, whether or not `use_style` was called."""

    @wraps(draw)
    def inside(*args: P.args, **kwargs: P.kwargs) -> R:
        with matplotlib.rc_context(RC):
            return draw(*args, **kwargs)

    return inside


def save(figure: Figure, path: str | Path) -> Path:
    """Write `figure` as a PNG 1700 pixels wide; the same figure gives the same bytes. Returns the path."""
    path = Path(path)
    if path.suffix != ".png":
        raise ValueError(f"{path}: figures are saved as .png, name it {path.stem}.png")
    with disk.replacing(path) as temporary:
        temporary.write_bytes(_encode(figure, PIXELS, "png"))
    return path


NOTEBOOK_PIXELS = 720  # wide, as GitHub shows a notebook; a course of pictures must stay small


def _encode(figure: Figure, pixels: int, kind: str) -> bytes:
    """`figure` as an image file `pixels` wide, without dates or versions."""
    with matplotlib.rc_context(RC):
        figure.set_dpi(pixels / figure.get_size_inches()[0])
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
    pixels_rgb = np.asarray(canvas.buffer_rgba())[..., :3].copy()
    buffer = io.BytesIO()
    if kind == "jpeg":
        Image.fromarray(pixels_rgb).save(buffer, "jpeg", quality=64)
    else:
        _coarsen_crops(figure, pixels_rgb)
        Image.fromarray(pixels_rgb).save(buffer, "png")
    return buffer.getvalue()


def _coarsen_crops(figure: Figure, pixels: np.ndarray) -> None:
    """32 levels per channel inside the crops: nobody sees it, and the PNG is less than half as large."""
    for image in figure.findobj(AxesImage):
        left, low, right, high = (round(v) for v in image.get_window_extent().extents)
        part = pixels[max(len(pixels) - high, 0) : len(pixels) - low, max(left, 0) : right]
        part[...] = np.clip((part.astype(np.int16) + 4) // 8 * 8, 0, 255)


def _has_crops(figure: Figure) -> bool:
    return bool(figure.findobj(AxesImage))


# Notebooks are committed with their outputs: photographs as JPEG are a fifth of the size.
def _notebook_png(figure: Figure) -> bytes | None:
    return None if _has_crops(figure) else _few_colors(_encode(figure, NOTEBOOK_PIXELS, "png"))


def _few_colors(png: bytes, count: int = 256) -> bytes:
    """The same picture in its `count` most frequent colors, every other pixel in the nearest of them.

    Flat areas keep their color exactly, only edges get fewer shades: less than half the size, and no
    difference to the eye.
    """
    with Image.open(io.BytesIO(png)) as image:
        pixels = np.asarray(image.convert("RGB"))
    colors, index, times = np.unique(pixels.reshape(-1, 3), axis=0, return_inverse=True, return_counts=True)
    kept = colors[np.argsort(-times, kind="stable")[:count]].astype(np.int32)
    nearest = ((colors[:, None].astype(np.int32) - kept) ** 2).sum(-1).argmin(1).astype(np.uint8)
    reduced = Image.fromarray(nearest[index.reshape(pixels.shape[:2])])
    reduced.putpalette(kept.astype(np.uint8).tobytes())
    buffer = io.BytesIO()
    reduced.save(buffer, "png", optimize=True)
    return buffer.getvalue()


def _notebook_jpeg(figure: Figure) -> bytes | None:
    return _encode(figure, NOTEBOOK_PIXELS, "jpeg") if _has_crops(figure) else None


@dataclass(frozen=True)
class Page:
    """A figure with a heading; `axes` spans it in inches, y down, and the body starts at `top`."""

    figure: Figure
    axes: Axes
    top: float
    height: float


def page(body: float, title: str, note: str = "") -> Page:
    """An empty page with room for a `body` of that many inches under `title` and a muted `note`."""
    lines, notes = wrap(title, TITLE, "bold"), wrap(note, BODY) if note else []
    top = MARGIN + 0.24 * len(lines) + 0.175 * len(notes) + 0.16
    height = top + body + MARGIN
    figure = Figure(figsize=(WIDTH, height), facecolor=PAPER)
    axes = figure.add_axes((0, 0, 1, 1), label="page")
    axes.set(xlim=(0, WIDTH), ylim=(height, 0), autoscale_on=False)
    axes.axis("off")
    write(axes, MARGIN, MARGIN - 0.03, "\n".join(lines), TITLE, weight="bold", va="top", linespacing=1.25)
    y = MARGIN + 0.24 * len(lines) + 0.02
    if notes:
        write(axes, MARGIN, y, "\n".join(notes), BODY, MUTED, va="top", linespacing=1.35)
    return Page(figure, axes, top, height)


def chart(page: Page, x: float, y: float, width: float, height: float, **options) -> Axes:
    """An axes for data on `page`, placed in inches from the top left corner."""
    box = (x / WIDTH, 1 - (y + height) / page.height, width / WIDTH, height / page.height)
    return page.figure.add_axes(box, **options)


@lru_cache(maxsize=4096)
def text_width(text: str, size: float = BODY, weight: str = "normal") -> float:
    """Width of one line of text in inches."""
    if not text.strip():
        return 0.0
    font = FontProperties(family="DejaVu Sans", weight=weight)
    path = TextPath((0, 0), text, size=size, prop=font)
    # The outlines of this font have points where they reach farthest: as exact as the extents, much sooner.
    assert path.codes is not None
    return float(path.vertices[path.codes != TextPath.CLOSEPOLY, 0].max()) / 72


def wrap(text: str, size: float, weight: str = "normal", width: float = WIDTH - 2 * MARGIN) -> list[str]:
    """`text` in as few lines of at most `width` inches as possible, the lines about equally long."""
    lines = _fill(text, size, weight, width)
    for tighter in np.arange(width, width / 2, -0.15).tolist():
        other = _fill(text, size, weight, tighter)
        if len(other) > len(lines):
            break
        lines = other
    return lines


def _fill(text: str, size: float, weight: str, width: float) -> list[str]:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and text_width(longer, size, weight) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def write(axes: Axes, x: float, y: float, text: str, size: float = BODY, color: str = INK, **options) -> None:
    """Text at a point, vertically centered unless `va` says otherwise."""
    axes.text(
        x, y, text, fontsize=size, color=color, family="DejaVu Sans", **({"va": "center_baseline"} | options)
    )
