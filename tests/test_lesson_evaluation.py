"""What notebook 02 prepares: the whole gallery, histograms, boxes that miss."""

import numpy as np
import pytest
import torch

from dynamix import data
from dynamix.config import change, tiny
from dynamix.data.mannequins import worlds
from dynamix.experiments import figures
from dynamix.experiments.lessons import evaluation as lesson

SMALL = change(tiny, mannequins__plaza=(6, 2, 8))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    cache = tmp_path_factory.mktemp("worlds")
    return worlds.build(SMALL.mannequins, cache, worlds=("plaza",), progress=False)["plaza"]


def test_the_whole_gallery_is_the_loaded_one_and_junk(root):
    whole, loaded = lesson.whole_gallery(root), data.load("plaza", root, "gallery")
    kept = whole.select(np.flatnonzero(whole.pids != -1))
    assert (whole.pids == -1).any()
    assert (kept.pids == loaded.pids).all() and (kept.camids == loaded.camids).all()
    assert [p.rsplit("/", 1)[1] for p in kept.paths] == [p.rsplit("/", 1)[1] for p in loaded.paths]


def test_files_with_other_names_are_refused(root, tmp_path):
    (tmp_path / "bounding_box_test").mkdir()
    (tmp_path / "bounding_box_test" / "a.jpg").touch()
    with pytest.raises(ValueError, match="not named"):
        lesson.whole_gallery(tmp_path)


def test_boxes_that_are_not_moved_give_the_stored_images(root):
    query = data.load("plaza", root, "query")
    stored = figures.crops(query, SMALL.mannequins.image, np.arange(len(query)))
    assert torch.equal(lesson.moved_boxes("plaza", SMALL, "query", 0.0), stored)
    assert not torch.equal(lesson.moved_boxes("plaza", SMALL, "query", 0.1), stored)


def test_a_histogram_is_the_root_of_shares():
    images = torch.zeros(2, 3, 16, 4, dtype=torch.uint8)
    images[1, :, :1] = 255  # half of the first stripe
    made = lesson.color_histograms(images).view(2, lesson.STRIPES, 3, lesson.BINS)
    assert made.square().sum(-1).allclose(torch.ones(2, lesson.STRIPES, 3))
    assert made[0, :, :, 0].eq(1).all()
    assert made[1, 0, :, [0, -1]].square().allclose(torch.full((3, 2), 0.5))
