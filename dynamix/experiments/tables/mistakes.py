"""Ours: what each kind of the tracker's mistakes costs, and what either paper's way out of them recovers.

The tracker breaks a person into several labels, gives one label to several people, and boxes what is nobody
(junk). Rows mend one kind with the truth that only the embedded benchmark has, beside DynaMix, which refines
the tracker's labels, and ReMix, which throws them away and clusters every video anew.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from dynamix.experiments.tables.dynamix import SCORES
from dynamix.experiments.tables.kinds import Column, PaperTable, Row
from dynamix.experiments.tables.regimes import DRAWN
from dynamix.experiments.tables.shared import ABLATION, NAIVE, RM_ALONE, STAND_INS, quality

REMIX: Mapping[str, Any] = {"method": "remix"}


def mistakes() -> PaperTable:
    """Labels with none, one or both kinds of mistakes mended, by the truth, by DynaMix and by ReMix."""
    rows = (
        Row(name="the tracker's labels", kind="ours", changes=NAIVE),
        Row(name="junk left out", kind="bound", changes=NAIVE, labels="clean"),
        Row(
            name="people under one label each",
            kind="bound",
            changes=NAIVE,
            labels="whole",
            note="junk stays with the person whose label it has",
        ),
        Row(name="true identities", kind="bound", changes=NAIVE, labels="truth", note="both mended"),
        Row(name="RM", kind="ours", changes=RM_ALONE, note="centroids and batches as in the rows above"),
        Row(
            name="RM, merging at .7",
            kind="ours",
            changes={**RM_ALONE, "rm__tau_merge": 0.7},
            note="instead of .8",
        ),
        Row(
            name="RM, junk left out",
            kind="bound",
            changes=RM_ALONE,
            labels="clean",
            note="before it begins",
        ),
        Row(name="ReMix's clusters", kind="ours", changes=REMIX, note="DBSCAN on the images of a video"),
    )
    return PaperTable(
        name="mistakes",
        profiles=("tiny", "mini"),
        title="What the tracker's mistakes cost",
        claim="Not in the papers: which of the tracker's mistakes matter, and how far a method mends them.",
        columns=(
            *(replace(column, key="") for column in SCORES),
            Column(title="precision of labels", read=quality("quality_after", "precision")),
            Column(title="recall of labels", read=quality("quality_after", "recall")),
            Column(title="junk left out", read=quality("quality_after", "junk_removed")),
        ),
        rows=tuple(replace(row, changes={**DRAWN, **row.changes}) for row in rows),
        data=ABLATION,
        notes=(
            "All rows train the profile's own encoder at one rate. People, clothes and cameras are of "
            "another drawing than the other tables', and so is the pre-training.",
            STAND_INS,
        ),
    )
