"""The checkpoint that figures need: smaller, and the same to them."""

import pytest
import torch

from dynamix import checkpoint, trainer
from dynamix.config import change
from dynamix.experiments import figure_run
from dynamix.experiments.pictures.scene import scene


def test_figures_see_the_same(small_config, mixed_table, world_roots, tmp_path):
    run, config = tmp_path / "runs" / "key", change(small_config, epochs=1)
    for _ in trainer.train(config, mixed_table, run):
        pass
    path = figure_run.keep(run, tmp_path / "kept")
    assert path == tmp_path / "kept" / "key" / checkpoint.NAME and len(list(path.parent.iterdir())) == 1
    assert path.stat().st_mode == (run / trainer.LOG).stat().st_mode
    assert path.stat().st_size < 0.5 * (run / checkpoint.NAME).stat().st_size
    whole, kept = (scene(each, world_roots) for each in (run, path.parent))
    assert kept.config == whole.config and kept.state.queue == whole.state.queue
    assert (kept.state.labels == whole.state.labels).all() and torch.equal(kept.features, whole.features)
    assert torch.equal(kept.refreshed.single.centroids, whole.refreshed.single.centroids)


def test_what_is_no_run_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no checkpoint at .*nowhere"):
        figure_run.keep(tmp_path / "nowhere", tmp_path)
