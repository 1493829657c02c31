"""What centroids and sampling are worth in each regime of `tables.regimes`: differences of rows, drawn."""

import math
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from dynamix import plots
from dynamix.experiments import tables
from dynamix.experiments.ledger import RESULTS, ledger
from dynamix.experiments.paired import REFERENCE, by_seed, differences, noise
from dynamix.experiments.report import Found
from dynamix.experiments.reproduce import found_of
from dynamix.experiments.tables.regimes import REGIMES, WORTH, name


@dataclass(frozen=True)
class Effect:
    """A step's worth in a regime: points of mAP, one for each seed that both rows have."""

    regime: str
    step: str
    points: tuple[float, ...]


def effects(found: Found) -> list[Effect]:
    """Those whose two rows have a seed in common, in the order of the regimes and their steps."""
    scores, made = by_seed(tables.table("regimes"), found), []
    for regime in REGIMES:
        for step, (row, without) in WORTH.items():
            a, b = (scores.get(name(regime, each), {}) for each in (row, without))
            if points := differences(a, b):
                made.append(Effect(regime, step, points))
    return made


def figure(results: Path = RESULTS, seeds: int = 3) -> Figure:
    """Each step's worth in every regime, ran or not, beside what two seeds of one row differ by."""
    made = ledger(("regimes", REFERENCE), "mini", seeds, results=results)
    found, reference = (found_of(tables.table(each), made) for each in ("regimes", REFERENCE))
    values: dict[str, dict[str, tuple[float, ...]]] = {each: {step: () for step in WORTH} for each in REGIMES}
    for each in effects(found):
        values[each.regime][each.step] = each.points
    return plots.effects(
        values,
        band=2 * math.sqrt(2) * noise(reference),
        unit="points of mAP",
        title="What each step is worth where it might matter",
        note="Mannequins, profile mini, another drawing of people and cameras than the tables'. A dot is a "
        "seed; inside the gray band seeds alone may put a difference (twice the standard error of one).",
    )
