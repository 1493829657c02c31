"""Every dataset's layout feeds the same trainer: two steps with each, before and after relabeling."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from dynamix import data, losses, trainer
from dynamix.config import Config, change
from dynamix.data.images import Images
from dynamix.data.table import Table
from tests.layouts.cuhk import write_cuhk02, write_cuhk03, write_cuhk_sysu
from tests.layouts.large import write_dukemtmc, write_market1501, write_msmt17, write_randperson
from tests.layouts.luperson import write_luperson, write_luperson_nl
from tests.layouts.own import write_own, write_own_videos
from tests.layouts.small import write_grid, write_ilids, write_prid, write_viper

Writer = Callable[[Path], object]
# Every multi-camera dataset, in every form it is read from.
MULTI: dict[str, tuple[str, Writer]] = {
    "market1501": ("market1501", write_market1501),
    "dukemtmc": ("dukemtmc", write_dukemtmc),
    "cuhk03_detected": ("cuhk03_detected", write_cuhk03),
    "cuhk03_labeled": ("cuhk03_labeled", write_cuhk03),
    "cuhk03_detected raw": ("cuhk03_detected", partial(write_cuhk03, form="raw")),
    "cuhk03_labeled raw": ("cuhk03_labeled", partial(write_cuhk03, form="raw")),
    "msmt17 V1": ("msmt17", partial(write_msmt17, layout="V1")),
    "msmt17 V2": ("msmt17", partial(write_msmt17, layout="V2")),
    "msmt17 market": ("msmt17", partial(write_msmt17, layout="market")),
    "msmt17_merged": ("msmt17_merged", write_msmt17),
    "randperson": ("randperson", write_randperson),
    "cuhk02": ("cuhk02", write_cuhk02),
    "cuhk_sysu a": ("cuhk_sysu", partial(write_cuhk_sysu, form="a")),
    "cuhk_sysu b": ("cuhk_sysu", partial(write_cuhk_sysu, form="b")),
    "cuhk_sysu c": ("cuhk_sysu", partial(write_cuhk_sysu, form="c")),
    "prid": ("prid", write_prid),
    "grid": ("grid", write_grid),
    "viper": ("viper", write_viper),
    "ilids": ("ilids", write_ilids),
    "own": ("own", write_own),
    "own market": ("own", partial(write_own, form="market")),
    "own csv": ("own", partial(write_own, form="csv")),
}
SINGLE: dict[str, tuple[str, Writer]] = {
    "luperson_nl lmdb": ("luperson_nl", partial(write_luperson_nl, form="lmdb")),
    "luperson_nl tree": ("luperson_nl", partial(write_luperson_nl, form="tree")),
    "luperson_nl flat": ("luperson_nl", partial(write_luperson_nl, form="flat")),
    "luperson": ("luperson", write_luperson),
    "own_videos": ("own_videos", write_own_videos),
}
PAIRS = [(multi, single) for multi in MULTI for single in ("luperson_nl lmdb", "luperson_nl tree")]
PAIRS += [("market1501", "luperson_nl flat"), ("market1501", "luperson"), ("own", "own_videos")]


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Table]:
    """The training split of a layout's miniature, written and read once."""
    root, made = tmp_path_factory.mktemp("layouts"), {}

    def table(form: str) -> Table:
        if form not in made:
            name, write = (MULTI | SINGLE)[form]
            write(root / form)
            made[form] = data.load(name, root / form, "train")
        return made[form]

    return table


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory):
    """What readers keep of raw files goes there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DYNAMIX_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def config(small_config: Config) -> Config:
    """Two steps: one on the labels as read, one after relabeling, which leaves a pid per video or more."""
    return change(small_config, epochs=2, iterations=1, encoder__image=(32, 16), batch__ids_single=3)


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    """The rows of every step, as the objective gets them."""
    seen: list[np.ndarray] = []
    objective = trainer.objective

    def spy(encoder, momentum, views, rows, *rest):
        assert all(len(view) == len(rows) for view in views.values())
        seen.append(rows.numpy())
        return objective(encoder, momentum, views, rows, *rest)

    monkeypatch.setattr(trainer, "objective", spy)
    return seen


@pytest.fixture
def in_camera_loss(monkeypatch: pytest.MonkeyPatch) -> list[tuple[np.ndarray, np.ndarray]]:
    """Labels of the anchors and of the centroids of every step's camera loss."""
    seen: list[tuple[np.ndarray, np.ndarray]] = []
    loss = losses.camera_centroids_loss

    def spy(features, labels, camids, centroids, centroid_labels, centroid_camids, **options):
        assert (camids >= 0).all() and (centroid_camids >= 0).all()
        seen.append((labels.numpy(), centroid_labels.numpy()))
        return loss(features, labels, camids, centroids, centroid_labels, centroid_camids, **options)

    monkeypatch.setattr(losses, "camera_centroids_loss", spy)
    return seen


def train(config: Config, table: Table, folder: Path) -> list[trainer.Epoch]:
    """The epochs of a finished run; every image has been decoded."""
    images = Images.of(table, config.encoder.image)
    assert images.pixels is not None and images.pixels.shape == (len(table), 3, *config.encoder.image)
    assert (images.pixels.flatten(1).float().std(1) > 1).all()  # no image is blank
    records = list(trainer.train(config, table, folder, device="cpu", images=images))
    steps = [record for record in records if isinstance(record, trainer.Step)]
    assert len(steps) == 2
    assert all(np.isfinite(value) for step in steps for value in step.terms.values())
    return [record for record in records if isinstance(record, trainer.Epoch)]


def check_batch(rows: np.ndarray, table: Table, labels: np.ndarray, config: Config) -> None:
    """Identities side by side, multi-camera ones first, each with its share of images."""
    batch = config.batch
    kinds = np.repeat(
        [False, True], [batch.ids_multi * batch.images_multi, batch.ids_single * batch.images_single]
    )
    np.testing.assert_array_equal(table.videos[rows] >= 0, kinds)
    for kind, ids, each in (
        (False, batch.ids_multi, batch.images_multi),
        (True, batch.ids_single, batch.images_single),
    ):
        found, counts = np.unique(labels[rows[kinds == kind]], return_counts=True)
        assert len(found) == ids and (counts == each).all() and (found >= 0).all()


@pytest.mark.parametrize(("multi", "single"), PAIRS)
def test_two_steps(tables, config, batches, in_camera_loss, tmp_path, multi, single):
    if single == "luperson":  # every image is a pid of its own, until relabeled
        config = change(config, dsm__min_images=1)
    table = data.concat([tables(multi), tables(single)])
    assert table.source_names == (MULTI[multi][0], SINGLE[single][0]) and all(table.notes)
    epochs = train(config, table, tmp_path)
    for rows, epoch, (anchors, positives) in zip(batches, epochs, in_camera_loss, strict=True):
        check_batch(rows, table, epoch.labels, config)
        with_camera = rows[(table.videos[rows] < 0) & (table.camids[rows] >= 0)]
        assert anchors.tolist() == table.labels[with_camera].tolist()
        if multi.startswith("cuhk_sysu"):
            assert len(anchors) == len(positives) == 0
        else:
            assert len(anchors) == config.batch.ids_multi * config.batch.images_multi
    assert [epoch.report is not None for epoch in epochs] == [False, True]
    assert epochs[1].terms["cc"] > 0 or multi.startswith("cuhk_sysu")


def test_cameras_not_known_beside_known_ones(tables, config, batches, in_camera_loss, tmp_path):
    """Of a mixture only the rows of the dataset that tells cameras enter the camera loss."""
    table = data.concat([tables("market1501"), tables("cuhk_sysu a"), tables("luperson_nl lmdb")])
    config = change(config, epochs=1, iterations=2, batch__ids_multi=8)
    train(config, table, tmp_path)
    assert {0, 1, 2} == {*table.sources[np.concatenate(batches)].tolist()}
    for rows, (anchors, positives) in zip(batches, in_camera_loss, strict=True):
        assert anchors.tolist() == table.labels[rows[table.sources[rows] == 0]].tolist()
        assert set(positives.tolist()) == set(table.labels[table.sources == 0].tolist())


def test_all_layouts_at_once(tables, config, batches, tmp_path):
    """The protocols mix sources; labels and cameras of all of them stay apart."""
    names = {name: form for form, (name, _) in (MULTI | SINGLE).items()}
    several = [tables(form) for name, form in names.items() if name != "luperson"]
    table = data.concat(several)
    assert len(set(table.labels.tolist())) == sum(len(set(each.labels.tolist())) for each in several)
    cameras = sum(len(set(each.camids[each.camids >= 0].tolist())) for each in several)
    assert len(set(table.camids[table.camids >= 0].tolist())) == cameras
    for rows, epoch in zip(batches, train(config, table, tmp_path), strict=True):
        check_batch(rows, table, epoch.labels, config)


def test_every_dataset_is_trained_from():
    worlds = {*data.WORLDS, "videos"}
    assert {name for name, _ in (MULTI | SINGLE).values()} == data.DATASETS.keys() - worlds
