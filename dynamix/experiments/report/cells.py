"""A cell of a table: what the paper printed, and what our runs scored; nothing is left out."""

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dynamix.experiments.tables.kinds import Column, PaperTable, Row

MARKS = {
    "paper": "",
    "control": "control",
    "bound": "upper bound",
    "ours": "not in the paper",
    "printed": "not implemented here",
}
NONE, NOT_RUN, NOT_PRINTED = "–", "not run", "not printed"


@dataclass(frozen=True)
class Failure:
    """A run that ended in an error."""

    seed: int
    why: str


Found = Mapping[str, Sequence[Any]]  # row name -> results (dicts) and failures, one of each seed
Measured = Mapping[str, Mapping[str, float | int]]  # row name -> column title -> number
Absent = Mapping[str, str]  # row name -> why it cannot run here


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One row under one column; `values` are the seeds' numbers in the column's unit, by ascending seed."""

    row: Row
    column: Column
    printed: float | None
    values: tuple[float, ...] = ()
    seeds: tuple[int, ...] = ()  # of the values; empty for a measurement
    failures: tuple[Failure, ...] = ()
    ran: int = 0  # results, also those without a number under this column

    @property
    def mean(self) -> float | None:
        """Mean over the seeds; None without any."""
        return statistics.fmean(self.values) if self.values else None

    @property
    def std(self) -> float | None:
        """Sample standard deviation over the seeds, sqrt(sum (x - mean)^2 / (n - 1)); None below two."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None

    @property
    def status(self) -> str:
        """ran, partly failed, failed, not run, no number, or not implemented here."""
        if self.row.kind == "printed" and not (self.ran or self.failures):
            return MARKS["printed"]
        if self.failures:
            return "partly failed" if self.ran else "failed"
        if not self.ran:
            return NOT_RUN
        return "ran" if self.values else "no number"

    @property
    def paper(self) -> str:
        """The paper's number as text; a dash where the paper has no such cell."""
        if self.printed is not None:
            text = f"{self.printed:,.{self.column.digits}f}"
            # Of what is measured we show more digits than the paper prints.
            return text if self.column.unit == "%" or "." not in text else text.rstrip("0").rstrip(".")
        return NOT_PRINTED if self.column.key and self.row.kind in ("paper", "printed") else NONE

    @property
    def text(self) -> str:
        """Ours: `mean ± std (n)`, or why there is no number."""
        if self.status in (MARKS["printed"], "no number"):
            return NONE
        why = "; ".join(dict.fromkeys(one_line(each.why) for each in self.failures))
        if not self.values:
            return f"failed: {shorten(why)}" if self.failures else NOT_RUN
        lost = f", {len(self.failures)} failed" if self.failures else ""
        return self.number + lost

    @property
    def number(self) -> str:
        """`mean ± std (n)`; one seed: `mean (1)`; a measurement: the number; "" without any."""
        if not self.values:
            return ""
        digits = self.column.digits
        text = f"{self.mean:,.{digits}f}" + ("" if self.std is None else f" ± {self.std:,.{digits}f}")
        return f"{text} ({len(self.values)})" if self.seeds else text


def cell(table: PaperTable, row: Row, column: Column, found: Found | Measured) -> Cell:
    """What `found` holds of `row` under `column`. A number that is not finite counts as a failure.

    Raises:
        ValueError: two results of one seed.
    """
    printed = row.printed.get(column.key) if column.key else None
    printed = float(printed) if printed is not None and math.isfinite(printed) else None
    there = Cell(row=row, column=column, printed=printed)
    if row.name not in found:
        return there
    if table.measured:
        return _measured(there, found)
    entries = sorted(found[row.name], key=_seed)
    seeds = [_seed(entry) for entry in entries]
    if len(set(seeds)) < len(seeds):
        raise ValueError(
            f"{table.name}, row {row.name!r}: several results of one seed ({seeds}): give one each"
        )
    return _of_runs(there, entries)


def cells(table: PaperTable, found: Found | Measured) -> Iterator[tuple[Row, tuple[Cell, ...]]]:
    """Every row of the table with its cells, in the table's order.

    Raises:
        ValueError: results of a row, or a `ranked_by`, that the table has not.
    """
    strangers = set(found) - {row.name for row in table.rows}
    if strangers:
        there = ", ".join(row.name for row in table.rows)
        raise ValueError(f"{table.name} has no row {', '.join(map(repr, sorted(strangers)))}; it has {there}")
    if table.ranked_by:
        ranked(table)
    for row in table.rows:
        yield row, tuple(cell(table, row, column, found) for column in table.columns)


def ranked(table: PaperTable) -> Column:
    """The column whose order is compared with the paper's."""
    for column in table.columns:
        if column.title == table.ranked_by:
            return column
    there = ", ".join(column.title for column in table.columns)
    raise ValueError(f"{table.name} is ranked by {table.ranked_by!r}, which is none of its columns: {there}")


def one_line(text: str) -> str:
    """`text` without line breaks, for a place in a table."""
    return " ".join(text.split())


def shorten(text: str, letters: int = 60) -> str:
    """`text`, cut with an ellipsis where it is longer than `letters`."""
    return text if len(text) <= letters else text[: letters - 1].rstrip() + "…"


def _seed(entry: Any) -> int:
    return entry.seed if isinstance(entry, Failure) else int(entry["seed"])


def _measured(there: Cell, found: Mapping[str, Any]) -> Cell:
    value = found[there.row.name].get(there.column.title)
    values = () if value is None or not math.isfinite(value) else (float(value),)
    return Cell(row=there.row, column=there.column, printed=there.printed, values=values, ran=1)


def _of_runs(there: Cell, entries: Sequence[Any]) -> Cell:
    failures = [entry for entry in entries if isinstance(entry, Failure)]
    values: dict[int, float] = {}
    for entry in entries:
        if isinstance(entry, Failure):
            continue
        value = there.column.read(there.row, entry)
        if value is not None and not math.isfinite(value):
            failures.append(Failure(_seed(entry), f"{there.column.title} is {value}"))
        elif value is not None:
            values[_seed(entry)] = float(value)
    return Cell(
        row=there.row,
        column=there.column,
        printed=there.printed,
        values=tuple(values.values()),
        seeds=tuple(values),
        failures=tuple(sorted(failures, key=_seed)),
        ran=len(entries) - len(failures),
    )
