"""What notebook 05 needs beside the modules: following centroids, and a crowd."""

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Circle

from dynamix.config import Config, change
from dynamix.data.table import Paths, from_columns
from dynamix.experiments import lessons
from dynamix.experiments.lessons import centroids as lesson

ALL, TWO = (change(Config(), ecm__K=K) for K in ("all", 2))


def test_the_package_of_lessons_says_what_it_is():
    assert lessons.__doc__


def test_follow_starts_with_the_means_and_blends_by_equation_3():
    moments = torch.tensor([[[0.0], [2.0], [10.0]], [[4.0], [6.0], [20.0]]])  # (T, N, D)
    path = lesson.follow(moments, torch.tensor([3, 3, 7]), 0.25, ALL)
    torch.testing.assert_close(path, torch.tensor([[[1.0], [10.0]], [[0.25 + 0.75 * 5], [2.5 + 15]]]))


def test_follow_draws_K_images_afresh():
    moments = torch.eye(6)[None].expand(40, -1, -1)
    path = lesson.follow(moments, torch.zeros(6, dtype=torch.int64), 0.0, TWO)[:, 0]  # (T, 6)
    assert (path.count_nonzero(1) == 2).all() and (path.sum(1) == 1).all()
    assert (path.sum(0) > 0).all() and not (path == path[0]).all()


def test_a_crowd_loses_more_with_fewer_images_and_none_without_noise():
    assert lesson.lost(50, 0.0, 1) == 0
    one, four, every = (lesson.lost(200, 1.5, K) for K in (1, 4, "all"))
    assert one > four > every
    assert four > lesson.lost(200, 1.5, 4, alpha=0.5)


def test_who_is_drawn_shows_the_largest_of_different_videos(monkeypatch):
    shown = {}

    def draws(images, drawn, **rest):
        shown.update(drawn=drawn, **rest)
        return Figure()

    monkeypatch.setattr(lesson, "crops", lambda table, size, rows: shown.setdefault("rows", rows))
    monkeypatch.setattr(lesson.plots, "draws", draws)
    labels = np.array([0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3])  # 0 is small, 1 and 2 share a video
    paths = Paths.fixed_width(np.zeros((11, 1), np.uint8))
    table = from_columns("v", paths, labels, videos=np.array([0, 1, 1, 2])[labels])
    lesson.who_is_drawn(table, TWO, people=2, epochs=4)
    assert shown["rows"].tolist() == [[2, 3, 4], [8, 9, 10]]
    assert shown["drawn"].shape == (4, 2, 3) and (shown["drawn"].sum(2) == 2).all()
    assert shown["title"].startswith("2 of 3 images")


def test_the_bend_has_a_panel_for_each_alpha():
    figure = lesson.around_a_bend({"a": 0.0, "b": 0.5})
    assert [axes.get_label() for axes in figure.axes] == ["page", "a", "b"]
    assert not figure.findobj(Circle)
