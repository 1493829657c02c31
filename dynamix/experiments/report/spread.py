"""How far our rows lie apart, against what the seeds alone do."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dynamix.experiments.report.cells import Cell
from dynamix.experiments.report.order import blocks_of

LEVEL = 0.05


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Best against worst of our rows, and what the seeds alone do; of several blocks in the widest."""

    best: str
    worst: str
    difference: float  # of their means
    std: float | None  # of seeds within a row, pooled over the rows; None: one seed each
    error: float | None  # standard error of the difference, seed by seed where all rows have the same seeds
    paired: bool
    chance: float | None  # at most: that rows without any difference span as much (studentized range)

    @property
    def clear(self) -> bool | None:
        """More than two standard errors, and than the best of so many equal rows would; None: unknown."""
        if self.error is None or self.chance is None:
            return None
        return self.difference > 2 * self.error and self.chance <= LEVEL


def spread_of(rows: Sequence[Cell]) -> Spread:
    """Best against worst of the block that spans most, with the noise of all rows."""
    blocks = [[rows[i] for i in block] for block in blocks_of([each.row.group for each in rows])]
    best, worst = max(map(_ends, blocks), key=_apart)
    difference = _apart((best, worst))
    paired = len({each.seeds for each in rows}) == 1 and len(rows[0].seeds) > 1
    std, degrees = _pooled(rows)
    found: dict[str, Any] = {"best": best.row.name, "worst": worst.row.name, "difference": difference}
    found |= {"std": std, "paired": paired}
    if std is None:
        return Spread(**found, error=None, chance=None)
    share = math.sqrt(1 / len(best.values) + 1 / len(worst.values))
    error, residual = std * share, std
    if paired:
        residual, degrees = _residual([np.array([each.values for each in block]) for block in blocks])
        apart = np.subtract(best.values, worst.values)
        error = float(apart.std(ddof=1)) / math.sqrt(len(apart))
    # That any of several blocks spans as much is at most as likely as the sum over them.
    chances = (_range_chance(difference, residual * share, len(block), degrees) for block in blocks)
    return Spread(**found, error=error, chance=min(1.0, sum(chances)))


def _ends(block: Sequence[Cell]) -> tuple[Cell, Cell]:
    """The best and the worst of a block."""
    means = [sum(each.values) / len(each.values) for each in block]
    return block[int(np.argmax(means))], block[int(np.argmin(means))]


def _apart(ends: tuple[Cell, Cell]) -> float:
    best, worst = (sum(each.values) / len(each.values) for each in ends)
    return best - worst


def _pooled(rows: Sequence[Cell]) -> tuple[float | None, int]:
    """Standard deviation of the seeds within a row, over all rows, with its degrees of freedom."""
    degrees = sum(len(each.values) - 1 for each in rows)
    if not degrees:
        return None, 0
    squares = sum(float(np.var(each.values)) * len(each.values) for each in rows)
    return math.sqrt(squares / degrees), degrees


def _residual(blocks: Sequence[np.ndarray]) -> tuple[float, int]:
    """Standard deviation of blocks of (rows, seeds) after a row's and a seed's own mean are taken out."""
    squares = sum(float((_left(values) ** 2).sum()) for values in blocks)
    degrees = sum((values.shape[0] - 1) * (values.shape[1] - 1) for values in blocks)
    return math.sqrt(squares / degrees), degrees


def _left(values: np.ndarray) -> np.ndarray:
    return values - values.mean(1, keepdims=True) - values.mean(0, keepdims=True) + values.mean()


def _range_chance(difference: float, error: float, rows: int, degrees: int) -> float:
    """Chance that the largest difference of so many equal rows is as large (Tukey-Kramer).

    Without it the best of thirty equal rows would beat the worst by two standard errors nearly always.
    """
    from scipy.stats import studentized_range

    if difference == 0 or error == 0:
        return float(difference == 0)
    return float(studentized_range.sf(math.sqrt(2) * difference / error, rows, degrees))
