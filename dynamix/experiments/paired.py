"""Rows compared seed by seed, and how far seeds alone move a number."""

import math
import statistics
from collections.abc import Mapping, Sequence

from dynamix.experiments import tables
from dynamix.experiments.report.cells import Found, ranked
from dynamix.experiments.tables.kinds import Column, PaperTable

REFERENCE = "table3"  # its rows, of three seeds each, say how far seeds alone move a number


def by_seed(table: PaperTable, found: Found, column: Column | None = None) -> dict[str, dict[int, float]]:
    """Row -> seed -> `column` (mAP of the ablations unless given) of what has ended well."""
    read, rows, scores = (column or table.columns[1]).read, {row.name: row for row in table.rows}, {}
    for name, ended in found.items():
        values = {each["seed"]: read(rows[name], each) for each in ended if isinstance(each, dict)}
        scores[name] = {seed: value for seed, value in values.items() if value is not None}
    return scores


def differences(a: Mapping[int, float], b: Mapping[int, float]) -> tuple[float, ...]:
    """`a` less `b` for each seed that both have, seeds ascending."""
    return tuple(a[seed] - b[seed] for seed in sorted(a.keys() & b.keys()))


def noise(found: Found) -> float:
    """Standard deviation of mAP over the seeds of one row, pooled over the rows of Table 3.

    Raises ValueError where no row has two seeds.
    """
    scores = by_seed(tables.table(REFERENCE), found).values()
    variances = [statistics.variance(each.values()) for each in scores if len(each) > 1]
    if not variances:
        raise ValueError(f"no row of {REFERENCE} has two seeds: reproduce it with --seeds 3 first")
    return math.sqrt(statistics.fmean(variances))


def over_seeds(values: Sequence[float], unit: str) -> str:
    """Mean and sample standard deviation of a row's seeds, in words."""
    if not values:
        return "not run"
    spread, plural = (f" ± {statistics.stdev(values):.1f}", "s") if len(values) > 1 else ("", "")
    return f"{statistics.fmean(values):.1f}{spread} {unit} ({len(values)} seed{plural})"


def compared(table: PaperTable, before: str, after: str, found: Found) -> str:
    """Two rows in the column that ranks the table, and whether seeds explain the step between them."""
    column = ranked(table)
    scores, lines = by_seed(table, found, column), []
    for name in (before, after):
        lines.append(f"{name:34} {over_seeds(list(scores.get(name, {}).values()), column.title)}")
    steps = differences(scores.get(after, {}), scores.get(before, {}))
    if len(steps) < 2:
        return "\n".join([*lines, "too few seeds to compare"])
    step, noise = statistics.fmean(steps), statistics.stdev(steps) / math.sqrt(len(steps))
    verdict = "more than" if abs(step) > 2 * noise else "not more than"
    return "\n".join([*lines, f"a step of {step:+.1f}, {verdict} seeds explain (standard error {noise:.1f})"])
