"""ReMix: its epoch (Algorithms 1 and 2). Objective, trainer and the drawing of images are DynaMix's.

refresh   multi-camera centroids; videos drawn at random, embedded and clustered until they fill the epoch
batches   random mixing: labeled people and pseudo-labeled ones, drawn uniformly

No label outlives its epoch: there is nothing to refine, no memory, no queue. DynaMix's Table 3 starts from
the same epoch with the dataset's own labels in place of the clusters (`remix.labels = "given"`).
"""

import contextlib
import functools
from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.spatial.distance import cdist
from sklearn.cluster import DBSCAN
from threadpoolctl import ThreadpoolController

from dynamix import distributed
from dynamix.centroids import CentroidsMemory
from dynamix.config import Config, Remix, change
from dynamix.data.table import Table
from dynamix.methods.epoch import Clustering, Embed, Refresh, State, multi_camera
from dynamix.sampling import MixedBatches

VIDEOS = 0x4E31  # keeps this module's random stream apart from the sampler's and the views'
EMBEDDED = 16_384  # images embedded at most before their videos are clustered
LEAST = 256  # and at least: one video at a time would leave an encoder idle
SHARE = 32  # or this part of those embedded so far: most of what is still to come may be noise
LARGEST = 4_000  # images of one video between which all Jaccard distances are held at once
NOISE = -1  # DBSCAN's label of an image that belongs to no cluster


def refresh(
    state: State, table: Table, embed: Embed, config: Config, epoch: int, *, spend: bool = False
) -> tuple[State, Refresh]:
    """Centroids and pseudo-labels of one epoch (Algorithm 1); `state` stays as it is.

    Raises ValueError where fewer pseudo-identities are found than a batch holds, or a video is too large for
    the metric.
    """
    _check_sizes(table, config)
    multi = multi_camera(table, embed)
    nothing = np.zeros(len(table), dtype=bool)
    if config.batch.ids_single == 0 or not (table.videos >= 0).any():
        return state, Refresh(table.labels.copy(), nothing, multi, None, (), None)
    labels, memory, found = _clustered(table, embed, config, epoch)
    if found.usable < config.batch.ids_single:
        raise ValueError(
            f"epoch {epoch}: {found.videos} videos hold {found.usable} pseudo-identities of at least "
            f"{config.dsm.min_images} images (dsm.min_images), a batch needs {config.batch.ids_single}: "
            f"lower batch.ids_single, raise remix.eps or lower remix.min_samples where most images are noise "
            f"({found.images - found.labeled:,} of {found.images:,}), lower remix.eps where people are joined"
        )
    centroids = multi.centroids
    memory = CentroidsMemory(memory.labels, memory.centroids.to(centroids.device, centroids.dtype))
    return state, Refresh(labels, nothing, multi, memory, (), None, found)


def batches(state: State, done: Refresh, table: Table, config: Config, epoch: int) -> MixedBatches:
    """The epoch's mini-batches: both halves drawn uniformly, nothing matched, nobody rests."""
    mixed = change(config, dsm__mode="off")
    return MixedBatches(
        table, done.labels, done.removed, done.single, done.multi, mixed, seed=config.seed, epoch=epoch
    )


def pseudo_labels(
    table: Table, embed: Embed, config: Config, epoch: int
) -> tuple[Int[np.ndarray, " N"], CentroidsMemory]:
    """Algorithm 2: videos without replacement until `batch.size x iterations` images have a label.

    Ours: and until a batch can be filled with identities, which a short epoch's images may be too few for.
    Labels (N,): multi-camera ones as they are, a fresh one per cluster, -1 for every other video image. The
    last video is kept whole; a pass through all of them ends the search as well.
    """
    return _clustered(table, embed, config, epoch)[:2]


def _clustered(
    table: Table, embed: Embed, config: Config, epoch: int
) -> tuple[Int[np.ndarray, " N"], CentroidsMemory, Clustering]:
    labels = np.where(table.videos >= 0, -1, table.labels)
    fresh, left = int(table.labels.max()) + 1, config.batch.size * config.iterations
    kept: list[tuple[np.ndarray, np.ndarray]] = []
    images, usable = 0, 0  # seen; identities that can be sampled
    for rows, features in _videos(table, embed, config, epoch, left):
        if config.remix.labels == "given":
            found = table.labels[rows]
        else:
            found = cluster(features, config.remix)
            found = np.where(found == NOISE, NOISE, found + fresh)
            fresh = max(fresh, int(found.max(initial=-1)) + 1)
        labels[rows] = found
        kept.append((features[found >= 0], found[found >= 0]))
        left -= len(kept[-1][1])
        images += len(rows)
        usable += int((np.unique(kept[-1][1], return_counts=True)[1] >= config.dsm.min_images).sum())
        if left <= 0 and usable >= config.batch.ids_single:
            break
    features, known = (np.concatenate(column) for column in zip(*kept, strict=True))
    memory = CentroidsMemory.empty(
        torch.from_numpy(np.unique(known)), features.shape[1], dtype=torch.from_numpy(features).dtype
    )
    memory.update(torch.from_numpy(features), torch.from_numpy(known), alpha=0)
    return labels, memory, Clustering(len(kept), images, len(known), len(memory), usable)


def _check_sizes(table: Table, config: Config) -> None:
    """Before anything is embedded: the video that is too large may be drawn only late in training."""
    if config.remix.metric == "jaccard" and config.clusters:
        _check_video(int(np.bincount(table.videos[table.videos >= 0], minlength=1).max()))


def _check_video(count: int) -> None:
    if count > LARGEST:
        raise ValueError(
            f"a video has {count:,} images, remix.metric jaccard compares at most {LARGEST:,} with one "
            "another: set remix.metric to euclidean or cosine"
        )


def _videos(
    table: Table, embed: Embed, config: Config, epoch: int, wanted: int
) -> Iterator[tuple[Int[np.ndarray, " n"], Float[np.ndarray, "n D"]]]:
    """Rows and unit features of one random video after the other, embedded several videos at a time."""
    rows = np.flatnonzero(table.videos >= 0)
    rows = rows[np.argsort(table.videos[rows], kind="stable")]
    first = np.flatnonzero(np.diff(table.videos[rows], prepend=-1))
    last = np.append(first[1:], len(rows))
    order = np.random.default_rng([config.seed, epoch, VIDEOS]).permutation(len(first))
    images = np.cumsum((last - first)[order])
    at = 0
    while at < len(order):
        seen = images[at - 1] if at else 0
        # As many videos as the epoch may still need, were every image of theirs to get a label.
        size = min(max(wanted - seen, seen // SHARE, LEAST), EMBEDDED)
        end = int(np.searchsorted(images, seen + size)) + 1
        group = order[at : min(end, len(order))]
        drawn = np.concatenate([rows[first[video] : last[video]] for video in group])
        drawn, features = _embedded(embed, drawn)
        ends = np.flatnonzero(np.diff(table.videos[drawn])) + 1
        yield from zip(np.split(drawn, ends), np.split(features, ends), strict=True)
        at += len(group)


def _embedded(
    embed: Embed, rows: Int[np.ndarray, " n"]
) -> tuple[Int[np.ndarray, " k"], Float[np.ndarray, "k D"]]:
    """Those of `rows` whose images can be read, in their order, and their features; of all ranks' shares."""
    pieces = [(at.numpy(), features.cpu().numpy()) for at, features in embed(rows)]
    # A rank may have had no chunk to embed: then it knows neither width nor kind, and the others tell it.
    like = max(
        distributed.everyone((pieces[0][1].shape[1], pieces[0][1].dtype.str) if pieces else (0, "<f4"))
    )
    pieces.append((np.empty(0, np.int64), np.empty((0, like[0]), like[1])))
    at, features = distributed.join(*(np.concatenate(column) for column in zip(*pieces, strict=True)))
    kept, order = rows[np.isin(rows, at)], np.argsort(at)
    return kept, features[order[np.searchsorted(at, kept, sorter=order)]]


def cluster(features: Float[np.ndarray, "n D"], remix: Remix) -> Int[np.ndarray, " n"]:
    """DBSCAN on the unit features of one video (Sec. 3.3): clusters from 0, -1 for noise.

    Raises ValueError on a video too large for the metric "jaccard".
    """
    if len(features) < remix.min_samples:
        return np.full(len(features), NOISE)
    jaccard = remix.metric == "jaccard"
    scan = DBSCAN(
        eps=remix.eps, min_samples=remix.min_samples, metric="precomputed" if jaccard else remix.metric
    )
    with _threads_of_torch():
        compared = jaccard_distances(features, remix.k1, remix.k2) if jaccard else features
        return scan.fit(compared).labels_.astype(np.int64)


def _threads_of_torch() -> contextlib.AbstractContextManager[object]:
    """One thread for NumPy and scikit-learn where torch has one: runs side by side share the cores."""
    return _pools().limit(limits=1) if torch.get_num_threads() == 1 else contextlib.nullcontext()


@functools.cache
def _pools() -> ThreadpoolController:
    return ThreadpoolController()  # looks through all loaded libraries: once, not for every video


def jaccard_distances(
    features: Float[np.ndarray, "n D"], k1: int = 30, k2: int = 6
) -> Float[np.ndarray, "n n"]:
    """k-reciprocal Jaccard distance of unit features (Zhong et al. 2017, Eqs. 3-10), in [0, 1].

    Two images are close when they are among each other's `k1` nearest, and so are their neighbors. Memory
    O(n^2). Raises ValueError on more than 4,000 images.
    """
    count = len(features)
    _check_video(count)
    distances = np.clip(2 - 2 * features.astype(np.float64) @ features.T.astype(np.float64), 0, None)
    np.fill_diagonal(distances, -1.0)  # nothing is nearer to an image than itself
    order = np.argsort(distances, axis=1, kind="stable")
    np.fill_diagonal(distances, 0.0)
    mutual, half = (_mutual(order, min(k, count - 1)) for k in (k1, round(k1 / 2)))
    # A neighbor's own neighbors join when more than two thirds of them are neighbors already.
    shared = mutual.astype(np.float64) @ half.T
    joins = mutual & (shared > 2 / 3 * half.sum(1))
    expanded = mutual | (joins.astype(np.float64) @ half > 0)
    weights = np.where(expanded, np.exp(-distances), 0.0)
    weights /= weights.sum(1, keepdims=True)
    if k2 > 1:
        # Summed one neighbor after the other: all at once they would be k2 such matrices.
        mean = np.zeros_like(weights)
        for near in order.T[:k2]:
            mean += weights[near]
        weights = mean / min(k2, count)
    # Rows sum to 1, so that the sum of smaller entries is 1 - L1 / 2, that of larger ones 1 + L1 / 2.
    gap = cdist(weights, weights, "cityblock") / 2
    return 2 * gap / (1 + gap)


def _mutual(order: Int[np.ndarray, "n n"], k: int) -> np.ndarray:
    """(n, n) bool: which images are among each other's k nearest, themselves included."""
    near = np.zeros(order.shape, bool)
    np.put_along_axis(near, order[:, : k + 1], True, axis=1)
    return near & near.T
