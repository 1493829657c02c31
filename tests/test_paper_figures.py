"""The papers' figures say what the method did: numbers of relabeling, sampling and clustering."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.text import Text

from dynamix import data, plots, trainer
from dynamix.config import change
from dynamix.experiments import pictures
from dynamix.experiments.pictures import clustering, dynamix_figures, overviews
from dynamix.experiments.pictures.scene import Context
from dynamix.experiments.printed import printed
from dynamix.plots.batches import signed
from dynamix.plots.cloud import Plane, apart
from dynamix.plots.style import WIDTH
from dynamix.relabeling import merge_pids
from dynamix.sampling import match_pids

pytestmark = pytest.mark.filterwarnings("ignore:merging exploded")  # a few steps of training
OURS = {"multi-camera only": [40.0, 44.0], "DynaMix": [61.5]}


@pytest.fixture(scope="module")
def context(small_config, world_roots, tmp_path_factory) -> Context:
    """A run of a few steps, with thresholds at which all three refinements happen."""
    run = tmp_path_factory.mktemp("run")
    config = change(
        small_config, rm__start_epoch=3, rm__tau_remove=0.95, rm__tau_rel=0.95, rm__tau_merge=0.99
    )
    plaza = data.load("plaza", world_roots["plaza"], "train")
    table = data.concat([plaza, data.load("videos", world_roots["videos"], "train")])
    assert list(trainer.train(config, table, run))
    return Context(config, world_roots, run, OURS)


@pytest.fixture(scope="module")
def drawn(context) -> dict[str, Figure]:
    return {name: pictures.draw(name, context) for name in pictures.FIGURES}


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def overlapping(figure: Figure) -> list[tuple[str, str]]:
    """Pairs of words on the page whose boxes meet by more than a pixel; letters inside marks aside."""
    figure.draw_without_rendering()
    ticks = [(t, each.get_xlim()) for each in figure.axes for t in each.xaxis.get_major_ticks()]
    unseen = {t.label1 for t, (low, high) in ticks if not low <= t.get_loc() <= high}
    shown = [t for t in figure.findobj(Text) if len(t.get_text().strip()) > 2 and t not in unseen]
    boxes = [(t.get_text(), t.get_window_extent()) for t in shown]
    return [
        (a, b)
        for (a, p), (b, q) in itertools.combinations(boxes, 2)
        if min(p.x1, q.x1) - max(p.x0, q.x0) > 1 and min(p.y1, q.y1) - max(p.y0, q.y0) > 1
    ]


@pytest.mark.parametrize("name", pictures.FIGURES)
def test_nothing_overlaps_or_leaves_the_page(drawn, name):
    figure = drawn[name]
    assert figure.get_size_inches()[0] == WIDTH
    assert overlapping(figure) == []
    box, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    assert min(box.x0, box.y0) > -0.01 and box.x1 < width + 0.01 and box.y1 < height + 0.01


@pytest.mark.parametrize("name", ["figure2", "figure3"])
def test_drawing_twice_gives_the_same_bytes(context, drawn, name, tmp_path):
    again = Context(context.config, context.roots, context.run, context.results)
    first = plots.save(drawn[name], tmp_path / "a.png").read_bytes()
    assert plots.save(pictures.draw(name, again), tmp_path / "b.png").read_bytes() == first


def test_every_figure_of_real_objects_names_the_benchmark(drawn):
    for name, figure in drawn.items():
        assert any("Mannequins" in text for text in texts(figure)), name


# --- figure 1 ------------------------------------------------------------------------------------------


def test_figure1_shows_the_printed_numbers_and_no_own_dataset(drawn):
    table = json.loads((Path(pictures.__file__).parents[1] / "paper" / "dynamix_table2a.json").read_text())
    found = dynamix_figures.cross_dataset(printed("dynamix", "2a"))
    assert len(found) == 9 and all(
        b.tested not in (b.trained, b.trained.removesuffix("-merged")) for b in found
    )
    shown = texts(drawn["figure1"])
    for each in found:
        column = table["columns"].index(f"{each.tested}:R1")
        rows = [r for r in table["rows"] if r[2] == each.trained and r[column] is not None]
        assert dict(each.rank1) == {row[0]: row[column] for row in rows}
        assert f"{each.rank1['DynaMix']:.1f}" in shown


def test_figure1_keeps_ours_on_a_scale_of_its_own(drawn, context):
    axes = {each.get_label(): each for each in drawn["figure1"].axes}
    ours = texts(axes["ours"])
    assert "42.0 ± 2.8" in ours and "61.5" in ours
    assert not set(axes["printed"].get_shared_x_axes().get_siblings(axes["printed"])) & {axes["ours"]}
    alone = pictures.draw("figure1", Context(context.config, {}))
    assert [each.get_label() for each in alone.axes] == ["page", "printed"]
    with pytest.raises(ValueError, match="benchmarks is empty"):
        plots.methods([], title="T")


# --- the epoch that figures 2 to 4 show -----------------------------------------------------------------


def test_stages_end_where_the_refresh_ends(context):
    scene, done = context.scene, context.scene.refined
    single = np.flatnonzero(scene.table.videos >= 0)
    assert (done.filtered.removed == scene.refreshed.removed).all()
    assert done.filtered.removed.any() and (done.relabeled.labels != done.tracker.labels).any()
    assert (done.merged.labels != done.relabeled.labels).any()
    used = done.compared.select(torch.from_numpy(np.unique(done.relabeled.labels[single])))
    roots = merge_pids(used, tau_merge=0.99, scope=context.config.rm.scope)
    final = roots[used.index_of(torch.from_numpy(done.relabeled.labels[single]))]
    assert (final.numpy() == scene.refreshed.labels[single]).all()


def test_relabeling_follows_the_rule_image_by_image(context):
    scene, done = context.scene, context.scene.refined
    memory, alpha = scene.state.memory, context.config.ecm.alpha
    assert memory is not None and context.config.rm.compare == "blended"
    features, labels = scene.features.double().numpy(), scene.table.labels
    for row in scene.clip.rows.tolist():
        best, where = -2.0, -1
        for k, label in enumerate(memory.labels.tolist()):
            mine = np.flatnonzero((labels == label) & (scene.table.videos >= 0))
            if scene.table.videos[mine[0]] != scene.table.videos[row]:
                continue
            mu = alpha * memory.centroids[k].double().numpy() + (1 - alpha) * features[mine].mean(0)
            value = float(features[row] @ mu / np.linalg.norm(mu) / np.linalg.norm(features[row]))
            if value > best + 1e-6:
                best, where = value, label
        assert done.similarity[row] == pytest.approx(best, abs=1e-5)
        assert done.filtered.removed[row] == (best < 0.95)
        assert done.relabeled.labels[row] == (labels[row] if best < 0.95 else where)


def test_figure3_counts_what_relabeling_did(context, drawn):
    done, rows = context.scene.refined, context.scene.clip.rows
    before, after, gone = done.tracker.labels[rows], done.relabeled.labels[rows], done.filtered.removed[rows]
    moved, removed = int((before != after).sum()), int(gone.sum())
    shown = texts(drawn["figure3"])
    assert any(text.startswith(f"{removed} image") and "removed" in text for text in shown if removed)
    assert any(text.startswith(f"{moved} image") and "relabeled" in text for text in shown if moved)
    counts = len(np.unique(before)), len(np.unique(done.merged.labels[rows][~gone]))
    assert f"Relabeling stage by stage: from {counts[0]} labels of a clip to {counts[1]}" in shown
    assert len(drawn["figure3"].findobj(AxesImage)) >= len(np.unique(before)[:8])


# --- figure 4 and the matrix of figure 2 ----------------------------------------------------------------


@pytest.mark.parametrize("mode", ["hard", "soft", "median"])
def test_the_first_iteration_is_what_match_pids_chooses_among_all(context, mode):
    scene = context.scene
    multi, single = (labels[0] for labels in dynamix_figures.pairs_of(scene, mode))
    chosen = match_pids(scene.similarity(multi, scene.pool), mode=mode)
    assert scene.pool[chosen.numpy()].tolist() == single.tolist()
    assert multi.tolist() == scene.batches("median").pairs[0, :, 0].tolist()  # the same people in every mode


def test_figure4_shows_the_pairs_and_their_similarity(context, drawn):
    scene, shown = context.scene, texts(drawn["figure4"])
    for name in dynamix_figures.MODES:
        mode = dynamix_figures.composed(scene, name)
        multi, single = dynamix_figures.pairs_of(scene, name)
        a = scene.multi.centroids[torch.searchsorted(scene.multi.labels, torch.tensor([multi[0, 0]]))]
        b = scene.single.centroids[scene.single.index_of(torch.tensor([single[0, 0]]))]
        assert mode.similarity[0, 0] == pytest.approx(torch.cosine_similarity(a, b).item(), abs=1e-6)
        assert signed(float(mode.similarity[0, 0])) in shown and len(mode.chosen) == multi.size
        assert f"mean {signed(float(np.mean(mode.chosen)))}, {multi.size} pairs" in shown
        batch = np.array(next(iter(scene.batches(name))))
        assert (np.asarray(mode.single)[0, 0] == scene.crops(batch[[8]])[0].numpy()).all()
    assert len(drawn["figure4"].findobj(AxesImage)) == 4 * 3 * 4 * 2


def test_figure2_marks_the_chosen_cells_and_names_the_median(context, drawn):
    scene = context.scene
    matching = overviews.matching_of(scene)
    multi, single = (labels[0] for labels in dynamix_figures.pairs_of(scene, "median"))
    similarity = scene.similarity(multi, scene.pool).numpy()
    assert matching.columns == len(scene.pool)
    assert matching.median == pytest.approx(np.median(similarity), abs=1e-7)
    cells = np.asarray(matching.similarity)[np.arange(len(multi)), matching.chosen]
    assert cells == pytest.approx(scene.similarity(multi, single).diagonal().numpy(), abs=1e-6)
    assert f"white: the median, {signed(matching.median)}" in texts(drawn["figure2"])


def test_figure2_decisions_passed_their_thresholds(context, drawn):
    scene, made = context.scene, {each.name: each for each in overviews.decisions_of(context.scene)}
    assert set(made) == {"filter", "relabel", "merge"}
    assert made["filter"].similarity < 0.95 < made["relabel"].similarity
    memory = scene.refined.compared
    pair = memory.index_of(torch.tensor([made["merge"].old, made["merge"].new]))
    value = torch.cosine_similarity(memory.centroids[pair[:1]], memory.centroids[pair[1:]]).item()
    assert made["merge"].similarity == pytest.approx(value, abs=1e-6) and value >= 0.99
    for each in made.values():
        assert any(text.startswith(f"{signed(each.similarity, 3)} ") for text in texts(drawn["figure2"]))


def test_signed_numbers():
    assert [signed(-0.001), signed(-0.456), signed(0.5)] == ["0.00", "\N{MINUS SIGN}0.46", "0.50"]


# --- ReMix ------------------------------------------------------------------------------------------------


def test_clusters_are_those_of_dbscan_at_eps_8():
    """Two groups of four within 0.8 of one another, and one image far from both."""
    groups = torch.eye(3).repeat_interleave(torch.tensor([4, 4, 1]), 0)
    assert clustering.clustered(groups).tolist() == [0, 0, 0, 0, 1, 1, 1, 1, -1]
    near = torch.tensor([[1.0, 0.0], [0.69, 0.7238]])  # cosine 0.69: distance 0.787
    far = torch.tensor([[1.0, 0.0], [0.67, 0.7424]])  # cosine 0.67: distance 0.812
    assert clustering.clustered(near.repeat_interleave(2, 0)).tolist() == [0, 0, 0, 0]
    assert clustering.clustered(far.repeat_interleave(2, 0)).tolist() == [-1] * 4
    assert clustering.clustered(torch.eye(3)).tolist() == [-1] * 3


def test_remix_figures_show_measured_shares(context, drawn):
    found = clustering.quality_of(context.scene)
    assert len(found) == 6
    shown = texts(drawn["remix.figure3"])
    for name, values in (("precision", [q.precision for q, _ in found]), ("noise", [n for _, n in found])):
        known = np.array(values)[np.isfinite(values)]
        assert f"mean {100 * known.mean():.1f} %" in shown, name
    assert len(drawn["remix.figure3"].findobj(AxesImage)) == len(context.scene.clip.rows)


# --- geometry and errors ------------------------------------------------------------------------------------


def test_the_plane_is_that_of_greatest_variance():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((50, 4)) * [1, 5, 0.1, 3]
    flat = Plane.of(x)(x)
    assert flat.var(0).sum() == pytest.approx(np.sort(np.linalg.eigvalsh(np.cov(x.T, bias=True)))[-2:].sum())
    assert (Plane.of(x[::-1])(x) == pytest.approx(flat, abs=1e-9)) and flat.mean(0) == pytest.approx([0, 0])


def test_marks_are_moved_apart():
    placed = apart(np.array([[0.0, 0.0], [0.05, 0.0], [1.0, 1.0]]), 0.2, (-1.0, -1.0, 2.0, 2.0))
    assert np.hypot(*(placed[0] - placed[1])) >= 0.199 and placed[2].tolist() == [1.0, 1.0]


def test_errors_name_what_there_is_and_what_to_train(context, tmp_path):
    with pytest.raises(ValueError, match="no figure 'figure9'; there are figure1, figure2.*remix.figure3"):
        pictures.draw("figure9", context)
    for run in (None, tmp_path):
        missing = Context(context.config, context.roots, run)
        with pytest.raises(FileNotFoundError, match="DynaMix, profile tiny, seed 0; train it with `dynamix"):
            pictures.draw("figure3", missing)


def test_a_run_on_other_worlds_is_refused(context):
    swapped = dict(context.roots) | {"plaza": context.roots["hall"].parent / "none"}
    with pytest.raises((ValueError, FileNotFoundError)):
        pictures.draw("figure4", Context(context.config, swapped, context.run))
