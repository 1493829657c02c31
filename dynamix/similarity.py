"""Exact cosine search among centroids, in blocks: nearest, pairs above a threshold, components.

Blocks are found with matrix products, whose last bits depend on their shape; whatever lies within
rounding of the decision is scored again by `_scores`, one pair at a time in a fixed order. Hence the
answer depends neither on `chunk` nor on the order of the rows, and equal centroids tie exactly.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

BLOCK = 2**22  # numbers gathered at once beside a block of similarities
EDGES = 2**20  # edges kept before they are united into components


class Nearest(NamedTuple):
    """The nearest centroid of each feature; the last three are None without `own`."""

    index: Int[Tensor, " n"]  # type: ignore[assignment]  # -1: no candidate
    similarity: Float[Tensor, " n"]  # -inf: no candidate
    own_similarity: Float[Tensor, " n"] | None
    other_index: Int[Tensor, " n"] | None
    other_similarity: Float[Tensor, " n"] | None


def rounding(dtype: torch.dtype) -> float:
    """Cosines closer than this are equal: ties and thresholds are decided up to it."""
    return 8 * torch.finfo(dtype).eps


def unit(features: Float[Tensor, "n D"]) -> Float[Tensor, "n D"]:
    """Rows scaled to length 1 (a zero row stays zero), bit for bit the same in any batch."""
    out = torch.empty_like(features)
    step = max(1, BLOCK // max(1, features.shape[1]))
    for start in range(0, len(features), step):
        block = features[start : start + step]
        length = row_sums(block * block).sqrt()[:, None]
        out[start : start + step] = block / length.where(length > 0, 1)
    return out


@torch.no_grad()
def nearest(
    features: Float[Tensor, "n D"],
    centroids: Float[Tensor, "P D"],
    *,
    own: Int[Tensor, " n"] | None = None,
    feature_groups: Int[Tensor, " n"] | None = None,
    centroid_groups: Int[Tensor, " P"] | None = None,
    chunk: int = 512,
) -> Nearest:
    """The most similar centroid of each feature by cosine, argmax_k cos(f_i, mu_k) (Sec. 3.2).

    `own` is the index of each feature's own centroid, -1 = none: it wins ties, then the smallest index
    does; `other_*` is the best centroid that is not the own. With groups only pairs of one group count
    (an own centroid of another group does not): the search is then a few batched small products. No
    candidate: index -1, similarity -inf. Memory O(chunk x P); `chunk` never changes the answer.

    Raises:
        ValueError: no centroids, sizes that disagree, rows that are not finite, chunk < 1.
    """
    _check_centroids(centroids, chunk)
    _check_features(features, centroids, own)
    if (feature_groups is None) != (centroid_groups is None):
        raise ValueError("pass feature_groups and centroid_groups together")
    dtype = torch.promote_types(features.dtype, centroids.dtype)
    features, centroids = features.to(dtype), centroids.to(dtype)
    index = torch.full((len(features),), -1, device=features.device)
    similarity = torch.full_like(index, -torch.inf, dtype=features.dtype)
    if feature_groups is None:
        kept, blocks = None, _row_blocks(len(features), len(centroids), chunk, features.device)
    else:
        assert centroid_groups is not None
        kept = torch.isin(centroid_groups, feature_groups).nonzero()[:, 0]  # a call may touch few groups
        groups = centroid_groups[kept]
        blocks = _group_blocks(feature_groups, groups, features.shape[1], chunk)
    candidates = unit(centroids if kept is None else centroids[kept])
    local = own if own is None or kept is None else _position(own, kept)
    for rows, columns in blocks:
        found, best = _search(features, candidates, rows, columns, local, whole=kept is None)
        flat = rows.flatten()
        index[flat[flat >= 0]], similarity[flat[flat >= 0]] = found[flat >= 0], best[flat >= 0]
    if kept is not None and len(kept):
        index = torch.where(index >= 0, kept[index.clamp(min=0)], -1)
    if own is None:
        return Nearest(index, similarity, None, None, None)
    allowed = own >= 0
    if feature_groups is not None and centroid_groups is not None:
        allowed &= centroid_groups[own.clamp(min=0)] == feature_groups
    at = allowed.nonzero()[:, 0]
    own_similarity = torch.full_like(similarity, -torch.inf)
    own_similarity[at] = _own_scores(features, centroids, at, own[at])
    wins = allowed & (own_similarity >= similarity - rounding(features.dtype))
    return Nearest(
        torch.where(wins, own, index),
        torch.where(wins, own_similarity, similarity),
        own_similarity,
        index,
        similarity,
    )


@torch.no_grad()
def pairs_above(
    centroids: Float[Tensor, "P D"],
    threshold: float | int,
    *,
    groups: Int[Tensor, " P"] | None = None,
    chunk: int = 1024,
) -> Int[Tensor, "E 2"]:
    """All pairs i < j with cosine >= threshold, in ascending order (merging, Sec. 3.2).

    With groups only pairs within one group. Memory O(chunk^2 + P D + E), in blocks of the upper triangle.
    """
    edges = list(_edges(centroids, threshold, groups, chunk))
    pairs = torch.cat([*edges, torch.empty((0, 2), dtype=torch.int64, device=centroids.device)])
    return pairs[(pairs[:, 0] * len(centroids) + pairs[:, 1]).argsort()]


@torch.no_grad()
def components(
    centroids: Float[Tensor, "P D"],
    threshold: float | int,
    *,
    groups: Int[Tensor, " P"] | None = None,
    chunk: int = 1024,
) -> Int[Tensor, " P"]:
    """For each centroid the smallest index of its connected component (merging, Sec. 3.2).

    The graph joins the pairs of `pairs_above`. Edges are united block by block and those inside a known
    component dropped, so that memory stays O(chunk^2 + P D) even when one component swallows everything.
    """
    roots = np.arange(len(centroids))
    known = torch.arange(len(centroids), device=centroids.device)
    waiting: list[np.ndarray] = []
    for edges in _edges(centroids, threshold, groups, chunk, known):
        waiting.append(known[edges].cpu().numpy())
        if sum(map(len, waiting)) > EDGES:
            roots, waiting = _unite(roots, waiting), []
            known.copy_(torch.from_numpy(roots))  # the search sees it and skips what is joined
    return torch.from_numpy(_unite(roots, waiting)).to(centroids.device)


def _unite(roots: Int[np.ndarray, " P"], edges: list[np.ndarray]) -> Int[np.ndarray, " P"]:
    ends = np.concatenate([*edges, np.empty((0, 2), dtype=np.int64)])
    shape = (len(roots), len(roots))
    graph = coo_array((np.ones(len(ends), dtype=np.int8), (ends[:, 0], ends[:, 1])), shape=shape)
    part = connected_components(graph, directed=False)[1][roots]
    _, first, inverse = np.unique(part, return_index=True, return_inverse=True)
    return first[inverse].astype(np.int64)


def row_sums(x: Float[Tensor, "*n D"]) -> Float[Tensor, "*n"]:
    # Halving by plain additions: the same bits for every batch shape and device, unlike `sum` or `@`.
    while x.shape[-1] > 1:
        half = x.shape[-1] // 2
        total = x[..., :half] + x[..., half : 2 * half]
        if x.shape[-1] % 2:
            total[..., 0] += x[..., -1]
        x = total
    return x[..., 0]


def _scores(
    left: Float[Tensor, "n D"], right: Float[Tensor, "m D"], i: Int[Tensor, " E"], j: Int[Tensor, " E"]
) -> Float[Tensor, " E"]:
    step = max(1, BLOCK // left.shape[1])
    parts = [row_sums(left[a] * right[b]) for a, b in zip(i.split(step), j.split(step), strict=True)]
    return torch.cat(parts)


def _own_scores(
    features: Float[Tensor, "n D"],
    centroids: Float[Tensor, "P D"],
    rows: Int[Tensor, " m"],
    own: Int[Tensor, " m"],
) -> Float[Tensor, " m"]:
    step = max(1, BLOCK // features.shape[1])
    parts = [
        row_sums(unit(features[a]) * unit(centroids[b]))
        for a, b in zip(rows.split(step), own.split(step), strict=True)
    ]
    return torch.cat(parts)


def _margin(dtype: torch.dtype, dim: int) -> float:
    # Worst-case error of two products of unit vectors, so that no tied pair escapes the second look.
    return (dim + 32) * torch.finfo(dtype).eps


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    # Neither autocast nor TF32 may touch an exact search.
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


def _search(
    features: Float[Tensor, "n D"],
    candidates: Float[Tensor, "P D"],
    rows: Int[Tensor, "G R"],
    columns: Int[Tensor, "G C"],
    own: Int[Tensor, " n"] | None,
    *,
    whole: bool,
) -> tuple[Int[Tensor, " GR"], Float[Tensor, " GR"]]:
    left = unit(features[rows.clamp(min=0).flatten()])  # (G R, D)
    right = candidates[None] if whole else candidates[columns.clamp(min=0)]
    with full_precision(features.device):
        scores = left.view(*rows.shape, -1) @ right.mT  # (G, R, C)
    if whole:  # no pads; one block of all columns
        if own is not None:
            mine = own[rows[0]]
            scores[0, (mine >= 0).nonzero()[:, 0], mine[mine >= 0]] = -torch.inf
    else:
        scores.masked_fill_((rows < 0)[:, :, None] | (columns < 0)[:, None, :], -torch.inf)
        if own is not None:
            scores.masked_fill_(own[rows.clamp(min=0)][:, :, None] == columns[:, None, :], -torch.inf)
    near = scores >= (scores.amax(2, keepdim=True) - _margin(scores.dtype, left.shape[1])).clamp(min=-2)
    group, row, column = near.nonzero(as_tuple=True)
    return _first_best(left, candidates, group * rows.shape[1] + row, columns[group, column])


def _first_best(
    left: Float[Tensor, "n D"], right: Float[Tensor, "P D"], i: Int[Tensor, " E"], j: Int[Tensor, " E"]
) -> tuple[Int[Tensor, " n"], Float[Tensor, " n"]]:
    score = _scores(left, right, i, j)
    best = torch.full_like(left[:, 0], -torch.inf).scatter_reduce(0, i, score, "amax")
    tied = score >= best[i] - rounding(score.dtype)
    nobody = torch.full((len(left),), len(right), device=i.device)
    first = nobody.scatter_reduce(0, i[tied], j[tied], "amin")
    chosen = j == first[i]
    best[i[chosen]] = score[chosen]
    return torch.where(first < len(right), first, -1), best


def _edges(
    centroids: Float[Tensor, "P D"],
    threshold: float | int,
    groups: Int[Tensor, " P"] | None,
    chunk: int,
    known: Int[Tensor, " P"] | None = None,
) -> Iterator[Int[Tensor, "E 2"]]:
    """Blocks of edges; those inside one component of `known` (read anew for each block) are left out."""
    _check_centroids(centroids, chunk)
    if groups is None:
        groups = torch.zeros(len(centroids), dtype=torch.int64, device=centroids.device)
    if len(groups) != len(centroids):
        raise ValueError(f"{len(groups)} groups for {len(centroids)} centroids: pass one per centroid")
    rows = unit(centroids)
    margin, limit = _margin(rows.dtype, rows.shape[1]), threshold - rounding(rows.dtype)
    for first, second in _triangle_blocks(groups, rows.shape[1], chunk):
        wanted = (first >= 0)[:, :, None] & (first[:, :, None] < second[:, None, :])  # pads are -1
        if known is not None:
            wanted &= known[first.clamp(min=0)][:, :, None] != known[second.clamp(min=0)][:, None, :]
            if not wanted.any():
                continue
        left, right = rows[first.clamp(min=0)], rows[second.clamp(min=0)]
        with full_precision(rows.device):
            scores = left @ right.mT  # (G, R, C)
        group, row, column = (wanted & (scores >= limit - margin)).nonzero(as_tuple=True)
        i, j, score = first[group, row], second[group, column], scores[group, row, column]
        doubtful = (score < limit + margin).nonzero()[:, 0]
        if len(doubtful):
            score[doubtful] = _scores(rows, rows, i[doubtful], j[doubtful])
        yield torch.stack((i, j), 1)[score >= limit]


def _row_blocks(n: int, P: int, chunk: int, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    columns = torch.arange(P, device=device)[None]
    for rows in torch.arange(n, device=device).split(chunk):
        if len(rows):
            yield rows[None], columns


class _Members(NamedTuple):
    """Rows sorted by group: members of group g are order[start[g] : start[g] + size[g]]."""

    order: Int[np.ndarray, " n"]
    start: Int[np.ndarray, " G"]
    size: Int[np.ndarray, " G"]


def _members(inverse: Int[np.ndarray, " n"], groups: int) -> _Members:
    count = np.bincount(inverse, minlength=groups)
    return _Members(np.argsort(inverse, kind="stable"), np.cumsum(count) - count, count)


def _group_blocks(
    row_groups: Int[Tensor, " n"], column_groups: Int[Tensor, " P"], dim: int, chunk: int
) -> Iterator[tuple[Tensor, Tensor]]:
    names, inverse = np.unique(row_groups.cpu().numpy(), return_inverse=True)
    rows = _members(inverse, len(names))
    columns = _members(np.searchsorted(names, column_groups.cpu().numpy()), len(names))
    pieces = np.where(columns.size > 0, -(-rows.size // chunk), 0)
    group = np.repeat(np.arange(len(names)), pieces)
    offset = chunk * (np.arange(len(group)) - np.repeat(np.cumsum(pieces) - pieces, pieces))
    size = np.minimum(chunk, rows.size[group] - offset)
    tasks = np.stack((rows.start[group] + offset, size, columns.start[group], columns.size[group]), 1)
    return _padded(tasks, rows.order, columns.order, dim, chunk, row_groups.device)


def _triangle_blocks(groups: Int[Tensor, " P"], dim: int, chunk: int) -> Iterator[tuple[Tensor, Tensor]]:
    inverse = np.unique(groups.cpu().numpy(), return_inverse=True)[1]
    members = _members(inverse, int(inverse.max()) + 1)
    pieces = np.where(members.size > 1, -(-members.size // chunk), 0)
    tasks = [np.empty((0, 4), dtype=np.int64)]
    for number in np.unique(pieces[pieces > 0]):  # groups cut into equally many pieces, together
        group = np.flatnonzero(pieces == number)[:, None]
        offset = chunk * np.stack(np.triu_indices(number))[:, None, :]  # (2, 1, pairs of pieces)
        size = np.minimum(chunk, members.size[group] - offset)
        start = members.start[group] + offset
        tasks.append(np.stack((start[0], size[0], start[1], size[1]), -1).reshape(-1, 4))
    order = members.order
    return _padded(np.concatenate(tasks), order, order, dim, chunk, groups.device, square=True)


def _padded(
    tasks: Int[np.ndarray, "T 4"],
    row_order: Int[np.ndarray, " n"],
    column_order: Int[np.ndarray, " P"],
    dim: int,
    chunk: int,
    device: torch.device,
    square: bool = False,
) -> Iterator[tuple[Tensor, Tensor]]:
    # Tasks (row start, rows, column start, columns) whose sizes share their powers of two are padded to
    # one shape and stacked: at most four times the products needed, whatever the sizes.
    size_class = np.ceil(np.log2(np.maximum(tasks[:, [1, 3]], 1))).astype(np.int64) @ np.array([64, 1])
    order = np.argsort(size_class, kind="stable")
    bounds = np.flatnonzero(np.diff(size_class[order], prepend=-1, append=-1))
    for begin, end in zip(bounds[:-1], bounds[1:], strict=True):
        mine = tasks[order[begin:end]]
        R, C = (int(mine[:, k].max()) for k in (1, 3))
        rows_fit = max(1, chunk // R) if not square else max(1, chunk * chunk // (R * C))
        step = max(1, min(rows_fit, 4 * BLOCK // ((R + C) * dim)))
        for cut in range(0, len(mine), step):
            row_start, rows, column_start, columns = mine[cut : cut + step].T
            pair = (_pad(row_order, row_start, rows, R), _pad(column_order, column_start, columns, C))
            yield torch.from_numpy(pair[0]).to(device), torch.from_numpy(pair[1]).to(device)


def _pad(order: np.ndarray, start: np.ndarray, count: np.ndarray, width: int) -> Int[np.ndarray, "G width"]:
    inside = np.arange(width) < count[:, None]
    return np.where(inside, order[np.where(inside, start[:, None] + np.arange(width), 0)], -1)


def _position(own: Int[Tensor, " n"], kept: Int[Tensor, " p"]) -> Int[Tensor, " n"]:
    # Where the own centroid stands among the kept ones; -2 (no column) where it is none of them.
    if not len(kept):
        return torch.full_like(own, -2)
    place = torch.searchsorted(kept, own).clamp(max=len(kept) - 1)
    return torch.where(kept[place] == own, place, -2)


def _check_centroids(centroids: Float[Tensor, "P D"], chunk: int) -> None:
    if chunk < 1:
        raise ValueError(f"chunk must be at least 1, got {chunk}")
    if not len(centroids):
        raise ValueError("there are no centroids (P = 0) to compare with")
    _check_finite(centroids, "centroids")


def _check_features(
    features: Float[Tensor, "n F"], centroids: Float[Tensor, "P D"], own: Int[Tensor, " m"] | None
) -> None:
    if features.shape[1] != centroids.shape[1]:
        raise ValueError(f"features have D = {features.shape[1]}, centroids D = {centroids.shape[1]}")
    _check_finite(features, "features")
    if own is not None and len(own) and not -1 <= int(own.min()) <= int(own.max()) < len(centroids):
        raise ValueError(f"own must lie in -1..{len(centroids) - 1}, got {int(own.min())}..{int(own.max())}")


def _check_finite(rows: Float[Tensor, "n D"], name: str) -> None:
    finite: Bool[Tensor, " n"] = torch.isfinite(rows).all(1)
    if not finite.all():
        raise ValueError(f"{name} row {int((~finite).nonzero()[0, 0])} is not finite")
