"""The epoch's refresh against its loop twin, epoch after epoch, and the objective against the losses."""

import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from dynamix import losses
from dynamix.centroids import CentroidsMemory, MultiCentroids
from dynamix.config import Config, change
from dynamix.data.table import Paths, concat, from_columns
from dynamix.data.views import NAMES
from dynamix.methods import dynamix as method
from tests import naive

torch.set_num_threads(1)
pytestmark = pytest.mark.filterwarnings("ignore:merging exploded")  # tables of a few identities
DIM = 4


# ---- a table, and features that change every epoch


def cameras_table(people=3, cameras=2, each=2):
    person, camera, _ = (axis.ravel() for axis in np.indices((people, cameras, each)))
    return from_columns(
        "many", Paths.of([f"m{i}.jpg" for i in range(len(person))]), person + 1, camids=camera
    )


def clips_table(videos=3, people=3, images=4, junk=0, seed=0):
    """Clips of tracks with uneven numbers of images, in random row order; the last `junk` rows are pid -1."""
    rng = np.random.default_rng(seed)
    track = np.repeat(np.arange(videos * people), rng.integers(1, images + 1, videos * people))
    pids, clips = np.append(track + 10, np.full(junk, -1)), np.append(track // people, np.zeros(junk, int))
    order = rng.permutation(len(pids))
    paths = Paths.of([f"s{i}.jpg" for i in range(len(pids))])
    return from_columns("clips", paths, pids[order], videos=clips[order])


def mixed(**sizes):
    return concat([cameras_table(), clips_table(**sizes)])


def features_of(table, seed, epochs, noise=0.5, spread=1.0, dim=DIM):
    """Per epoch row -> unit float64 feature: a drifting identity, half the rows near another's."""
    rng = np.random.default_rng(seed)
    people = int(table.labels.max()) + 1
    centers = rng.standard_normal(dim) + spread * rng.standard_normal((people, dim))
    who = np.where(rng.random(len(table)) < 0.3, rng.integers(people, size=len(table)), table.labels)
    made = []
    for _ in range(epochs):
        centers = centers + 0.2 * rng.standard_normal(centers.shape)
        x = centers[who] + noise * rng.standard_normal((len(table), dim))
        made.append(x / np.linalg.norm(x, axis=1, keepdims=True))
    return made


def embedder(features, seed=0, largest=7, calls=None):
    """`embed` over an array (N, D), in chunks of varying size."""
    rng = np.random.default_rng(seed)

    def embed(rows):
        if calls is not None:
            calls.append(rows)
        start = 0
        while start < len(rows):
            at = rows[start : start + int(rng.integers(1, largest + 1))]
            start += len(at)
            yield torch.from_numpy(at), torch.from_numpy(features[at])

    return embed


def plain(config):
    """The options of the twin."""
    rm, ecm = config.rm, config.ecm
    taken = {name: getattr(rm, name) for name in ("on", "start_epoch", "reading", "tau_rel", "tau_remove")}
    taken |= {name: getattr(rm, name) for name in ("tau_merge", "merge_centroid", "scope", "compare")}
    taken |= {"calibrate": rm.calibrate != "off", "reset": rm.reset_labels_each_epoch}
    return taken | {name: getattr(ecm, name) for name in ("alpha", "renorm", "naive", "before_merge")}


def as_dict(memory):
    return dict(zip(memory.labels.tolist(), memory.centroids.tolist(), strict=True))


def assert_same_memory(found, expected):
    found = as_dict(found)
    assert found.keys() == expected.keys()
    if found:
        np.testing.assert_allclose(
            [found[pid] for pid in found], [expected[pid] for pid in found], rtol=0, atol=1e-9
        )


def run_both(table, per_epoch, config, queues=(), seed=0):
    """The refresh and its twin side by side; yields (state, done, twin state, twin view) per epoch."""
    rows = np.flatnonzero((table.videos >= 0) & (table.labels >= 0)).tolist()
    tracker = {row: int(table.labels[row]) for row in rows}
    video_of = {row: int(table.videos[row]) for row in rows}
    state = method.start(table)
    twin = {"labels": tracker, "memory": None, "videos": {}, "queue": []}
    for epoch, features in enumerate(per_epoch):
        queue = queues[epoch] if epoch < len(queues) else []
        state = dataclasses.replace(state, queue=tuple(queue))
        twin = twin | {"queue": list(queue)}
        labels = table.labels if config.rm.reset_labels_each_epoch else state.labels
        drawn = method.draw_images(labels, table.videos >= 0, config, epoch).tolist()
        state, done = method.refresh(state, table, embedder(features, seed + epoch), config, epoch)
        known = {row: features[row].tolist() for row in rows}
        twin, view = naive.refresh(twin, tracker, video_of, drawn, known, epoch, plain(config))
        yield state, done, twin, view


def assert_same_epoch(table, state, done, twin, view):
    rows = list(view["labels"])
    expected = table.labels.copy()
    expected[rows] = [view["labels"][row] for row in rows]
    assert done.labels.tolist() == expected.tolist()  # multi-camera rows and junk keep theirs
    expected[rows] = [twin["labels"][row] for row in rows]
    assert state.labels.tolist() == expected.tolist()
    assert set(np.flatnonzero(done.removed).tolist()) == view["removed"]
    assert_same_memory(done.single, view["memory"])
    assert_same_memory(state.memory, twin["memory"])
    videos = state.memory.videos.tolist()
    assert dict(zip(state.memory.labels.tolist(), videos, strict=True)) == twin["videos"]
    assert list(done.queue) == view["queue"] and list(state.queue) == twin["queue"]
    assert (done.report is None) == (view["report"] is None)
    if view["report"] is not None:
        found = done.report.as_dict()
        assert {name: found[name] for name in view["report"]} == view["report"]


OPTIONS = {
    "rm__scope": ("global", "video"),
    "rm__compare": ("previous", "blended"),
    "rm__reset_labels_each_epoch": (False, True),
    "rm__merge_centroid": ("weighted", "mean"),
    "rm__reading": ("all", "others", "own_filter"),
    "rm__start_epoch": (1, 2),
    "rm__on": (True, True, False),
    "ecm__before_merge": (False, True),
    "ecm__K": (1, 2, 4, "all"),
    "ecm__alpha": (0.3, 0.0, 0.8),
    "ecm__naive": (False, False, True),
    "ecm__renorm": (False, True),
}
TAUS = ((0.6, 0.5, 0.8), (0.9, 0.9, 0.95), (0.8, 0.2, 0.9), (0.3, -1.0, 0.99))


@settings(deadline=None, max_examples=40)
@given(
    options=st.fixed_dictionaries({name: st.sampled_from(values) for name, values in OPTIONS.items()}),
    taus=st.sampled_from(TAUS),
    sizes=st.fixed_dictionaries(
        {"videos": st.integers(1, 3), "people": st.integers(1, 3), "images": st.integers(1, 4)}
    ),
    junk=st.integers(0, 2),
    spread=st.sampled_from((0.3, 1.0, 3.0)),
    seed=st.integers(0, 10**6),
)
def test_refresh_is_the_loop(options, taus, sizes, junk, spread, seed):
    config = change(Config(seed=seed), **options, rm__tau_rel=taus[0], rm__tau_remove=taus[1])
    config = change(config, rm__tau_merge=taus[2])
    table = mixed(**sizes, junk=junk, seed=seed)
    per_epoch = features_of(table, seed, 4, spread=spread)
    rng = np.random.default_rng(seed)
    queues = [rng.integers(0, table.labels.max() + 3, 6).tolist() for _ in per_epoch]  # some never existed
    for both in run_both(table, per_epoch, config, queues, seed):
        assert_same_epoch(table, *both)


def all_kinds(**changes):
    """A config under which every kind of decision happens on `busy` data."""
    return change(Config(), **{"rm__tau_rel": 0.6, "rm__tau_remove": 0.5, "rm__tau_merge": 0.8} | changes)


def busy(seed=3, epochs=4):
    table = mixed(videos=4, people=4, images=6, seed=seed)
    return table, features_of(table, seed, epochs, spread=2.0)


@pytest.mark.parametrize("scope", ["global", "video"])
@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("compare", ["previous", "blended"])
def test_orders_and_scopes_on_a_busy_table(scope, reset, before, compare):
    config = all_kinds(
        rm__scope=scope, rm__reset_labels_each_epoch=reset, ecm__before_merge=before, rm__compare=compare
    )
    table, per_epoch = busy()
    counts = {"relabeled": 0, "removed": 0, "merged": 0}
    for state, done, twin, view in run_both(table, per_epoch, config):
        assert_same_epoch(table, state, done, twin, view)
        for name in counts:
            counts[name] += 0 if done.report is None else getattr(done.report, name)
    assert all(counts.values()) or scope == "global", counts  # globally, somebody is always near enough
    assert counts["merged"] and counts["relabeled"]


def test_calibrated_thresholds():
    config = all_kinds(rm__calibrate="cross_video", rm__scope="video")
    table, per_epoch = busy()
    for both in run_both(table, per_epoch, config):
        assert_same_epoch(table, *both)


def refresh_all(table, per_epoch, config, largest=7, seed=0):
    state, out = method.start(table), []
    for epoch, features in enumerate(per_epoch):
        state, done = method.refresh(state, table, embedder(features, seed, largest), config, epoch)
        out.append((state, done))
    return out


@pytest.mark.parametrize("compare", ["previous", "blended"])
def test_chunks_do_not_change_the_epoch(compare):
    table, per_epoch = busy()
    runs = [
        refresh_all(table, per_epoch, all_kinds(rm__compare=compare), largest, seed)
        for largest, seed in ((1, 0), (5, 1), (10**6, 2))
    ]
    for a, *others in zip(*runs, strict=True):
        for b in others:
            assert a[1].labels.tolist() == b[1].labels.tolist()
            assert a[1].removed.tolist() == b[1].removed.tolist() and a[1].queue == b[1].queue
            assert_same_memory(b[1].single, as_dict(a[1].single))
            assert torch.allclose(a[1].multi.centroids, b[1].multi.centroids, rtol=0, atol=1e-12)
            assert a[1].report is None or a[1].report.removed == b[1].report.removed


def test_each_feature_is_embedded_once_or_twice_when_it_does_not_fit(monkeypatch):
    table, per_epoch = busy(epochs=2)

    def passes(config):
        state, _ = method.refresh(method.start(table), table, embedder(per_epoch[0]), config, 0)
        calls = []
        done = method.refresh(state, table, embedder(per_epoch[1], calls=calls), config, 1)[1]
        return done, [len(rows) for rows in calls]

    multi, drawn = int((table.videos < 0).sum()), len(draw(table, Config(), 1))
    assert passes(all_kinds())[1] == [multi, drawn]
    kept, lengths = passes(all_kinds(rm__compare="blended"))
    assert lengths == [multi, drawn]
    monkeypatch.setattr(method, "KEEP_FEATURES_GB", 0.0)
    again, lengths = passes(all_kinds(rm__compare="blended"))
    assert lengths == [multi, drawn, drawn]
    assert again.labels.tolist() == kept.labels.tolist() and again.removed.tolist() == kept.removed.tolist()


def test_refresh_leaves_its_state_as_it_was():
    table, per_epoch = busy(epochs=3)
    for changes in ({}, {"rm__reset_labels_each_epoch": True}, {"rm__start_epoch": 9}):
        config = all_kinds(ecm__before_merge=True, **changes)
        state = method.start(table)
        for epoch, features in enumerate(per_epoch):
            before = None if state.memory is None else as_dict(state.memory)
            labels = state.labels.copy()
            new, first = method.refresh(state, table, embedder(features), config, epoch)
            again = method.refresh(state, table, embedder(features), config, epoch)[1]
            assert first.labels.tolist() == again.labels.tolist()
            assert state.labels.tolist() == labels.tolist()
            assert before is None or before == as_dict(state.memory)
            state = new
        assert table.labels.tolist() == busy(epochs=3)[0].labels.tolist()


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("compare", ["previous", "blended"])
def test_spending_the_state_changes_nothing_else(reset, before, compare):
    table, per_epoch = busy(epochs=3)
    config = all_kinds(
        ecm__before_merge=before, rm__reset_labels_each_epoch=reset, rm__compare=compare
    )  # fmt: skip
    kept, spent = method.start(table), method.start(table)
    for epoch, features in enumerate(per_epoch):
        kept, expected = method.refresh(kept, table, embedder(features), config, epoch)
        room = None if spent.memory is None else spent.memory.centroids.data_ptr()
        spent, found = method.refresh(spent, table, embedder(features), config, epoch, spend=True)
        assert as_dict(found.single) == as_dict(expected.single)
        assert as_dict(spent.memory) == as_dict(kept.memory)
        assert found.labels.tolist() == expected.labels.tolist() and found.report == expected.report
        assert room is None or spent.memory.centroids.data_ptr() == room


def test_an_explosion_is_warned_of():
    table, per_epoch = busy()
    with pytest.warns(UserWarning, match="merging exploded: .* of .* PIDs"):
        refresh_all(table, per_epoch, change(all_kinds(), rm__tau_merge=-1.0))


# ---- the multi-camera side


def test_multi_camera_centroids_and_rows():
    table, per_epoch = busy()
    many = table.videos < 0
    for (_, done), features in zip(refresh_all(table, per_epoch, all_kinds()), per_epoch, strict=True):
        assert (done.labels[many] == table.labels[many]).all() and not done.removed[many].any()
        p, q = naive.multi_centroids(
            features[many].tolist(), table.labels[many].tolist(), table.camids[many].tolist()
        )
        assert done.multi.labels.tolist() == list(p)
        np.testing.assert_allclose(done.multi.centroids, list(p.values()), rtol=0, atol=1e-9)
        pairs = list(zip(done.multi.camera_labels.tolist(), done.multi.camera_camids.tolist(), strict=True))
        assert pairs == list(q)
        np.testing.assert_allclose(done.multi.camera_centroids, list(q.values()), rtol=0, atol=1e-9)


# ---- drawing


def draw(table, config, epoch):
    return method.draw_images(table.labels, table.videos >= 0, config, epoch)


@pytest.mark.parametrize("K", [1, 3, 4, "all"])
def test_draw_takes_K_of_each_pid(K):
    table = mixed(videos=5, people=4, images=9, junk=3)
    rows = draw(table, change(Config(), ecm__K=K), 2)
    assert len(set(rows.tolist())) == len(rows) and (np.diff(rows) > 0).all()
    assert (table.videos[rows] >= 0).all() and (table.labels[rows] >= 0).all()
    single = table.labels[(table.videos >= 0) & (table.labels >= 0)]
    for pid, count in zip(*np.unique(single, return_counts=True), strict=True):
        assert (table.labels[rows] == pid).sum() == (count if K == "all" else min(K, count))


def test_every_subset_of_a_pid_is_drawn_alike():
    picks = method._distinct(np.random.default_rng(0), np.full(60_000, 5), 3)
    subsets, counts = np.unique(np.sort(picks, axis=1), axis=0, return_counts=True)
    assert len(subsets) == 10 and (np.diff(subsets, axis=1) > 0).all()
    assert np.abs(counts / 6_000 - 1).max() < 0.06  # 4.5 standard deviations
    for count in range(4, 9):
        few = method._distinct(np.random.default_rng(1), np.full(500, count), 3)
        assert few.min() == 0 and few.max() == count - 1


def test_draw_depends_on_seed_and_epoch_alone():
    table = mixed(videos=5, people=4, images=9)
    first = draw(table, Config(), 1)
    np.random.seed(7)
    assert draw(table, Config(), 1).tolist() == first.tolist()
    assert draw(table, Config(), 2).tolist() != first.tolist()
    assert draw(table, Config(seed=1), 1).tolist() != first.tolist()
    every = {row for epoch in range(40) for row in draw(table, change(Config(), ecm__K=2), epoch).tolist()}
    assert every == set(np.flatnonzero(table.videos >= 0).tolist())  # nobody is left out for good
    naive_rows = draw(table, change(Config(), ecm__K=1, ecm__naive=True), 0)
    assert naive_rows.tolist() == np.flatnonzero(table.videos >= 0).tolist()


def test_a_merged_pid_draws_from_all_its_members():
    table = mixed(videos=2, people=2, images=8)
    single = table.videos >= 0
    labels = np.where(single, table.labels[single].min(), table.labels)
    rows = {r for epoch in range(40) for r in method.draw_images(labels, single, Config(), epoch).tolist()}
    assert rows == set(np.flatnonzero(single).tolist())


# ---- what persists


def test_labels_and_merges_persist_unless_reset():
    table, per_epoch = busy()
    pids = np.unique(table.labels[table.videos >= 0]).tolist()
    persistent = refresh_all(table, per_epoch, all_kinds(rm__tau_merge=0.95))
    for (state, done), (_, later) in zip(persistent, persistent[1:], strict=False):
        assert state.labels.tolist() == done.labels.tolist()
        assert as_dict(state.memory).keys() == as_dict(done.single).keys()
        assert set(as_dict(later.single)) <= set(as_dict(done.single))  # a vanished PID never comes back
    assert len(persistent[-1][0].memory) < len(pids)
    afresh = refresh_all(table, per_epoch, all_kinds(rm__reset_labels_each_epoch=True))
    for state, done in afresh:
        assert state.labels.tolist() == table.labels.tolist()
        assert state.memory.labels.tolist() == pids
        assert done.report is None or len(done.single) == len(pids) - done.report.merged - vanished(
            done, pids
        )
    assert min(len(done.single) for _, done in afresh) < len(pids)


def vanished(done, pids):
    return len(pids) - done.report.merged - len(np.unique(done.labels[np.isin(done.labels, pids)]))


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("before", [False, True])
def test_the_memory_moves_every_epoch(reset, before):
    """Without a decision to take, the module is Eq. 3 alone, whatever the order."""
    table = mixed(videos=3, people=3, images=3)
    per_epoch = features_of(table, 5, 4)
    quiet = all_kinds(rm__reset_labels_each_epoch=reset, ecm__before_merge=before, rm__reading="own_filter")
    quiet = change(quiet, rm__tau_rel=1.0, rm__tau_remove=-1.0, rm__tau_merge=1.0)
    on = refresh_all(table, per_epoch, quiet)
    off = refresh_all(table, per_epoch, change(quiet, rm__on=False))
    for a, b in zip(on, off, strict=True):
        assert_same_memory(a[1].single, as_dict(b[1].single))
        assert_same_memory(a[0].memory, as_dict(b[0].memory))


def fan_table(pids, videos):
    clips = from_columns(
        "clips", Paths.of([f"{i}" for i in range(len(pids))]), np.array(pids), videos=np.array(videos)
    )
    return concat([cameras_table(), clips])


def fan(table, degrees):
    """Features at these angles for the single-camera rows."""
    out = np.tile([1.0, 0.0], (len(table), 1))
    angle = np.radians(degrees)
    out[table.videos >= 0] = np.stack([np.cos(angle), np.sin(angle)], 1)
    return out


@pytest.mark.parametrize("reset", [False, True])
def test_removal_is_for_one_epoch(reset):
    table = fan_table([1, 1, 1, 2, 2], [0] * 5)
    config = all_kinds(rm__reset_labels_each_epoch=reset)
    epochs = [fan(table, a) for a in ([0, 0, 0, 80, 80], [0, 0, 200, 80, 80], [0, 0, 0, 80, 80])]
    (_, _), (state, bad), (_, good) = refresh_all(table, epochs, config)
    row = int(np.flatnonzero(table.videos >= 0)[2])
    assert np.flatnonzero(bad.removed).tolist() == [row]
    assert bad.labels[row] == table.labels[row] == state.labels[row]
    assert not good.removed.any() and good.labels[row] == table.labels[row]


def test_decisions_are_simultaneous():
    """Two images that swap places swap labels; one after the other, the second would follow a moved mean."""
    table = fan_table([1, 2], [0, 0])
    config = all_kinds(rm__tau_merge=1.0)
    _, (state, done) = refresh_all(table, [fan(table, [0, 90]), fan(table, [90, 0])], config)
    single = table.videos >= 0
    assert done.labels[single].tolist() == table.labels[single][::-1].tolist()
    assert torch.allclose(
        done.single.centroids, torch.tensor([[1.0, 0], [0, 1]], dtype=torch.float64), atol=1e-12
    )
    assert done.report.relabeled == 2 and done.report.merged == 0


def test_queue_follows_the_merge():
    table = fan_table([1, 2, 3, 4], [0, 0, 0, 0])
    config = all_kinds()
    first, then = fan(table, [0, 10, 90, 170]), fan(table, [0, 10, 90, 90])
    one, two, three, four = table.labels[table.videos >= 0].tolist()
    state, _ = method.refresh(method.start(table), table, embedder(first), config, 0)
    state = dataclasses.replace(state, queue=(two, three, 999, four, one, three))
    state, done = method.refresh(state, table, embedder(then), config, 1)
    # 2 merges into 1, whose newest entry stays; 4's only image moves to 3; 999 never was.
    assert done.report.merged == 1 and done.queue == state.queue == (one, three)
    assert done.single.labels.tolist() == [one, three]


# ---- degenerate tables


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("before", [False, True])
def test_every_image_removed(reset, before):
    table = fan_table([1, 1, 2], [0, 0, 1])
    config = all_kinds(rm__scope="video", rm__reset_labels_each_epoch=reset, ecm__before_merge=before)
    both = list(
        run_both(table, [fan(table, [0, 0, 90]), fan(table, [180, 180, 270]), fan(table, [0, 0, 90])], config)
    )
    for each in both:
        assert_same_epoch(table, *each)
    state, done = both[1][:2]
    assert done.removed[table.videos >= 0].all() and done.report.images_after == done.report.pids_after == 0
    assert_same_memory(state.memory, as_dict(both[0][1].single))  # nothing to move it
    with pytest.raises(ValueError, match="batch.ids_single asks for 8 .* 0 are available"):
        method.batches(state, done, table, change(config, batch__ids_multi=2), 1)
    assert not both[2][1].removed.any()


@pytest.mark.parametrize(
    "sizes", [{"videos": 1, "people": 1}, {"videos": 1, "people": 4}, {"videos": 4, "people": 1}]
)
@pytest.mark.parametrize("scope", ["global", "video"])
def test_one_pid_one_video(sizes, scope):
    table = mixed(images=3, **sizes)
    for both in run_both(table, features_of(table, 1, 3), all_kinds(rm__scope=scope)):
        assert_same_epoch(table, *both)


@pytest.mark.parametrize("single_rows", [False, True])
def test_without_single_camera_data(single_rows):
    table = mixed() if single_rows else cameras_table()
    config = change(Config(), batch__ids_single=0) if single_rows else Config()
    calls = []
    state = method.start(table)
    state, done = method.refresh(state, table, embedder(features_of(table, 0, 1)[0], calls=calls), config, 0)
    assert done.single is None and done.report is None and done.queue == () and not done.removed.any()
    assert state.memory is None and done.labels.tolist() == table.labels.tolist()
    assert [rows.tolist() for rows in calls] == [np.flatnonzero(table.videos < 0).tolist()]


# ---- batches


def test_batches_see_the_epoch():
    table, per_epoch = busy()
    batch = {
        "batch__ids_multi": 2,
        "batch__ids_single": 2,
        "batch__images_multi": 2,
        "batch__images_single": 2,
    }
    config = all_kinds(rm__scope="video", rm__tau_merge=0.95, iterations=20, dsm__queue_epochs=0.1, **batch)
    for epoch, (state, done) in enumerate(refresh_all(table, per_epoch, config)):
        done = dataclasses.replace(done, queue=tuple(done.single.labels[:1].tolist()))
        planned = method.batches(state, done, table, config, epoch)
        used = {row for rows in planned for row in rows}
        assert len(planned) == 20 and not done.removed[sorted(used)].any()
        assert done.labels[next(iter(planned))[4]] != done.queue[0]  # it rests
        assert set(planned.queue) <= set(done.single.labels.tolist()) and len(planned.queue) == 4
        for rows in planned:
            assert (table.videos[rows] >= 0).tolist() == [False] * 4 + [True] * 4


# ---- the objective


class MeanColor(nn.Module):
    """A linear map of the mean color: each view has its own features."""

    def __init__(self, seed):
        super().__init__()
        self.map = nn.Linear(3, 5)
        with torch.no_grad():
            generator = torch.Generator().manual_seed(seed)
            for p in self.parameters():
                p.copy_(torch.randn(p.shape, generator=generator))
        self.seen = []

    def forward(self, images):
        self.seen.append(images)
        return self.map(images.mean((2, 3)))


LABELS = (0, 0, 1, 1, 10, 10, 12, 12)  # 4 multi-camera rows, then 4 single-camera rows
ROWS = torch.tensor([4, 5, 6, 7, 0, 1, 2, 3])  # of a table whose single-camera rows come first


def minibatch(seed=0):
    generator = torch.Generator().manual_seed(seed)
    views = {name: torch.randn(8, 3, 2, 2, generator=generator) for name in ("v0", "v1", "v2")}
    multi = MultiCentroids(
        torch.tensor([0, 1, 2]),
        torch.randn(3, 5, generator=generator),
        torch.tensor([0, 0, 1, 1, 2]),
        torch.tensor([0, 1, 0, 1, 1]),
        F.normalize(torch.randn(5, 5, generator=generator), dim=1),
    )
    memory = CentroidsMemory(torch.tensor([10, 11, 12, 13]), torch.randn(4, 5, generator=generator))
    by_row = torch.empty(8, dtype=torch.int64)
    by_row[ROWS] = torch.tensor(LABELS)
    single = torch.tensor([True] * 4 + [False] * 4)
    camids = torch.tensor([-1] * 4 + [0, 1, 0, 1])
    return views, method.EpochTensors(by_row, single, camids, multi, memory)


def terms_of(config, views, epoch):
    encoder, momentum = MeanColor(1), MeanColor(2)
    found = method.objective(encoder, momentum, views, ROWS, epoch, config)
    return found, encoder, momentum


def direct(config, f, m, a, m0, epoch):
    """The default terms by the losses alone, all centroids given and scope "batch"."""
    labels, single = torch.tensor(LABELS), torch.arange(8) >= 4
    keys = torch.cat([epoch.multi.labels, epoch.memory.labels])
    centroids = torch.cat([epoch.multi.centroids, epoch.memory.centroids])
    cameras = (epoch.multi.camera_centroids, epoch.multi.camera_labels, epoch.multi.camera_camids)
    camids = torch.tensor([0, 1, 0, 1])
    return {
        "ins": losses.instance_loss(f, m, labels, single),
        "aug": losses.augmentation_loss(a, m0, labels, single),
        "cen": losses.centroids_loss(f, labels, single, centroids, keys, feature=config.cen.feature),
        "cc": losses.camera_centroids_loss(f[:4], labels[:4], camids, *cameras),
    }


# view setting -> (encoder, momentum) views of L_ins, then of L_aug
SEEN = {
    "A": (("v1", "v2"), ("v1", "v0")),
    "B": (("v1", "v1"), ("v1", "v0")),
    "C": (("v0", "v0"), ("v1", "v0")),
    "economy": (("v1", "v2"), ("v1", "v2")),
}


@pytest.mark.parametrize("setting", SEEN)
@pytest.mark.parametrize("feature", ["raw", "unit"])
def test_terms_are_the_losses_of_the_right_views(setting, feature):
    config = change(Config(), aug__views=setting, cen__feature=feature)
    views, epoch = minibatch()
    found, encoder, momentum = terms_of(config, views, epoch)
    (f, m), (a, m0) = SEEN[setting]
    pairs = ((MeanColor(1), f), (MeanColor(2), m), (MeanColor(1), a), (MeanColor(2), m0))
    expected = direct(config, *(network(views[name]) for network, name in pairs), epoch)
    assert found.terms.keys() == expected.keys() == method.weights(config).keys()
    for name, value in expected.items():
        assert found.terms[name].item() == pytest.approx(value.item(), abs=1e-5), name
    assert len(encoder.seen) == len({f, a}) and len(momentum.seen) == len({m, m0})  # no forward too many


def test_views_that_are_not_needed_may_be_missing():
    for setting in SEEN:
        views, epoch = minibatch()
        given = {name: views[name] for name in NAMES[setting]}
        terms_of(change(Config(), aug__views=setting), given, epoch)


@pytest.mark.parametrize("setting", SEEN)
def test_gradient_reaches_the_encoder_only(setting):
    views, epoch = minibatch()
    config = change(Config(), aug__views=setting)
    for name in ("ins", "aug", "cen", "cc"):
        found, encoder, momentum = terms_of(config, views, epoch)
        found.terms[name].backward()
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in encoder.parameters()), name
        assert all(p.grad is None for p in momentum.parameters())
        assert not found.logits.requires_grad


def test_weights():
    assert method.weights(change(Config(), cc__weight=0.25)) == {
        "ins": 1.0,
        "aug": 1.0,
        "cen": 1.0,
        "cc": 0.25,
    }


@pytest.mark.parametrize("scope", ["batch", "all"])
@pytest.mark.parametrize("use", ["on", "off", "centroids_only"])
def test_single_camera_rows_and_centroids_of_the_centroids_loss(use, scope):
    config = change(Config(), cen__use_single=use, cen__scope=scope)
    views, epoch = minibatch()
    f = MeanColor(1)(views["v1"])
    keys, centroids = epoch.multi.labels, epoch.multi.centroids
    if use != "off":
        keys, centroids = (
            torch.cat([keys, epoch.memory.labels]),
            torch.cat([centroids, epoch.memory.centroids]),
        )
    if scope == "batch":
        present = torch.isin(keys, torch.tensor(LABELS))
        keys, centroids = keys[present], centroids[present]
    anchors = slice(0, 8 if use == "on" else 4)
    expected = losses.centroids_loss(
        f[anchors],
        torch.tensor(LABELS)[anchors],
        (torch.arange(8) >= 4)[anchors],
        centroids,
        keys,
        scope="all",
    )
    found = terms_of(config, views, epoch)[0].terms["cen"]
    assert found.item() == pytest.approx(expected.item(), abs=1e-5)


@pytest.mark.parametrize("term", ["ins", "aug"])
def test_single_camera_rows_left_out_of_a_loss(term):
    views, epoch = minibatch()
    f, m, m0 = MeanColor(1)(views["v1"]), MeanColor(2)(views["v2"]), MeanColor(2)(views["v0"])
    found = terms_of(change(Config(), **{f"{term}__use_single": False}), views, epoch)[0].terms
    labels, single = torch.tensor(LABELS)[:4], torch.zeros(4, dtype=torch.bool)
    if term == "ins":
        expected = losses.instance_loss(f[:4], m[:4], labels, single)
    else:
        expected = losses.augmentation_loss(f[:4], m0[:4], labels, single)
    assert found[term].item() == pytest.approx(expected.item(), abs=1e-5)
    rest = terms_of(Config(), views, epoch)[0].terms
    assert all(torch.equal(found[name], rest[name]) for name in rest if name != term)


def test_loss_options_reach_the_losses():
    views, epoch = minibatch()
    f, m, m0 = MeanColor(1)(views["v1"]), MeanColor(2)(views["v2"]), MeanColor(2)(views["v0"])
    labels, single = torch.tensor(LABELS), torch.arange(8) >= 4
    ins = {
        "negatives": "same_type",
        "denominator": "all_pos",
        "include_self": False,
        "tau_multi": 0.3,
        "tau_single": 0.4,
    }
    aug = {"tau": 0.3, "negatives": "same_type"}
    cc = {
        "exclude_own": True,
        "denominator": "per_positive",
        "reduction": "camera_sum",
        "hard_negatives": 2,
        "tau": 0.2,
    }
    cen = {"feature": "unit", "centroid": "unit", "tau_multi": 0.2, "tau_single": 0.9}
    named = {"ins": ins, "aug": aug, "cc": cc, "cen": cen}
    flat = {
        f"{section}__{name}": value for section, values in named.items() for name, value in values.items()
    }
    found = terms_of(change(Config(), **flat), views, epoch)[0].terms
    keys = torch.cat([epoch.multi.labels, epoch.memory.labels])
    centroids = torch.cat([epoch.multi.centroids, epoch.memory.centroids])
    cameras = (epoch.multi.camera_centroids, epoch.multi.camera_labels, epoch.multi.camera_camids)
    expected = {
        "ins": losses.instance_loss(f, m, labels, single, **ins),
        "aug": losses.augmentation_loss(f, m0, labels, single, **aug),
        "cen": losses.centroids_loss(f, labels, single, centroids, keys, **cen),
        "cc": losses.camera_centroids_loss(f[:4], labels[:4], torch.tensor([0, 1, 0, 1]), *cameras, **cc),
    }
    for name, value in expected.items():
        assert found[name].item() == pytest.approx(value.item(), abs=1e-5), name


@pytest.mark.parametrize("feature", ["raw", "unit"])
@pytest.mark.parametrize("centroid", ["asis", "unit"])
def test_range_of_the_centroid_logits(feature, centroid):
    config = change(
        Config(), cen__feature=feature, cen__centroid=centroid, cen__tau_multi=0.1, cen__tau_single=0.7
    )
    views, epoch = minibatch()
    f = MeanColor(1)(views["v1"])
    table = torch.cat(
        [epoch.multi.centroids[:2], epoch.memory.centroids[[0, 2]]]
    )  # of the batch's identities
    f = F.normalize(f, dim=1) if feature == "unit" else f
    table = F.normalize(table, dim=1) if centroid == "unit" else table
    logits = f @ table.T / torch.tensor([0.1] * 4 + [0.7] * 4)[:, None]
    found = terms_of(config, views, epoch)[0].logits
    assert found.tolist() == pytest.approx([logits.min().item(), logits.max().item()], abs=1e-5)


def test_double_precision_stays():
    views, epoch = minibatch()
    views = {name: images.double() for name, images in views.items()}
    multi = dataclasses.replace(
        epoch.multi,
        centroids=epoch.multi.centroids.double(),
        camera_centroids=epoch.multi.camera_centroids.double(),
    )
    memory = CentroidsMemory(epoch.memory.labels, epoch.memory.centroids.double())
    epoch = dataclasses.replace(epoch, multi=multi, memory=memory)
    encoder, momentum = MeanColor(1).double(), MeanColor(2).double()
    terms, logits = method.objective(encoder, momentum, views, ROWS, epoch, Config())
    f, m, m0 = encoder(views["v1"]), momentum(views["v2"]), momentum(views["v0"])
    expected = direct(Config(), f, m, f, m0, epoch)
    assert logits.dtype == torch.float64
    for name, value in expected.items():
        assert terms[name].dtype == torch.float64, name
        assert terms[name].item() == pytest.approx(value.item(), abs=1e-12), name


def test_half_precision_networks_still_compare_in_single():
    views, epoch = minibatch()
    with torch.autocast("cpu", torch.bfloat16):
        found, encoder, _ = terms_of(Config(), views, epoch)
    assert all(value.dtype == torch.float32 for value in found.terms.values())
    exact = terms_of(Config(), views, epoch)[0].terms
    assert all(found.terms[name].item() == pytest.approx(exact[name].item(), rel=0.2) for name in exact)


def test_objective_without_single_camera_rows():
    views, epoch = minibatch()
    views = {name: images[:4] for name, images in views.items()}
    epoch = dataclasses.replace(epoch, memory=None)
    found = method.objective(MeanColor(1), MeanColor(2), views, ROWS[:4], epoch, Config())
    f, m, m0 = MeanColor(1)(views["v1"]), MeanColor(2)(views["v2"]), MeanColor(2)(views["v0"])
    labels, single = torch.tensor(LABELS)[:4], torch.zeros(4, dtype=torch.bool)
    cen = losses.centroids_loss(f, labels, single, epoch.multi.centroids, epoch.multi.labels)
    assert found.terms["ins"].item() == pytest.approx(
        losses.instance_loss(f, m, labels, single).item(), abs=1e-5
    )
    assert found.terms["aug"].item() == pytest.approx(
        losses.augmentation_loss(f, m0, labels).item(), abs=1e-5
    )
    assert found.terms["cen"].item() == pytest.approx(cen.item(), abs=1e-5)


def test_epoch_tensors_are_the_epoch():
    table, per_epoch = busy(epochs=2)
    done = refresh_all(table, per_epoch, all_kinds())[-1][1]
    tensors = method.EpochTensors.of(done, table)
    assert (
        tensors.labels.tolist() == done.labels.tolist() and tensors.camids.tolist() == table.camids.tolist()
    )
    assert tensors.single.tolist() == (table.videos >= 0).tolist()
    batch = torch.tensor([0, 0, int(done.single.labels[0]), 1])
    centroids, labels = tensors.centroids(batch, "batch", True)
    assert labels.tolist() == [0, 1, int(done.single.labels[0])]
    assert torch.equal(centroids, torch.cat([done.multi.centroids[:2], done.single.centroids[:1]]))
    assert len(tensors.centroids(batch, "all", True)[1]) == len(done.multi.labels) + len(done.single)
    assert tensors.centroids(batch, "batch", False)[1].tolist() == [0, 1]
