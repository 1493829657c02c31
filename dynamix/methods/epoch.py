"""What a method keeps from epoch to epoch, and what one epoch trains with."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from dynamix.centroids import CentroidsMemory, MultiCentroids, multi_centroids
from dynamix.data.table import Table
from dynamix.relabeling import RelabelingReport

# Rows to embed -> chunks of (rows (n,), unit momentum features (n, D)).
Embed = Callable[[np.ndarray], Iterator[tuple[Tensor, Tensor]]]


@dataclass(frozen=True)
class State:
    """What survives from epoch to epoch besides the networks."""

    labels: np.ndarray  # (N,) current identity keys, multi- and single-camera
    memory: CentroidsMemory | None = None  # single-camera centroids; None before the first refresh
    queue: tuple[int, ...] = ()  # single-camera PIDs sampled lately, oldest first


@dataclass(frozen=True)
class Clustering:
    """One epoch's clustering of videos in numbers (ReMix, Algorithm 2)."""

    videos: int  # drawn
    images: int  # theirs, as far as they can be read
    labeled: int  # of these, in a cluster; the others are noise
    pids: int  # clusters
    usable: int  # of these, with images enough to be sampled (dsm.min_images)


@dataclass(frozen=True)
class Refresh:
    """What one epoch trains with."""

    labels: np.ndarray  # (N,) labels to train on this epoch
    removed: np.ndarray  # (N,) bool: not sampled this epoch
    multi: MultiCentroids
    single: CentroidsMemory | None  # centroids of this epoch's single-camera PIDs
    queue: tuple[int, ...]
    report: RelabelingReport | None  # None without single-camera data or before relabeling starts
    clustering: Clustering | None = None  # ReMix's


def start(table: Table) -> State:
    """The state before the first epoch: the tracker's labels, no centroids, an empty queue."""
    return State(labels=table.labels.copy())


def multi_camera(table: Table, embed: Embed) -> MultiCentroids:
    """Centroids p_y and camera centroids q_{y,c} of all multi-camera images (ReMix, Algorithm 1).

    Raises ValueError where there are none.
    """
    single = table.videos >= 0
    rows = np.flatnonzero(~single & (table.labels >= 0))
    if not len(rows):
        raise ValueError("no labeled multi-camera images, whose centroids training needs: add such a dataset")
    return multi_centroids(embed(rows), np.where(single, -1, table.labels), table.camids)
