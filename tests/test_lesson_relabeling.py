"""Notebook 06's walk through a component, and the portraits of PIDs."""

from types import SimpleNamespace

import numpy as np
import torch

from dynamix.centroids import CentroidsMemory
from dynamix.experiments.lessons.relabeling import farthest_walk, portraits
from dynamix.relabeling import Relabeled
from dynamix.similarity import unit


def on_circle(*degrees: float | int) -> torch.Tensor:
    turn = torch.deg2rad(torch.tensor([float(each) for each in degrees], dtype=torch.float64))
    return torch.stack([turn.cos(), turn.sin()], 1)


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
