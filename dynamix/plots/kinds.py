"""The two kinds of training data side by side: people over cameras, people of one clip."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from dynamix.plots.marks import Array, as_array, as_images, crop, number, panel, rounded, tag
from dynamix.plots.style import INK, MARGIN, MUTED, PALETTE, SMALL, WIDTH, page, styled, write

SPACE, PAD, GAP, HEAD = 0.16, 0.12, 0.05, 0.72  # inches


@styled
def kinds(
    multi: Array, single: Array, cameras: Sequence[str], junk: Array, *, title: str, note: str = ""
) -> Figure:
    """Left: people over `cameras`, (P, C, 3, H, W); right: tracks of one clip over time, (R, F, 3, H, W).

    `junk` (R, F): boxes on nobody.
    """
    left, right = as_images(multi, "multi", "P C 3 H W"), as_images(single, "single", "R F 3 H W")
    empty = as_array(junk, "junk", right.shape[:2]).astype(bool)
    if len(cameras) != left.shape[1]:
        raise ValueError(f"cameras must name {left.shape[1]} cameras, got {len(cameras)}")
    across = left.shape[1] + right.shape[1]
    fixed = 2 * MARGIN + SPACE + 4 * PAD + 2 * 0.24
    width = min((WIDTH - fixed + 2 * GAP) / across - GAP, 0.8)
    tall = width * left.shape[2] / left.shape[3]
    body = HEAD + max(len(left), len(right)) * (tall + GAP) + PAD
    done = page(body, title, note)
    x = MARGIN
    for shown, kind, head, first in (
        (left, "multi-camera", "Multi-camera: several fixed cameras", 1),
        (right, "single-camera", "Single-camera: one clip, over time", len(left) + 1),
    ):
        wide = shown.shape[1] * (width + GAP) - GAP + 2 * PAD + 0.24
        panel(done.axes, x, done.top, wide, body)
        write(done.axes, x + PAD, done.top + 0.22, head, 10.0, INK, weight="bold", va="baseline")
        stripe = rounded(
            x + PAD, done.top + 0.31, wide - 2 * PAD, 0.05, 0.02, facecolor=PALETTE[kind], edgecolor="none"
        )
        done.axes.add_patch(stripe)
        for c in range(shown.shape[1]):
            word = cameras[c] if kind == "multi-camera" else ("time \N{RIGHTWARDS ARROW}" if c == 0 else "")
            at = x + PAD + 0.24 + c * (width + GAP)
            write(done.axes, at + width / 2, done.top + 0.57, word, SMALL, MUTED, ha="center", va="baseline")
        for r, row in enumerate(shown):
            y = done.top + HEAD - 0.05 + r * (tall + GAP)
            number(done.axes, x + PAD + 0.08, y + tall / 2, first + r, 0.095)
            for c, image in enumerate(row):
                at = x + PAD + 0.24 + c * (width + GAP)
                crop(done.axes, image, at, y, width)
                if kind == "single-camera" and empty[r, c]:
                    tag(done.axes, at + width / 2, y + tall - 0.14, "junk", PALETTE["removed"], 7.5)
        x += wide + SPACE
    return done.figure
