"""How far our order of a table's rows agrees with the paper's, and one honest sentence about it.

Rows are compared within blocks: those of one `Row.group`, where nothing but what the table varies differs.
"merging @real" is the group "merging" in the paper profile alone, "merging @worlds" in all others: of numbers
that stand in two rows, the profile's own counts. A row of group "-" is shown and not compared.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from dynamix.experiments.report.cells import Cell, Found, Measured, cells, ranked
from dynamix.experiments.report.order import blocks_of, kendall
from dynamix.experiments.report.spread import LEVEL, Spread, spread_of
from dynamix.experiments.tables.kinds import Column, PaperTable, Row
from dynamix.experiments.tables.shared import APART


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """The rows with a number of the paper's and of ours, under the column that ranks them."""

    column: Column
    rows: tuple[str, ...]
    paper: tuple[float, ...]
    ours: tuple[float, ...]  # means over seeds
    expected: int  # rows that the paper prints and that could be run
    groups: tuple[str, ...]
    alone: int = 0  # rows with both numbers and no other of their group to be compared with
    seeds: tuple[int, int]  # fewest and most of a row; (0, 0): measured without seeds
    tau: float | None = None  # Kendall's tau-b within the blocks; None where one side is all ties
    p: float | None = None  # one-sided: how often a random order agrees as much
    spread: Spread | None = None

    @property
    def blocks(self) -> list[list[int]]:
        """Places in `rows` of the rows of each group."""
        return blocks_of(self.groups)

    @property
    def paper_best(self) -> tuple[str, ...]:
        """The paper's highest rows; of one block."""
        return self._highest(self.paper)

    @property
    def our_best(self) -> tuple[str, ...]:
        """Our highest rows; of one block."""
        return self._highest(self.ours)

    @property
    def rank_here(self) -> int:
        """Where the paper's highest row stands with us, from 1; of several the one that stands highest."""
        return self._rank(range(len(self.rows)))

    @property
    def kept(self) -> int:
        """Blocks in which the paper's highest row is ours too."""
        return sum(self._rank(block) == 1 for block in self.blocks)

    def _rank(self, block: Sequence[int]) -> int:
        high = max(self.paper[i] for i in block)
        best = max(self.ours[i] for i in block if self.paper[i] == high)
        return 1 + sum(self.ours[i] > best for i in block)

    def _highest(self, values: tuple[float, ...]) -> tuple[str, ...]:
        return tuple(
            name for name, value in zip(self.rows, values, strict=True) if value == max(values, default=0)
        )


def agreement(table: PaperTable, profile: str, found: Found | Measured) -> Agreement | None:
    """The agreement of the order under `ranked_by`, within groups; None where the table is not ranked."""
    if not table.ranked_by:
        return None
    column = ranked(table)
    at = table.columns.index(column)
    compared = [across[at] for row, across in cells(table, found) if _compared(row, profile)]
    printed = [each for each in compared if each.printed is not None]
    ran = [each for each in printed if each.values]
    both = _with_others(ran)
    groups = tuple(each.row.group for each in both)
    paper = tuple(each.printed for each in both if each.printed is not None)
    ours = tuple(each.mean for each in both if each.mean is not None)
    counts = [len(each.seeds) for each in both] or [0]
    tau, p = kendall(paper, ours, groups)
    return Agreement(
        column=column,
        rows=tuple(each.row.name for each in both),
        paper=paper,
        ours=ours,
        expected=sum(each.row.kind != "printed" for each in printed),
        groups=groups,
        alone=len(ran) - len(both),
        seeds=(min(counts), max(counts)),
        tau=tau,
        p=p,
        spread=spread_of(both) if len(both) > 1 else None,
    )


def _compared(row: Row, profile: str) -> bool:
    where = row.group.partition("@")[2]
    return row.group != APART and where in ("", "real" if profile == "paper" else "worlds")


def _with_others(rows: Sequence[Cell]) -> Sequence[Cell]:
    """Those with another row of their group; all of them where there is but one group."""
    groups = [each.row.group for each in rows]
    return [each for each in rows if len(set(groups)) == 1 or groups.count(each.row.group) > 1]


def sentence(found: Agreement | None, table: PaperTable) -> str:
    """One sentence on whether the paper's order shows here, no stronger than the numbers; "" if unranked."""
    if found is None:
        return ""
    if not found.rows and found.alone:
        return "Nothing to compare yet: no two rows of one block have a number of the paper's and of ours."
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
            f"and {_rows(found)} span {_amount(found, spread.difference)}."
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
    level = all(len({found.ours[i] for i in block}) == 1 for block in found.blocks)
    rows = f"the {len(found.rows)} rows" if len(found.blocks) == 1 else "all rows of a block"
    return f"{rows} score the same {'here' if level else 'in the paper'}"


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
    every = "all rows" if len(found.blocks) == 1 else "the rows of each block"
    within = f"{every} lie within {_amount(found, spread.difference)} ({_seeds(found)}{_paired(spread)})"
    if spread.difference < std:
        within += f", less than the {_number(found, std)} that seeds alone differ by"
    else:
        within += f", no more than chance gives where seeds alone differ by {_number(found, std)}"
    agrees = found.tau is not None and found.tau > 0
    if agrees and found.p is not None and found.p <= LEVEL:
        return f"{_capital(_order(found))}, but {within}: the effect is not larger than the noise."
    few = found.seeds[0] == 1  # a row of one seed: an effect may be there and not be seen
    shows = "whether there is an effect cannot be told yet" if few else "the effect does not show"
    return f"{_capital(_place(found))} ({_tau(found)}); {within}: {shows}."


def _clear(found: Agreement, spread: Spread) -> str:
    tau, p = found.tau or 0.0, found.p if found.p is not None else 1.0
    lead = (
        f"leads {_called(spread.worst)} by {_amount(found, spread.difference)}, more than seeds alone "
        f"would give (standard error {_number(found, spread.error or 0.0)}, {_seeds(found)}{_paired(spread)})"
    )
    if tau > 0:
        several = len(found.blocks) > 1
        joint = "but " if (p > LEVEL) != (found.kept < len(found.blocks)) else ""
        who = f"{_called(spread.best)} " if several or found.paper_best != (spread.best,) else ""
        return f"{_capital(_order(found))}, {joint}{_place(found)}, and {who}{lead}."
    verdict = "contradicts the paper's" if tau < 0 else "has nothing of the paper's"
    return (
        f"The order here{_within(found)} {verdict} ({_tau(found)}): "
        f"{_place(found)}, and {_called(spread.best)} {lead}."
    )


def _order(found: Agreement) -> str:
    tau, p = found.tau or 0.0, found.p if found.p is not None else 1.0
    if tau <= 0:
        says = "does not follow the paper's"
    elif p > LEVEL and tau > 0.999:
        says = "is the paper's, as chance alone may make it"
    elif p > LEVEL:
        says = "leans towards the paper's no more than chance may"
    elif tau > 0.999:
        says = "is the paper's"
    else:
        says = "mostly agrees with the paper's"
    return f"the order{_within(found)} {says} ({_tau(found)})"


def _tau(found: Agreement) -> str:
    """p: how often chance would make an order that agrees at least as well."""
    tau, p = found.tau or 0.0, found.p if found.p is not None else 1.0
    return f"Kendall's tau {tau:.2f} over {_counted(found)}, one-sided p = {_p(p)}"


def _counted(found: Agreement) -> str:
    few = len(found.rows) < found.expected
    part = f"{len(found.rows)} of {found.expected} rows" if few else f"{len(found.rows)} rows"
    return part + (f" in {len(found.blocks)} blocks" if len(found.blocks) > 1 else "")


def _within(found: Agreement) -> str:
    return " within blocks of rows" if len(found.blocks) > 1 else ""


def _rows(found: Agreement) -> str:
    return "the rows" if len(found.blocks) == 1 else "the rows of the widest block"


def _place(found: Agreement) -> str:
    """Where the paper's best row stands here."""
    high = "best" if found.column.unit == "%" else "highest"
    if len(found.blocks) > 1:
        every = found.kept == len(found.blocks)
        share = f"too in all {len(found.blocks)}" if every else f"in {found.kept} of {len(found.blocks)}"
        return f"the paper's {high} row is {high} here {share} blocks"
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
