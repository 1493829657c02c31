"""Rows compared seed by seed, and how far seeds alone move a number."""

import math
import statistics
from collections.abc import Mapping

from dynamix.experiments import tables
from dynamix.experiments.report import Found
from dynamix.experiments.tables.kinds import Column

REFERENCE = "table3"  # its rows, of three seeds each, say how far seeds alone move a number


def by_seed(table_name: str, found: Found, column: Column | None = None) -> dict[str, dict[int, float]]:
    """Row -> seed -> `column` (mAP of the ablations unless given) of what has ended well."""
    table, scores = tables.table(table_name), dict[str, dict[int, float]]()
    read = (column or table.columns[1]).read
    for row, ended in found.items():
        results = [each for each in ended if isinstance(each, dict)]
        values = {each["seed"]: read(tables.row(table, row), each) for each in results}
        scores[row] = {seed: value for seed, value in values.items() if value is not None}
    return scores


def differences(a: Mapping[int, float], b: Mapping[int, float]) -> tuple[float, ...]:
    """`a` less `b` for each seed that both have, seeds ascending."""
    return tuple(a[seed] - b[seed] for seed in sorted(a.keys() & b.keys()))


def noise(found: Found) -> float:
    """Standard deviation of mAP over the seeds of one row, pooled over the rows of Table 3.

    Raises ValueError where no row has two seeds.
    """
    scores = by_seed(REFERENCE, found).values()
    variances = [statistics.variance(each.values()) for each in scores if len(each) > 1]
    if not variances:
        raise ValueError(f"no row of {REFERENCE} has two seeds: reproduce it with --seeds 3 first")
    return math.sqrt(statistics.fmean(variances))
