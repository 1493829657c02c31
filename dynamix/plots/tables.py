"""A paper's table as a picture: its numbers beside ours, row by row, each on its own scale."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dynamix.plots.axis import Axis, axis_of, ticks
from dynamix.plots.marks import legend, legend_height
from dynamix.plots.style import (
    BODY,
    CARD,
    INK,
    LINE,
    MARGIN,
    MUTED,
    PALETTE,
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

PRINTED, OURS = "#B07A35", SERIES[0]
# Shape and color of our mean by kind: whatever is not a row of the paper is hollow.
KINDS: dict[str, tuple[str, str, bool, str]] = {
    "paper": ("o", OURS, True, "ours"),
    "control": ("s", SERIES[3], False, "control of the same cost"),
    "bound": ("^", SERIES[1], False, "upper bound: needs the truth"),
    "ours": ("v", SERIES[5], False, "not in the paper"),
    "printed": ("D", PRINTED, False, ""),
}
TAGS = {"control": "control", "bound": "upper bound", "ours": "not in the paper"}
LINE_HEIGHT, PAD, HEAD, GAP = 0.165, 0.115, 0.56, 0.22  # inches
NAMES, NUMBER, OTHER = 2.25, 1.08, 1.12  # widths: row names, our number, a column of text
NONE = "–"  # the paper has no such row
BESIDE = 1  # further metrics that fit beside the axes; more of them stand below


@dataclass(frozen=True, kw_only=True)
class TableLine:
    """A row of the picture: the paper's number, the seeds' numbers, and texts for what is not a number."""

    name: str
    kind: str = "paper"
    paper: float | int | None = None
    paper_text: str = NONE
    values: Sequence[float | int] = ()
    text: str = ""  # of our mean
    trouble: str = ""  # not run, failed and why; written where the mark would be, or below it
    others: Sequence[
        tuple[str, str]
    ] = ()  # of each further column: the paper's and our text, "" where there is none


@dataclass(frozen=True)
class _Frame:
    """Where the columns of the picture stand, in inches."""

    paper: Axis | None  # None: the paper has none of these rows
    paper_end: float  # right edge of the paper's numbers
    ours: Axis
    ours_end: float
    others: tuple[float, ...]  # right edges of the text columns


@styled
def paper_table(
    lines: Sequence[TableLine],
    *,
    title: str,
    metric: str,
    note: str = "",
    foot: str = "",
    ours: str = "Ours",
    others: Sequence[str] = (),
) -> Figure:
    """The paper's numbers left and ours right, on scales of their own; equal shapes mean equal order.

    `metric` names the number that is drawn; `others` those that each line only writes; `ours` heads our side;
    `note` stands below the title, `foot` below the rows.

    Raises:
        ValueError: no lines, an unknown kind, a line without a text for each of `others`, no finite number.
    """
    _check(lines, others)
    names = [_name_lines(line) for line in lines]
    beside = others if len(others) <= BESIDE else ()
    heights = [_height(line, name, bool(beside)) for line, name in zip(lines, names, strict=True)]
    items = _legend_items(lines)
    below = _below_height(lines, names, others) if others and not beside else 0.0
    head = legend_height(items) + 0.18
    feet = wrap(foot, SMALL) if foot else []
    done = page(head + HEAD + sum(heights) + 0.05 + below + 0.17 * len(feet), title, note)
    legend(done.axes, done.top, items)
    top = done.top + head
    frame = _frame(lines, len(beside))
    _heads(done.axes, frame, top, metric, ours, beside)
    tops = [top + HEAD + sum(heights[:i]) for i in range(len(lines) + 1)]
    _stripes(done.axes, tops)
    if frame.paper is not None and any(line.paper is not None for line in lines):
        ticks(done.axes, frame.paper, tops[0], tops[-1])
    if any(line.values for line in lines):
        ticks(done.axes, frame.ours, tops[0], tops[-1])
    _shape(done.axes, lines, tops, frame)
    for i, (line, name) in enumerate(zip(lines, names, strict=True)):
        ground = CARD if i % 2 == 0 else PAPER
        _row(done.axes, line, name, frame, tops[i], heights[i], bool(beside), ground)
    for i, text in enumerate(reversed(feet)):
        write(done.axes, MARGIN, done.height - MARGIN - 0.17 * i, text, SMALL, MUTED, va="baseline")
    if below:
        _below(done.axes, lines, names, others, tops[-1] + GAP)
    return done.figure


def _check(lines: Sequence[TableLine], others: Sequence[str]) -> None:
    if not lines:
        raise ValueError("lines is empty: give at least one row of the table")
    for line in lines:
        if line.kind not in KINDS:
            raise ValueError(f"row {line.name!r} is of kind {line.kind!r}; there are {', '.join(KINDS)}")
        if len(line.others) != len(others):
            raise ValueError(
                f"row {line.name!r} has {len(line.others)} further texts for {len(others)} columns"
            )
        if not all(math.isfinite(v) for v in (*line.values, line.paper or 0.0)):
            raise ValueError(f"row {line.name!r} has a number that is not finite")


def _name_lines(line: TableLine) -> list[str]:
    weight = "bold" if line.kind == "paper" else "normal"
    return [_fit(part, NAMES - 0.1) for part in wrap(line.name, SMALL, weight, NAMES - 0.2)]


def _fit(text: str, width: float) -> str:
    if text_width(text, SMALL) <= width:
        return text
    while text and text_width(text + "…", SMALL) > width:
        text = text[:-1].rstrip()
    return text + "…"


def _tagged(line: TableLine, name: list[str]) -> list[str]:
    return [*name, TAGS[line.kind]] if line.kind in TAGS else name


def _height(line: TableLine, name: list[str], two: bool) -> float:
    pairs = two and any(ours for _, ours in line.others)
    count = max(len(_tagged(line, name)), 2 if pairs or (line.values and line.trouble) else 1)
    return LINE_HEIGHT * count + PAD


def _in_a_paper(lines: Sequence[TableLine]) -> bool:
    return any(line.kind in ("paper", "printed") or line.paper_text != NONE for line in lines)


def _frame(lines: Sequence[TableLine], texts: int) -> _Frame:
    names = max(text_width(text, SMALL, "bold") for line in lines for text in [*_name_lines(line), ""])
    start, end = MARGIN + min(max(names, 1.1), NAMES) + 0.2, WIDTH - MARGIN
    scored = [value for line in lines for value in _extent(line)]
    room, paper, paper_end = end - start - texts * OTHER - NUMBER, None, start
    if _in_a_paper(lines):
        number = max(text_width(line.paper_text, SMALL) for line in lines) + 0.1
        left = 0.4 * (room - number - 0.3)
        paper = axis_of(start, left, [line.paper for line in lines if line.paper is not None])
        paper_end, room = start + left + number, room - left - number - 0.3
    ours = axis_of(paper_end + (0.0 if paper is None else 0.3), room, scored)
    ours_end = ours.left + room + NUMBER
    return _Frame(paper, paper_end, ours, ours_end, tuple(
        ours_end + OTHER * (k + 1) for k in range(texts)
    ))  # fmt: skip


def _extent(line: TableLine) -> list[float | int]:
    if not line.values:
        return []
    mean, std = _mean(line), _std(line)
    return [*line.values, mean - std, mean + std]


def _mean(line: TableLine) -> float:
    return math.fsum(line.values) / len(line.values)


def _std(line: TableLine) -> float:
    """Sample standard deviation; 0 for one value."""
    n, mean = len(line.values), _mean(line)
    return math.sqrt(math.fsum((v - mean) ** 2 for v in line.values) / (n - 1)) if n > 1 else 0.0


def _heads(axes: Axes, frame: _Frame, top: float, metric: str, ours: str, others: Sequence[str]) -> None:
    theirs, here = _metric_of(metric)
    sides = [(frame.ours, ours, OURS, here)]
    if frame.paper is not None:
        theirs = _fit(theirs, frame.paper_end - frame.paper.left)
        sides.append((frame.paper, "Paper", PRINTED, theirs))
    for scale, text, color, number in sides:
        write(axes, scale.left, top + 0.15, text, BODY, color, weight="bold", va="baseline")
        write(axes, scale.left, top + 0.3, number, SMALL, MUTED, va="baseline")
    for x, text in zip(frame.others, others, strict=True):
        _stacked_head(axes, x, top, text, both=frame.paper is not None)


def _metric_of(metric: str) -> tuple[str, str]:
    """What the paper and what we measured: `Market-1501 / plaza, mAP` stands for two sets of people.

    Ours never bears the name of a real dataset.
    """
    word = metric.split()[-1]
    if " / " in metric:
        theirs, here = metric.split(" / ", 1)
        return f"{theirs}, {word}", here
    return metric, word if word in ("mAP", "rank-1") else metric


def _stacked_head(axes: Axes, x: float, top: float, text: str, both: bool) -> None:
    first, *rest = wrap(text, SMALL, "bold", OTHER - 0.12)
    parts = [_fit(part, OTHER - 0.07) for part in (first, " ".join(rest)) if part]
    for i, part in enumerate(reversed(parts)):
        write(axes, x, top + 0.15 - 0.14 * i, part, SMALL, INK, weight="bold", ha="right", va="baseline")
    last = "/ ours" if both else "ours"
    write(axes, x, top + 0.3, last, SMALL, OURS, ha="right", va="baseline")
    if both:
        end = x - text_width(last, SMALL)
        write(axes, end, top + 0.3, "paper ", SMALL, PRINTED, ha="right", va="baseline")


def _stripes(axes: Axes, tops: Sequence[float]) -> None:
    for i, (top, bottom) in enumerate(zip(tops, tops[1:], strict=False)):
        if i % 2 == 0:
            axes.fill_between([MARGIN - 0.1, WIDTH - MARGIN + 0.1], top, bottom, color=CARD, zorder=0.2)
    axes.plot([MARGIN - 0.1, WIDTH - MARGIN + 0.1], [tops[0]] * 2, color=LINE, linewidth=0.9, zorder=0.3)


def _shape(axes: Axes, lines: Sequence[TableLine], tops: Sequence[float], frame: _Frame) -> None:
    """A faint line through the paper's rows on either side: what has the same shape has the same order."""
    pieces: list[list[tuple[float, float, float]]] = [[]]
    for line, top, bottom in zip(lines, tops, tops[1:], strict=False):
        if frame.paper and line.kind == "paper" and line.paper is not None and line.values:
            pieces[-1].append((frame.paper(line.paper), frame.ours(_mean(line)), (top + bottom) / 2))
        elif line.kind in ("paper", "printed"):  # a gap that no line may hide
            pieces.append([])
    for piece in pieces:
        if len(piece) > 1:
            paper, ours, y = zip(*piece, strict=True)
            axes.plot(paper, y, color=PRINTED, linewidth=1.1, alpha=0.35, zorder=1)
            axes.plot(ours, y, color=OURS, linewidth=1.1, alpha=0.35, zorder=1)


def _row(
    axes: Axes,
    line: TableLine,
    name: list[str],
    frame: _Frame,
    top: float,
    height: float,
    two: bool,
    ground: str,
) -> None:
    middle = top + height / 2
    _row_name(axes, line, name, middle)
    if frame.paper is not None and line.paper is not None:
        axes.plot(
            [frame.paper(line.paper)], [middle], "D", color=PAPER, markeredgecolor=PRINTED, markersize=5.5,
            markeredgewidth=1.5, zorder=3,
        )  # fmt: skip
    if frame.paper is not None:
        color = PRINTED if line.paper is not None else MUTED
        write(axes, frame.paper_end, middle + 0.042, line.paper_text, SMALL, color, ha="right", va="baseline")
    _our_side(axes, line, frame, middle, ground)
    for x, (paper, ours) in zip(frame.others, line.others if two else (), strict=True):
        _pair(axes, x, middle, "" if frame.paper is None else paper, ours)


def _row_name(axes: Axes, line: TableLine, name: list[str], middle: float) -> None:
    weight = "bold" if line.kind == "paper" else "normal"
    texts = _tagged(line, name)
    for i, text in enumerate(texts):
        y = middle + LINE_HEIGHT * (i - (len(texts) - 1) / 2) + 0.042
        if i < len(name):
            write(axes, MARGIN, y, text, SMALL, INK, va="baseline", weight=weight)
        else:
            tint = KINDS[line.kind][1] if line.kind != "printed" else MUTED
            write(axes, MARGIN, y, text, 7.0, tint, va="baseline", style="italic")


def _our_side(axes: Axes, line: TableLine, frame: _Frame, middle: float, ground: str) -> None:
    scale, end = frame.ours, frame.ours_end
    color = PALETTE["wrong"] if "failed" in line.trouble else MUTED
    if not line.values:
        text = _fit(line.trouble or line.text or NONE, end - scale.left)
        if "failed" in text:
            axes.plot([scale.left + 0.05], [middle], "x", color=color, markersize=5, markeredgewidth=1.6)
        shift = 0.16 if "failed" in text else 0.0
        paint = {"facecolor": ground, "edgecolor": "none", "pad": 0.8}
        write(
            axes, scale.left + shift, middle + 0.042, _fit(text, end - scale.left - shift), SMALL, color,
            va="baseline", style="italic", bbox=paint,
        )  # fmt: skip
        return
    _marks(axes, line, scale, middle)
    up = LINE_HEIGHT / 2 if line.trouble else 0.0
    weight = "bold" if line.kind == "paper" else "normal"
    write(axes, end, middle + 0.042 - up, line.text, SMALL, OURS, ha="right", va="baseline", weight=weight)
    if line.trouble:
        text = _fit(line.trouble, NUMBER - 0.02)
        write(axes, end, middle + 0.042 + up, text, 7.0, color, ha="right", va="baseline")


def _marks(axes: Axes, line: TableLine, scale: Axis, middle: float) -> None:
    """Mean with its standard deviation, the seeds as dots below it."""
    shape, color, filled, _ = KINDS[line.kind]
    mean, std = _mean(line), _std(line)
    if std > 0:
        axes.plot([scale(mean - std), scale(mean + std)], [middle] * 2, color=color, linewidth=2.2, zorder=3)
    if len(line.values) > 1:
        seeds = [scale(value) for value in line.values]
        axes.scatter(
            seeds,
            [middle + 0.088] * len(seeds),
            s=11,
            facecolor=PAPER,
            edgecolor=INK,
            linewidth=0.8,
            zorder=4,
        )
    axes.plot(
        [scale(mean)], [middle], shape, color=color if filled else PAPER,
        markeredgecolor=PAPER if filled else color, markersize=7.5 if filled else 6.5,
        markeredgewidth=0.8 if filled else 1.6, zorder=5,
    )  # fmt: skip


def _pair(axes: Axes, right: float, middle: float, paper: str, ours: str) -> None:
    """The paper's number over ours; alone where ours has none."""
    shift = 0.075 if paper and ours else 0.0
    for text, up, color in ((paper, -shift, PRINTED), (ours, shift, OURS)):
        color = color if any(letter.isdigit() for letter in text) else MUTED
        y = middle + up + 0.042
        write(axes, right, y, _fit(text, OTHER - 0.06), SMALL, color, ha="right", va="baseline")


def _below_height(lines: Sequence[TableLine], names: Sequence[list[str]], others: Sequence[str]) -> float:
    blocks = math.ceil(len(others) / _across())
    return blocks * (
        GAP + HEAD - 0.18 + sum(_below_row(line, name) for line, name in zip(lines, names, strict=True))
    )


def _across() -> int:
    return int((WIDTH - 2 * MARGIN - NAMES) / OTHER)


def _below_row(line: TableLine, name: list[str]) -> float:
    lines = 2 if any(ours for _, ours in line.others) else 1
    return max(lines, len(name)) * LINE_HEIGHT + 0.08


def _below(
    axes: Axes, lines: Sequence[TableLine], names: Sequence[list[str]], others: Sequence[str], y: float
) -> None:
    """The other numbers as text, as many columns side by side as the page takes."""
    step = _across()
    for first in range(0, len(others), step):
        block = others[first : first + step]
        rights = [WIDTH - MARGIN - OTHER * (len(block) - 1 - k) for k in range(len(block))]
        for x, text in zip(rights, block, strict=True):
            _stacked_head(axes, x, y, text, both=_in_a_paper(lines))
        tops = [y + HEAD - 0.18]
        for line, name in zip(lines, names, strict=True):
            tops.append(tops[-1] + _below_row(line, name))
            middle = (tops[-1] + tops[-2]) / 2
            for i, text in enumerate(name):
                at = middle + LINE_HEIGHT * (i - (len(name) - 1) / 2) + 0.042
                weight = "bold" if line.kind == "paper" else "normal"
                write(axes, MARGIN, at, text, SMALL, INK, va="baseline", weight=weight)
            for x, (paper, ours) in zip(rights, line.others[first : first + step], strict=True):
                _pair(axes, x, middle, paper if _in_a_paper(lines) else "", ours)
        _stripes(axes, tops)
        y = tops[-1] + GAP


def _legend_items(lines: Sequence[TableLine]) -> list[tuple]:
    items = [_item("printed", "paper")] if _in_a_paper(lines) else []
    several = any(len(line.values) > 1 for line in lines)
    for kind in KINDS:
        if kind != "printed" and any(line.kind == kind and line.values for line in lines):
            items.append(
                _item(kind, KINDS[kind][3] + (" (mean ± std)" if kind == "paper" and several else ""))
            )
    at = 1 + _in_a_paper(lines)  # after the first of ours
    return [*items[:at], _item("seed", "one seed"), *items[at:]] if several else items


def _item(kind: str, text: str) -> tuple[Callable[[Axes, float, float], None], float, str]:
    shape, color, filled, _ = KINDS.get(kind, ("o", INK, False, ""))
    style: dict[str, Any] = {
        "color": color if filled else PAPER,
        "markeredgecolor": PAPER if filled else color,
    }
    style |= {"markersize": 3.6, "markeredgewidth": 0.8} if kind == "seed" else {"markersize": 6.0}
    if kind != "seed" and not filled:
        style["markeredgewidth"] = 1.5

    def draw(axes: Axes, x: float, y: float) -> None:
        axes.plot([x], [y], shape, **style)

    return draw, 0.14, text
