"""Notebook 06: owners of labels, the walk through a component, portraits of PIDs, recorded gains."""

from types import SimpleNamespace

import numpy as np
import torch

from dynamix.centroids import CentroidsMemory
from dynamix.experiments.lessons.relabeling import (
    farthest_walk,
    label_gains,
    mean_scores,
    owners,
    portraits,
)
from dynamix.experiments.report.cells import Failure
from dynamix.experiments.tables.kinds import Column, PaperTable, Row
from dynamix.experiments.tables.shared import ABLATION
from dynamix.relabeling import Relabeled
from dynamix.similarity import unit


def on_circle(*degrees: float | int) -> torch.Tensor:
    turn = torch.deg2rad(torch.tensor([float(each) for each in degrees], dtype=torch.float64))
    return torch.stack([turn.cos(), turn.sin()], 1)


def test_a_label_belongs_to_the_person_with_most_of_its_images():
    labels = torch.tensor([4, 4, 4, 4, 7, 9, 9])
    truth = torch.tensor([2, 2, 5, -1, -1, 6, 3])
    assert owners(labels, truth) == {4: 2, 7: -1, 9: 3}


class TestFarthestWalk:
    def test_walks_along_the_chain_of_look_alikes(self):
        points = on_circle(60, 0, 30, 90, 200, 215)  # four in a chain, two apart from them
        assert farthest_walk(points @ points.T, 0.8) == [1, 2, 0, 3]

    def test_takes_the_fewest_steps(self):
        points = on_circle(0, 10, 20, 30, 40, 50, 60)
        walk = farthest_walk(points @ points.T, 0.8)  # 36 degrees at most
        assert (walk[0], walk[-1], len(walk)) == (0, 6, 3)

    def test_everybody_alone(self):
        points = on_circle(0, 90, 180)
        assert farthest_walk(points @ points.T, 0.8) == [0]


def test_portraits_are_kept_images_nearest_to_the_centroid():
    features = unit(torch.tensor([[9.0, 9.0], [1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [1.0, 2.0]]))
    videos = np.array([-1, 0, 0, 0, 0])  # the first row is multi-camera
    scene = SimpleNamespace(table=SimpleNamespace(videos=videos), features=features, crops=rows_as_images)
    removed = torch.tensor([True, False, False, False])
    result = Relabeled(torch.tensor([5, 5, 7, 7]), removed, torch.ones(4))
    memory = CentroidsMemory(torch.tensor([5, 7]), torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    shown = portraits.__wrapped__ if hasattr(portraits, "__wrapped__") else portraits
    assert shown(scene, result, memory, [1, 0])[:, 0, 0, 0].tolist() == [3, 2]


def rows_as_images(rows: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(rows).to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 4, 2)


class TestRecorded:
    table = PaperTable(
        name="t", title="", claim="", data=ABLATION, ranked_by="mAP",
        rows=(Row(name="a", printed={"m": 60.5}), Row(name="b"), Row(name="c")),
        columns=(Column(title="mAP", key="m", read=lambda row, result: result["mAP"]),),
    )  # fmt: skip

    def result(self, score, after, seed=0):
        return {
            "seed": seed,
            "mAP": float(score),
            "quality_before": {"f1": 0.67},
            "quality_after": {"f1": after},
        }

    def test_means_are_over_the_seeds_that_ended(self):
        found = {"a": [self.result(60, 0.9), Failure(1, "lost"), self.result(63, 0.9, seed=2)]}
        paper, ours = mean_scores(self.table, found)
        assert paper["a"] == 60.5 and np.isnan(paper["b"])
        assert ours["a"] == 61.5 and np.isnan(ours["b"])

    def test_says_score_spread_and_labels(self):
        found = {"a": [self.result(60, 0.90), self.result(62, 0.92, seed=1)], "b": [self.result(60, 0.9)]}
        first, second, third = label_gains(self.table, found, ["a", "b", "c"]).splitlines()
        assert first.split() == "a 61.0 ± 1.4 mAP (2 seeds), F1 of the labels 67 -> 91 %".split()
        assert second.split() == ["b", "one", "seed"] and third.split() == ["c", "not", "run"]
