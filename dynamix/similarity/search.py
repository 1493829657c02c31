"""The nearest centroid of each feature: all three readings of Sec. 3.2 in one pass."""

from collections import deque
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dynamix.similarity import screen
from dynamix.similarity.blocks import group_blocks
from dynamix.similarity.exact import (
    BLOCK,
    check_chunk,
    check_finite,
    check_sizes,
    full_precision,
    margin,
    rounding,
    unit,
    working,
)
from dynamix.similarity.prepared import Prepared
from dynamix.similarity.threads import alone, part_size, spread

CANDIDATES = 256  # a feature; with more of them a plain product is quicker


class Nearest(NamedTuple):
    """The nearest centroid of each feature; the last three are None without `own`."""

    index: Int[Tensor, " n"]  # type: ignore[assignment]  # -1: no candidate
    similarity: Float[Tensor, " n"]  # -inf: no candidate
    own_similarity: Float[Tensor, " n"] | None
    other_index: Int[Tensor, " n"] | None
    other_similarity: Float[Tensor, " n"] | None


@alone()
@torch.no_grad()
def nearest(
    features: Float[Tensor, "n F"],
    centroids: Float[Tensor, "P D"] | Prepared,
    *,
    own: Int[Tensor, " m"] | None = None,
    feature_groups: Int[Tensor, " g"] | None = None,
    centroid_groups: Int[Tensor, " G"] | None = None,
    chunk: int | None = None,
) -> Nearest:
    """The most similar centroid of each feature by cosine, argmax_k cos(f_i, mu_k) (Sec. 3.2).

    `own` is the index of each feature's own centroid, -1 = none: it wins ties, then the smallest index
    does; `other_*` is the best centroid that is not the own. With groups only pairs of one group count
    (an own centroid of another group does not): the search is then a few batched small products. No
    candidate: index -1, similarity -inf. Memory O(chunk x P); `chunk` (features at a time) never changes the
    answer. Pass `Prepared` centroids to search them many times. Half precision is computed in float32.

    Raises:
        ValueError: no centroids, sizes that disagree, rows that are not finite, chunk < 1.
    """
    check_chunk(chunk)
    ready = centroids if isinstance(centroids, Prepared) else Prepared(centroids)
    check_sizes(features, ready.centroids, own)
    check_finite(features, "features")
    if (feature_groups is None) != (centroid_groups is None):
        raise ValueError("pass feature_groups and centroid_groups together")
    for groups, count, name in (
        (feature_groups, len(features), "feature"), (centroid_groups, len(ready.centroids), "centroid")
    ):  # fmt: skip
        if groups is not None and len(groups) != count:
            raise ValueError(f"{len(groups)} {name}_groups for {count} {name}s: pass one per row")
    given = torch.promote_types(features.dtype, ready.given)
    dtype = working(features.dtype, ready.centroids.dtype)
    features, ready = features.to(dtype), ready.to(dtype)
    if feature_groups is None or centroid_groups is None:
        index, similarity = _among_all(features, ready, own, chunk)
    else:
        index, similarity = _among_groups(features, ready, own, feature_groups, centroid_groups, chunk)
    if own is None:
        return Nearest(index, similarity.to(given), None, None, None)
    allowed = own >= 0
    if feature_groups is not None and centroid_groups is not None:
        allowed &= centroid_groups[own.clamp(min=0)] == feature_groups
    at = allowed.nonzero()[:, 0]
    own_similarity = torch.full_like(similarity, -torch.inf)
    own_similarity[at] = _own_scores(features, ready, at, own[at])
    wins = allowed & (own_similarity >= similarity - rounding(dtype))
    return Nearest(
        torch.where(wins, own, index),
        torch.where(wins, own_similarity, similarity).to(given),
        own_similarity.to(given),
        index,
        similarity.to(given),
    )


def _among_all(
    features: Float[Tensor, "n D"], ready: Prepared, own: Int[Tensor, " n"] | None, chunk: int | None
) -> tuple[Int[Tensor, " n"], Float[Tensor, " n"]]:
    device = features.device
    kinds = list(screen.kinds(device.type)) if ready.screened else []
    if kinds:
        ready.codes(kinds[0])  # once, and with all cores
    step = chunk or part_size(len(features), screen.ROWS.get(device.type, 512))

    def part(start: int) -> tuple[Tensor, Tensor]:
        left = unit(features[start : start + step])
        mine = None if own is None else own[start : start + step]
        for kind in list(kinds):
            if (pairs := _screened(left, ready, kind, mine)) is not None:
                return _first_best(left, ready, *pairs)
            kinds[:] = [finer for finer in kinds if finer != kind]  # too coarse to tell these centroids apart
        return _first_best(left, ready, *_near_pairs(left, ready, mine))

    with full_precision(device):
        found = list(spread(part, range(0, len(features), step), device))
    if not found:
        return torch.full((0,), -1, device=device), features.new_empty(0)
    index, similarity = (torch.cat(column) for column in zip(*found, strict=True))
    return index, similarity


def _screened(
    left: Float[Tensor, "n D"], ready: Prepared, kind: screen.Kind, own: Int[Tensor, " n"] | None
) -> tuple[Tensor, Tensor] | None:
    """Pairs (feature, centroid) that hold the best ones; None where codes of this kind tell too little."""
    codes = screen.encode(left, kind)
    with full_precision(left.device):
        shared = left @ ready.mean.to(left)  # what codes leave out
    reached = torch.full_like(shared, -torch.inf, dtype=torch.float32)  # by a pair of known score
    kept: list[tuple[Tensor, Tensor, Tensor]] = []
    room = CANDIDATES * len(left)
    for tile in screen.tiles(codes, ready.codes(kind), len(ready), own):
        i, j = screen.leaders(tile, reached)
        exact = (ready.scores(left, i, j) - shared[i]).float() - 2 * rounding(torch.float32)
        reached[i] = torch.maximum(reached[i], exact)
        found = screen.hits(tile, reached, room)
        if found is None:
            return None
        room -= len(found[0])
        kept.append(found)
    i, j, upper = (torch.cat(column) for column in zip(*kept, strict=True))
    open_ = (upper >= reached[i]).nonzero()[:, 0]
    return i[open_], j[open_]


def _near_pairs(
    left: Float[Tensor, "n D"], ready: Prepared, own: Int[Tensor, " n"] | None
) -> tuple[Tensor, Tensor]:
    """Pairs within rounding of each feature's best, from a plain product with all centroids."""
    with full_precision(left.device):
        scores = left @ ready.centroids.T / ready.lengths  # no second copy of the centroids
    if own is not None:
        mine = (own >= 0).nonzero()[:, 0]
        scores[mine, own[mine]] = -torch.inf
    near = scores >= (scores.amax(1, keepdim=True) - margin(scores.dtype, left.shape[1])).clamp(min=-2)
    i, j = near.nonzero(as_tuple=True)
    return i, j


def _among_groups(
    features: Float[Tensor, "n D"],
    ready: Prepared,
    own: Int[Tensor, " n"] | None,
    feature_groups: Int[Tensor, " n"],
    centroid_groups: Int[Tensor, " P"],
    chunk: int | None,
) -> tuple[Int[Tensor, " n"], Float[Tensor, " n"]]:
    index = torch.full((len(features),), -1, device=features.device)
    similarity = torch.full_like(features[:, 0], -torch.inf)

    def part(block: tuple[Tensor, Tensor]) -> None:
        rows, columns = block
        flat = rows.flatten()
        left = unit(features.index_select(0, flat.clamp(min=0)))  # (G R, D)
        pairs = _near_in_groups(left, ready, rows, columns, own)
        found, best = _first_best(left, ready, *pairs)
        index[flat[flat >= 0]], similarity[flat[flat >= 0]] = found[flat >= 0], best[flat >= 0]

    blocks = list(group_blocks(feature_groups, centroid_groups, features.shape[1], chunk or 1024))
    with full_precision(features.device):
        deque(spread(part, blocks, features.device), 0)
    return index, similarity


def _near_in_groups(
    left: Float[Tensor, "GR D"],
    ready: Prepared,
    rows: Int[Tensor, "G R"],
    columns: Int[Tensor, "G C"],
    own: Int[Tensor, " n"] | None,
) -> tuple[Tensor, Tensor]:
    """As `_near_pairs`, for a batch of groups; pads are -1."""
    inside = columns.clamp(min=0)
    with full_precision(left.device):  # dividing scores moves fewer bytes than dividing centroids
        right = ready.centroids.index_select(0, inside.flatten()).view(*inside.shape, -1)
        scores = left.view(*rows.shape, -1) @ right.mT / ready.lengths[inside][:, None]
    scores.masked_fill_((rows < 0)[:, :, None] | (columns < 0)[:, None, :], -torch.inf)
    if own is not None:
        scores.masked_fill_(own[rows.clamp(min=0)][:, :, None] == columns[:, None, :], -torch.inf)
    near = scores >= (scores.amax(2, keepdim=True) - margin(scores.dtype, left.shape[1])).clamp(min=-2)
    group, row, column = near.nonzero(as_tuple=True)
    return group * rows.shape[1] + row, columns[group, column]


def _first_best(
    left: Float[Tensor, "n D"], right: Prepared, i: Int[Tensor, " E"], j: Int[Tensor, " E"]
) -> tuple[Int[Tensor, " n"], Float[Tensor, " n"]]:
    """The best pair of each feature, of equal ones the first centroid."""
    score = right.scores(left, i, j)
    best = torch.full_like(left[:, 0], -torch.inf).scatter_reduce(0, i, score, "amax")
    tied = score >= best[i] - rounding(score.dtype)
    nobody = torch.full((len(left),), len(right), device=i.device)
    first = nobody.scatter_reduce(0, i[tied], j[tied], "amin")
    chosen = j == first[i]
    best[i[chosen]] = score[chosen]
    return torch.where(first < len(right), first, -1), best


def _own_scores(
    features: Float[Tensor, "n D"], ready: Prepared, rows: Int[Tensor, " m"], own: Int[Tensor, " m"]
) -> Float[Tensor, " m"]:
    step = max(1, BLOCK // features.shape[1])
    parts = [
        ready.scores(unit(features[a]), torch.arange(len(a), device=a.device), b)
        for a, b in zip(rows.split(step), own.split(step), strict=True)
    ]
    return torch.cat(parts) if parts else features.new_empty(0)
