"""How far our order of a table's rows agrees with the paper's, and one honest sentence about it."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dynamix.experiments.report.cells import Cell, Found, Measured, cells, ranked
from dynamix.experiments.tables.kinds import Column, PaperTable

EXACT_UP_TO, DRAWS = 8, 10_000  # rows; random permutations beyond
LEVEL = 0.05


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Best against worst of our rows, and what the seeds alone do."""

    best: str
    worst: str
    difference: float  # of their means
    std: float | None  # of seeds within a row, pooled over the rows; None: one seed each
    error: float | None  # standard error of the difference, seed by seed where all rows have the same seeds
    paired: bool
    chance: float | None  # that rows without any difference span as much (Tukey's studentized range)

    @property
    def clear(self) -> bool | None:
        """More than two standard errors, and than the best of so many equal rows would; None: unknown."""
        if self.error is None or self.chance is None:
            return None
        return self.difference > 2 * self.error and self.chance <= LEVEL


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """The rows with a number of the paper's and of ours, under the column that ranks them."""

    column: Column
    rows: tuple[str, ...]
    paper: tuple[float, ...]
    ours: tuple[float, ...]  # means over seeds
    expected: int  # rows that the paper prints and that could be run
    seeds: tuple[int, int]  # fewest and most of a row; (0, 0): measured without seeds
    tau: float | None = None  # Kendall's tau-b; None where one side is all ties
    p: float | None = None  # one-sided: how often a random order agrees as much
    spread: Spread | None = None

    @property
    def paper_best(self) -> tuple[str, ...]:
        """The paper's highest rows."""
        return self._highest(self.paper)

    @property
    def our_best(self) -> tuple[str, ...]:
        """Our highest rows."""
        return self._highest(self.ours)

    @property
    def rank_here(self) -> int:
        """Where the paper's highest row stands with us, from 1; of several the one that stands highest."""
        best = max(self.ours[self.rows.index(name)] for name in self.paper_best)
        return 1 + sum(value > best for value in self.ours)

    def _highest(self, values: tuple[float, ...]) -> tuple[str, ...]:
        return tuple(
            name for name, value in zip(self.rows, values, strict=True) if value == max(values, default=0)
        )


def agreement(table: PaperTable, profile: str, found: Found | Measured) -> Agreement | None:
    """The agreement of the order under `ranked_by`; None where the table is not ranked."""
    if not table.ranked_by:
        return None
    column = ranked(table)
    at = table.columns.index(column)
    printed = [row[at] for _, row in cells(table, found) if row[at].printed is not None]
    both = [each for each in printed if each.values]
    paper = tuple(each.printed for each in both if each.printed is not None)
    ours = tuple(each.mean for each in both if each.mean is not None)
    counts = [len(each.seeds) for each in both] or [0]
    tau, p = kendall(paper, ours)
    return Agreement(
        column=column,
        rows=tuple(each.row.name for each in both),
        paper=paper,
        ours=ours,
        expected=sum(each.row.kind != "printed" for each in printed),
        seeds=(min(counts), max(counts)),
        tau=tau,
        p=p,
        spread=_spread(both) if len(both) > 1 else None,
    )


def kendall(x: Sequence[float | int], y: Sequence[float | int]) -> tuple[float | None, float | None]:
    """Kendall's tau-b and the share of permutations of `y` that agree with `x` at least as much.

    All permutations up to 8 rows, else 10,000 drawn from a fixed seed, the observed order among them.
    """
    from scipy.stats import kendalltau

    if len(x) < 2 or len(set(x)) == 1 or len(set(y)) == 1:
        return None, None
    tau = float(kendalltau(x, y, variant="b").statistic)
    n, signs_x, signs_y = len(x), _signs(x), _signs(y)
    orders, drawn = _orders(n)
    # Ties stay as many in every order, so that concordant minus discordant pairs decide alone.
    score = np.zeros(len(orders), np.int64)
    for i, j in itertools.combinations(range(n), 2):
        score += signs_x[i, j] * signs_y[orders[:, i], orders[:, j]]
    observed = int((np.triu(signs_x * signs_y, 1)).sum())
    as_much = int((score >= observed).sum())
    return tau, (as_much + drawn) / (len(orders) + drawn)


def _orders(n: int) -> tuple[np.ndarray, int]:
    """Permutations of n rows, and 1 where they are drawn, so that the observed order has to be added."""
    if n <= EXACT_UP_TO:
        return np.array(list(itertools.permutations(range(n)))), 0
    return np.random.default_rng(0).permuted(np.tile(np.arange(n), (DRAWS, 1)), axis=1), 1


def _signs(values: Sequence[float | int]) -> np.ndarray:
    array = np.asarray(values, float)
    return np.sign(array[:, None] - array[None, :]).astype(np.int64)


def _spread(rows: Sequence[Cell]) -> Spread:
    means = [sum(each.values) / len(each.values) for each in rows]
    best, worst = rows[int(np.argmax(means))], rows[int(np.argmin(means))]
    difference = max(means) - min(means)
    paired = len({each.seeds for each in rows}) == 1 and len(rows[0].seeds) > 1
    std, degrees = _pooled(rows)
    found: dict[str, Any] = {"best": best.row.name, "worst": worst.row.name, "difference": difference}
    found |= {"std": std, "paired": paired}
    if std is None:
        return Spread(**found, error=None, chance=None)
    share = math.sqrt(1 / len(best.values) + 1 / len(worst.values))
    error, residual = std * share, std
    if paired:
        residual, degrees = _residual(np.array([each.values for each in rows]))
        apart = np.subtract(best.values, worst.values)
        error = float(apart.std(ddof=1)) / math.sqrt(len(apart))
    chance = _range_chance(difference, residual * share, len(rows), degrees)
    return Spread(**found, error=error, chance=chance)


def _pooled(rows: Sequence[Cell]) -> tuple[float | None, int]:
    """Standard deviation of the seeds within a row, over all rows, with its degrees of freedom."""
    degrees = sum(len(each.values) - 1 for each in rows)
    if not degrees:
        return None, 0
    squares = sum(float(np.var(each.values)) * len(each.values) for each in rows)
    return math.sqrt(squares / degrees), degrees


def _residual(values: np.ndarray) -> tuple[float, int]:
    """Standard deviation of (rows, seeds) after a row's and a seed's own mean are taken out."""
    left = values - values.mean(1, keepdims=True) - values.mean(0, keepdims=True) + values.mean()
    degrees = (values.shape[0] - 1) * (values.shape[1] - 1)
    return math.sqrt(float((left**2).sum()) / degrees), degrees


def _range_chance(difference: float, error: float, rows: int, degrees: int) -> float:
    """Chance that the largest difference of so many equal rows is as large (Tukey-Kramer).

    Without it the best of thirty equal rows would beat the worst by two standard errors nearly always.
    """
    from scipy.stats import studentized_range

    if difference == 0 or error == 0:
        return float(difference == 0)
    return float(studentized_range.sf(math.sqrt(2) * difference / error, rows, degrees))


def sentence(found: Agreement | None, table: PaperTable) -> str:
    """One sentence on whether the paper's order shows here, no stronger than the numbers; "" if unranked."""
    if found is None:
        return ""
    if not found.rows:
        return (
            f"Nothing to compare yet: of the {found.expected} rows that the paper prints none has a number."
        )
    if len(found.rows) < 3:
        return _few(found)
    spread = found.spread
    if spread is None or found.tau is None or found.p is None:
        return f"Cannot tell{_on(found)}: {_level(found)}."
    if spread.clear is None:
        return (
            f"Cannot tell{_on(found)}, which says nothing about noise: {_order(found)}, {_place(found)}, "
            f"and the rows span {_amount(found, spread.difference)}."
        )
    if not spread.clear:
        return _within_noise(found, spread)
    return _clear(found, spread)


def _few(found: Agreement) -> str:
    few = len(found.rows) < found.expected
    only = f"{len(found.rows)} of the {found.expected} rows that the paper prints" if few else "two rows"
    if len(found.rows) == 1:
        return f"Cannot tell: only one row has a number of the paper's and of ours{_on(found)}."
    only = f"only {only}" if few else only
    start = f"Cannot tell from the order of {only}, which agrees by chance every second time"
    spread = found.spread
    if spread is None or found.tau is None:
        return f"{start}; {_level(found)}."
    way = "as in the paper" if found.tau > 0 else "against the paper"
    lead = (
        f"{_called(spread.best)} leads {_called(spread.worst)} by {_amount(found, spread.difference)}, {way}"
    )
    return f"{start}; {lead}, {_weight(found, spread)}."


def _level(found: Agreement) -> str:
    """Which side does not order the rows."""
    who = "here" if len(set(found.ours)) == 1 else "in the paper"
    return f"the {len(found.rows)} rows score the same {who}"


def _weight(found: Agreement, spread: Spread) -> str:
    """How much the difference of two rows is worth."""
    if spread.clear is None or spread.error is None:
        return f"but {_seeds(found)} cannot say whether that is noise"
    error = f"(standard error {_number(found, spread.error)}, {_seeds(found)}{_paired(spread)})"
    return (
        f"more than seeds alone would give {error}" if spread.clear else f"within the noise of seeds {error}"
    )


def _within_noise(found: Agreement, spread: Spread) -> str:
    std = spread.std or 0.0
    within = f"all rows lie within {_amount(found, spread.difference)} ({_seeds(found)}{_paired(spread)})"
    if spread.difference < std:
        within += f", less than the {_number(found, std)} that seeds alone differ by"
    else:
        within += f", no more than chance gives where seeds alone differ by {_number(found, std)}"
    agrees = found.tau is not None and found.tau > 0
    if agrees and found.p is not None and found.p <= LEVEL:
        return f"{_capital(_order(found))}, but {within}: the effect is not larger than the noise."
    return f"{_capital(_place(found))}; {within}: the effect does not show."


def _clear(found: Agreement, spread: Spread) -> str:
    tau, p = found.tau or 0.0, found.p if found.p is not None else 1.0
    lead = (
        f"leads {_called(spread.worst)} by {_amount(found, spread.difference)}, more than seeds alone "
        f"would give (standard error {_number(found, spread.error or 0.0)}, {_seeds(found)}{_paired(spread)})"
    )
    if tau > 0:
        joint = "but " if (p > LEVEL) != (found.rank_here > 1) else ""
        who = "" if found.paper_best == (spread.best,) else f"{_called(spread.best)} "
        return f"{_capital(_order(found))}, {joint}{_place(found)}, and {who}{lead}."
    verdict = "contradicts the paper's" if tau < 0 else "has nothing of the paper's"
    return (
        f"The order here {verdict} (Kendall's tau {tau:.2f} over {len(found.rows)} rows): {_place(found)}, "
        f"and {_called(spread.best)} {lead}."
    )


def _order(found: Agreement) -> str:
    tau, p = found.tau or 0.0, found.p if found.p is not None else 1.0
    if tau <= 0:
        says = "the order does not follow the paper's"
    elif p > LEVEL and tau > 0.999:
        says = "the order is the paper's, as chance alone may make it"
    elif p > LEVEL:
        says = "the order leans towards the paper's no more than chance may"
    elif tau > 0.999:
        says = "the order is the paper's"
    else:
        says = "the order mostly agrees with the paper's"
    part = f"{len(found.rows)} rows"
    if len(found.rows) < found.expected:
        part = f"{len(found.rows)} of {found.expected} rows"
    return f"{says} (Kendall's tau {tau:.2f} over {part}, p = {_p(p)})"


def _place(found: Agreement) -> str:
    """Where the paper's best row stands here."""
    high = "best" if found.column.unit == "%" else "highest"
    one = f"the paper's {high} row, {_called(found.paper_best[0])},"
    if len(found.paper_best) > 1:
        one = f"of the paper's {high} rows, {' and '.join(map(_called, found.paper_best))}, one"
    if found.rank_here > 1:
        return f"{one} is {_ordinal(found.rank_here)} of {len(found.rows)} here"
    shared = len(set(found.our_best) - set(found.paper_best))
    return f"{one} is {high} here too" + (f", level with {shared} more" if shared else "")


def _called(name: str) -> str:
    """A row's name inside a sentence; in quotes where it could be taken for a part of it."""
    return name if name.replace(" ", "").isalpha() else f"“{name}”"


def _on(found: Agreement) -> str:
    return " from one measurement of each row" if found.seeds[1] == 0 else f" from {_seeds(found)}"


def _seeds(found: Agreement) -> str:
    fewest, most = found.seeds
    if most == 0:
        return "one measurement"
    count = str(most) if fewest == most else f"{fewest} to {most}"
    return f"{count} seed" + ("s" if most > 1 else "")


def _paired(spread: Spread) -> str:
    return ", compared seed by seed" if spread.paired else ""


def _number(found: Agreement, value: float) -> str:
    """To the column's digits, or more where that would print a zero that is none."""
    digits = found.column.digits
    return f"{value:.{digits}f}" if value == 0 or round(value, digits) else f"{value:.1g}"


def _amount(found: Agreement, value: float) -> str:
    title, unit = found.column.title, found.column.unit
    metric = title.split()[-1] if title.endswith(("mAP", "rank-1")) else title
    if unit == "%":
        return f"{_number(found, value)} points of {metric}"
    return f"{_number(found, value)} {unit}".strip()


def _p(value: float) -> str:
    return f"{value:.3f}" if value < 0.1 else f"{value:.2f}"


def _ordinal(value: int) -> str:
    tail = "th" if value % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(value % 10, "th")
    return f"{value}{tail}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
