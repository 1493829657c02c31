import gc
import subprocess
import sys
import threading
import time
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from dynamix import sampling
from dynamix.centroids import CentroidsMemory, MultiCentroids
from dynamix.config import Config, change
from dynamix.sampling import MixedBatches, match_pids
from tests import naive
from tests.test_similarity import random

torch.set_num_threads(1)
MODES = ("median", "mean", "hard", "soft")


@settings(deadline=None, max_examples=40)
@given(
    R=st.integers(1, 4),
    extra=st.integers(0, 3),
    mode=st.sampled_from(MODES),
    target=st.sampled_from(["global", "row"]),
    ties=st.booleans(),
    seed=st.integers(0, 99),
)
def test_match_is_the_best_of_all_permutations(R, extra, mode, target, ties, seed):
    S = random(R, R + extra, seed)
    S = (S * 2).round() / 2 if ties else S
    columns = match_pids(S, mode=mode, target=target).tolist()
    costs = naive.pair_costs(S.tolist(), mode, target)
    assert len(set(columns)) == R
    assert sum(costs[i][c] for i, c in enumerate(columns)) == pytest.approx(
        naive.least_assignment(costs), abs=1e-12
    )


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("target", ["global", "row"])
@pytest.mark.parametrize("R, P", [(1, 1), (8, 8), (8, 9), (8, 400), (16, 301)])
def test_the_best_columns_hold_the_full_optimum(mode, target, R, P):
    for seed in range(5):
        S = random(R, P, seed)
        if seed % 2:
            S = S[:1].expand(R, P) + 0.01 * random(R, P, seed + 50)  # rows that want the same columns
        costs = np.array(naive.pair_costs(S.tolist(), mode, target))
        columns = match_pids(S, mode=mode, target=target).numpy()
        full = costs[linear_sum_assignment(costs)].sum()
        assert costs[np.arange(R), columns].sum() == pytest.approx(full, abs=1e-9)
        assert (match_pids(S.numpy(), mode=mode, target=target).numpy() == columns).all()


def test_match_random_and_refusals():
    S = random(5, 30)
    draws = [match_pids(S, mode="random", generator=torch.Generator().manual_seed(k)) for k in (0, 0, 1)]
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])
    assert len(draws[0].unique()) == 5 and int(draws[0].max()) < 30
    assert match_pids(S[:0]).shape == (0,)
    with pytest.raises(ValueError, match="5 rows"):
        match_pids(S[:, :4])
    with pytest.raises(ValueError, match="1 rows need 1 different columns, there are 0"):
        match_pids(S[:1, :0])
    bad = S.clone()
    bad[3, 7] = torch.nan
    with pytest.raises(ValueError, match="not finite, the first in row 3, column 7"):
        match_pids(bad)
    with pytest.raises(ValueError, match="row 0, column 0"):
        match_pids(S / 0)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("target", ["global", "row"])
def test_match_of_any_array(mode, target):
    S = random(6, 500)
    expected = match_pids(S, mode=mode, target=target)
    arrays = [S.numpy().copy(), S.numpy().copy(order="F")]
    arrays[0].flags.writeable = False
    for array in arrays:
        assert torch.equal(match_pids(array, mode=mode, target=target), expected)
    cost = np.array(naive.pair_costs(S.tolist(), mode, target))
    coarse = match_pids(S.float(), mode=mode, target=target)  # the two middle values tie: either may be taken
    assert cost[np.arange(6), coarse].sum() == pytest.approx(cost[np.arange(6), expected].sum(), abs=1e-5)
    for dtype in (torch.float16, torch.bfloat16):
        coarse = S.to(dtype)
        assert torch.equal(
            match_pids(coarse, mode=mode, target=target), match_pids(coarse.float(), mode=mode, target=target)
        )
    assert (S == random(6, 500)).all()  # the caller's similarities stay


@settings(deadline=None, max_examples=40)
@given(
    values=st.lists(st.integers(-3, 3) | st.floats(-1, 1, width=32), min_size=1, max_size=60),
    tiles=st.integers(1, 40),
    sample=st.sampled_from([4, 100, 10**6]),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_the_median_is_exact_whatever_the_sample_says(values, tiles, sample, dtype):
    """Tiled values are periodic: the sample may see few of them, or the wrong ones."""
    array = np.tile(np.array(values, dtype=dtype), tiles)
    ordered = sorted(array.tolist())
    n = len(ordered)
    expected = (dtype(ordered[(n - 1) // 2]) + dtype(ordered[n // 2])) / dtype(2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sampling, "SAMPLE", sample)
        found = sampling._middle(array)
    assert found == expected and found.dtype == dtype


@pytest.mark.parametrize("sample", [100, 10**6])
@pytest.mark.parametrize("n", [4000, 4001])
def test_the_median_of_long_lines(sample, n, monkeypatch):
    monkeypatch.setattr(sampling, "SAMPLE", sample)
    for seed in range(5):
        line = random(1, n, seed)[0].numpy()
        assert sampling._middle(line) == np.median(line)
        line[:: n // 100] = 9  # all that is sampled: it misleads
        assert sampling._middle(line) == np.median(line)


def test_a_large_match_is_the_optimum_about_the_exact_median():
    S = random(8, 30_000).numpy()
    cost = np.abs(S - np.median(S))
    columns = match_pids(S).numpy()
    assert cost[np.arange(8), columns].sum() == pytest.approx(
        cost[np.arange(8), linear_sum_assignment(cost)[1]].sum(), abs=1e-12
    )


def world(cameras, images, singles, frames, seed=0):
    """A table of `len(images)` multi-camera people, images[k] per camera, and single-camera PIDs."""
    rows = [(k, c, -1) for k, n in enumerate(images) for c in range(cameras[k]) for _ in range(n)]
    first = len(images)
    rows += [(first + k, -1, k // 3) for k in range(singles) for _ in range(frames[k % len(frames)])]
    order = np.random.default_rng(seed).permutation(len(rows))
    columns = np.array(rows, dtype=np.int64)[order].T
    table = SimpleNamespace(labels=columns[0], camids=columns[1], videos=columns[2])
    memory = CentroidsMemory(torch.arange(first, first + singles), random(singles, 6, seed))
    return table, memory, random(first, 6, seed + 1)


def batches(made, config, *, removed=None, labels=None, seed=0, epoch=0, queue=()):
    table, memory, multi = made
    labels = table.labels if labels is None else labels
    removed = np.zeros(len(labels), dtype=bool) if removed is None else removed
    return MixedBatches(table, labels, removed, memory, multi, config, seed=seed, epoch=epoch, queue=queue)


def configured(ids=2, per_id=4, iterations=10, **changes):
    changes = {"dsm__queue_epochs": 0.0, **changes}
    return change(
        Config(),
        iterations=iterations,
        batch__ids_multi=ids,
        batch__ids_single=ids,
        batch__images_multi=per_id,
        batch__images_single=per_id,
        **changes,
    )


def check_multi(rows, table, per_id):
    """One image per camera, then unused ones, then repeats."""
    pool = np.flatnonzero((table.labels == table.labels[rows[0]]) & (table.videos < 0))
    cameras = len(set(table.camids[pool]))
    assert set(table.labels[rows]) == {table.labels[rows[0]]} and (table.videos[rows] < 0).all()
    assert len(set(table.camids[rows])) == min(cameras, per_id)
    assert len(set(rows)) == min(len(pool), per_id)


@pytest.mark.parametrize("ids, per_id", [(1, 1), (2, 4), (3, 2), (5, 8)])
@pytest.mark.parametrize("cameras, images", [(1, 1), (1, 6), (2, 1), (3, 2), (6, 1), (9, 3)])
@pytest.mark.parametrize("mode", ["median", "off"])
def test_composition_of_every_batch(ids, per_id, cameras, images, mode):
    made = world([cameras] * 5, [images] * 5, 12, (1, 3, 7))
    table = made[0]
    removed = (table.videos >= 0) & (np.arange(len(table.labels)) % 5 == 0)
    live = Counter(table.labels[(table.videos >= 0) & ~removed].tolist())
    config = configured(ids, per_id, dsm__mode=mode)
    plan = batches(made, config, removed=removed)
    assert len(plan) == len(list(plan)) == 10
    for step, rows in enumerate(plan):
        assert len(rows) == config.batch.size and all(type(r) is int for r in rows)
        parts = np.array(rows).reshape(2 * ids, per_id)
        for part in parts[:ids]:
            check_multi(part, table, per_id)
        singles = table.labels[parts[ids:]]
        for part, pid in zip(parts[ids:], singles[:, 0], strict=True):
            assert (
                set(table.labels[part]) == {pid}
                and (table.videos[part] >= 0).all()
                and not removed[part].any()
            )
            assert len(set(part.tolist())) == min(per_id, live[int(pid)])
        assert len(set(table.labels[parts[:ids, 0]])) == ids and len(set(singles[:, 0])) == ids
        assert (plan.pairs[step, :, 1] == singles[:, 0]).all()
        if mode == "median":
            assert (plan.pairs[step, :, 0] == table.labels[parts[:ids, 0]]).all()


def test_multi_images_are_drawn_uniformly_and_pids_in_cycles():
    made = world([6, 2], [3, 1], 4, (5,))
    table = made[0]
    plan = batches(made, configured(1, 4, 2000))
    labels = np.array([table.labels[rows[0]] for rows in plan])
    assert Counter(labels.tolist()) == {0: 1000, 1: 1000} and (labels[::2] != labels[1::2]).all()
    count = Counter(r for rows in plan for r in rows[:4] if table.labels[r] == 0)
    assert len(count) == 18 and all(abs(c - 4000 / 18) < 75 for c in count.values())  # 5 sigma
    several = batches(world([1] * 7, [1] * 7, 8, (2,)), configured(3, 2, 70))
    uses = Counter(several.pairs[:, :, 0].ravel().tolist())
    assert set(uses.values()) == {30}
    assert all(len(set(pairs.tolist())) == 3 for pairs in several.pairs[:, :, 0])


@pytest.mark.parametrize("mode", [*MODES, "random"])
@pytest.mark.parametrize(
    "size", [{"dsm__queue_epochs": 0.4}, {"dsm__queue_fraction": 0.3, "dsm__queue_epochs": None}]
)
def test_queue_is_the_replay(mode, size):
    made = world([2] * 6, [2] * 6, 40, (2, 3))
    table = made[0]
    config = configured(3, 2, 20, dsm__mode=mode, **size)
    capacity = 24 if size["dsm__queue_epochs"] else 12
    pool = existing = sorted(set(table.labels[table.videos >= 0].tolist()))
    old = [10, 11, 999, 10, 12]
    plan = batches(made, config, queue=old)
    replayed = naive.queue_after(old, pool, existing, plan.pairs[:, :, 1].tolist(), capacity, 3)
    assert plan.queue == replayed and len(plan.queue) == capacity
    flow = plan.pairs[:, :, 1].ravel()
    for k in range(len(flow) - capacity):
        assert len(set(flow[k : k + capacity].tolist())) == capacity  # no repeat within the capacity
    after = batches(made, config, queue=plan.queue, epoch=1)
    joined = np.concatenate([flow, after.pairs[:, :, 1].ravel()])
    assert all(len(set(joined[k : k + capacity].tolist())) == capacity for k in range(len(joined) - capacity))


@settings(deadline=None, max_examples=30)
@given(
    singles=st.integers(3, 12),
    capacity=st.integers(0, 40),
    mode=st.sampled_from(["median", "random"]),
    min_images=st.integers(1, 3),
    seed=st.integers(0, 99),
    old=st.lists(st.integers(0, 16), max_size=9),
)
def test_any_queue_is_the_replay(singles, capacity, mode, min_images, seed, old):
    """Also longer than the pool (least recently used), with vanished, repeated and unavailable PIDs."""
    made = world([2] * 4, [1] * 4, singles, (3, 4), seed)
    table = made[0]
    removed = (table.videos >= 0) & (table.labels == 5)
    config = configured(2, 2, 6, dsm__mode=mode, dsm__queue_epochs=capacity / 12, dsm__min_images=min_images)
    plan = batches(made, config, removed=removed, queue=old)
    existing = sorted(set(table.labels[table.videos >= 0].tolist()))
    pool = [p for p in existing if p != 5]
    picks = plan.pairs[:, :, 1].tolist()
    assert plan.queue == naive.queue_after(old, pool, existing, picks, capacity, 2)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("target", ["global", "row"])
def test_every_match_is_the_cheapest(mode, target, monkeypatch):
    """Against the loop over the candidates of each step, whatever the planning block."""
    made = world([2] * 9, [2] * 9, 30, (2, 3))
    config = configured(4, 2, 12, dsm__mode=mode, dsm__target=target, dsm__queue_epochs=0.25)
    plan = batches(made, config)
    multi, single = made[2].tolist(), made[1].centroids.tolist()
    queue = []
    for pairs in plan.pairs.tolist():
        candidates = [p for p in range(9, 39) if p not in queue]
        S = [[naive.cosine(multi[m], single[p - 9]) for p in candidates] for m, _ in pairs]
        costs = np.array(naive.pair_costs(S, mode, target))
        taken = sum(costs[i][candidates.index(p)] for i, (_, p) in enumerate(pairs))
        assert taken == pytest.approx(costs[linear_sum_assignment(costs)].sum(), abs=1e-9)
        queue = (queue + [p for _, p in pairs])[-12:]
    monkeypatch.setattr("dynamix.sampling.PLANNED", 1)
    assert list(batches(made, config)) == list(plan)


def test_the_epoch_is_a_function_of_seed_and_epoch():
    made = world([3] * 6, [2] * 6, 20, (4, 6))
    config = configured(3, 2, 8)
    base = batches(made, config, seed=1, epoch=2)
    assert list(base) == list(base) == list(batches(made, config, seed=1, epoch=2))
    for other in ({"seed": 2, "epoch": 2}, {"seed": 1, "epoch": 3}, {"seed": 2, "epoch": 1}):
        assert list(batches(made, config, **other)) != list(base)
    state = np.random.get_state()[1].copy()
    torch_state = torch.get_rng_state()
    for mode in ("off", "random", "hard"):  # the multi-camera half does not depend on the mode
        plan = batches(made, change(config, dsm__mode=mode), seed=1, epoch=2)
        assert [rows[:6] for rows in plan] == [rows[:6] for rows in base]
    assert (np.random.get_state()[1] == state).all() and torch.equal(torch.get_rng_state(), torch_state)


def test_centroids_may_come_in_three_forms():
    made = world([2] * 5, [2] * 5, 10, (3,))
    config, labels = configured(2, 2), torch.arange(5)
    plain = list(batches(made, config))
    nothing = torch.empty(0, dtype=torch.int64)
    full = MultiCentroids(labels, made[2], nothing, nothing, made[2][:0])
    for form in (full, CentroidsMemory(labels, made[2])):
        assert list(batches((made[0], made[1], form), config)) == plain
    with pytest.raises(ValueError, match="4 multi-camera centroids for 5"):
        batches((made[0], made[1], made[2][:4]), config)
    with pytest.raises(ValueError, match="label 4 has no centroid"):
        batches((made[0], made[1], CentroidsMemory(labels[:4], made[2][:4])), config)


def test_one_kind_only_and_unequal_counts():
    made = world([2] * 5, [2] * 5, 10, (3,))
    multi_only = change(configured(2, 2), batch__ids_single=0)
    plan = batches((made[0], None, None), multi_only, queue=[7])
    assert all(len(rows) == 4 for rows in plan) and plan.queue == [] and plan.pairs.shape == (10, 0, 2)
    single_only = change(configured(2, 2), batch__ids_multi=0)
    plan = batches((made[0], made[1], None), single_only)
    assert all((made[0].videos[rows] >= 0).all() for rows in plan) and (plan.pairs[:, :, 0] == -1).all()
    more = batches(made, change(configured(2, 2), batch__ids_single=5))
    assert all(len(rows) == 4 + 10 for rows in more) and (more.pairs[:, :2, 0] == more.pairs[:, 2:4, 0]).all()
    fewer = batches(made, change(configured(3, 2), batch__ids_single=1))
    assert all(len(rows) == 6 + 2 for rows in fewer)


def test_unavailable_identities_are_never_drawn():
    made = world([2] * 3, [2] * 3, 9, (1, 3))
    table = made[0]
    labels = np.where(table.labels == 4, -1, table.labels)  # an ignored PID
    memory = made[1].select(torch.tensor([3, 5, 6, 8, 10, 11]))
    plan = batches((table, memory, made[2]), configured(2, 2, 50, dsm__min_images=2), labels=labels)
    assert set(plan.pairs[:, :, 1].ravel().tolist()) == {6, 8, 10}
    with pytest.raises(ValueError, match="5 single-camera identities, 3 are"):
        batches((table, memory, made[2]), change(configured(2, 2, dsm__min_images=2), batch__ids_single=5))
    with pytest.raises(ValueError, match="4 multi-camera identities, 3 are"):
        batches(made, configured(4, 2))
    with pytest.raises(ValueError, match="0 are"):
        batches(made, configured(2, 2), removed=table.videos >= 0)
    with pytest.raises(ValueError, match="centroids of both kinds"):
        batches((table, made[1], None), configured(2, 2))
    with pytest.raises(ValueError, match="unequal"):
        batches(made, configured(2, 2), labels=table.labels[:-1])


@pytest.fixture
def gate(monkeypatch):
    """Matching that waits, after `gate.free` batches, until `gate.open` is set."""
    gate = SimpleNamespace(free=3, open=threading.Event(), calls=0)

    def slow(*args, **options):
        gate.calls += 1
        if gate.calls > gate.free:
            assert gate.open.wait(20)
        return match_pids(*args, **options)

    monkeypatch.setattr(sampling, "match_pids", slow)
    return gate


def test_batches_come_as_soon_as_they_are_planned(gate):
    made = world([2] * 6, [2] * 6, 30, (3,))
    gate.open.set()
    expected = batches(made, configured(3, 2))
    whole, queue, pairs = expected.batches, expected.queue, expected.pairs
    gate.open.clear()
    gate.calls = 0
    plan = batches(made, configured(3, 2))
    assert len(plan) == 10
    early = iter(plan)
    first = [next(early) for _ in range(3)]
    waiting = threading.Thread(target=lambda: plan.queue, daemon=True)
    waiting.start()
    made[1].centroids.zero_()  # the plan has its own copy
    made[2].zero_()
    waiting.join(0.1)
    assert waiting.is_alive() and gate.calls == 4
    gate.open.set()
    waiting.join(20)
    assert not waiting.is_alive()
    assert first + list(early) == whole == plan.batches == list(plan) == list(plan)
    assert plan.queue == queue and (plan.pairs == pairs).all()


def test_an_error_while_planning_reaches_whoever_waits(gate, monkeypatch):
    made = world([2] * 6, [2] * 6, 30, (3,))

    def fail(*args, **options):
        gate.calls += 1
        if gate.calls > gate.free:
            raise MemoryError("no room for the similarities")
        return match_pids(*args, **options)

    monkeypatch.setattr(sampling, "match_pids", fail)
    plan = batches(made, configured(3, 2))
    seen = []
    with pytest.raises(MemoryError, match="no room"):
        for rows in plan:
            seen.append(rows)
    assert len(seen) == 3 and len(plan) == 10
    for name in ("queue", "pairs", "batches"):
        with pytest.raises(MemoryError, match="no room"):
            getattr(plan, name)


def planners():
    return [thread for thread in threading.enumerate() if thread.name == "batches"]


def test_dropping_the_batches_stops_the_planning(monkeypatch):
    calls = []

    def slow(*args, **options):
        calls.append(0)
        time.sleep(0.005)
        return match_pids(*args, **options)

    monkeypatch.setattr(sampling, "match_pids", slow)
    plan = batches(world([2] * 6, [2] * 6, 30, (3,)), configured(3, 2, 5000))
    steps = iter(plan)
    next(steps)
    assert len(planners()) == 1
    del plan
    next(steps)  # iteration alone keeps the plan going
    del steps
    gc.collect()
    assert not planners() and len(calls) < 1000


PROGRAM = """
import time
from dynamix import sampling
from tests.test_sampling import batches, configured, match_pids, world

def slow(*args, **options):
    time.sleep(0.02)
    return match_pids(*args, **options)

sampling.match_pids = slow
plan = batches(world([2] * 6, [2] * 6, 300, (3,)), configured(3, 2, 5000))
print(len(next(iter(plan))))
"""


def test_a_program_may_end_while_planning():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "12\n", "")


def test_bad_centroids_are_named():
    table, memory, multi = world([2] * 5, [2] * 5, 10, (3,))
    bad = CentroidsMemory(memory.labels, memory.centroids.clone())
    bad.centroids[4, 2] = torch.inf
    with pytest.raises(ValueError, match=r"single-camera label 9 \(row 4\) is not finite"):
        batches((table, bad, multi), configured(2, 2))
    worse = multi.clone()
    worse[3] = torch.nan
    with pytest.raises(ValueError, match=r"multi-camera label 3 \(row 3\) is not finite"):
        batches((table, memory, worse), configured(2, 2))
    with pytest.raises(ValueError, match="have D = 5, single-camera ones D = 6"):
        batches((table, memory, multi[:, :5]), configured(2, 2))
    with pytest.raises(ValueError, match="2 single-camera identities, 0 are available"):
        batches((table, memory.select(torch.tensor([5])), multi), configured(2, 2, dsm__min_images=4))
    batches((table, bad, worse), configured(2, 2, dsm__mode="random"))  # no centroid is looked at


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_planning_on_a_gpu_is_that_on_the_cpu():
    table, memory, multi = world([2] * 9, [2] * 9, 300, (2, 3))
    on_gpu = CentroidsMemory(memory.labels.cuda(), memory.centroids.cuda())
    config = configured(4, 2, 50, dsm__queue_epochs=0.25)
    expected = batches((table, memory, multi), config)
    busy = torch.randn(4000, 4000, device="cuda")
    for _ in range(50):  # the default stream is not waited for
        busy = busy @ busy / 100
    found = batches((table, on_gpu, multi.cuda()), config)
    on_gpu.centroids.zero_()
    assert list(found) == list(expected) and found.queue == expected.queue
