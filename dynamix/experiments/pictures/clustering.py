"""ReMix's pseudo-labels: DBSCAN on the features of one clip at a time, held against the true identities."""

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from dynamix.data.table import Table
from dynamix.evaluation import LabelQuality, label_quality
from dynamix.experiments.figures import true_tracks
from dynamix.experiments.pictures.scene import Context, Scene
from dynamix.plots.clusters import clusters
from dynamix.plots.kinds import kinds

EPS, MIN_SAMPLES = 0.8, 4  # of DBSCAN on unit features: cosine 0.68 (ReMix, Sec. 4)
PEOPLE, CAMERAS, FRAMES = 4, 4, 6  # of ReMix's figure 1


def clustered(features: Tensor) -> np.ndarray:
    """Clusters (n,) that DBSCAN finds in one clip's unit features (n, D); -1 = noise."""
    from sklearn.cluster import DBSCAN  # a second to import: only who clusters waits for it

    if len(features) < MIN_SAMPLES:
        return np.full(len(features), -1)
    return DBSCAN(eps=EPS, min_samples=MIN_SAMPLES).fit_predict(features.double().numpy())


def quality_of(scene: Scene) -> list[tuple[LabelQuality, float]]:
    """Of every clip: quality of its clusters, and the share of images that are noise."""
    found = []
    for clip in np.unique(scene.table.videos[scene.table.videos >= 0]).tolist():
        rows = np.flatnonzero(scene.table.videos == clip)
        labels = clustered(scene.features[rows])
        found.append((label_quality(labels, scene.truth[rows]), float((labels < 0).mean())))
    return found


def remix_figure1(context: Context) -> Figure:
    """Multi-camera and single-camera data: the first people, the busiest clip (ReMix, Fig. 1)."""
    scene = context.scene
    table = scene.table
    cameras = np.unique(table.camids[table.videos < 0])[:CAMERAS]
    people = np.unique(table.labels[(table.videos < 0) & (table.labels >= 0)])
    cells = [[_first(table, label, camera) for camera in cameras.tolist()] for label in people.tolist()]
    left = np.array([row for row in cells if min(row) >= 0][:PEOPLE])
    tracks = true_tracks(scene.clip)[:PEOPLE]
    right = scene.clip.rows[tracks[:, :FRAMES]]
    return kinds(
        scene.crops(left), scene.crops(right), [f"camera {c + 1}" for c in cameras.tolist()],
        scene.truth[right] < 0,
        title="Two kinds of data: few people over cameras, and clips from everywhere",
        note="Mannequins. At the left every image is labeled by hand; at the right nobody labeled anything, "
        "and no one is seen by a second camera.",
    )  # fmt: skip


def _first(table: Table, label: int, camera: int) -> int:
    rows = np.flatnonzero((table.labels == label) & (table.camids == camera) & (table.videos < 0))
    return int(rows[0]) if len(rows) else -1


def remix_figure3(context: Context) -> Figure:
    """Clusters of the busiest clip, and how right the clusters of all clips are."""
    scene = context.scene
    rows, measured = scene.clip.rows, quality_of(scene)
    found = clustered(scene.features[rows])
    return clusters(
        scene.crops(rows), scene.features[rows], found, scene.truth[rows],
        {
            "precision": np.array([q.precision for q, _ in measured]),
            "recall": np.array([q.recall for q, _ in measured]),
            "F1": np.array([q.f1 for q, _ in measured]),
            "noise": np.array([noise for _, noise in measured]),
        },
        title="ReMix's pseudo-labels: DBSCAN, one clip at a time",
        note="Mannequins, momentum encoder of a DynaMix run. Pairwise precision and recall against the true "
        "identities; images called noise and junk boxes left out.",
    )  # fmt: skip
