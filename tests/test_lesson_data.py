"""What notebook 01 prepares: cameras or videos, frames, and its pictures of the worlds."""

import numpy as np
import pytest
from matplotlib.image import AxesImage
from matplotlib.text import Text

from dynamix import data
from dynamix.config import change, tiny
from dynamix.data.mannequins import worlds
from dynamix.experiments.lessons import data as lesson

SMALL = change(tiny, mannequins__plaza=(4, 2, 1), mannequins__videos=(2, 2, 8)).mannequins


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    return worlds.build(SMALL, tmp_path_factory.mktemp("worlds"), worlds=("plaza", "videos"), progress=False)


def texts(figure):
    return {text.get_text() for text in figure.findobj(Text)}


def test_a_video_is_its_own_camera(roots):
    plaza, videos = data.load("plaza", roots["plaza"]), data.load("videos", roots["videos"])
    assert (lesson.seen_by(plaza) == plaza.camids).all()
    assert (lesson.seen_by(videos) == videos.videos).all()
    both = lesson.seen_by(data.concat([plaza, videos]))
    assert both.min() == 0 and (both[: len(plaza)] == plaza.camids).all()


def test_frames_are_those_of_the_keys(roots):
    videos = data.load("videos", roots["videos"])
    frames = lesson.frames(videos)
    assert all(f"_{frame:07d}_" in path for frame, path in zip(frames, videos.paths, strict=True))


def test_every_world_is_a_row(roots):
    figure = lesson.six_worlds(
        roots, SMALL.image, {"plaza": np.full((2, 3), 90.0), "videos": np.full((2, 3), 80.0)},
        {"plaza": "first", "videos": "second"},
    )  # fmt: skip
    assert {"plaza", "videos", "for Market-1501", "for LUPerson-NL", "first", "second"} <= texts(figure)
    largest = np.bincount(data.load("videos", roots["videos"]).labels).max()
    assert len(figure.findobj(AxesImage)) == 2 + min(largest, lesson.SHOWN)


def test_the_delivered_clip_shows_all_of_its_boxes(roots):
    videos = data.load("videos", roots["videos"])
    figure = lesson.delivered(roots["videos"], SMALL.image)
    assert len(figure.findobj(AxesImage)) in np.bincount(videos.videos)


def test_both_kinds_show_the_same_tracks(roots, monkeypatch):
    monkeypatch.setattr(lesson, "TRACKS", 3)
    values = np.arange(len(data.load("videos", roots["videos"])), dtype=float)
    kinds = {name: (roots["videos"], values, "a line") for name in ("still", "moving")}
    figure = lesson.two_kinds(kinds, SMALL.image)
    panels = {axes.get_label(): axes for axes in figure.axes}
    assert len(panels["still"].collections) == len(panels["moving"].collections) == 3
    assert len(figure.findobj(AxesImage)) <= 2 * lesson.SHOWN
