import math
import os
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import TypeCheckError

from dynamix import similarity
from dynamix.similarity import components, nearest, pairs_above, prepared, screen, search, unit
from tests import naive

torch.set_num_threads(1)


def random(n, D, seed=0, dtype=torch.float64):
    return torch.randn(n, D, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def integers(high, n, seed=0):
    return torch.randint(high, (n,), generator=torch.Generator().manual_seed(seed))


def clumped(n, D, spots, seed=0):
    """Rows that repeat a few directions exactly, at other lengths: ties everywhere."""
    length = 1 + integers(3, n, seed + 2)[:, None].double()
    return random(spots, D, seed)[integers(spots, n, seed + 1)] * length


def check(found, expected):
    index, score, own, other_index, other = zip(*expected, strict=True) if expected else ([],) * 5
    assert found.index.tolist() == list(index)
    torch.testing.assert_close(found.similarity, torch.tensor(score, dtype=torch.float64), rtol=0, atol=1e-12)
    if found.own_similarity is not None:
        torch.testing.assert_close(
            found.own_similarity, torch.tensor(own, dtype=torch.float64), rtol=0, atol=1e-12
        )
        assert found.other_index.tolist() == list(other_index)
        torch.testing.assert_close(
            found.other_similarity, torch.tensor(other, dtype=torch.float64), rtol=0, atol=1e-12
        )


@settings(deadline=None, max_examples=40)
@given(
    n=st.integers(0, 12),
    P=st.integers(1, 9),
    D=st.integers(1, 7),
    groups=st.integers(0, 4),
    chunk=st.integers(1, 15),
    own=st.booleans(),
    ties=st.booleans(),
    seed=st.integers(0, 99),
)
def test_nearest_is_the_loop(n, P, D, groups, chunk, own, ties, seed):
    f, c = random(n, D, seed), random(P, D, seed + 1)
    if ties:
        f, c = clumped(n, D, 3, seed), clumped(P, D, 3, seed)
    mine = integers(P + 1, n, seed) - 1 if own else None
    fg, cg = (integers(groups, n, seed), integers(groups, P, seed + 1)) if groups else (None, None)
    lists = [None if x is None else x.tolist() for x in (mine, fg, cg)]
    found = nearest(f, c, own=mine, feature_groups=fg, centroid_groups=cg, chunk=chunk)
    check(found, naive.nearest(f.tolist(), c.tolist(), *lists))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_chunk_and_order_never_change_a_bit(dtype):
    f, c = clumped(150, 33, 40).to(dtype), clumped(60, 33, 40).to(dtype)
    own, fg, cg = integers(61, 150) - 1, integers(7, 150), integers(7, 60)
    for groups in ({}, {"feature_groups": fg, "centroid_groups": cg}):
        base = nearest(f, c, own=own, chunk=512, **groups)
        for chunk in (1, 2, 7, 64, 149, 150, 151):
            for a, b in zip(base, nearest(f, c, own=own, chunk=chunk, **groups), strict=True):
                assert torch.equal(a, b)
        order = torch.randperm(150, generator=torch.Generator().manual_seed(0))
        if groups:
            groups = {"feature_groups": fg[order], "centroid_groups": cg}
        for a, b in zip(base, nearest(f[order], c, own=own[order], **groups), strict=True):
            assert torch.equal(a[order], b)


def test_ties_go_to_own_then_to_the_smallest_index():
    c = random(1, 50).repeat(600, 1)
    f = torch.cat([c[:3], -c[:2]])
    assert nearest(f, c).index.tolist() == [0] * 5
    found = nearest(f, c, own=torch.tensor([5, 0, -1, 599, 2]))
    assert found.index.tolist() == [5, 0, 0, 599, 2]
    assert found.other_index.tolist() == [0, 1, 0, 0, 0]
    assert found.own_similarity[2] == -math.inf
    torch.testing.assert_close(found.own_similarity[3].item(), -1.0)


def test_scores_do_not_depend_on_shape():
    a, b = random(300, 129, dtype=torch.float32), random(300, 129, 1, dtype=torch.float32)
    whole = similarity.row_sums(unit(a) * unit(b))
    for n in (1, 2, 3, 17):
        assert torch.equal(similarity.row_sums(unit(a[:n]) * unit(b[:n])), whole[:n])
    torch.testing.assert_close(whole, torch.cosine_similarity(a, b))


def test_empty_and_lonely():
    c = random(4, 3)
    found = nearest(random(0, 3), c, own=torch.empty(0, dtype=torch.int64))
    assert all(len(x) == 0 for x in found)
    groups = {"feature_groups": torch.tensor([7, 2]), "centroid_groups": torch.tensor([2, 2, 3, 3])}
    found = nearest(random(2, 3), c, own=torch.tensor([0, 3]), **groups)
    assert found.index[0] == -1 and found.similarity[0] == -math.inf
    assert found.index[1] in (0, 1) and found.own_similarity[1] == -math.inf  # own is of another group
    nobody = nearest(
        random(2, 3), c, feature_groups=torch.tensor([8, 9]), centroid_groups=torch.tensor([2, 2, 3, 3])
    )
    assert nobody.index.tolist() == [-1, -1]
    alone = nearest(random(2, 3), c[:1], own=torch.tensor([0, 0]))
    assert alone.index.tolist() == [0, 0] and alone.other_index.tolist() == [-1, -1]
    assert nearest(torch.zeros(1, 3).double(), c).similarity.item() == 0
    assert pairs_above(c[:1], -1.0).shape == (0, 2) and components(c[:1], -1.0).tolist() == [0]


def test_autocast_and_low_precision_matmul_do_not_reach_the_search():
    f, c = random(50, 64, dtype=torch.float32), random(90, 64, 1, dtype=torch.float32)
    expected = nearest(f, c)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for a, b in zip(expected[:2], nearest(f, c)[:2], strict=True):
            assert torch.equal(a, b)


def test_refusals_name_what_is_wrong():
    f, c = random(3, 4), random(5, 4)
    bad = f.clone()
    bad[2, 1] = math.nan
    with pytest.raises(ValueError, match="features row 2"):
        nearest(bad, c)
    with pytest.raises(ValueError, match="centroids row 2"):
        components(bad, 0.5)
    for call in (
        lambda: nearest(f, c, chunk=0),
        lambda: nearest(f, c[:0]),
        lambda: nearest(f, c[:, :3]),
        lambda: nearest(f, c, own=torch.tensor([0, 5, 1])),
        lambda: pairs_above(c, 0.5, chunk=0),
        lambda: pairs_above(c[:0], 0.5),
        lambda: nearest(f, c, feature_groups=torch.zeros(3, dtype=torch.int64)),
    ):
        with pytest.raises((ValueError, TypeCheckError)):
            call()


@settings(deadline=None, max_examples=40)
@given(
    P=st.integers(1, 14),
    D=st.integers(1, 5),
    groups=st.integers(0, 4),
    chunk=st.integers(1, 16),
    threshold=st.sampled_from([-1.0, -0.2, 0.3, 0.8, 1.0, 1.1]),
    ties=st.booleans(),
    seed=st.integers(0, 99),
)
def test_pairs_and_components_are_the_loops(P, D, groups, chunk, threshold, ties, seed):
    c = clumped(P, D, 3, seed) if ties else random(P, D, seed)
    g = integers(groups, P, seed) if groups else None
    expected = naive.pairs_above(c.tolist(), threshold, None if g is None else g.tolist())
    found = pairs_above(c, threshold, groups=g, chunk=chunk)
    assert [tuple(p) for p in found.tolist()] == expected and found.dtype == torch.int64
    roots = components(c, threshold, groups=g, chunk=chunk)
    assert roots.tolist() == naive.component_roots(P, expected)


def test_components_stream_when_everything_percolates(monkeypatch):
    monkeypatch.setattr(similarity.merging, "EDGES", 50)
    c = random(300, 16)
    for threshold in (-1.0, 0.2, 0.45, 0.6):
        expected = (
            naive.component_roots(300, naive.pairs_above(c.tolist(), threshold))
            if threshold > 0.4
            else [0] * 300
        )
        for chunk in (13, 1024):
            assert components(c, threshold, chunk=chunk).tolist() == expected


def test_grouped_search_skips_other_groups(monkeypatch):
    """The products of a grouped search stay near the sum of n_g P_g, far from n P, in few calls."""
    work = []
    original = search._near_in_groups

    def counted(left, ready, rows, columns, own):
        work.append(rows.shape[0] * rows.shape[1] * columns.shape[1])
        return original(left, ready, rows, columns, own)

    monkeypatch.setattr(search, "_near_in_groups", counted)
    fg, cg = integers(400, 6000), integers(400, 3000, 1)
    exact = int((torch.bincount(fg, minlength=400) * torch.bincount(cg, minlength=400)).sum())
    found = nearest(random(6000, 8), random(3000, 8, 1), feature_groups=fg, centroid_groups=cg, chunk=512)
    assert exact <= sum(work) <= 4 * exact < 6000 * 3000 / 50 and len(work) < 60
    assert (cg[found.index] == fg).all()


KINDS = ("int8", "bfloat16", "float32")


def spread(D, case, dtype=torch.float64):
    """Features and centroids, and which centroid each feature comes from."""
    own = integers(300, 90, 3)
    centroids = random(300, D, 1, dtype) + {"shifted": 3.0}.get(case, 0.0)
    if case == "ties":
        centroids = clumped(300, D, 40).to(dtype)
    if case == "outlier":
        centroids[:, 0] *= 100
    if case == "equal":
        centroids[:] = centroids[:1]
    return centroids[own] + 0.5 * random(90, D, 2, dtype), centroids, own


@pytest.fixture
def screened(monkeypatch):
    """Screening of small searches with one kind of codes only, in tiles of 64 centroids."""

    def force(kind):
        monkeypatch.setattr(prepared, "SCREENED", 1)
        monkeypatch.setitem(screen.TILE, "cpu", dict.fromkeys(KINDS, 64))
        monkeypatch.setattr(screen, "kinds", lambda device: (kind,))

    return force


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", ["plain", "shifted", "ties", "outlier", "equal"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_screening_never_changes_a_bit(screened, kind, case, dtype):
    f, c, own = spread(40, case, dtype)
    own[::7] = -1
    plain, pairs, roots = nearest(f, c, own=own), pairs_above(c, 0.3), components(c, 0.3)
    equal = pairs_above(c, 1.0)  # up to rounding
    screened(kind)
    assert torch.equal(equal, pairs_above(c, 1.0))
    for chunk in (None, 17):
        for a, b in zip(plain, nearest(f, c, own=own, chunk=chunk), strict=True):
            assert torch.equal(a, b)
        assert torch.equal(pairs, pairs_above(c, 0.3, chunk=chunk))
        assert torch.equal(roots, components(c, 0.3, chunk=chunk))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", ["plain", "shifted", "outlier"])
def test_the_bound_holds_and_is_not_idle(screened, kind, case):
    """No coarse score is further off than its bound, and few pairs are left to score exactly."""
    screened(kind)
    f, c, _ = spread(256, case, torch.float32)
    ready, left = prepared.Prepared(c), unit(f)
    exact = left.double() @ (unit(c).double() - ready.mean.double()).T
    for tile in screen.tiles(screen.encode(left, kind), ready.codes(kind), len(c)):
        columns = slice(tile.start, tile.start + tile.scores.shape[0] * screen.GROUP)
        coarse = (tile.scores * tile.scale[:, None]).flatten(0, 1)[: len(c) - tile.start].T
        bound = tile.bound.repeat_interleave(screen.GROUP, 0)[: len(c) - tile.start].T
        assert ((exact[:, columns] - coarse).abs() <= bound).all()
    if case == "plain":
        i, _ = search._screened(left, ready, kind, None)
        assert len(f) <= len(i) < 5 * len(f)


def test_screening_gives_up_where_it_tells_nothing(screened):
    f, c, _ = spread(40, "equal")
    for kind in KINDS:
        screened(kind)
        assert search._screened(unit(f), prepared.Prepared(c), kind, None) is None


def test_the_fastest_kind_comes_first_and_finer_ones_follow():
    fineness = [KINDS.index(kind) for kind in screen.kinds("cpu")]
    assert fineness == sorted(fineness) and screen.kinds("cpu")[-1] == "float32"


def test_prepared_centroids_are_checked_and_coded_once(monkeypatch):
    f, c, own = spread(40, "plain", torch.float32)
    c = torch.cat([c] * 8) + random(2400, 40, 5, torch.float32)
    ready, calls = prepared.Prepared(c), []
    original = screen.encode_centered
    monkeypatch.setattr(screen, "encode_centered", lambda *a: calls.append(1) or original(*a))
    for _ in range(3):
        for a, b in zip(nearest(f, c, own=own), nearest(f, ready, own=own), strict=True):
            assert torch.equal(a, b)
    assert len(calls) == 3 + 1  # each call without it, and once with it


def test_half_precision_is_computed_in_float32_and_overflow_is_named():
    f, c, own = spread(40, "plain", torch.float32)
    half = nearest((200 * f).half(), (200 * c).half(), own=own)  # squares are beyond float16
    full = nearest((200 * f).half().float(), (200 * c).half().float(), own=own)
    assert torch.equal(half.index, full.index) and half.similarity.dtype == torch.float16
    assert torch.equal(half.similarity, full.similarity.half())
    large = f.half()
    large[4] *= 60_000
    with pytest.raises(ValueError, match="features row 4 is not finite: beyond float16"):
        nearest(large, c.half())


@pytest.mark.parametrize(
    "features, centroids, words", [(3, 4, "3 feature_groups for 6"), (6, 3, "3 centroid_groups for 4")]
)
def test_groups_of_another_length_are_refused(features, centroids, words):
    groups = {
        "feature_groups": torch.zeros(features).long(),
        "centroid_groups": torch.zeros(centroids).long(),
    }
    with pytest.raises(ValueError, match=words):
        nearest(random(6, 3), random(4, 3), **groups)


@pytest.mark.parametrize("threads", [1, 3])
def test_gradients_flow_through_unit_rows(threads):
    rows = random(9, 5).requires_grad_()
    torch.set_num_threads(threads)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(similarity.exact, "BLOCK", 10)  # of two rows each
            assert torch.autograd.gradcheck(unit, rows)
    finally:
        torch.set_num_threads(1)


def test_threads_do_not_change_a_bit():
    """Parts of the features, searched at once by threads of their own; one kind of codes may be given up."""
    draw = torch.Generator().manual_seed(0)
    people = torch.nn.functional.normalize(torch.randn(2500, 48, generator=draw))
    features, own = people.repeat(2, 1)[:3000] + 1e-4, torch.arange(3000) % 2500
    groups = {"feature_groups": own % 40, "centroid_groups": torch.arange(2500) % 40}
    ways = [{}, {"chunk": 111}, groups, groups | {"chunk": 11}]
    one = [nearest(features, people, own=own, **way) for way in ways]
    torch.set_num_threads(3)
    try:
        three = [nearest(features, people, own=own, **way) for way in ways]
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(1)
    for alone, spread in zip(one, three, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(alone, spread, strict=True))


def test_a_processor_without_vnni_finds_the_same():
    """There torch's product of 8-bit integers overflows; oneDNN can be told to do everywhere as there."""
    code = """
import torch
from dynamix.similarity import nearest, screen
screen.kinds = lambda device: ("int8",)
draw = torch.Generator().manual_seed(0)
rows = [torch.nn.functional.normalize(torch.rand(n, 768, generator=draw) - 0.1) for n in (512, 4096)]
found, (near, second) = nearest(*rows), (rows[0].double() @ rows[1].double().T).topk(2).values.T
print(float((near - found.similarity).max()), int((near > second + 1e-6).sum()))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"ONEDNN_MAX_CPU_ISA": "AVX2"}, capture_output=True,
        text=True, check=True,
    )  # fmt: skip
    behind, decided = done.stdout.split()
    assert float(behind) < 1e-6 and int(decided) > 400
