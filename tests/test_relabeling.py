import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dynamix.centroids import CentroidsMemory
from dynamix.relabeling import Relabeled, calibrate, explosion, map_labels, merge_pids, relabel, report
from tests import naive
from tests.test_centroids import memory_of
from tests.test_similarity import clumped, integers, random

torch.set_num_threads(1)
tensor = torch.tensor
READINGS = ("all", "others", "own_filter")


def fan(*degrees):
    """Unit vectors at these angles."""
    return tensor(
        [[math.cos(math.radians(a)), math.sin(math.radians(a))] for a in degrees], dtype=torch.float64
    )


@settings(deadline=None, max_examples=40)
@given(
    n=st.integers(0, 14),
    P=st.integers(1, 8),
    reading=st.sampled_from(READINGS),
    video=st.booleans(),
    ties=st.booleans(),
    chunk=st.integers(1, 16),
    tau=st.sampled_from([(0.6, 0.5), (0.2, -0.1), (0.9, 0.9)]),
    seed=st.integers(0, 99),
)
def test_relabel_is_the_loop(n, P, reading, video, ties, chunk, tau, seed):
    memory, features = memory_of(P, 3, seed), random(n, 3, seed + 1)
    if ties:
        memory = CentroidsMemory(memory.labels, clumped(P, 3, 3, seed), memory.videos)
        features = clumped(n, 3, 3, seed)
    labels = torch.cat([memory.labels, tensor([999])])[integers(P + 1, n, seed)]  # 999 has no centroid
    videos = integers(4, n, seed) if video else None
    found = relabel(
        features,
        labels,
        memory,
        tau_rel=tau[0],
        tau_remove=tau[1],
        reading=reading,
        videos=videos,
        chunk=chunk,
    )
    scope = (videos.tolist(), memory.videos.tolist()) if video else (None, None)
    lists = [x.tolist() for x in (features, labels, memory.labels, memory.centroids)]
    expected = naive.relabel(*lists, *tau, reading, *scope)
    assert found.labels.tolist() == [e[0] for e in expected]
    assert found.removed.tolist() == [e[1] for e in expected]
    assert found.similarity.tolist() == pytest.approx([e[2] for e in expected], abs=1e-12)


def test_a_hand_worked_case():
    """Centroids at 0 and 90 degrees; images of PID 0 at 0, 20, 50, 65, 180 degrees."""
    memory = CentroidsMemory(tensor([0, 1]), fan(0, 90))
    images, labels = fan(0, 20, 50, 65, 180), tensor([0] * 5)
    found = relabel(images, labels, memory)
    assert found.labels.tolist() == [0, 0, 1, 1, 0] and found.removed.tolist() == [False] * 4 + [True]
    others = relabel(images, labels, memory, reading="others")  # perfect images are deleted
    assert others.labels.tolist() == [0, 0, 1, 1, 0] and others.removed.tolist() == [
        True,
        True,
        False,
        False,
        True,
    ]
    own = relabel(images, labels, memory, reading="own_filter", tau_rel=0.95)
    assert own.labels.tolist() == [0] * 5 and own.removed.tolist() == [False, False, False, True, True]
    assert torch.equal(labels, tensor([0] * 5))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_inequalities_are_strict(dtype):
    memory = CentroidsMemory(tensor([0, 1]), tensor([[3.0, 4.0], [-1.0, 0.0]], dtype=dtype))
    image = tensor([[1.0, 0.0]], dtype=dtype)  # cosine exactly 0.6 to label 0
    assert relabel(image, tensor([1]), memory, tau_rel=0.6).labels.tolist() == [1]
    assert relabel(image, tensor([1]), memory, tau_rel=0.59999).labels.tolist() == [0]
    assert not relabel(image, tensor([0]), memory, tau_remove=0.6).removed.item()
    assert relabel(image, tensor([0]), memory, tau_rel=0.7, tau_remove=0.60001).removed.item()
    near = CentroidsMemory(tensor([3, 8]), tensor([[1.0, 0.0], [4.0, 3.0]], dtype=dtype))  # exactly 0.8
    assert merge_pids(near).tolist() == [3, 3] and merge_pids(near, tau_merge=0.80001).tolist() == [3, 8]


@pytest.mark.parametrize("reading", READINGS)
def test_order_and_chunk_do_not_matter(reading):
    memory = memory_of(20, 3)
    features, labels = random(60, 3, 5), memory.labels[integers(20, 60)]
    whole = relabel(features, labels, memory, reading=reading)
    order = torch.randperm(60, generator=torch.Generator().manual_seed(1))
    shuffled = relabel(features[order], labels[order], memory, reading=reading, chunk=7)
    for a, b in zip(whole, shuffled, strict=True):
        assert torch.equal(a[order], b)


def test_ignored_and_lonely_images():
    memory = CentroidsMemory(tensor([4]), fan(0), tensor([0]))
    found = relabel(fan(0, 180), tensor([-1, -1]), memory)
    assert found.labels.tolist() == [-1, -1] and not found.removed.any()
    elsewhere = relabel(fan(0), tensor([4]), memory, videos=tensor([9]))
    assert elsewhere.removed.tolist() == [True] and elsewhere.labels.tolist() == [4]
    empty = relabel(fan(0)[:0], tensor([4])[:0], memory)
    assert all(len(x) == 0 for x in empty)


def test_refusals():
    memory = CentroidsMemory(tensor([0, 1]), fan(0, 90))
    bad = fan(0, 1, 2)
    bad[1, 0] = math.nan
    labels = tensor([0, 0, 0])
    for match, call in {
        "tau_remove": lambda: relabel(fan(0), labels[:1], memory, tau_remove=0.7),
        "features row 1": lambda: relabel(bad, labels, memory),
        "videos": lambda: relabel(fan(0), labels[:1], memory, videos=labels[:1]),
        "with videos": lambda: merge_pids(memory, scope="video"),
        "scope video needs": lambda: calibrate(memory),
    }.items():
        with pytest.raises(ValueError, match=match):
            call()


@settings(deadline=None, max_examples=30)
@given(
    P=st.integers(1, 12),
    tau=st.sampled_from([-1.0, 0.3, 0.8]),
    video=st.booleans(),
    chunk=st.integers(1, 13),
    seed=st.integers(0, 99),
)
def test_merging_is_the_search(P, tau, video, chunk, seed):
    memory = memory_of(P, 3, seed)
    groups = memory.videos.tolist() if video else None
    roots = naive.component_roots(P, naive.pairs_above(memory.centroids.tolist(), tau, groups))
    mapping = merge_pids(memory, tau_merge=tau, scope="video" if video else "global", chunk=chunk)
    labels = memory.labels.tolist()
    assert mapping.tolist() == [labels[r] for r in roots]
    for i, root in enumerate(mapping.tolist()):  # the smallest label of its component
        assert root == min(labels[j] for j in range(P) if roots[j] == roots[i])
    mapped = map_labels(torch.cat([memory.labels, tensor([-1, 777])]), memory, mapping)
    assert mapped.tolist() == [*mapping.tolist(), -1, 777]
    assert memory.merged(mapping).labels.tolist() == sorted(set(mapping.tolist()))


def test_report_counts_a_hand_worked_epoch():
    memory = CentroidsMemory(tensor([0, 1, 2]), fan(0, 90, 100))
    before = tensor([0, 0, 0, 1, 2, -1])
    after = relabel(fan(0, 80, 180, 91, 101, 0), before, memory)
    mapping = merge_pids(memory)
    made = report(before, after, memory, mapping)
    assert (made.images_before, made.images_after, made.relabeled, made.removed) == (5, 4, 1, 1)
    assert (made.pids_before, made.pids_after, made.merged, made.largest_component) == (3, 2, 1, 2)
    assert not made.alarm and json.loads(json.dumps(made.as_dict()))["similarity_quantiles"]["0.5"] > 0.9
    lonely = report(before, after)
    assert (lonely.merged, lonely.largest_component, lonely.pids_after) == (0, 1, 3)
    everyone = CentroidsMemory(torch.arange(50), fan(*[0] * 50))
    chained = report(
        torch.arange(50), relabel(fan(*[0] * 50), torch.arange(50), everyone), everyone, merge_pids(everyone)
    )
    assert chained.alarm and chained.largest_component == 50 and chained.merged == 49
    nothing = report(before[:0], relabel(fan(0)[:0], before[:0], memory))
    assert nothing.images_before == 0 and nothing.largest_component == 0


@pytest.mark.parametrize("limit", [4096, 60])
def test_calibrate_takes_cross_video_quantiles(limit):
    memory = CentroidsMemory(torch.arange(200), random(200, 6), integers(30, 200))
    rows = range(0, 200) if limit > 200 else [k * 200 // limit for k in range(limit)]
    lists, videos = memory.centroids.tolist(), memory.videos.tolist()
    values = [
        naive.cosine(lists[i], lists[j]) for i in rows for j in rows if i < j and videos[i] != videos[j]
    ]
    expected = np.quantile(values, [0.99, 0.999])
    assert calibrate(memory, limit=limit) == pytest.approx(tuple(expected), abs=1e-12)
    with pytest.raises(ValueError, match="one video"):
        calibrate(CentroidsMemory(torch.arange(3), random(3, 2), tensor([5, 5, 5])))


def test_an_explosion_is_told_with_the_histogram():
    close = random(1, 32) + 0.05 * random(30, 32, 1)
    memory = CentroidsMemory(torch.arange(40), torch.cat([close, random(10, 32, 2)]))
    labels = torch.arange(40)
    same = Relabeled(labels, labels < 0, torch.ones(40).double())
    found = report(labels, same, memory, merge_pids(memory))
    text = explosion(found, memory, 0.8)
    assert found.alarm and "30 of 40 PIDs (75%)" in text and "rm.tau_merge = 0.8" in text
    assert f"{30 * 29 / (40 * 39):.2%} of pairs" in text
    drawn = text.split("[")[1].split("]")[0]
    assert len(drawn) == 20 and drawn[19] == "█" and set(drawn[14:19]) == {" "}  # strangers are near 0
    assert explosion(found, memory, 0.8, limit=5).count("[") == 1


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_does_not_move_the_thresholds(dtype):
    """Cosines a hundredth on either side of each threshold, as near as the type can write them."""
    angles = torch.tensor([0.44, 0.49, 0.51, 0.59, 0.61, 0.65], dtype=torch.float64).arccos()
    features = torch.stack((angles.cos(), angles.sin()), 1).to(dtype)
    memory = CentroidsMemory(
        torch.tensor([3, 8]), torch.tensor([[1.0, 0.0], [0.0, -1.0]]), torch.tensor([0, 0])
    )
    labels = torch.full((6,), 8)
    half, full = (
        relabel(f, labels, memory, tau_rel=0.6, tau_remove=0.5) for f in (features, features.float())
    )
    assert half.removed.tolist() == full.removed.tolist() == [True, True, False, False, False, False]
    assert half.labels.tolist() == full.labels.tolist() == [8, 8, 8, 8, 3, 3]


def test_videos_of_another_length_and_undefined_thresholds_are_refused():
    memory = CentroidsMemory(torch.tensor([0]), torch.ones(1, 2), torch.tensor([0]))
    with pytest.raises(ValueError, match="1 feature_groups for 3 features"):
        relabel(torch.ones(3, 2), torch.zeros(3).long(), memory, videos=torch.zeros(1).long())
    with pytest.raises(ValueError, match="tau_rel"):
        relabel(torch.ones(3, 2), torch.zeros(3).long(), memory, tau_rel=float("nan"))
