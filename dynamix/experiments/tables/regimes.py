"""Ours: settings in which Efficient Centroids and Data Sampling might matter though they do not in Table 3.

Each regime changes one thing, on people and cameras of another drawing than the tables', and repeats the
steps of Table 3 without relabeling, so that a step's worth is a difference of two rows.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from dynamix.experiments.tables.dynamix import SCORES
from dynamix.experiments.tables.kinds import PaperTable, Row
from dynamix.experiments.tables.shared import ABLATION, ECM_ALONE, NAIVE, NO_SINGLE, STAND_INS, WITHOUT_RM

DRAWN: Mapping[str, Any] = {"mannequins__seed": 1}  # neither people nor cameras of the tables
SCRATCH = "without pre-training"
REGIMES: Mapping[str, tuple[Mapping[str, Any], str]] = {
    "as in the tables": ({}, "only the drawing differs"),
    "three times the clips": ({"mannequins__videos": (450, 4, 10)}, "a pool that the queue hardly shrinks"),
    "people dressed alike": ({"mannequins__clumping": 0.7}, "more than half wear dark clothes or uniforms"),
    "twice as long": ({"epochs": 32}, ""),
    SCRATCH: ({}, "centroids that move far, as an encoder does that starts from random weights"),
    "softer softmax": ({"ins__tau_multi": 0.2, "ins__tau_single": 0.3}, "negatives further away count too"),
    "raw features in L_cen": ({"cen__feature": "raw"}, "the reading that the equation prints"),
    "L_cc summed over cameras": ({"cc__reduction": "camera_sum"}, "as the cited loss's code does"),
    "negatives of one kind": (
        {"ins__negatives": "same_type", "aug__negatives": "same_type"},
        "labeled and unlabeled people are no negatives of each other: whom a batch pairs can hardly matter",
    ),
}
STEPS: Mapping[str, Mapping[str, Any]] = {
    "naive centroids": NAIVE,
    "+ ECM": ECM_ALONE,
    "+ queue": {**WITHOUT_RM, "dsm__mode": "random"},
    "+ median": WITHOUT_RM,
    "hard": {**WITHOUT_RM, "dsm__mode": "hard"},
}
# What each step is worth: its row less the one that lacks it alone.
WORTH = {
    "Efficient Centroids": ("+ ECM", "naive centroids"),
    "the queue": ("+ queue", "+ ECM"),
    "median instead of random": ("+ median", "+ queue"),
    "hard instead of random": ("hard", "+ queue"),
}


# Videos of one scene and one exposure each, with and without relabeling, beside labeled images alone.
STILL, STATIC = "cameras that stand still", {"mannequins__moments": 1}
FURTHER: tuple[tuple[str, str, Mapping[str, Any]], ...] = (
    ("as in the tables", "labeled alone", NO_SINGLE),
    ("as in the tables", "+ RM", {}),
    (STILL, "naive centroids", {**NAIVE, **STATIC}),
    (STILL, "+ RM", STATIC),
)


def name(regime: str, step: str) -> str:
    """Of a row."""
    return f"{regime}: {step}"


def regimes() -> PaperTable:
    """The steps of Table 3 without relabeling, in every regime."""
    rows = [
        Row(
            name=name(regime, step),
            kind="ours",
            changes={**DRAWN, **steps, **changes},
            start="scratch" if regime == SCRATCH else "table",
            note=note,
        )
        for regime, (changes, note) in REGIMES.items()
        for step, steps in STEPS.items()
    ]
    rows += [
        Row(name=name(regime, step), kind="ours", changes={**DRAWN, **changes})
        for regime, step, changes in FURTHER
    ]
    return PaperTable(
        name="regimes",
        profiles=("tiny", "mini"),
        title="Where centroids and sampling might matter",
        claim="Not in the papers: a search for a setting in which the steps that do not show in Table 3 do.",
        columns=tuple(replace(column, key="") for column in SCORES),
        rows=tuple(rows),
        data=ABLATION,
        notes=(
            "Relabeling is off but in the rows + RM. People, clothes and cameras are of another drawing than "
            "the other tables', and so is the pre-training; nothing of those tables was chosen on them.",
            STAND_INS,
        ),
    )
