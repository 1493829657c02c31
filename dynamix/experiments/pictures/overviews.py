"""The overviews of both methods: every crop, number and color in them comes from one epoch of a real run."""

from collections.abc import Iterator

import numpy as np
import torch
from matplotlib.figure import Figure

from dynamix.experiments.figures import true_tracks
from dynamix.experiments.pictures.clustering import clustered
from dynamix.experiments.pictures.dynamix_figures import pairs_of
from dynamix.experiments.pictures.scene import Context, Scene
from dynamix.methods import dynamix as method
from dynamix.plots.clips import tracker_errors
from dynamix.plots.overview import Batch, Data, Decision, Matching, overview, remix_overview
from dynamix.similarity import unit

CAMERAS, BOXES, STRIPS, COLUMNS, PAIRS = 5, 5, 5, 16, 4  # how many of each are shown


def figure2(context: Context) -> Figure:
    """DynaMix at a glance (Fig. 2)."""
    scene = context.scene
    config, labels = scene.config, strip_labels(scene)
    return overview(
        data_of(scene), list(decisions_of(scene)),
        scene.multi.centroids[:STRIPS].numpy(),
        scene.single.centroids[scene.single.index_of(torch.from_numpy(labels))].numpy(), labels,
        matching_of(scene), batch_of(scene, "median", PAIRS), method.weights(config),
        alpha=0.0 if config.ecm.naive else config.ecm.alpha,
        title="DynaMix: repair the labels of videos, then mix them in, neither too alike nor too far",
        note="Mannequins; every crop, label, similarity and centroid is of the epoch after a run's last.",
    )  # fmt: skip


def remix_figure2(context: Context) -> Figure:
    """ReMix at a glance (ReMix, Fig. 2)."""
    scene = context.scene
    rows = scene.clip.rows
    found = clustered(scene.features[rows])
    kinds = np.unique(found[found >= 0])[:STRIPS]
    centers = [scene.features[rows[found == k]].mean(0).numpy() for k in kinds.tolist()]
    if not centers:
        raise ValueError("DBSCAN finds no cluster in the busiest clip: take a run trained for longer")
    return remix_overview(
        data_of(scene), scene.features[rows], found, scene.truth[rows],
        scene.multi.centroids[:STRIPS].numpy(), np.stack(centers), batch_of(scene, "off", 8),
        method.weights(scene.config),
        title="ReMix: cluster each clip, then mix its people in at random",
        note="Mannequins; crops, clusters and centroids under the momentum encoder of a DynaMix run.",
    )  # fmt: skip


def data_of(scene: Scene) -> Data:
    """The first batch's first person; the stretch of the busiest clip with most labels and junk."""
    person, table = pairs_of(scene, "median")[0][0, 0], scene.table
    mine = np.flatnonzero((table.labels == person) & (table.videos < 0))
    seen = np.sort(np.unique(table.camids[mine], return_index=True)[1])[:CAMERAS]
    clip, labels = scene.clip, scene.refined.tracker.labels
    tracks = clip.rows[true_tracks(clip)]
    marks = tracker_errors(labels[tracks], scene.truth[tracks])
    windows = [
        (r, slice(at, at + BOXES))
        for r in range(len(tracks))
        for at in range(max(tracks.shape[1] - BOXES + 1, 1))
    ]
    best = max(windows, key=lambda at: len(np.unique(labels[tracks[at]])) + int(marks.junk[at].any()))
    return Data(
        scene.crops(mine[seen]), scene.crops(tracks[best]), labels[tracks[best]],
        marks.cut[best], marks.switch[best], marks.junk[best],
    )  # fmt: skip


def decisions_of(scene: Scene) -> Iterator[Decision]:
    """The first image filtered, the first relabeled, the first labels merged: of the clip, else of any."""
    done, clip = scene.refined, scene.clip.rows
    single = np.flatnonzero(scene.table.videos >= 0)
    rows = np.concatenate([clip, single[~np.isin(single, clip)]])
    old, new, final = (stage.labels[rows] for stage in (done.tracker, done.relabeled, done.merged))
    kept = ~done.merged.removed[rows]
    remove, rel, merge = done.thresholds
    for name, cases, threshold in (("filter", ~kept, remove), ("relabel", kept & (new != old), rel)):
        for k in np.flatnonzero(cases)[:1].tolist():
            like = np.flatnonzero(kept & (old == new[k]) & (new == old))[: int(name == "relabel")]
            images = scene.crops(rows[[k, *like.tolist()]])
            yield Decision(name, images, int(old[k]), int(new[k]), float(done.similarity[rows[k]]), threshold)
    for k in np.flatnonzero(kept & (final != new)).tolist():
        from_, to = int(new[k]), int(final[k])
        value = float(cosine(scene, from_, to))
        other = np.flatnonzero(kept & (new == to))
        if value >= merge and len(other):  # a chain joins some labels that are less alike
            yield Decision("merge", scene.crops(rows[[k, other[0]]]), from_, to, value, merge)
            return


def cosine(scene: Scene, first: int, second: int) -> torch.Tensor:
    """Similarity of two labels' centroids when merging looked at them."""
    memory = scene.refined.compared
    a, b = unit(memory.centroids[memory.index_of(torch.tensor([first, second]))])
    return a @ b


def strip_labels(scene: Scene) -> np.ndarray:
    """The first labels that the busiest clip has after merging, ascending."""
    rows, merged = scene.clip.rows, scene.refined.merged
    labels = np.unique(merged.labels[rows][~merged.removed[rows]])
    return labels[scene.single.index_of(torch.from_numpy(labels)).numpy() >= 0][:STRIPS]


def matching_of(scene: Scene) -> Matching:
    """The first iteration's matrix: the chosen columns among evenly spaced others."""
    multi, single = (labels[0] for labels in pairs_of(scene, "median"))
    similarity = scene.similarity(multi, scene.pool)
    chosen = np.searchsorted(scene.pool, single)
    others = np.setdiff1d(np.arange(len(scene.pool)), chosen)
    more = others[np.linspace(0, len(others) - 1, min(COLUMNS - len(chosen), len(others))).astype(int)]
    columns = np.sort(np.concatenate([chosen, more]))
    return Matching(
        similarity[:, columns].numpy(),
        np.searchsorted(columns, chosen),
        float(np.median(similarity)),
        len(scene.pool),
    )


def batch_of(scene: Scene, mode: str, pairs: int) -> Batch:
    """The first image of each of the first identities of the first batch."""
    rows, batch = np.array(next(iter(scene.batches(mode)))), scene.config.batch
    cut = batch.ids_multi * batch.images_multi
    multi, single = rows[: cut : batch.images_multi][:pairs], rows[cut :: batch.images_single][:pairs]
    return Batch(scene.crops(multi), scene.crops(single), (batch.ids_single, batch.images_single))
