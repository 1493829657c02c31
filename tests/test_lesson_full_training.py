"""Notebook 08's diary, recorded curves and profiles."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from dynamix.config import paper, tiny
from dynamix.experiments.lessons import full_training as lesson
from dynamix.relabeling import RelabelingReport
from tests.test_plots import texts

RESULTS = Path(__file__).parent.parent / "figures/results/runs"


def network(*values: float) -> nn.Module:
    layer = nn.Linear(len(values), 1, bias=False)
    layer.weight.data = torch.tensor([values])
    return layer


def test_distance_is_a_share_of_the_encoder():
    assert lesson.distance(network(3.0, 4.5), network(3.0, 4.0)) == pytest.approx(10)


def test_a_step_is_noted_with_weighted_losses():
    encoder = network(3.0, 4.0)
    optimizer = torch.optim.SGD(encoder.parameters(), lr=0.25)
    line = lesson.noted({"cc": torch.tensor(3.0)}, {"cc": 0.5}, optimizer, encoder, encoder)
    assert line == {"cc": 1.5, "rate": 0.25, "distance": 0.0}


def test_the_picture_shows_the_reports():
    step = dict.fromkeys(("ins", "aug", "cen", "cc"), 1.0) | {"rate": 1e-3, "distance": 0.5}
    report = RelabelingReport(
        images_before=100, images_after=93, pids_before=31, pids_after=29, relabeled=11, removed=7, merged=2,
        largest_component=2, similarity_quantiles={},
    )  # fmt: skip
    shown = texts(lesson.drawn([step] * 4, [None, report], 31))
    assert {"11", "7", "2", "29", "31"} <= set(shown) and shown.count("–") == 3


def test_recorded_trainings_by_seed():
    runs = lesson.recorded("mini", RESULTS)
    assert set(runs) >= {"seed 0", "seed 1", "seed 2"}
    for name, lines in runs.items():
        assert [line["epoch"] for line in lines] == list(range(16)), name
        assert set(lines[-1]["scores"]) == {"station", "hall"}
    one = next(path for path in RESULTS.glob("mini-*.json") if "f1" in path.read_text())
    first = json.loads(one.read_text())
    point = next(lesson._points(first))
    assert point["terms"]["total"] == first["epochs"][0]["loss"]


def test_nothing_recorded(tmp_path):
    assert lesson.recorded("gpu", tmp_path) == {}


def test_profiles_stand_side_by_side():
    lines = lesson.profiles(("tiny", "paper")).splitlines()
    assert lines[0] == "| | tiny | paper |" and len(lines) == len(lesson.SETTINGS) + 2
    row = next(line for line in lines if line.startswith("| epochs"))
    assert row == "| epochs × steps | 5 × 30 | 100 × 400 |"
    assert "22% of the identities" in lines[-2] and "30 epochs of batches" in lines[-2]


def test_parameters_are_counted_without_memory():
    assert lesson.parameters(tiny) < 1e6 and 85e6 < lesson.parameters(paper) < 87e6


def test_a_gradient_as_one_vector():
    layer = network(1.0, 2.0)
    loss = layer(torch.tensor([[3.0, 5.0]])).sum()
    assert lesson.flat_gradient(loss, layer).tolist() == [3.0, 5.0]
