"""Two rows compared seed by seed."""

import pytest

from dynamix.experiments import paired
from dynamix.experiments.report import Failure
from dynamix.experiments.tables.kinds import Column, PaperTable, Row
from dynamix.experiments.tables.shared import ABLATION


class TestCompared:
    table = PaperTable(
        name="t", title="", claim="", rows=(Row(name="a"), Row(name="b")), data=ABLATION,
        columns=(Column(title="mAP", read=lambda row, result: float(result["mAP"])),), ranked_by="mAP",
    )  # fmt: skip

    def said(self, a, b):
        results = {
            "a": [{"seed": i, "mAP": x} for i, x in enumerate(a)],
            "b": [*({"seed": i, "mAP": x} for i, x in enumerate(b)), Failure(9, "lost")],
        }
        return paired.compared(self.table, "a", "b", results)

    def test_a_small_step_is_not_called_one(self):
        assert "a step of +0.1, not more than seeds explain" in self.said([60, 61, 62], [60.2, 60.9, 62.2])

    def test_a_large_step_is(self):
        text = self.said([60, 61, 62], [70, 71, 72])
        assert "61.0 ± 1.0 mAP (3 seeds)" in text and "a step of +10.0, more than seeds explain" in text

    def test_seeds_are_compared_with_themselves(self):
        assert "a step of +1.0, more than seeds explain (standard error 0.1)" in self.said(
            [50, 60, 70], [51, 61.2, 70.8]
        )

    @pytest.mark.parametrize("b", [[], [5.0]])
    def test_what_has_not_run_is_not_compared(self, b):
        text = self.said([60, 61], b)
        assert "too few seeds to compare" in text and ("not run" in text) == (not b)
