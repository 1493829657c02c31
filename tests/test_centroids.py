import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dynamix import centroids
from dynamix.centroids import CentroidsMemory, multi_centroids
from tests import naive
from tests.test_similarity import integers, random

torch.set_num_threads(1)
tensor = torch.tensor


def memory_of(P, D=4, seed=0):
    labels = torch.randperm(3 * P, generator=torch.Generator().manual_seed(seed))[:P]
    return CentroidsMemory(labels, random(P, D, seed), labels % 3)


def close(a, b):
    torch.testing.assert_close(a, torch.tensor(b, dtype=a.dtype).reshape(a.shape), rtol=0, atol=1e-12)


def test_rows_follow_the_labels():
    centroids = random(3, 2)
    memory = CentroidsMemory(tensor([7, 2, 5]), centroids, tensor([70, 20, 50]))
    assert memory.labels.tolist() == [2, 5, 7] and memory.videos.tolist() == [20, 50, 70]
    assert torch.equal(memory.centroids, centroids[[1, 2, 0]]) and len(memory) == 3
    assert memory.index_of(tensor([7, -1, 3, 2, 9])).tolist() == [2, -1, -1, 0, -1]
    memory.update(random(1, 2, 1), tensor([2]))
    assert torch.equal(centroids, random(3, 2))  # the caller's tensor stays


@settings(deadline=None, max_examples=40)
@given(
    P=st.integers(1, 7), n=st.integers(0, 15), alpha=st.sampled_from([0.0, 0.3, 1.0]), seed=st.integers(0, 99)
)
def test_update_is_equation_3(P, n, alpha, seed):
    memory = memory_of(P, seed=seed)
    before = memory.centroids.tolist()
    pool = torch.cat([memory.labels, tensor([-1])])
    features, labels = random(n, 4, seed + 1), pool[integers(P + 1, n, seed)]
    expected = naive.ema_centroids(memory.labels.tolist(), before, features.tolist(), labels.tolist(), alpha)
    chunked = memory.copy()
    assert memory.update(features, labels, alpha) is memory
    close(memory.centroids, expected)
    for f, y in zip(features.split(2), labels.split(2), strict=True):
        chunked.accumulate(f, y)
    chunked.apply(alpha)
    close(chunked.centroids, expected)
    assert chunked.sums is None and chunked.counts is None


def test_defaults_renorm_and_first_epoch():
    memory = CentroidsMemory(tensor([0, 1]), torch.eye(2).double())
    memory.update(tensor([[0.0, 2.0], [0.0, 4.0]]).double(), tensor([0, 0]))
    close(memory.centroids, [[0.3, 2.1], [0.0, 1.0]])
    memory.accumulate(tensor([[3.0, 4.0]]).double(), tensor([1])).apply(0, renorm=True)
    close(memory.centroids, [[0.3, 2.1], [0.6, 0.8]])
    fresh = CentroidsMemory.empty(tensor([4, 3]), 2, dtype=torch.float64)
    fresh.accumulate(tensor([[1.0, 2.0], [3.0, 4.0]]).double(), tensor([3, 3])).apply(alpha=0)
    close(fresh.centroids, [[2.0, 3.0], [0.0, 0.0]])
    single = CentroidsMemory(tensor([0]), torch.ones(1, 2)).update(torch.zeros(1, 2), tensor([0]))
    assert single.centroids.dtype == torch.float32


def test_refusals():
    with pytest.raises(ValueError, match="label 2 "):
        CentroidsMemory(tensor([2, 1, 2]), random(3, 2))
    with pytest.raises(ValueError, match="negative"):
        CentroidsMemory(tensor([-1, 1]), random(2, 2))
    with pytest.raises(ValueError, match="label 9 "):
        memory_of(2).update(random(1, 4), tensor([9]))
    with pytest.raises(ValueError, match="label 9 "):
        memory_of(2).select(tensor([9]))
    with pytest.raises(ValueError, match="alpha"):
        memory_of(2).apply(1.5)
    with pytest.raises(ValueError, match="counts"):
        memory_of(2).merged(tensor([0, 0]), tensor([1, -1]))


@settings(deadline=None, max_examples=40)
@given(P=st.integers(1, 8), roots=st.integers(1, 4), weighted=st.booleans(), seed=st.integers(0, 99))
def test_merged_is_the_mean_of_the_union(P, roots, weighted, seed):
    memory = memory_of(P, seed=seed)
    mapping = memory.labels[integers(min(roots, P), P, seed)]
    counts = integers(3, P, seed + 1) if weighted else None
    before = memory.centroids.clone()
    merged = memory.merged(mapping, counts)
    lists = [x.tolist() for x in (memory.labels, memory.centroids, mapping)]
    expected = naive.merged_centroids(*lists, None if counts is None else counts.tolist())
    assert merged.labels.tolist() == list(expected)
    close(merged.centroids, list(expected.values()))
    assert torch.equal(merged.videos, merged.labels % 3)  # the root row's
    assert torch.equal(memory.centroids, before)


def test_unmerged_rows_and_selection_are_untouched():
    memory = memory_of(5)
    same = memory.merged(memory.labels, tensor([3, 0, 7, 1, 9]))
    assert torch.equal(same.centroids, memory.centroids)
    part = memory.select(memory.labels[[3, 1, 3]])
    assert torch.equal(part.labels, memory.labels[[1, 3]])
    assert torch.equal(part.centroids, memory.centroids[[1, 3]]) and torch.equal(
        part.videos, memory.videos[[1, 3]]
    )
    nobody = memory.select(memory.labels[:0])
    assert len(nobody) == 0 and nobody.index_of(tensor([1])).tolist() == [-1]


@pytest.mark.parametrize("chunk", [1, 3, 50])
@pytest.mark.parametrize("ids, cameras", [(1, 1), (4, 3)])
def test_multi_centroids_are_the_loop(ids, cameras, chunk):
    features = torch.nn.functional.normalize(random(20, 5))
    labels, camids = (integers(ids + 1, 20) - 1).numpy(), integers(cameras, 20, 1).numpy()
    chunks = ((rows, features[rows]) for rows in torch.randperm(20).split(chunk))
    found = multi_centroids(chunks, labels, camids)
    p, q = naive.multi_centroids(features.tolist(), labels.tolist(), camids.tolist())
    assert found.labels.tolist() == list(p)
    close(found.centroids, list(p.values()))
    assert list(zip(found.camera_labels.tolist(), found.camera_camids.tolist(), strict=True)) == list(q)
    close(found.camera_centroids, list(q.values()))


def test_multi_centroids_leave_out_what_was_not_seen():
    labels, camids = np.array([0, 0, 1, 2]), np.array([0, 1, 1, -1])
    found = multi_centroids([(np.array([0]), torch.ones(1, 2))], labels, camids)
    assert found.labels.tolist() == [0] and found.camera_camids.tolist() == [0]
    with pytest.raises(ValueError, match="no multi-camera"):
        multi_centroids([], labels, camids)


def test_rows_without_a_camera_count_for_their_identity_alone():
    labels, camids = np.array([0, 0, 2, 2]), np.array([1, -1, -1, -1])
    features = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8], [0.8, 0.6]])
    found = multi_centroids([(np.arange(4), features)], labels, camids)
    assert found.labels.tolist() == [0, 2]
    assert torch.allclose(found.centroids, torch.tensor([[0.5, 0.5], [0.7, 0.7]]))
    assert found.camera_labels.tolist() == [0] and found.camera_camids.tolist() == [1]
    assert found.camera_centroids.tolist() == [[1.0, 0.0]]


def test_searchable_centroids_are_made_once_until_they_change():
    memory = memory_of(5)
    ready = memory.searchable()
    assert memory.searchable() is ready and memory.copy().searchable() is not ready
    memory.accumulate(random(2, 4), memory.labels[:2])
    assert memory.searchable() is ready  # sums are not centroids
    changes = (
        lambda: memory.apply(0.5),
        lambda: memory.centroids.mul_(2),
        lambda: memory.merge_(memory.labels[[0, 0, 2, 3, 4]]),
        lambda: memory.select_(memory.labels[1:]),
        memory.release,
    )
    for change in changes:
        ready = memory.searchable()
        change()
        assert memory.searchable() is not ready
        assert torch.equal(memory.searchable().centroids, memory.centroids)


@pytest.mark.parametrize("P", [40, 4000])
def test_merging_and_selecting_in_place_need_no_second_copy(P, monkeypatch):
    monkeypatch.setattr(centroids, "BLOCK", 64)  # several blocks
    memory = memory_of(P, D=6)
    memory.accumulate(random(P, 6, 1), memory.labels[integers(P, P)])
    mapping = memory.labels.clone()
    mapping[3::4] = mapping[1::4]
    expected = memory.merged(mapping, integers(5, P)).select(mapping.unique()[::2])
    at, sums_at = memory.centroids.data_ptr(), memory.sums.data_ptr()
    memory.merge_(mapping, integers(5, P)).select_(mapping.unique()[::2])
    assert memory.centroids.data_ptr() == at and memory.sums.data_ptr() == sums_at
    for name in ("labels", "centroids", "videos", "sums", "counts"):
        assert torch.equal(getattr(memory, name), getattr(expected, name))


def test_sums_of_half_precision_do_not_overflow():
    memory = CentroidsMemory(tensor([0]), torch.zeros(1, 2, dtype=torch.float16))
    memory.accumulate(torch.full((9000, 2), 30.0, dtype=torch.float16), torch.zeros(9000, dtype=torch.int64))
    assert memory.sums.dtype == torch.float32
    assert memory.apply(0.0).centroids.tolist() == [[30.0, 30.0]] and memory.centroids.dtype == torch.float16


def test_a_multi_camera_feature_that_is_not_finite_is_named():
    bad = torch.ones(3, 2)
    bad[1, 0] = torch.nan
    with pytest.raises(ValueError, match="features row 1 is not finite"):
        multi_centroids([(np.arange(3), bad)], np.zeros(3, np.int64), np.arange(3))


def test_bad_features_are_named_before_anything_is_added():
    memory = memory_of(3)
    bad = random(4, 4)
    bad[2, 1] = torch.inf
    with pytest.raises(ValueError, match="features row 2 is not finite"):
        memory.accumulate(bad, memory.labels[[0, 1, 2, 0]])
    with pytest.raises(ValueError, match="D = 3, centroids D = 4"):
        memory.accumulate(random(2, 3), memory.labels[:2])
    assert memory.sums is None
