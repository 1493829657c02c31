"""ReMix's epoch against loops: DBSCAN, the k-reciprocal distance, Algorithm 2; its batches and trainings."""

import dataclasses
import json
import math
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from sklearn.cluster import DBSCAN
from threadpoolctl import ThreadpoolController

from dynamix import checkpoint, distributed, methods, trainer
from dynamix.config import Config, Remix, change
from dynamix.data.table import Paths, concat, from_columns
from dynamix.methods import dynamix, remix
from dynamix.methods.epoch import start
from dynamix.similarity import unit
from tests import naive
from tests.test_dynamix_method import (
    all_kinds,
    busy,
    cameras_table,
    embedder,
    features_of,
    mixed,
    refresh_all,
)

torch.set_num_threads(1)
DISTANCES = {"euclidean": naive.euclidean_distances, "cosine": naive.cosine_distances}


def blobs(count, people, seed, noise=0.3, dim=3):
    """Unit features around some people."""
    rng = np.random.default_rng(seed)
    centers = rng.standard_normal((people, dim))
    x = centers[rng.integers(people, size=count)] + noise * rng.standard_normal((count, dim))
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def distances_of(features, settings):
    if settings.metric == "jaccard":
        return naive.jaccard_distances(features.tolist(), settings.k1, settings.k2)
    return DISTANCES[settings.metric](features.tolist())


def assert_clusters(found, features, settings):
    """Cores and noise exactly; a border image may be in any cluster that reaches it."""
    cores, allowed = naive.dbscan(distances_of(features, settings), settings.eps, settings.min_samples)
    pairs = {(next(iter(a)), int(c)) for core, a, c in zip(cores, allowed, found, strict=True) if core}
    number = dict(pairs)
    assert len(pairs) == len(number) == len(set(number.values()))
    assert set(number.values()) == set(range(len(number)))
    for mine, cluster in zip(allowed, found.tolist(), strict=True):
        assert cluster in {number[c] for c in mine} if mine else cluster == -1


# ---- one video


@settings(deadline=None, max_examples=40)
@given(
    count=st.integers(0, 25),
    people=st.integers(1, 5),
    eps=st.sampled_from((0.1, 0.3, 0.5, 0.8)),
    least=st.integers(1, 6),
    metric=st.sampled_from(("euclidean", "cosine", "jaccard")),
    noise=st.sampled_from((0.1, 0.4)),
    seed=st.integers(0, 10**6),
)
def test_clusters_are_the_loop(count, people, eps, least, metric, noise, seed):
    settings = Remix(eps=eps, min_samples=least, metric=metric, k1=6, k2=3)
    features = blobs(count, people, seed, noise)
    assert_clusters(remix.cluster(features, settings), features, settings)


@settings(deadline=None, max_examples=30)
@given(count=st.integers(1, 16), k1=st.integers(1, 12), k2=st.integers(1, 8), seed=st.integers(0, 10**6))
def test_jaccard_distances_are_the_formula(count, k1, k2, seed):
    features = blobs(count, 4, seed)
    found = remix.jaccard_distances(features, k1, k2)
    np.testing.assert_allclose(found, naive.jaccard_distances(features.tolist(), k1, k2), rtol=0, atol=1e-9)
    assert found.dtype == np.float64 and found.min() >= 0 and found.max() <= 1 + 1e-12
    assert (np.diag(found) == 0).all() and np.array_equal(found, found.T)


def test_jaccard_distances_as_published():
    """The paper's own numbers of neighbors on as many images as a long clip has; the same people are near."""
    features = blobs(40, 3, 1, noise=0.1)
    found = remix.jaccard_distances(features)
    np.testing.assert_allclose(found, naive.jaccard_distances(features.tolist(), 30, 6), rtol=0, atol=1e-9)
    order = np.random.default_rng(0).permutation(40)
    moved = remix.jaccard_distances(features[order])
    np.testing.assert_allclose(moved, found[np.ix_(order, order)], rtol=0, atol=1e-12)


@pytest.mark.parametrize("k2", [2, 6, 99])
def test_jaccard_averages_neighbors_as_all_at_once(monkeypatch, k2):
    """What is summed step by step is the mean of the (n, k2, n) weights."""
    features, seen = blobs(50, 4, 3), []
    monkeypatch.setattr(remix, "cdist", lambda a, b, kind: seen.append(a) or cdist(a, b, kind))
    remix.jaccard_distances(features, 8, 1)
    remix.jaccard_distances(features, 8, k2)
    near = np.argsort(-features @ features.T, axis=1)[:, :k2]
    np.testing.assert_allclose(seen[1], seen[0][near].mean(1), rtol=0, atol=1e-15)


def test_jaccard_of_a_large_video_is_refused(monkeypatch):
    monkeypatch.setattr(remix, "LARGEST", 30)
    settings = Remix(metric="jaccard")
    assert len(remix.cluster(blobs(30, 3, 0), settings)) == 30
    with pytest.raises(ValueError, match="a video has 31 images.* at most 30 .* remix.metric to euclidean"):
        remix.cluster(blobs(31, 3, 0), settings)
    assert len(remix.cluster(blobs(31, 3, 0), Remix())) == 31


@pytest.mark.parametrize("metric", ["euclidean", "jaccard"])
@pytest.mark.parametrize("threads", [1, 2])
def test_clustering_takes_as_many_threads_as_torch(monkeypatch, metric, threads):
    pools, fit, seen = ThreadpoolController().select(user_api="blas"), DBSCAN.fit, []

    def watched(self, x):
        seen.append({pool["num_threads"] for pool in pools.info()})
        return fit(self, x)

    monkeypatch.setattr(DBSCAN, "fit", watched)
    features, settings = blobs(300, 9, 0, dim=20), Remix(metric=metric, eps=0.6)
    expected = remix.cluster(features, settings).tolist()
    with pools.limit(limits=2):
        torch.set_num_threads(threads)
        try:
            found = remix.cluster(features, settings).tolist()
        finally:
            torch.set_num_threads(1)
        after = {pool["num_threads"] for pool in pools.info()}
    assert seen[1] == {threads} and after == {2} and found == expected and max(found) > 1


def test_single_precision_clusters_alike():
    features, settings = blobs(30, 4, 2, noise=0.1), Remix(eps=0.55, metric="jaccard", k1=8, k2=3)
    half = remix.cluster(features.astype(np.float32), settings)
    assert half.tolist() == remix.cluster(features, settings).tolist() and half.dtype == np.int64
    assert half.max() >= 1


def test_metrics_differ():
    """eps 0.8 is cos >= 0.68 as a distance of unit vectors, cos >= 0.2 as a cosine distance."""
    angles = np.radians([0, 60, 120])  # cosines of neighbors: 0.5
    features = np.stack((np.cos(angles), np.sin(angles)), 1)
    found = [remix.cluster(features, Remix(min_samples=2, metric=m)).tolist() for m in DISTANCES]
    assert found == [[-1] * 3, [0] * 3]


@pytest.mark.parametrize("count", [0, 1, 3, 4])
@pytest.mark.parametrize("metric", ["euclidean", "cosine", "jaccard"])
def test_fewer_images_than_a_cluster_takes(count, metric):
    same = np.tile([[1.0, 0.0]], (count, 1))
    assert remix.cluster(same, Remix(metric=metric)).tolist() == ([0] * 4 if count == 4 else [-1] * count)


# ---- Algorithm 2


def configured(**changes):
    """Few labels wanted: iterations x 4 images."""
    batch = {"ids_multi": 2, "ids_single": 0, "images_multi": 2, "images_single": 2}
    batched = change(Config(), method="remix", iterations=5, **{f"batch__{k}": v for k, v in batch.items()})
    return change(batched, **{"remix__eps": 0.5, "remix__min_samples": 2} | changes)


def same_labels(a, b):
    return a[0].tolist() == b[0].tolist() and torch.equal(a[1].centroids, b[1].centroids)


def drawn_order(calls, videos):
    """Videos in the order in which they were embedded."""
    return list(dict.fromkeys(videos[np.concatenate(calls)].tolist())) if calls else []


OPTIONS = {
    "iterations": st.sampled_from((1, 5, 1000)),
    "remix__eps": st.sampled_from((0.2, 0.5, 0.9)),
    "remix__min_samples": st.integers(1, 4),
    "remix__metric": st.sampled_from(("euclidean", "cosine", "jaccard")),
    "seed": st.integers(0, 10**6),
}


@settings(deadline=None, max_examples=40)
@given(changes=st.fixed_dictionaries(OPTIONS), videos=st.integers(1, 6), junk=st.integers(0, 2))
def test_pseudo_labels_are_algorithm_2(changes, videos, junk):
    config = configured(remix__k1=4, remix__k2=2, **changes)
    table = mixed(videos=videos, people=2, images=4, junk=junk, seed=config.seed)
    features, calls = features_of(table, config.seed, 1)[0], []
    labels, memory = remix.pseudo_labels(table, embedder(features, calls=calls), config, 3)
    order = drawn_order(calls, table.videos)
    rows_of = {v: np.flatnonzero(table.videos == v).tolist() for v in order}
    assert sum(map(len, calls)) == sum(map(len, rows_of.values()))  # whole videos, each embedded once

    def clusters_of(rows):
        found = remix.cluster(features[rows], config.remix)  # settles border images
        assert_clusters(found, features[rows], config.remix)
        return found.tolist()

    fresh, wanted = int(table.labels.max()) + 1, config.batch.size * config.iterations
    drawn, means = naive.remix_labels(order, rows_of, features.tolist(), fresh, wanted, clusters_of)
    expected = np.where(table.videos >= 0, -1, table.labels)
    expected[list(drawn)] = list(drawn.values())
    assert labels.tolist() == expected.tolist()
    assert memory.labels.tolist() == sorted(means) and memory.centroids.dtype == torch.float64
    if means:
        np.testing.assert_allclose(memory.centroids, [means[k] for k in sorted(means)], rtol=0, atol=1e-9)
    enough = (labels[table.videos >= 0] >= 0).sum() >= wanted
    assert enough or set(order) == set(np.unique(table.videos[table.videos >= 0]).tolist())


def pool(videos=20, seed=0):
    table = mixed(videos=videos, people=3, images=5, seed=seed)
    return table, features_of(table, seed, 1, noise=0.1)[0]


def test_labels_are_fresh_and_of_one_video():
    table, features = pool()
    labels, memory = remix.pseudo_labels(table, embedder(features), configured(iterations=30), 0)
    single = table.videos >= 0
    found = np.unique(labels[single & (labels >= 0)])
    assert found.min() > table.labels.max() and found.tolist() == memory.labels.tolist()
    assert (labels[~single] == table.labels[~single]).all()
    assert all(len(np.unique(table.videos[labels == label])) == 1 for label in found)
    drawn = np.unique(table.videos[labels > table.labels.max()])
    assert 1 < len(drawn) < 20 and (labels[single & ~np.isin(table.videos, drawn)] == -1).all()
    assert (single & (labels >= 0)).sum() >= 120  # batch.size x iterations, the last video whole


@pytest.mark.parametrize("largest", [1, 5, 10**6])
def test_groups_and_chunks_do_not_change_labels(monkeypatch, largest):
    table, features = pool()
    config = configured(iterations=30)
    expected, calls = remix.pseudo_labels(table, embedder(features), config, 2), []
    monkeypatch.setattr(remix, "EMBEDDED", largest)
    found = remix.pseudo_labels(table, embedder(features, largest, largest, calls), config, 2)
    assert same_labels(found, expected)
    assert len(calls) == {1: len(set(drawn_order(calls, table.videos))), 10**6: len(calls)}.get(
        largest, len(calls)
    )
    assert largest != 10**6 or len(calls) < 9


@pytest.mark.parametrize("least", [4, 256])
def test_groups_grow_where_nothing_clusters(monkeypatch, least):
    """Groups as long as what has been embedded asks for; where that is little, as many images as `LEAST`."""
    monkeypatch.setattr(remix, "LEAST", least)
    monkeypatch.setattr(remix, "EMBEDDED", 40)
    videos = np.repeat(np.arange(1200), 2)
    noise = from_columns("clips", Paths.of([f"s{i}.jpg" for i in videos]), np.arange(2400), videos=videos)
    table, calls = concat([cameras_table(), noise]), []
    config = configured(remix__min_samples=4, iterations=2)  # 8 labels wanted, and none found
    remix.pseudo_labels(table, embedder(np.ones((len(table), 2)), 0, 10**6, calls), config, 0)
    seen, expected = 0, []
    while seen < 2400:
        size = min(max(8 - seen, seen // 32, least), 40)
        expected.append(2 * min(math.ceil(size / 2), (2400 - seen) // 2))  # whole videos
        seen += expected[-1]
    assert [len(rows) for rows in calls] == expected
    assert least == 256 or max(expected) > 5 * min(expected)


def test_features_may_arrive_in_any_order():
    """As from several ranks."""
    table, features = pool(videos=6)

    def backwards(rows):
        yield from reversed(list(embedder(features)(rows)))

    expected = remix.pseudo_labels(table, embedder(features), configured(), 0)
    assert same_labels(remix.pseudo_labels(table, backwards, configured(), 0), expected)


def test_seed_and_epoch_draw_the_videos():
    table, features = pool()

    def videos(config, epoch):
        labels = remix.pseudo_labels(table, embedder(features), config, epoch)[0]
        return np.unique(table.videos[(table.videos >= 0) & (labels >= 0)]).tolist()

    first = videos(configured(), 0)
    torch.manual_seed(5)
    np.random.seed(5)
    assert videos(configured(), 0) == first
    assert videos(configured(), 1) != first and videos(configured(seed=1), 0) != first
    given = configured(remix__labels="given")
    seen = np.bincount([v for epoch in range(150) for v in videos(given, epoch)], minlength=20)
    assert seen.min() > 0.5 * seen.mean() and seen.max() < 1.7 * seen.mean()  # nobody is left out


def test_given_labels_stay():
    table, features = pool()
    config = configured(remix__labels="given", iterations=30)
    labels, memory = remix.pseudo_labels(table, embedder(features), config, 1)
    single = table.videos >= 0
    drawn = np.isin(table.videos, np.unique(table.videos[single & (labels >= 0)]))
    assert (labels[single & drawn] == table.labels[single & drawn]).all()
    assert (labels[single & ~drawn] == -1).all() and (labels[~single] == table.labels[~single]).all()
    rows = np.flatnonzero(single & drawn & (labels >= 0))
    means = [features[rows][labels[rows] == label].mean(0) for label in memory.labels.tolist()]
    np.testing.assert_allclose(memory.centroids, means, rtol=0, atol=1e-9)
    clustered = remix.pseudo_labels(table, embedder(features), change(config, remix__labels="clusters"), 1)
    assert (np.unique(table.videos[clustered[0] > table.labels.max()])).size > 0


def test_given_labels_leave_junk_out():
    table = mixed(videos=3, people=2, images=4, junk=3)
    config = configured(remix__labels="given", iterations=99)
    labels, _ = remix.pseudo_labels(table, embedder(features_of(table, 0, 1)[0]), config, 0)
    assert labels.tolist() == table.labels.tolist() and (labels == -1).sum() == 3


def test_videos_of_few_images_yield_nothing():
    lonely = from_columns(
        "clips", Paths.of([f"s{i}.jpg" for i in range(9)]), np.arange(9), videos=np.array([0, 1, 1] + [2] * 6)
    )
    table = concat([cameras_table(), lonely])
    features = np.tile([1.0, 0.0], (len(table), 1))  # all alike
    labels, memory = remix.pseudo_labels(table, embedder(features), configured(remix__min_samples=4), 0)
    assert labels[table.videos >= 0].tolist() == [-1] * 3 + [12] * 6 and memory.labels.tolist() == [12]
    labels, memory = remix.pseudo_labels(table, embedder(features), configured(remix__min_samples=7), 0)
    assert (labels[table.videos >= 0] == -1).all() and len(memory) == 0
    labels, memory = remix.pseudo_labels(table, embedder(features), configured(remix__min_samples=1), 0)
    assert memory.labels.tolist() == [12, 13, 14] and sorted(np.bincount(labels)[12:]) == [1, 2, 6]


@pytest.mark.parametrize("whole", [False, True])
def test_unreadable_images_are_missing(whole):
    """What `embed` leaves out is nobody's; the others are clustered as if it had never been there."""
    table, features = pool(videos=5)
    gone = np.flatnonzero(table.videos == 2)[: None if whole else 2]

    def embed(rows):
        yield from embedder(features)(rows[~np.isin(rows, gone)])

    config = configured(iterations=1000)
    labels, memory = remix.pseudo_labels(table, embed, config, 0)
    assert (labels[gone] == -1).all() and len(memory) > 5
    for label, mean in zip(memory.labels.tolist(), memory.centroids, strict=True):
        np.testing.assert_allclose(mean, features[labels == label].mean(0), rtol=0, atol=1e-9)
    for video in range(5):
        rows = np.setdiff1d(np.flatnonzero(table.videos == video), gone)
        clusters = remix.cluster(features[rows], config.remix)
        assert ((labels[rows] == -1) == (clusters == -1)).all()
        assert len(np.unique(labels[rows])) == len(np.unique(clusters))


# ---- the epoch


def test_refresh_is_centroids_and_labels():
    table, features = pool()
    config, state, many = configured(batch__ids_single=2), start(table), table.videos < 0
    before = dataclasses.replace(state, labels=state.labels.copy())
    after, done = remix.refresh(state, table, embedder(features), config, 1, spend=True)
    assert after is state and state.labels.tolist() == before.labels.tolist() and state.memory is None
    assert table.labels.tolist() == pool()[0].labels.tolist()
    p, q = naive.multi_centroids(
        features[many].tolist(), table.labels[many].tolist(), table.camids[many].tolist()
    )
    np.testing.assert_allclose(done.multi.centroids, list(p.values()), rtol=0, atol=1e-9)
    np.testing.assert_allclose(done.multi.camera_centroids, list(q.values()), rtol=0, atol=1e-9)
    expected = remix.pseudo_labels(table, embedder(features, seed=9), config, 1)
    assert same_labels((done.labels, done.single), expected)
    assert not done.removed.any() and done.queue == () and done.report is None
    again = remix.refresh(state, table, embedder(features, seed=3), config, 1)[1]
    assert again.labels.tolist() == done.labels.tolist()
    other = remix.refresh(state, table, embedder(features), config, 2)[1]
    assert other.labels.tolist() != done.labels.tolist()


@pytest.mark.parametrize("rows", ["all", "multi"])
def test_without_single_camera_batches(rows):
    table = mixed() if rows == "all" else cameras_table()
    config, calls = configured(batch__ids_single=0 if rows == "all" else 2), []
    features = features_of(table, 0, 1)[0]
    state, done = remix.refresh(start(table), table, embedder(features, calls=calls), config, 0)
    assert done.single is None and done.labels.tolist() == table.labels.tolist()
    assert [each.tolist() for each in calls] == [np.flatnonzero(table.videos < 0).tolist()]
    if rows == "all":
        planned = remix.batches(state, done, table, config, 0)
        assert all((table.videos[batch] < 0).all() and len(batch) == 4 for batch in planned)


def test_too_few_clusters_are_named():
    table, features = pool(videos=3)
    config = configured(batch__ids_single=50)
    with pytest.raises(
        ValueError,
        match=r"epoch 4: 3 videos hold \d+ .* needs 50: .*ids_single.*remix.eps.*min_samples.*\d+ of \d+",
    ):
        remix.refresh(start(table), table, embedder(features), config, 4)


@pytest.mark.parametrize("least", [1, 6])
def test_a_short_epoch_draws_on_until_a_batch_can_be_filled(least):
    """One cluster of up to five images a video: 18 labeled images are there before seven identities are."""
    table = mixed(videos=60, people=1, images=5)
    features = np.eye(len(table), 64)[table.labels % 64].astype(np.float32)  # a person is one point
    config = configured(iterations=1, batch__ids_single=7, dsm__min_images=least)
    if least > 5:
        with pytest.raises(ValueError, match="60 videos hold 0 pseudo-identities of at least 6 images"):
            remix.refresh(start(table), table, embedder(features), config, 0)
        return
    done = remix.refresh(start(table), table, embedder(features), config, 0)[1]
    found = done.clustering
    assert found.pids == len(done.single) == 7 and found.labeled - 5 >= config.batch.size == 18
    assert all(len(rows) == 18 for rows in remix.batches(start(table), done, table, config, 0))


def test_what_was_clustered_is_counted():
    table, features = pool()
    config = configured(iterations=10, batch__ids_single=2, remix__min_samples=4)
    done, calls = remix.refresh(start(table), table, embedder(features), config, 1)[1], []
    drawn = np.unique(table.videos[done.labels > table.labels.max()])
    labeled = (done.labels >= 0) & (table.videos >= 0)
    assert 0 < done.clustering.labeled == labeled.sum() <= done.clustering.images
    assert done.clustering.pids == len(np.unique(done.labels[labeled]))
    assert done.clustering.videos >= len(drawn)
    nothing = np.eye(len(table))  # nobody resembles anybody
    with pytest.raises(ValueError, match=r"most images are noise \((\d+) of \1\)"):
        remix.refresh(start(table), table, embedder(nothing, calls=calls), config, 1)


def test_a_video_too_large_for_jaccard_is_refused_before_anything_is_embedded(monkeypatch):
    monkeypatch.setattr(remix, "LARGEST", 3)
    (table, features), calls = pool(), []
    config = configured(batch__ids_single=2, remix__metric="jaccard")
    with pytest.raises(ValueError, match=r"a video has \d+ images.*at most 3 .*euclidean or cosine"):
        remix.refresh(start(table), table, embedder(features, calls=calls), config, 0)
    assert not calls
    for other in ({"remix__metric": "cosine"}, {"remix__labels": "given"}):
        remix.refresh(start(table), table, embedder(features), change(config, **other), 0)


def epoch_of(config, epoch=0, **sizes):
    table, features = pool(**sizes)
    state, done = remix.refresh(start(table), table, embedder(features), config, epoch)
    return table, done, remix.batches(state, done, table, config, epoch)


@pytest.mark.parametrize("labels", ["clusters", "given"])
def test_batches_hold_what_they_should(labels):
    config = configured(batch__ids_single=3, batch__images_single=3, iterations=20, remix__labels=labels)
    table, done, planned = epoch_of(config)
    assert len(planned) == 20 and planned.queue == []
    for rows in planned:
        used = done.labels[rows]
        assert (used >= 0).all() and (table.videos[rows] >= 0).tolist() == [False] * 4 + [True] * 9
        for part, ids, each in ((used[:4], 2, 2), (used[4:], 3, 3)):
            found, counts = np.unique(part, return_counts=True)
            assert len(found) == ids and (counts == each).all()
        for label in np.unique(used[4:]):
            images = min(3, (done.labels == label).sum())  # without repeats while there are enough
            assert len({row for row in rows if done.labels[row] == label}) == images
    again = epoch_of(config)[2]
    assert list(again) == list(planned) and list(epoch_of(config, 1)[2]) != list(planned)


@pytest.mark.parametrize("mode", ["median", "hard"])
def test_pseudo_identities_are_drawn_uniformly(mode):
    """Nothing is matched and nobody rests, whatever the settings of Data Sampling."""
    config = configured(batch__ids_single=2, iterations=400, dsm__mode=mode, dsm__queue_epochs=30.0)
    _, done, planned = epoch_of(config, videos=6)
    picks = planned.pairs[..., 1].ravel()
    known, counts = np.unique(picks, return_counts=True)
    assert known.tolist() == done.single.labels.tolist() and (planned.pairs[..., 0] == -1).all()
    expected = 800 / len(known)
    square = ((counts - expected) ** 2 / expected).sum()
    freedom = len(known) - 1
    assert square < freedom + 4 * np.sqrt(2 * freedom)
    assert square > freedom / 8  # a cycle through all of them would be more even than chance
    multi = np.bincount([label for rows in planned for label in done.labels[rows[:4:2]]])
    assert multi.max() - multi.min() <= 2  # multi-camera identities take turns
    assert any(np.intersect1d(a, b).size for a, b in zip(planned.pairs[:, :, 1], planned.pairs[1:, :, 1],
                                                         strict=False))  # fmt: skip


# ---- trainings


def training(config, **changes):
    """Of seconds: loose clusters, so that every clip is one person at least."""
    given = {"method": "remix", "epochs": 2, "iterations": 8, "remix__eps": 0.5} | changes
    return change(config, **given)


def finish(config, table, folder):
    return list(trainer.train(config, table, folder, device="cpu"))


def epochs_of(records):
    return [record for record in records if isinstance(record, trainer.Epoch)]


def test_trains_and_resumes_bit_for_bit(small_config, mixed_table, tmp_path):
    config = training(small_config)
    assert methods.of(config) is remix
    unbroken = epochs_of(finish(config, mixed_table, tmp_path / "unbroken"))
    assert [record.report for record in unbroken] == [None, None]
    assert all(np.isfinite(value) for record in unbroken for value in record.terms.values())
    interrupted = trainer.train(config, mixed_table, tmp_path / "resumed", device="cpu")
    for _ in range(12):  # three steps into the second epoch
        next(interrupted)
    interrupted.close()
    resumed = epochs_of(finish(config, mixed_table, tmp_path / "resumed"))
    assert len(resumed) == 1 and resumed[0].labels.tolist() == unbroken[1].labels.tolist()
    left, right = (checkpoint.load(tmp_path / name) for name in ("unbroken", "resumed"))
    assert [name for name in left.tensors if not torch.equal(left.tensors[name], right.tensors[name])] == []
    assert left.queue == right.queue == ()
    log = [(tmp_path / name / trainer.LOG).read_text().splitlines() for name in ("unbroken", "resumed")]
    assert [json.loads(line)["terms"] for line in log[0]] == [json.loads(line)["terms"] for line in log[1]]
    state = checkpoint.state_of(left, torch.device("cpu"))
    assert state.memory is None and state.labels.tolist() == mixed_table.labels.tolist()


@pytest.mark.parametrize(
    "switch",
    [
        {"remix__labels": "given"},
        {"remix__metric": "cosine", "remix__eps": 0.1, "remix__min_samples": 2},
        {"remix__metric": "jaccard", "remix__eps": 0.9, "remix__k1": 10, "remix__k2": 3},
        {"batch__ids_single": 0},
    ],
)  # fmt: skip
def test_every_switch_trains(small_config, mixed_table, tmp_path, switch):
    last = finish(training(small_config, epochs=1, **switch), mixed_table, tmp_path)[-1]
    assert all(np.isfinite(value) for value in last.terms.values())
    single = mixed_table.videos >= 0
    if switch.get("remix__labels") == "given" or not switch.get("batch__ids_single", 4):
        known = single & (last.labels >= 0)
        assert (last.labels[known] == mixed_table.labels[known]).all() and known.any()
    else:
        assert last.labels[single].max() > mixed_table.labels.max()


def test_unreadable_images_are_left_out_of_a_training(small_config, mixed_table, tmp_path):
    names = [mixed_table.paths[row] for row in range(len(mixed_table))]
    bad = np.flatnonzero(mixed_table.videos >= 0)[[0, 30, 31]]
    for row in bad:
        names[row] = str(tmp_path / f"missing{row}.jpg")
    table = dataclasses.replace(mixed_table, paths=Paths.of(names))
    config = training(small_config, epochs=1, on_bad_image="skip")
    with pytest.warns(UserWarning, match="skipped 3 unreadable images"):
        last = finish(config, table, tmp_path / "run")[-1]
    assert (last.labels[bad] == -1).all() and np.isfinite(last.terms["total"])


# ---- several processes


class Together:
    """Threads that exchange what processes would; each knows its rank."""

    def __init__(self, count, monkeypatch):
        self.count, self.own = count, threading.local()
        self.values, self.barrier = [None] * count, threading.Barrier(count, timeout=60)
        for name in ("rank", "ranks", "everyone", "sum_"):
            monkeypatch.setattr(distributed, name, getattr(self, name))

    def rank(self):
        return self.own.rank

    def ranks(self):
        return self.count

    def everyone(self, value):
        self.values[self.own.rank] = value
        self.barrier.wait()
        values = list(self.values)
        self.barrier.wait()
        return values

    def sum_(self, tensor):
        return tensor.copy_(sum(self.everyone(tensor.clone())))

    def run(self, work):
        def one(rank):
            self.own.rank = rank
            return work()

        with ThreadPoolExecutor(self.count) as pool:
            return list(pool.map(one, range(self.count)))


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("block", [4, 1000])
def test_every_rank_finds_the_labels_of_one_process(monkeypatch, count, block):
    """Whoever embeds what; in blocks of 1000 only the last rank has any."""
    table, features = pool()
    config = configured(batch__ids_single=2, iterations=30)
    _, alone = remix.refresh(start(table), table, embedder(features), config, 1)
    together = Together(count, monkeypatch)
    monkeypatch.setattr(remix, "EMBEDDED", 50)

    def embed(rows):
        yield from embedder(features)(rows[distributed.own_part(len(rows), block)])

    for _, done in together.run(lambda: remix.refresh(start(table), table, embed, config, 1)):
        assert same_labels((done.labels, done.single), (alone.labels, alone.single))
        np.testing.assert_allclose(done.multi.centroids, alone.multi.centroids, rtol=0, atol=1e-12)


# ---- DynaMix without merging


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("compare", ["previous", "blended"])
def test_merging_off_is_a_threshold_that_nothing_reaches(reset, compare):
    table, per_epoch = busy()
    config = all_kinds(rm__scope="video", rm__reset_labels_each_epoch=reset, rm__compare=compare)
    off = refresh_all(table, per_epoch, change(config, rm__merging=False))
    never = refresh_all(table, per_epoch, change(config, rm__tau_merge=1.0))
    merges = refresh_all(table, per_epoch, config)
    for (state, done), (expected_state, expected) in zip(off, never, strict=True):
        assert done.labels.tolist() == expected.labels.tolist() and done.report == expected.report
        assert done.removed.tolist() == expected.removed.tolist()
        assert torch.equal(done.single.centroids, expected.single.centroids)
        assert torch.equal(state.memory.centroids, expected_state.memory.centroids)
        assert done.report is None or done.report.merged == 0 and done.report.largest_component == 1
    assert any(done.report and done.report.merged for _, done in merges)
    assert any(done.report and done.report.relabeled for _, done in off)  # the rest of the module works


def test_merging_off_leaves_identical_centroids_apart():
    table, _ = busy()
    same = np.tile(unit(torch.ones(1, 4, dtype=torch.float64)).numpy(), (len(table), 1))
    (_, _), (_, done) = refresh_all(table, [same, same], all_kinds(rm__merging=False))
    assert done.labels.tolist() == table.labels.tolist() and done.report.merged == 0
    assert dynamix.start(table).labels.tolist() == table.labels.tolist()
