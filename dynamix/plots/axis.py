"""An axis by hand: where a number stands on a page of several axes, in inches."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from dynamix.plots.scale import amount
from dynamix.plots.style import LINE, MUTED, write

LOG_BEYOND = 50  # times the smallest number


@dataclass(frozen=True)
class Axis:
    """Left end and width in inches, the numbers at both ends; calling it gives a number's place."""

    left: float
    width: float
    low: float
    high: float
    log: bool = False

    def __call__(self, value: float | int) -> float:
        low, high, at = self.low, self.high, float(value)
        if self.log:
            low, high, at = math.log(low), math.log(high), math.log(value)
        return self.left + self.width * (at - low) / (high - low)


def axis_of(left: float, width: float, values: Sequence[float | int]) -> Axis:
    """One that holds `values` with some room; logarithmic where they span orders of magnitude."""
    low, high = (float(min(values)), float(max(values))) if values else (0.0, 1.0)
    if low > 0 and high > LOG_BEYOND * low:
        edge = (high / low) ** 0.08
        return Axis(left, width, low / edge, high * edge, log=True)
    edge = 0.08 * (high - low) or max(abs(high) * 0.05, 0.5)
    return Axis(left, width, low - edge, high + edge)


def ticks(axes: Axes, axis: Axis, top: float, bottom: float) -> None:
    """Draw its lines from `top` to `bottom`, with their numbers above."""
    count = max(2, int(axis.width / 0.42))
    for value in _tick_values(axis, count):
        x = axis(value)
        axes.plot([x, x], [top, bottom], color=LINE, linewidth=0.7, zorder=0.6)
        write(axes, x, top - 0.05, _tick(value), 7.0, MUTED, ha="center", va="baseline")


def _tick_values(axis: Axis, count: int) -> list[float]:
    if axis.log:
        powers = range(math.floor(math.log10(axis.low)), math.ceil(math.log10(axis.high)) + 1)
        places = [10.0**power for power in powers][:: max(1, len(powers) // count)]
    else:
        locator = MaxNLocator(count, steps=[1, 2, 2.5, 5, 10])
        places = [float(value) for value in locator.tick_values(axis.low, axis.high)]
    return [value for value in places if axis.low <= value <= axis.high]


def _tick(value: float) -> str:
    return amount(value) if value >= 10_000 else f"{value:g}"
