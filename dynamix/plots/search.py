"""The answer to queries in an unlabeled gallery: each query beside its most similar crops."""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font

from dynamix.config import Config
from dynamix.plots.crops import BESIDE, GAP, verdict_legend
from dynamix.plots.marks import LEGEND_ROW, Array, as_array, as_images, crop, legend, panel, verdict
from dynamix.plots.style import (
    INK,
    MARGIN,
    MUTED,
    PALETTE,
    SMALL,
    WIDTH,
    page,
    save,
    styled,
    text_width,
    write,
)
from dynamix.retrieval import Ranking

ACROSS, LINES, MOST = 10, 8, 12  # results side by side; lines of results and queries on a sheet
NARROW = 4  # up to so many results, queries stand two abreast
TINY = 7.0  # points, for file names
LABEL, BASE, ROW = 0.18, 0.135, 0.115  # inches: rank and similarity, their baseline, a line of a name
INSIDE, BETWEEN = 0.1, 0.09  # inches: around what a card holds, from card to card


def save_sheets(
    ranking: Ranking,
    config: Config,
    out: Path,
    pids: Mapping[str, int] | None = None,
    *,
    most: int = 10,
) -> list[Path]:
    """Write `ranking.png`, `ranking-2.png`, ... into `out`, and nothing of an earlier search stays there.

    Up to twelve queries each. `pids`, the true pid of every path, tells right from wrong; beyond `most`
    sheets queries are left to the CSV, and the last sheet says so. Raises ValueError when `most` < 0.
    """
    if most < 0:
        raise ValueError(f"the number of sheets must be at least 0, got {most}")
    T = ranking.rows.shape[1]
    per_sheet = min(MOST, max(1, LINES // -(-T // ACROSS)) * _abreast(T))
    Q, shown = len(ranking.queries), min(len(ranking.queries), most * per_sheet)
    for old in out.glob("ranking*.png"):
        if re.fullmatch(r"ranking(-\d+)?\.png", old.name):
            old.unlink()
    written = []
    for number, part in enumerate(ranking.parts(per_sheet)):
        if number == most:
            break
        first = number * per_sheet + 1
        which = f", queries {first} to {first + len(part.queries) - 1} of {Q}" if per_sheet < Q else ""
        figure = search_sheet(
            *part.crops(config),
            part.similarity,
            title=f"The {T} most similar of {len(ranking.gallery):,} crops{which}",
            query_names=[path.name for path in part.queries],
            names=part.names(),
            correct=None if pids is None else part.correct(pids),
            note=_note(part, Q - shown if number == most - 1 else 0),
        )
        written.append(save(figure, out / f"ranking{f'-{number + 1}' if number else ''}.png"))
    return written


def _abreast(T: int) -> int:
    return 2 if T <= NARROW else 1


def _note(part: Ranking, left: int) -> str:
    own = int(np.count_nonzero(part.own >= 0))
    notes = ["Below each crop: rank, cosine similarity, file."]
    if own:
        notes.append(f"Queries that lie in the gallery ({own}) are left out of their own results.")
    if left:
        notes.append(f"{left} more queries are in ranking.csv only.")
    return " ".join(notes)


@styled
def search_sheet(
    queries: Array,
    found: Array,
    similarity: Array,
    *,
    title: str,
    query_names: Sequence[str],
    names: Sequence[Sequence[str]],
    correct: Array | None = None,
    note: str = "",
) -> Figure:
    """Each query beside its most similar crops, with rank, similarity and file name below.

    `queries` (Q, 3, H, W), `found` (Q, T, 3, H, W), `similarity` (Q, T), -inf where there is no such rank;
    `names` name the crops. With `correct` (Q, T), 1 right, 0 wrong, -1 neither, results
    are framed and marked.
    """
    asked, crops = as_images(queries, "queries", "Q 3 H W"), as_images(found, "found", "Q T 3 H W")
    Q, T = crops.shape[:2]
    if len(asked) != Q or [len(query_names), len(names)] != [Q, Q] or any(len(row) != T for row in names):
        raise ValueError(f"found holds {Q} x {T} crops: give {Q} queries and names, and {Q} x {T} names")
    cosine = as_array(similarity, "similarity", (Q, T))
    right = None if correct is None else as_array(correct, "correct", (Q, T))
    abreast = _abreast(T) if Q > 1 else 1
    side = (WIDTH - 2 * MARGIN - BETWEEN * (abreast - 1)) / abreast
    across = min(T, ACROSS)
    width = min(0.8, (side - 2 * INSIDE - BESIDE - GAP * (across - 1)) / (across + 1))
    tall = width * asked.shape[1] / asked.shape[2]
    step = tall + LABEL + (3 if any("/" in name for row in names for name in row) else 2) * ROW + 0.09
    card = -(-T // ACROSS) * step + 2 * INSIDE - 0.09
    body = -(-Q // abreast) * (card + BETWEEN) - BETWEEN
    done = page(body + (LEGEND_ROW + 0.05 if right is not None else 0), title, note)
    for q in range(Q):
        left, top = MARGIN + q % abreast * (side + BETWEEN), done.top + q // abreast * (card + BETWEEN)
        panel(done.axes, left, top, side, card)
        x, y = left + INSIDE, top + INSIDE
        crop(done.axes, asked[q], x, y, width, INK, linewidth=1.2)
        write(done.axes, x, y + tall + BASE, "query", SMALL, MUTED, va="baseline")
        _name(done.axes, query_names[q], x, y + tall + LABEL, width)
        for t in np.flatnonzero(np.isfinite(cosine[q])).tolist():
            at, line = x + width + BESIDE + t % ACROSS * (width + GAP), y + t // ACROSS * step
            known = None if right is None or right[q, t] < 0 else bool(right[q, t])
            _result(done.axes, crops[q, t], at, line, width, t + 1, float(cosine[q, t]), known)
            _name(done.axes, names[q][t], at, line + tall + LABEL, width)
    if right is not None:
        meanings = [(draw, size, text.split(",")[0]) for draw, size, text in verdict_legend()]
        if (right < 0).any():
            meanings.append((lambda *_: None, 0.0, "no mark: a box on nobody, neither right nor wrong"))
        legend(done.axes, done.top + body + 0.05, meanings)
    return done.figure


def _result(
    axes: Axes,
    image: np.ndarray,
    x: float,
    y: float,
    width: float,
    rank: int,
    cosine: float,
    right: bool | None,
) -> None:
    """A crop with its rank and similarity below, framed and marked where it is known to be right or wrong."""
    bottom = y + crop(
        axes, image, x, y, width, None if right is None else PALETTE["correct" if right else "wrong"]
    )
    if right is not None:
        verdict(axes, x + width - 0.06, bottom - 0.06, right)
    write(axes, x, bottom + BASE, str(rank), SMALL, MUTED, va="baseline")
    shown = f"{cosine:.2f}".replace("-", "\N{MINUS SIGN}")
    write(axes, x + width, bottom + BASE, shown, SMALL, INK, ha="right", va="baseline", weight="bold")


def _name(axes: Axes, name: str, x: float, y: float, width: float) -> None:
    for i, line in enumerate(name_lines(name, width)):
        write(axes, x, y + (i + 1) * ROW - 0.02, line, TINY, MUTED, va="baseline", parse_math=False)


def name_lines(name: str, width: float) -> list[str]:
    """A file's name, without its ending, in one or two lines of `width` inches, then its folder in one.

    What is too long loses its middle.
    """
    folder, _, base = "".join(c if _drawable(c) else "\N{WHITE SQUARE}" for c in name).rpartition("/")
    lines = _fit(base.rpartition(".")[0] or base, width, 2)
    return [*lines, *_fit(f"{folder}/", width, 1)] if folder else lines


def _fit(text: str, width: float, lines: int) -> list[str]:
    for kept in range(len(text), 0, -1):
        head = kept // 2
        shown = text if kept == len(text) else f"{text[:head]}…{text[len(text) - kept + head :]}"
        found = _two_lines(shown, width)
        if 0 < len(found) <= lines:
            return found
    return [text[:1]]


def _two_lines(text: str, width: float) -> list[str]:
    """`text` in one or two lines, cut behind a separator where that fits; empty when it does not fit."""
    ends = np.cumsum([_advance(c) for c in text])
    if not len(text) or ends[-1] <= width:
        return [text]
    fits = [
        cut for cut in range(1, len(text)) if ends[cut - 1] <= width and ends[-1] - ends[cut - 1] <= width
    ]
    after = [cut for cut in fits if text[cut - 1] in "/_-. "]
    return [text[: max(after or fits)], text[max(after or fits) :]] if fits else []


@lru_cache(maxsize=4096)
def _advance(character: str) -> float:
    """Inches that a character takes in a line; `$` would be read as mathematics."""
    return text_width(("n" if character.isspace() or character == "$" else character) * 8, TINY) / 8


@lru_cache(maxsize=4096)
def _drawable(character: str) -> bool:
    font = get_font(findfont(FontProperties(family="DejaVu Sans")))
    return character.isprintable() and font.get_char_index(ord(character)) != 0
