"""A claim is a difference of two rows: the paper's as printed, ours seed by seed."""

import pytest
from matplotlib.figure import Figure

from dynamix import plots
from dynamix.experiments import claims, tables
from dynamix.experiments.claims import CLAIMS
from dynamix.experiments.ledger import ledger

ALL = [claim for group in CLAIMS.values() for claim in group]


@pytest.mark.parametrize("claim", ALL, ids=lambda claim: f"{claim.table}: {claim.says}")
def test_every_claim_is_printed_and_can_be_run(claim):
    rows = [tables.row(tables.table(claim.table), name) for name in (claim.row, claim.without)]
    assert all(row.kind != "printed" for row in rows) and rows[0] != rows[1]
    assert claim.paper != 0
    assert "mAP" in claim.column


def test_the_printed_differences_of_the_ladder():
    paper = {claim.says: claim.paper for claim in ALL if claim.table == "table3"}
    want = {
        "a larger encoder": 3.8,
        "centroids of a few images, kept (ECM)": 1.5,
        "batches of median similarity, queue (DSM)": 6.3,
        "relabeling (RM)": 9.1,
        "relabeling, on the transformer": 9.1,
    }
    assert paper == pytest.approx(want)


def test_ours_pairs_the_seeds_under_the_claims_own_column():
    def campus(seed, mAP):
        return {"seed": seed, "scores": {"campus": {"mAP": mAP}, "hall": {"mAP": 0.2}}, "sources": ["hall"]}

    claim = next(each for each in ALL if each.says == "tested on DukeMTMC-reID / campus")
    found = {
        claim.row: [campus(0, 0.6), campus(2, 0.7)],
        claim.without: [campus(2, 0.5), campus(1, 0.1), campus(0, 0.3)],
    }
    assert claims.ours(claim, found) == pytest.approx((30.0, 20.0))
    assert claims.ours(claim, {claim.row: found[claim.row]}) == ()


def test_the_figure_has_every_claim(monkeypatch):
    shown = {}
    monkeypatch.setattr(claims, "found_of", lambda *_: {})
    monkeypatch.setattr(claims, "noise", lambda _: 1.5)
    monkeypatch.setattr(claims, "ours", lambda claim, _: (1.0,) if claim.table == "table8" else ())
    monkeypatch.setattr(
        plots, "claims", lambda groups, **options: shown.update(groups=groups, **options) or Figure()
    )
    made = ledger(claims.TABLES, "tiny", 1)
    assert {claim.table for claim in ALL} == {table for table, _ in made.rows}
    claims.figure(made)
    assert [len(each) for each in shown["groups"].values()] == [len(each) for each in CLAIMS.values()]
    drawn = [each for group in shown["groups"].values() for each in group]
    assert {each.where for each in drawn if each.ours} == {"Table 8"}
    assert {each.where for each in drawn if each.where.startswith("ReMix")} > {"ReMix 4", "ReMix 5"}
    assert shown["noise"] == 1.5 and "1.5 points" in shown["note"] and "profile tiny" in shown["note"]
