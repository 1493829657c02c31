"""Position embeddings of vision transformers: which grid a file's belong to, and another grid's from them."""

import math

from jaxtyping import Float
from torch import Tensor, cat, float32, float64
from torch.nn import functional as F

Grid = tuple[int, int]  # rows, columns of patches

# Rows : columns of the images that published weights were made on, the likelier first: 1:1 ImageNet, 2:1
# 256x128 (LUPerson), 3:1 384x128. 4:3, as 256x192, shares its counts with 3:1: only where the encoder has it.
ASPECTS = ((1, 1), (2, 1), (3, 1), (4, 3))
# Patches of 16 pixels every 12 pixels, on 256x128 and 384x128.
OVERLAPPING = {210: (21, 10), 310: (31, 10)}


def source_grid(count: int, target: Grid) -> Grid | None:
    """The grid of `count` patches that a file's embeddings belong to, `target` being the encoder's; or None.

    No count fits two of 1:1, 2:1 and 3:1. The encoder's own grid decides where the count is that of no known
    shape, and between 3:1 and 4:3.
    """
    grids = []
    for rows, columns in ASPECTS:
        unit = math.isqrt(count // (rows * columns))
        if unit and rows * columns * unit**2 == count:
            grids.append((rows * unit, columns * unit))
    if count in OVERLAPPING:
        grids.append(OVERLAPPING[count])
    if target in grids or (not grids and count == math.prod(target)):
        return target
    return grids[0] if grids else None


def resized(positions: Float[Tensor, "1 N D"], source: Grid, target: Grid) -> Float[Tensor, "1 M D"]:
    """Bicubic, with antialiasing; the first position, that of the class token, stays as it is."""
    if source == target:
        return positions
    first, rest = positions[:, :1], positions[:, 1:]
    maps = rest.unflatten(1, source).permute(0, 3, 1, 2)  # (1, D, rows, columns)
    maps = maps if maps.dtype in (float32, float64) else maps.float()
    maps = F.interpolate(maps, size=target, mode="bicubic", antialias=True)
    return cat((first, maps.flatten(2).transpose(1, 2).to(first.dtype)), dim=1)
