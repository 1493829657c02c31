import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import TypeCheckError

from dynamix import evaluation
from dynamix.evaluation import evaluate, label_quality, ranked_lists
from tests import naive

torch.set_num_threads(1)


def random(n, D=4, seed=0):
    return torch.randn(n, D, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def integers(low, high, n, seed=0):
    return torch.randint(low, high, (n,), generator=torch.Generator().manual_seed(seed))


def problem(Q, G, pids, camids, spots=0, seed=0):
    """Arguments of `evaluate`; with `spots`, rows repeat a few directions exactly: ties everywhere."""
    f = random(Q + G, seed=seed)
    if spots:
        f = random(spots, seed=seed)[integers(0, spots, Q + G, seed + 1)]
    pid, camid = integers(-1, pids, Q + G, seed + 2), integers(0, camids, Q + G, seed + 3)
    return f[:Q], f[Q:], pid[:Q].clamp(min=0), pid[Q:], camid[:Q], camid[Q:]


def degrees(*angles):
    at = torch.tensor(angles, dtype=torch.float64) * math.pi / 180
    return torch.stack((at.cos(), at.sin()), 1)


def gallery_of(ranks, length):
    """One query of pid 1 in camera 0 whose matches stand at `ranks` of a gallery of `length`."""
    pids = torch.tensor([1 if r in ranks else 2 for r in range(1, length + 1)])
    one, zero = torch.ones(1, dtype=torch.int64), torch.zeros(1, dtype=torch.int64)
    return degrees(0), degrees(*range(1, length + 1)), one, pids, zero, torch.ones(length, dtype=torch.int64)


def same(found, cmc, mAP, mINP, valid):
    assert found.cmc.dtype == torch.float64 and found.cmc.device.type == "cpu"
    np.testing.assert_allclose(found.cmc.numpy(), cmc, rtol=0, atol=1e-12)
    assert math.isclose(found.mAP, mAP, abs_tol=1e-12) and math.isclose(found.mINP, mINP, abs_tol=1e-12)
    assert found.valid_queries == valid and type(found.mAP) is type(found.mINP) is type(found.rank1) is float


# Rows of one gallery at angles 10, 20, 20, 30, 40 from queries at 0.
PIDS = torch.tensor([1, 2, 1, -1, 1])
CAMIDS = torch.tensor([0, 1, 1, 2, 1])
GALLERY = degrees(10, 20, 20, 30, 40)


@pytest.mark.parametrize(
    "pid, camid, first, ap, inp",
    [
        (1, 9, 1, (1 + 2 / 3 + 3 / 4) / 3, 3 / 4),  # ranks 1, 3 (the tie goes to row 1), 4: junk is deleted
        (1, 0, 2, (1 / 2 + 2 / 3) / 2, 2 / 3),  # row 0 is this camera's: deleted; ranks 2, 3
        (1, 1, 1, 1, 1),  # rows 2 and 4 deleted: rank 1
        (2, 0, 2, 1 / 2, 1 / 2),  # rank 2, first of the tie
        (2, 1, None, None, None),  # its only match is in its own camera
    ],
)
def test_rankings_by_hand(pid, camid, first, ap, inp):
    args = degrees(0), GALLERY, torch.tensor([pid]), PIDS, torch.tensor([camid]), CAMIDS
    if first is None:
        with pytest.raises(ValueError, match=r"camids \[1\] only"):
            evaluate(*args)
        return
    same(evaluate(*args, max_rank=6), [float(r >= first) for r in range(1, 7)], ap, inp, 1)


def test_an_unmatched_query_counts_nowhere():
    queries = degrees(0, 0, 0, 0)
    pids, camids = torch.tensor([1, 7, 2, -1]), torch.tensor([0, 0, 0, 5])
    found = evaluate(queries, GALLERY, pids, PIDS, camids, CAMIDS, max_rank=2)
    same(found, [0, 1], (7 / 12 + 1 / 2) / 2, (2 / 3 + 1 / 2) / 2, 2)
    assert found.rank1 == 0


@pytest.mark.parametrize(
    "ranks, length, step, trapezoid",
    [({2}, 3, 0.5, 0.25), ({1, 2, 4, 7}, 9, 0.830, 0.811), ({1}, 1, 1, 1), ({3}, 3, 1 / 3, 1 / 6)],
)
def test_the_two_average_precisions(ranks, length, step, trapezoid):
    args = gallery_of(ranks, length)
    assert evaluate(*args).mAP == pytest.approx(step, abs=5e-4)
    assert evaluate(*args, average_precision="trapezoid").mAP == pytest.approx(trapezoid, abs=5e-4)


def test_a_short_gallery_pads_the_curve():
    found = evaluate(*gallery_of({2}, 3))
    assert found.cmc.tolist() == [0.0] + [1.0] * 49
    assert evaluate(*gallery_of({3}, 5), max_rank=2).cmc.tolist() == [0.0, 0.0]


@settings(deadline=None, max_examples=40)
@given(
    Q=st.integers(1, 7), G=st.integers(1, 25), pids=st.integers(1, 5), camids=st.integers(1, 4),
    spots=st.sampled_from([0, 0, 1, 3]), chunk=st.integers(1, 8), max_rank=st.integers(1, 30),
    kind=st.sampled_from(["step", "trapezoid"]), seed=st.integers(0, 999),
)  # fmt: skip
def test_the_scores_are_the_loop(Q, G, pids, camids, spots, chunk, max_rank, kind, seed):
    args = problem(Q, G, pids, camids, spots, seed)
    try:
        expected = naive.evaluate(*(x.tolist() for x in args), max_rank, kind)
    except ZeroDivisionError:  # no query has a match
        with pytest.raises(ValueError, match="no query has a match"):
            evaluate(*args, chunk=chunk)
        return
    same(evaluate(*args, chunk=chunk, max_rank=max_rank, average_precision=kind), *expected)


@settings(deadline=None, max_examples=40)
@given(
    Q=st.integers(1, 6), G=st.integers(0, 20), spots=st.sampled_from([0, 1, 3]), top=st.integers(1, 12),
    chunk=st.integers(1, 7), seed=st.integers(0, 999),
)  # fmt: skip
def test_the_ranked_lists_are_the_loop(Q, G, spots, top, chunk, seed):
    f, g, *ids = problem(Q, G, 4, 3, spots, seed)
    found = ranked_lists(f, g, *ids, top=top, chunk=chunk)
    assert found.index.shape == found.similarity.shape == found.correct.shape == (Q, top)
    qp, gp, qc, gc = (x.tolist() for x in ids)
    for q in range(Q):
        order = naive.ranking(f[q].tolist(), g.tolist(), qp[q], gp, qc[q], gc)[:top]
        pad = top - len(order)
        assert found.index[q].tolist() == order + [-1] * pad
        assert found.correct[q].tolist() == [gp[k] == qp[q] for k in order] + [False] * pad
        cosines = [naive.cosine(f[q].tolist(), g[k].tolist()) for k in order] + [-math.inf] * pad
        torch.testing.assert_close(found.similarity[q], torch.tensor(cosines).double(), rtol=0, atol=1e-6)


def many(dtype, copies=4, Q=40, D=37, seed=0):
    """A gallery that holds every image `copies` times, all over; noisy features of 30 people."""
    people = random(30, D, seed)
    pid = integers(0, 30, Q + 150, seed + 1)
    f = (people[pid] + 2 * random(Q + 150, D, seed + 2)).to(dtype)
    camid = integers(0, 3, Q + 150, seed + 3)
    rows = Q + torch.randperm(150 * copies, generator=torch.Generator().manual_seed(seed)) % 150
    return f[:Q], f[rows], pid[:Q], pid[rows] * (camid[rows] != 2), camid[:Q], camid[rows]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16])
def test_duplicates_tie_and_chunks_do_not_matter(dtype):
    args = many(dtype)
    whole = evaluate(*args, chunk=64)
    expected = naive.evaluate(*(x.tolist() for x in args))
    same(whole, *expected)
    lists = ranked_lists(*args, top=20, chunk=64)
    for chunk in (1, 7, 39):
        part = evaluate(*args, chunk=chunk)
        assert torch.equal(part.cmc, whole.cmc) and (part.mAP, part.mINP) == (whole.mAP, whole.mINP)
        for a, b in zip(ranked_lists(*args, top=20, chunk=chunk), lists, strict=True):
            assert torch.equal(a, b)
    tied = lists.similarity[:, 1:] == lists.similarity[:, :-1]
    assert tied.float().mean() > 0.5 and (lists.index.diff(dim=1)[tied] > 0).all()


def test_collapsed_features_rank_by_gallery_row():
    """An encoder that sees no difference at all: every pair ties, in whatever block it stands."""
    f = torch.full((300, 33), 0.1)
    args = f[:9], f, torch.arange(9), torch.arange(300) % 9, torch.zeros(9).long(), torch.arange(300) // 150
    lists = ranked_lists(*args, top=5, chunk=4)
    assert lists.index[8].tolist() == [0, 1, 2, 3, 4]  # its own camera's rows 8, 17, ... come no more
    expected = naive.evaluate(*(x.tolist() for x in args))
    same(evaluate(*args, chunk=4), *expected)


@pytest.mark.parametrize("spread", [1e-5, 3e-5, 3e-4])
def test_near_ties_are_decided_in_float64(spread):
    """Cosines 1e-10 to 1e-7 apart: all the same, or anything, in float32."""
    f = (random(1, 64) + spread * random(210, 64, seed=1)).float()
    args = (
        f[:10],
        f[10:],
        integers(0, 5, 10),
        integers(-1, 5, 200),
        torch.zeros(10).long(),
        integers(0, 3, 200, 1),
    )
    same(evaluate(*args, chunk=3), *naive.evaluate(*(x.tolist() for x in args)))


@pytest.mark.parametrize("constants", [{"PAIRS": 1}, {"RANKED": 1}, {"SHORT": 5}, {"CACHED": 1}])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_sizes_of_pieces_do_not_matter(constants, dtype, monkeypatch):
    args = many(dtype)
    whole, lists = evaluate(*args), ranked_lists(*args)
    for name, value in constants.items():
        monkeypatch.setattr(evaluation, name, value)
    part = evaluate(*args)
    assert torch.equal(part.cmc, whole.cmc) and (part.mAP, part.mINP) == (whole.mAP, whole.mINP)
    assert all(torch.equal(a, b) for a, b in zip(ranked_lists(*args), lists, strict=True))


@pytest.mark.parametrize("D", [1, 7, 95, 96, 97, 191, 768, 1000])
@pytest.mark.parametrize("alike", [False, True])
def test_the_margin_covers_the_error_of_the_products(D, alike):
    """Equal entries round all to one side: the worst that products of this length do."""
    left = torch.full((5, D), 0.1) if alike else random(5, D).float()
    right = torch.full((300, D), 0.3) if alike else random(300, D, 1).float()
    found = evaluation._products(evaluation.unit(left), evaluation._pieces(evaluation.unit(right))).double()
    f, g = left.double(), right.double()
    exact = (f / f.norm(dim=1, keepdim=True)) @ (g / g.norm(dim=1, keepdim=True)).T
    assert float((found - exact).abs().max()) < evaluation._margin(torch.float32, D) / 2


SCORE = st.sampled_from([-2.5, -1.0, 0.0, 1e-30, 0.5, 3.0])


@settings(deadline=None, max_examples=60)
@given(
    scores=st.lists(st.lists(SCORE, min_size=7, max_size=7), min_size=1, max_size=4),
    levels=st.lists(st.tuples(st.integers(0, 3), st.floats(-3, 3, width=32)), min_size=1, max_size=9),
    width=st.sampled_from([2**-20, 0.5, 1.0]),
)
def test_scores_in_order_are_the_loop(scores, levels, width):
    table = np.array(scores, np.float32)
    row, level = map(np.array, zip(*sorted((row % len(scores), x) for row, x in levels), strict=True))
    low, high = (np.float32(level + side * width) for side in (-1, 1))
    least = np.full(len(table), np.inf, np.float32)
    np.minimum.at(least, row, low)
    order = evaluation._Order.of(table, least)
    query, image = order.images(np.arange(len(order.key)))
    for k, line in enumerate(scores):
        found = image[query == k].tolist()
        assert found == [i for s, i in sorted((s, i) for i, s in enumerate(line)) if s >= least[k]]
    for k, a, b, begin, end in zip(row, low, high, *order.between(row, low, high), strict=True):
        assert (query[begin:end] == k).all()
        assert sorted(image[begin:end]) == [i for i, s in enumerate(scores[k]) if a <= s <= b]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 40), st.integers(1, 5)), min_size=1, max_size=20))
def test_overlapping_intervals_are_joined(given_):
    begin, size = (np.array(column) for column in zip(*given_, strict=True))
    start, stop = evaluation._joined(begin, begin + size)
    assert sorted({x for a, n in given_ for x in range(a, a + n)}) == [
        x for a, b in zip(start, stop, strict=True) for x in range(a, b)
    ]
    assert (start[1:] >= stop[:-1]).all()


@pytest.mark.parametrize("threads", [2, 3])
def test_threads_do_not_matter(threads, monkeypatch):
    args = many(torch.float32)
    monkeypatch.setattr(evaluation, "RANKED", 1)  # small parts, many of them
    whole, lists = evaluate(*args), ranked_lists(*args)
    torch.set_num_threads(threads)
    try:
        part, others = evaluate(*args, chunk=7), ranked_lists(*args, chunk=7)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(1)
    assert torch.equal(part.cmc, whole.cmc) and (part.mAP, part.mINP) == (whole.mAP, whole.mINP)
    assert all(torch.equal(a, b) for a, b in zip(others, lists, strict=True))


def test_an_unknown_camera_is_not_the_same_one():
    """Camid -1 on both sides: whether it was another camera nobody knows, so the match stays."""
    f = np.eye(3)
    scores = evaluate(f[:1], f, [5], [5, 6, 7], [-1], [-1, -1, 2])
    assert (scores.valid_queries, scores.rank1, scores.mAP) == (1, 1.0, 1.0)
    with pytest.raises(ValueError, match="no query has a match in another camera"):
        evaluate(f[:1], f, [5], [5, 6, 7], [1], [1, 1, 2])


def test_plain_lists_are_arrays():
    args = [[[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.1], [0.2, 1.0], [1, 1]], [1, 2], [1, 2, -1], [0, 0], [1, 1, 1]]
    found, arrays = evaluate(*args), evaluate(*map(np.array, args))
    assert torch.equal(found.cmc, arrays.cmc) and found.mAP == arrays.mAP == 1.0


@pytest.mark.parametrize(
    "place, value, told",
    [
        (0, [[1.0, 0.0], [0.0]], "query features are no rows of numbers"),
        (0, [["a", "b"]], "query features are no rows of numbers"),
        (1, [1.0, 2.0], "gallery features must be one row per image, got shape"),
        (2, [1.5, 2.0], "query_pids must be one whole number per row, got"),
        (3, ["1", "2", "3"], "gallery_pids must be one whole number per row"),
        (3, [float("nan"), 1, 2], "gallery_pids must be one whole number per row"),
        (4, [[0], [0]], "query_camids must be one whole number per row"),
        (5, [1, 1], "2 gallery_camids for 3 gallery features"),
    ],
)
def test_what_is_no_feature_or_number_is_named(place, value, told):
    args = [np.eye(2), np.ones((3, 2)), [1, 2], [1, 2, 1], [0, 0], [1, 1, 1]]
    args[place] = value
    with pytest.raises(ValueError, match=told):
        evaluate(*args)


def test_many_matches_in_a_long_gallery():
    """Both ways of counting, and ties of matches with others, at a size of more than one tile."""
    f = random(40, 8)[integers(0, 40, 6012, 1)] + 0.5 * random(6012, 8, 2).round()
    pid, camid = integers(-1, 3, 6012, 3), integers(0, 3, 6012, 4)
    pid[:12] = torch.arange(12) % 3
    pid[12:] *= 1 + 5 * (
        integers(0, 9, 6000, 5) > 0
    )  # one in nine keeps its pid, the others are other people
    pid[12:].clamp_(min=-1)
    args = f[:12], f[12:], pid[:12], pid[12:], camid[:12], camid[12:]
    same(evaluate(*args), *naive.evaluate(*(x.tolist() for x in args)))


def test_gallery_order_and_scale_do_not_matter_without_ties():
    f, g, qp, gp, qc, gc = problem(6, 60, 5, 3, seed=4)
    expected = evaluate(f, g, qp, gp, qc, gc)
    order = torch.randperm(60, generator=torch.Generator().manual_seed(0))
    found = evaluate(3 * f, 5 * g[order], qp + 10, gp[order] + 10 - 10 * (gp[order] < 0), qc, gc[order])
    same(found, expected.cmc, expected.mAP, expected.mINP, expected.valid_queries)


def test_numpy_and_torch_give_the_same():
    args = problem(6, 40, 5, 3)
    arrays = [x.numpy().copy() for x in args]
    for x in arrays:
        x.flags.writeable = False
    arrays[3] = arrays[3].astype(np.int32)
    expected = evaluate(*args)
    same(evaluate(*arrays), expected.cmc, expected.mAP, expected.mINP, expected.valid_queries)
    for a, b in zip(ranked_lists(*arrays), ranked_lists(*args), strict=True):
        assert torch.equal(a, b)


def test_a_zero_feature_is_like_nothing():
    f, g, *ids = problem(3, 20, 3, 3, seed=1)
    g[4] = 0
    f[0] = 0
    lists = ranked_lists(f, g, *ids, top=20)
    assert (lists.similarity[0][lists.index[0] >= 0] == 0).all()
    assert lists.index[0][lists.index[0] >= 0].diff().min() > 0


def changed(position, value):
    args = list(problem(4, 12, 3, 3))
    args[position] = value(args[position].clone())
    return args


def poison(x):
    x[2, 1] = torch.nan
    return x


@pytest.mark.parametrize(
    "args, options, words",
    [
        (problem(4, 12, 3, 3), {"chunk": 0}, "chunk must be at least 1"),
        (problem(4, 12, 3, 3), {"max_rank": 0}, "max_rank"),
        (problem(4, 12, 3, 3), {"average_precision": "sklearn"}, "average_precision"),
        (changed(0, poison), {}, "query feature row 2 is not finite"),
        (changed(1, poison), {}, "gallery feature row 2 is not finite"),
        (changed(1, lambda g: g[:, :3]), {}, "gallery features D = 3"),
        (changed(0, lambda q: q[0]), {}, "one row per image|query_features"),
        (changed(2, lambda p: p[:3]), {}, "3 query_pids for 4 query features"),
        (changed(5, lambda p: p[:3]), {}, "3 gallery_camids for 12 gallery features"),
        (changed(3, lambda p: p + 100), {}, "share no pid"),
        ([x[:0] for x in problem(4, 12, 3, 3)], {}, "0 queries, 0 gallery images"),
        (changed(3, lambda p: p * 0 - 1), {}, "4 queries, 0 gallery images besides junk"),
    ],
)
def test_bad_inputs_are_named(args, options, words):
    with pytest.raises((ValueError, TypeCheckError), match=words) as error:
        evaluate(*args, **options)
    assert isinstance(error.value, TypeCheckError) or "\n" not in str(error.value)


def test_one_camera_is_named():
    f, g, qp, gp, qc, gc = problem(4, 12, 3, 3)
    with pytest.raises(ValueError, match=r"camids \[3\] only and each pid one camera"):
        evaluate(f, g, qp, gp, qc * 0 + 3, gc * 0 + 3)


@pytest.mark.parametrize("options", [{"top": 0}, {"chunk": 0}])
def test_bad_lists_are_named(options):
    with pytest.raises(ValueError, match="at least 1"):
        ranked_lists(*problem(4, 12, 3, 3), **options)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.integers(-1, 4), st.integers(-1, 3)), max_size=20), st.sampled_from([1, 10**9]))
def test_label_quality_is_the_loop(pairs, spread):
    from sklearn.metrics import v_measure_score

    labels, truth = (np.array([p[k] for p in pairs], dtype=np.int64) for k in (0, 1))
    labels = np.where(labels > 0, labels * spread, labels)
    found = label_quality(labels, torch.from_numpy(truth))
    assert np.allclose(
        (found.precision, found.recall, found.f1), naive.label_quality(labels, truth), rtol=0, atol=1e-12
    )
    known = (labels >= 0) & (truth >= 0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # sklearn suspects a regression where classes are many
        expected = v_measure_score(truth[known], labels[known]) if known.any() else 0.0
    assert math.isclose(found.v_measure, expected, abs_tol=1e-9)


def test_label_quality_by_hand():
    """People of 3 and 2 images; one image of the first stands with the second; junk and removed left out."""
    found = label_quality(np.array([0, 0, 1, 1, 1, 0, -1]), np.array([5, 5, 5, 9, 9, -1, 5]))
    assert (found.precision, found.recall) == (2 / 4, 2 / 4) and found.f1 == 0.5
    perfect = label_quality(np.array([4, 4, 2, 2]), np.array([0, 0, 1, 1]))
    assert (perfect.precision, perfect.recall, perfect.f1) == (1, 1, 1)
    assert math.isclose(perfect.v_measure, 1, abs_tol=1e-12)


def test_label_quality_of_nothing_is_zero():
    for labels, truth in (([], []), ([-1, 0], [0, -1])):
        found = label_quality(np.array(labels, dtype=np.int64), np.array(truth, dtype=np.int64))
        assert (found.precision, found.recall, found.f1, found.v_measure) == (0, 0, 0, 0)
    alone = label_quality(np.arange(4), np.array([0, 0, 1, 1]))  # every image a label of its own
    assert (alone.precision, alone.recall, alone.f1) == (0, 0, 0)


def test_label_quality_of_many_rows():
    """300,000 rows in two labels: 4.5e10 pairs, none of them listed."""
    labels = np.arange(300_000) % 2
    found = label_quality(labels, np.zeros_like(labels))
    n = 150_000
    assert found.precision == 1 and found.recall == n * (n - 1) / (n * (2 * n - 1))


def test_label_quality_names_unequal_sizes():
    with pytest.raises(ValueError, match="3 labels for 2 true identities"):
        label_quality(np.arange(3), np.arange(2))
