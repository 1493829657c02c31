"""What centroids and sampling are worth in each regime of `tables.regimes`: differences of rows, drawn."""

import math
import statistics
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from dynamix import plots
from dynamix.experiments import tables
from dynamix.experiments.ledger import RESULTS, ledger
from dynamix.experiments.report import Found
from dynamix.experiments.reproduce import found_of
from dynamix.experiments.tables.regimes import REGIMES, WORTH, name

REFERENCE = "table3"  # its rows, of three seeds each, say how far seeds alone move a number


@dataclass(frozen=True)
class Effect:
    """A step's worth in a regime: points of mAP, one for each seed that both rows have."""

    regime: str
    step: str
    points: tuple[float, ...]


def effects(found: Found) -> list[Effect]:
    """Those whose two rows have a seed in common, in the order of the regimes and their steps."""
    scores, made = _by_seed("regimes", found), []
    for regime in REGIMES:
        for step, (row, without) in WORTH.items():
            a, b = (scores.get(name(regime, each), {}) for each in (row, without))
            if both := sorted(a.keys() & b.keys()):
                made.append(Effect(regime, step, tuple(a[seed] - b[seed] for seed in both)))
    return made


def noise(found: Found) -> float:
    """Standard deviation of mAP over the seeds of one row, pooled over the rows of Table 3.

    Raises ValueError where no row has two seeds.
    """
    scores = _by_seed(REFERENCE, found).values()
    variances = [statistics.variance(each.values()) for each in scores if len(each) > 1]
    if not variances:
        raise ValueError(f"no row of {REFERENCE} has two seeds: reproduce it with --seeds 3 first")
    return math.sqrt(statistics.fmean(variances))


def _by_seed(table_name: str, found: Found) -> dict[str, dict[int, float]]:
    """Row -> seed -> mAP of what has ended well."""
    table = tables.table(table_name)
    column, scores = table.columns[1], dict[str, dict[int, float]]()
    for row, ended in found.items():
        results = [each for each in ended if isinstance(each, dict)]
        values = {each["seed"]: column.read(tables.row(table, row), each) for each in results}
        scores[row] = {seed: value for seed, value in values.items() if value is not None}
    return scores


def figure(results: Path = RESULTS, seeds: int = 3) -> Figure:
    """Each step's worth in every regime that has run, beside what two seeds of one row differ by."""
    made = ledger(("regimes", REFERENCE), "mini", seeds, results=results)
    found, reference = (found_of(tables.table(each), made, {}) for each in ("regimes", REFERENCE))
    values: dict[str, dict[str, tuple[float, ...]]] = {}
    for each in effects(found):
        values.setdefault(each.regime, {})[each.step] = each.points
    return plots.effects(
        values,
        band=2 * math.sqrt(2) * noise(reference),
        unit="points of mAP",
        title="What each step is worth where it might matter",
        note="Mannequins, profile mini, another drawing of people and cameras than the tables'. A dot is a "
        "seed; inside the gray band seeds alone may put a difference (twice the standard error of one).",
    )
