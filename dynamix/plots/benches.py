"""What the benchmarks measured: ours, the baseline of the same run, the machine's floor."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dynamix.plots.axis import Axis
from dynamix.plots.marks import legend, legend_height
from dynamix.plots.style import (
    BODY,
    INK,
    LINE,
    MARGIN,
    MUTED,
    PAPER,
    SERIES,
    SMALL,
    WIDTH,
    page,
    styled,
    text_width,
    wrap,
    write,
)

OURS, BASELINE = SERIES[0], "#B07A35"
ROW, HEADING = 0.25, 0.36  # inches
NAMES, FIGURES = 3.05, 1.2  # inches left and right of the axis
DEVICES = {"cpu": "CPU", "cuda": "GPU"}


@dataclass(frozen=True)
class Bench:
    """The kept rows of one benchmark on one kind of device; none: it was not run there."""

    name: str
    device: str
    rows: Sequence[Mapping[str, Any]] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def where(self) -> str:
        """The device as people call it."""
        return str(self.provenance.get("device", DEVICES.get(self.device, self.device)))


def read_benches(folder: Path, devices: Sequence[str] = ("cpu", "cuda")) -> list[Bench]:
    """All `bench.NAME.DEVICE.json` in `folder`, by name; a missing device stands there without rows.

    Raises:
        FileNotFoundError: there is none.
        ValueError: a file without rows.
    """
    names = sorted({path.name.split(".")[1] for path in folder.glob("bench.*.*.json")})
    if not names:
        raise FileNotFoundError(f"no bench.NAME.DEVICE.json in {folder}: run tests/benchmarks/*.py --save")
    return [
        _read(folder / f"bench.{name}.{device}.json", name, device) for name in names for device in devices
    ]


def _read(path: Path, name: str, device: str) -> Bench:
    if not path.exists():
        return Bench(name, device)
    kept = json.loads(path.read_text())
    if not kept.get("rows"):
        raise ValueError(f"{path} has no rows: run its benchmark again with --save")
    return Bench(name, device, kept["rows"], kept.get("provenance", {}))


@styled
def bench_results(benches: Sequence[Bench], *, title: str, note: str = "") -> Figure:
    """Ours in times of the baseline of the same run, and how far the machine's floor lies, one axis for all.

    A row without a baseline says how far it is from the floor.

    Raises:
        ValueError: nothing to draw.
    """
    if not benches:
        raise ValueError("benches is empty: give at least one benchmark")
    ran, absent = [b for b in benches if b.rows], [b for b in benches if not b.rows]
    missing = _missing(absent)
    items = [_item("o", "ours"), _item("|", "baseline, same run"), _item("D", "the machine's floor")]
    body = sum(HEADING + ROW * len(bench.rows) for bench in ran)
    head = legend_height(items) + 0.2
    done = page(head + body + 0.2 * len(missing) + 0.1, title, note)
    legend(done.axes, done.top, items)
    axis = Axis(MARGIN + NAMES, WIDTH - 2 * MARGIN - NAMES - FIGURES, *_span(ran), log=True)
    y = done.top + head
    _ticks(done.axes, axis, y, y + body)
    for bench in ran:
        write(done.axes, MARGIN, y + 0.28, bench.name, BODY, INK, weight="bold", va="baseline")
        x = MARGIN + text_width(bench.name, BODY, "bold") + 0.1
        write(done.axes, x, y + 0.28, bench.where, SMALL, MUTED, va="baseline")
        y += HEADING
        for row in bench.rows:
            _row(done.axes, row, axis, y + ROW / 2)
            y += ROW
    for i, line in enumerate(missing):
        write(done.axes, MARGIN, y + 0.2 * (i + 1), line, SMALL, MUTED, va="baseline")
    return done.figure


def _missing(absent: Sequence[Bench]) -> list[str]:
    if not absent:
        return []
    devices = list(dict.fromkeys(bench.device for bench in absent))
    texts = [
        f"{DEVICES.get(device, device)} not run: {', '.join(b.name for b in absent if b.device == device)}"
        for device in devices
    ]
    return [line for text in texts for line in wrap(text, SMALL)]


def _places(row: Mapping[str, Any]) -> dict[str, float]:
    """Where the marks of a row stand, in times the baseline; without one there is no place."""
    ratio, above = row.get("ratio"), row.get("of_floor")
    if ratio is None:
        return {}
    return {"baseline": 1.0, "ours": ratio} | ({} if above is None else {"floor": ratio * above})


def _span(benches: Sequence[Bench]) -> tuple[float, float]:
    places = [x for bench in benches for row in bench.rows for x in _places(row).values()] or [1.0]
    return min(min(places) / 1.5, 0.7), max(max(places) * 2.5, 4.0)


def _ticks(axes: Axes, axis: Axis, top: float, bottom: float) -> None:
    marks = (1, 2, 5) if axis.high / axis.low < 300 else (1,)
    powers = range(math.floor(math.log10(axis.low)), math.ceil(math.log10(axis.high)) + 1)
    for value in (mark * 10.0**power for power in powers for mark in marks):
        if not axis.low <= value <= axis.high:
            continue
        x, main = axis(value), value == 1
        color, width = (BASELINE, 1.4) if main else (LINE, 0.7)
        axes.plot([x, x], [top, bottom], color=color, linewidth=width, zorder=1)
        write(axes, x, top - 0.04, f"{value:g} x", SMALL, MUTED, ha="center", va="baseline")


def _row(axes: Axes, row: Mapping[str, Any], axis: Axis, y: float) -> None:
    write(axes, MARGIN + 0.12, y + 0.042, _shorten(str(row["what"]), NAMES - 0.3), SMALL, INK, va="baseline")
    places = {name: axis(value) for name, value in _places(row).items()}
    if places:
        axes.plot([min(places.values()), max(places.values())], [y, y], color=LINE, linewidth=3.0, zorder=2)
        axes.plot([places["ours"]], [y], "o", color=OURS, markersize=7, zorder=4)
        if "floor" in places:
            axes.plot([places["floor"]], [y], "D", color=PAPER, markeredgecolor=INK, markersize=5, zorder=3)
        _ratio(axes, row, max(places.values()) + 0.1, axis.left + axis.width, y + 0.042)
    elif row.get("of_floor") is not None:
        text = f"{row['of_floor']:.2g} x the floor: {row['floor_is']}"
        box = {"facecolor": PAPER, "edgecolor": "none", "pad": 0.6}
        text = _shorten(text, axis.left + axis.width - axis(1.0) - 0.1)
        write(axes, axis(1.0) + 0.1, y + 0.042, text, SMALL, MUTED, va="baseline", bbox=box, zorder=3)
    figure = f"{_number(row['ours'])} {row['unit']}"
    write(axes, WIDTH - MARGIN, y + 0.042, figure, SMALL, INK, ha="right", va="baseline")


def _ratio(axes: Axes, row: Mapping[str, Any], x: float, end: float, y: float) -> None:
    """How many times the baseline, and which one if there is room to say it."""
    text, box = f"{row['ratio']:.2g} x", {"facecolor": PAPER, "edgecolor": "none", "pad": 0.6}
    write(axes, x, y, text, SMALL, OURS, va="baseline", weight="bold", bbox=box, zorder=3.5)
    x += text_width(text, SMALL, "bold") + 0.06
    if row.get("against") and end - x > 0.5:
        against = _shorten(str(row["against"]), end - x)
        write(axes, x, y, against, SMALL, MUTED, va="baseline", bbox=box, zorder=3.4)


def _number(value: float | int) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _shorten(text: str, width: float) -> str:
    if text_width(text, SMALL) <= width:
        return text
    while text_width(text + "…", SMALL) > width:
        text = text[:-1].rstrip()
    return text + "…"


def _item(mark: str, text: str) -> tuple:
    style: dict[str, Any] = {
        "o": {"color": OURS, "markersize": 7},
        "|": {"color": BASELINE, "markersize": 10, "markeredgewidth": 1.6},
        "D": {"color": PAPER, "markeredgecolor": INK, "markersize": 5},
    }[mark]

    def draw(axes: Axes, x: float, y: float) -> None:
        axes.plot([x], [y], mark, **style)

    return draw, 0.16, text
