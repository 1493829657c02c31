"""Retrieval scores (CMC, mAP, mINP) and ranked lists, in query chunks; quality of pseudo-labels.

Similarities are found with matrix products, whose last bits depend on their shape; whatever lies within
rounding of a decision is scored again in float64, one pair at a time in a fixed order. Hence the ranking
is that of the float64 cosines, equal images tie exactly, and `chunk` never changes the answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dynamix.similarity import row_sums, unit
from dynamix.similarity.exact import full_precision, product
from dynamix.similarity.threads import alone, cores, spread

PAIRS = 2**22  # numbers gathered at once for doubtful pairs
CACHED = 2**18  # and on the CPU, where they then stay in the cache
RANKED = 2**20  # scores put in order at once
TILE = 4096  # gallery images multiplied at once
SHORT = 128  # terms of one product: the fewer, the smaller the error and what must be scored again
JUNK = -1
UNKNOWN = -1  # a camid: nobody knows whether it is another camera


Array = Tensor | np.ndarray | Sequence[Any]  # a tensor, an array or plain lists


@dataclass(frozen=True, eq=False)
class Scores:
    """Retrieval scores over the queries that have a match; fractions in [0, 1]."""

    cmc: Float[Tensor, " max_rank"]  # float64 on the CPU: share of queries with a hit up to rank 1, 2, ...
    mAP: float
    mINP: float
    valid_queries: int  # the others have no match in the gallery and count nowhere

    @property
    def rank1(self) -> float:
        return float(self.cmc[0])


class RankedLists(NamedTuple):
    """The best gallery rows of each query; lists shorter than `top` end in -1, -inf, False."""

    index: Int[Tensor, "Q top"]  # type: ignore[assignment]
    similarity: Float[Tensor, "Q top"]
    correct: Bool[Tensor, "Q top"]


@dataclass(frozen=True)
class LabelQuality:
    """Agreement of pseudo-labels with the truth; fractions in [0, 1]."""

    precision: float  # pairs with one label that are one person
    recall: float  # pairs of one person that have one label
    f1: float
    v_measure: float  # harmonic mean of homogeneity and completeness


@alone()
@torch.no_grad()
def evaluate(
    query_features: Array,  # (Q, D)
    gallery_features: Array,  # (G, D)
    query_pids: Array,  # (Q,)
    gallery_pids: Array,  # (G,)
    query_camids: Array,  # (Q,)
    gallery_camids: Array,  # (G,)
    *,
    chunk: int = 256,
    max_rank: int = 50,
    average_precision: Literal["step", "trapezoid"] = "step",
) -> Scores:
    """CMC, mAP and mINP of ranking the gallery by cosine for each query (Market-1501 protocol).

    Per query, gallery images with pid -1 (junk) and those of the query's pid and camera are deleted (a
    camid of -1 is not known: it is the same camera as no other); ties are broken by gallery row. Queries
    left without a match are skipped and not counted. "trapezoid" is the average precision of the original
    Market-1501 code. mINP: matches over the rank of the last match. Memory O(chunk x G).

    Raises:
        ValueError: no query has a match, features that are not finite, sizes that disagree, chunk < 1.
    """
    if average_precision not in ("step", "trapezoid"):
        raise ValueError(f"unknown average_precision {average_precision!r}; there are step, trapezoid")
    if max_rank < 1:
        raise ValueError(f"max_rank must be at least 1, got {max_rank}")
    sides = _sides(
        query_features, gallery_features, query_pids, gallery_pids, query_camids, gallery_camids, chunk
    )
    with full_precision(sides.query.device):
        found = list(spread(partial(_match_ranks, sides), _chunks(sides, chunk), sides.query.device))
    query, rank = (np.concatenate([part[k] for part in found] or [np.empty(0, int)]) for k in (0, 1))
    if not len(query):
        raise ValueError(_why_no_match(sides))
    return _summary(query, rank, max_rank, average_precision)


@alone()
@torch.no_grad()
def ranked_lists(
    query_features: Array,  # (Q, D)
    gallery_features: Array,  # (G, D)
    query_pids: Array,  # (Q,)
    gallery_pids: Array,  # (G,)
    query_camids: Array,  # (Q,)
    gallery_camids: Array,  # (G,)
    *,
    top: int = 10,
    chunk: int = 256,
) -> RankedLists:
    """The `top` gallery rows of each query, best first, by the rules of `evaluate`.

    Tensors on the device of the query features. Memory O(chunk x G).

    Raises:
        ValueError: features that are not finite, sizes that disagree, top < 1, chunk < 1.
    """
    if top < 1:
        raise ValueError(f"top must be at least 1, got {top}")
    sides = _sides(
        query_features, gallery_features, query_pids, gallery_pids, query_camids, gallery_camids, chunk
    )
    shape, device = (len(sides.query), top), sides.query.device
    lists = RankedLists(
        torch.full(shape, -1, device=device),
        torch.full(shape, -torch.inf, dtype=sides.query.dtype, device=device),
        torch.zeros(shape, dtype=torch.bool, device=device),
    )
    for rows in _chunks(sides, chunk) if len(sides.gallery) else ():
        row, place, column, similarity = _best(sides, rows, top)
        at = torch.from_numpy(row).to(device), torch.from_numpy(place).to(device)
        correct = sides.query_pids[row] == sides.gallery_pids[column]
        lists.index[at] = torch.from_numpy(sides.gallery_rows[column]).to(device)
        lists.similarity[at] = torch.from_numpy(similarity).to(device, sides.query.dtype)
        lists.correct[at] = torch.from_numpy(correct).to(device)
    return lists


def label_quality(labels: Array, truth: Array) -> LabelQuality:
    """Pairwise precision, recall and F1 of labels, and the V-measure (Rosenberg and Hirschberg 2007).

    Over the rows where both are >= 0: -1 is a removed image in `labels`, junk in `truth`. A share of no
    pairs at all (every image a label of its own, no row left) is 0, as is the V-measure of no rows.
    Counts of (label, person) only, O(N log N): no matrix of pairs.

    Raises:
        ValueError: sizes that disagree.
    """
    said, true = _whole(labels, "labels"), _whole(truth, "truth")
    if len(said) != len(true):
        raise ValueError(f"{len(said)} labels for {len(true)} true identities: pass one per row")
    known = (said >= 0) & (true >= 0)
    said, true = (np.unique(side[known], return_inverse=True)[1] for side in (said, true))
    cell = np.unique(said * (true.max(initial=0) + 1) + true, return_counts=True)[1]
    sizes = np.bincount(said), np.bincount(true)
    both, claimed, real = (int((n * (n - 1) // 2).sum()) for n in (cell, *sizes))
    precision, recall = _share(both, claimed), _share(both, real)
    f1 = _share(2 * precision * recall, precision + recall)
    return LabelQuality(precision, recall, f1, _v_measure(cell, *sizes))


def _v_measure(
    cell: Int[np.ndarray, " n"], said: Int[np.ndarray, " L"], true: Int[np.ndarray, " P"]
) -> float:
    if not len(cell):
        return 0.0
    joint, labels, people = (_entropy(counts) for counts in (cell, said, true))
    shared = max(0.0, labels + people - joint)
    homogeneity = shared / people if len(true) > 1 else 1.0  # one person: no label can mix people
    completeness = shared / labels if len(said) > 1 else 1.0
    return min(1.0, _share(2 * homogeneity * completeness, homogeneity + completeness))


def _entropy(counts: Int[np.ndarray, " n"]) -> float:
    p = counts / counts.sum()
    return float(-(p * np.log(p)).sum())


def _share(part: float | int, whole: float | int) -> float:
    return part / whole if whole else 0.0


class _Sides(NamedTuple):
    """Queries, and the gallery without junk, on one device; the gallery also as unit rows, to search in."""

    query: Float[Tensor, "Q D"]
    gallery: Float[Tensor, "G D"]
    gallery_unit: tuple[Tensor, ...]  # in pieces of SHORT columns
    query_lengths: Float[Tensor, " Q"]  # float64
    gallery_lengths: Float[Tensor, " G"]
    query_pids: Int[np.ndarray, " Q"]
    gallery_pids: Int[np.ndarray, " G"]
    query_camids: Int[np.ndarray, " Q"]
    gallery_camids: Int[np.ndarray, " G"]
    gallery_rows: Int[np.ndarray, " G"]  # where each image stands in the gallery given
    by_pid: Int[np.ndarray, " G"]  # positions in ascending order of pid


def _sides(
    query: Array, gallery: Array, query_pids: Array, gallery_pids: Array, query_camids: Array,
    gallery_camids: Array, chunk: int,
) -> _Sides:  # fmt: skip
    if chunk < 1:
        raise ValueError(f"chunk must be at least 1, got {chunk}")
    q, g = _features(query, "query"), _features(gallery, "gallery")
    if q.shape[1] != g.shape[1]:
        raise ValueError(f"query features have D = {q.shape[1]}, gallery features D = {g.shape[1]}")
    ids = []
    for rows, name, side in (
        (q, "query", (query_pids, query_camids)),
        (g, "gallery", (gallery_pids, gallery_camids)),
    ):
        bad = _not_finite(rows)
        if bad is not None:
            raise ValueError(f"{name} feature row {bad} is not finite: the encoder diverged on this image")
        for column, what in zip(side, ("pids", "camids"), strict=True):
            ids.append(_whole(column, f"{name}_{what}"))
            if len(ids[-1]) != len(rows):
                raise ValueError(
                    f"{len(ids[-1])} {name}_{what} for {len(rows)} {name} features: pass one per row"
                )
    dtype = torch.promote_types(torch.promote_types(q.dtype, g.dtype), torch.float32)  # half is too coarse
    kept = np.flatnonzero(ids[2] != JUNK)
    if len(kept) < len(g):
        g = g[torch.from_numpy(kept).to(g.device)]
    q, g, pids = q.to(dtype), g.to(q.device, dtype), ids[2][kept]
    return _Sides(
        query=q,
        gallery=g,
        gallery_unit=_pieces(unit(g)),
        query_lengths=_lengths(q),
        gallery_lengths=_lengths(g),
        query_pids=ids[0],
        gallery_pids=pids,
        query_camids=ids[1],
        gallery_camids=ids[3][kept],
        gallery_rows=kept,
        by_pid=np.argsort(pids, kind="stable"),
    )


def _not_finite(rows: Float[Tensor, "n D"]) -> int | None:
    """The first row that holds an infinite or undefined number."""
    if not rows.numel():
        return None
    bad = ~torch.isfinite(torch.stack(rows.aminmax(dim=1))).all(0)  # an undefined number is both extremes
    return int(bad.nonzero()[0, 0]) if bad.any() else None


def _features(x: Array, name: str) -> Float[Tensor, "n D"]:
    """Raises ValueError unless `x` holds one row of numbers per image."""
    try:
        # torch warns of read-only memory; lists of rows of unequal length make no array
        rows = x.detach() if isinstance(x, Tensor) else torch.from_numpy(np.require(x, requirements="W"))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{name} features are no rows of numbers, all of one length: {error}") from error
    if rows.ndim != 2:
        raise ValueError(f"{name} features must be one row per image, got shape {tuple(rows.shape)}")
    return rows if rows.is_floating_point() else rows.double()


def _whole(x: Array, name: str) -> Int[np.ndarray, " n"]:
    """Raises ValueError unless `x` holds one whole number per row."""
    values = np.asarray(x.detach().cpu() if isinstance(x, Tensor) else x)
    if values.ndim != 1 or values.dtype.kind not in "iuf" or (values.size and np.mod(values, 1).any()):
        raise ValueError(f"{name} must be one whole number per row, got {str(x)[:60]}")
    return values.astype(np.int64)


def _chunks(sides: _Sides, chunk: int) -> list[slice]:
    """Parts of the queries; all that are at work at a time have at most `chunk`."""
    step = chunk
    if sides.query.device.type == "cpu":  # threads gain nothing where a part is over in no time
        step = min(chunk, max(chunk // cores(), RANKED // (1 + len(sides.gallery))))
    starts = range(0, len(sides.query), step)
    return [slice(start, min(start + step, len(sides.query))) for start in starts]


class _Matches(NamedTuple):
    """The matches of some queries, by query."""

    row: Int[np.ndarray, " K"]  # of the query among them
    column: Int[np.ndarray, " K"]


def _block(sides: _Sides, rows: slice) -> tuple[Float[Tensor, "q G"], _Matches]:
    """Approximate similarities of some queries, -inf where an image is not ranked, and their matches."""
    pids = sides.query_pids[rows]
    first, last = (
        np.searchsorted(sides.gallery_pids, pids, side, sides.by_pid) for side in ("left", "right")
    )
    count = last - first
    row = np.repeat(np.arange(len(pids)), count)
    column = sides.by_pid[np.arange(len(row)) + np.repeat(first - np.cumsum(count) + count, count)]
    camids = sides.query_camids[rows][row]
    own = (camids == sides.gallery_camids[column]) & (camids != UNKNOWN)
    scores = _products(unit(sides.query[rows]), sides.gallery_unit)
    scores[tuple(torch.from_numpy(at[own]).to(scores.device) for at in (row, column))] = -torch.inf
    return scores, _Matches(row[~own], column[~own])


def _pieces(rows: Float[Tensor, "n D"]) -> tuple[Tensor, ...]:
    return tuple(piece.contiguous() for piece in rows.split(SHORT, dim=1))


def _products(left: Float[Tensor, "q D"], right: tuple[Tensor, ...]) -> Float[Tensor, "q G"]:
    """left @ right.T, right in `_pieces`: sums of short products, whose error is that of a short one."""
    scores = left.new_zeros(len(left), len(right[0])) if right else left.new_empty(len(left), 0)
    pieces = _pieces(left)
    for start in range(0, scores.shape[1], TILE):
        out = scores[:, start : start + TILE]
        for number, (a, b) in enumerate(zip(pieces, right, strict=True)):
            product(a, b[start : start + TILE], out, add=number > 0)
    return scores


def _margin(dtype: torch.dtype, dim: int) -> float:
    # Worst-case error of two of `_products` of unit vectors: pairs further apart keep their order when exact.
    return (min(dim, SHORT) + dim // SHORT + 20) * torch.finfo(dtype).eps


def _exact(sides: _Sides, i: Int[np.ndarray, " E"], j: Int[np.ndarray, " E"]) -> Float[np.ndarray, " E"]:
    """Cosines of pairs in float64, bit for bit the same wherever a pair stands; `i` ascending."""
    a, b = (torch.from_numpy(side).to(sides.query.device) for side in (i, j))
    first = int(i[0]) if len(i) else 0
    queries = sides.query[first : int(i[-1]) + 1 if len(i) else 0].double()  # few: a pair copies one of them
    step = max(1, (PAIRS if a.is_cuda else CACHED) // max(1, sides.query.shape[1]))
    products = [
        _dots(queries.index_select(0, one - first), sides.gallery.index_select(0, other).double())
        for one, other in zip(a.split(step), b.split(step), strict=True)
    ]
    return (torch.cat(products) / (sides.query_lengths[a] * sides.gallery_lengths[b])).cpu().numpy()


def _dots(left: Float[Tensor, "n D"], right: Float[Tensor, "n D"]) -> Float[Tensor, " n"]:
    """Products of rows, summed in an order that does not depend on where a row stands."""
    if left.is_cuda:
        return row_sums(left * right)
    return torch.from_numpy(np.einsum("ij,ij->i", left.numpy(), right.numpy()))  # several times as fast


def _lengths(features: Float[Tensor, "n D"]) -> Float[Tensor, " n"]:
    """In float64, 1 for a zero row, whose cosine with everything is then 0."""

    def measure(part: Tensor) -> Tensor:
        return _dots(part.double(), part.double()).sqrt()

    step = max(1, (PAIRS if features.is_cuda else CACHED) // max(1, features.shape[1]))
    length = torch.cat(list(spread(measure, features.split(step), features.device)))
    return length.where(length > 0, 1)


def _match_ranks(sides: _Sides, rows: slice) -> tuple[np.ndarray, np.ndarray]:
    """Query and rank of every match of some queries, by query."""
    block, matches = _block(sides, rows)
    scores, margin = block.float().cpu().numpy(), _margin(block.dtype, sides.query.shape[1])
    step = max(1, RANKED // max(1, scores.shape[1]))
    ranks = []
    for first in range(0, len(scores), step):
        some = slice(*np.searchsorted(matches.row, (first, first + step)))
        part = _Matches(matches.row[some] - first, matches.column[some])
        ranks.append(_ranks(sides, rows.start + first, scores[first : first + step], part, margin))
    return rows.start + matches.row, np.concatenate(ranks)


def _ranks(
    sides: _Sides, first: int, scores: Float[np.ndarray, "q G"], matches: _Matches, margin: float
) -> Int[np.ndarray, " K"]:
    """The rank of each match: 1 + the images above it + the images tied with it that stand before it.

    Of images within `margin` of a match exact scores decide. `first` is the first of the queries.
    """
    row, column = matches
    level = scores[row, column]
    least = np.full(len(scores), np.inf, np.float32)
    np.minimum.at(least, row, level - margin)
    order = _Order.of(scores, least)
    begin, end = order.between(row, level - margin, level + margin)
    rank = 1 + order.bounds[row + 1] - end
    doubtful = np.flatnonzero(end - begin > 1)  # more than itself
    if len(doubtful):
        start, stop = _joined(begin[doubtful], end[doubtful])
        group = np.repeat(np.arange(len(start)), stop - start)
        query, image = order.images(np.arange(len(group)) + (stop - np.cumsum(stop - start))[group])
        better = _places(group, -_exact(sides, first + query, image), image)
        size = scores.shape[1]
        mine = _find(query * size + image, row[doubtful] * size + column[doubtful])
        rank[doubtful] = 1 + order.bounds[row[doubtful] + 1] - stop[group[mine]] + better[mine]
    return rank


class _Order(NamedTuple):
    """Images of some queries in ascending order of score, query after query.

    A score and its image share a number: numbers are what numpy sorts fastest.
    """

    key: Int[np.ndarray, " n"]
    bounds: Int[np.ndarray, " q1"]  # the k-th query's are bounds[k] to bounds[k + 1]

    @classmethod
    def of(cls, scores: Float[np.ndarray, "q G"], least: Float[np.ndarray, " q"]) -> "_Order":
        """The images that reach their query's `least`: all others are surely below every match."""
        near = np.flatnonzero(scores >= least[:, None])
        edges = np.arange(len(scores) + 1) * scores.shape[1]
        bounds = np.searchsorted(near, edges)
        key = (_ordinal(scores.ravel()[near]) << 32) + near
        for start, stop, edge in zip(bounds[:-1].tolist(), bounds[1:].tolist(), edges.tolist(), strict=False):
            key[start:stop] -= edge
            key[start:stop].sort()
        return cls(key, bounds)

    def between(
        self, row: Int[np.ndarray, " K"], low: Float[np.ndarray, " K"], high: Float[np.ndarray, " K"]
    ) -> tuple[Int[np.ndarray, " K"], Int[np.ndarray, " K"]]:
        """Of some queries, in ascending order, where the scores from `low` to `high` begin and end."""
        ends = np.stack((_ordinal(low), _ordinal(high) + 1)) << 32
        found = np.empty_like(ends)
        some = np.searchsorted(row, np.arange(len(self.bounds)))
        for k, (start, stop) in enumerate(pairwise(self.bounds.tolist())):
            mine = slice(some[k], some[k + 1])
            found[:, mine] = start + np.searchsorted(self.key[start:stop], ends[:, mine])
        return found[0], found[1]

    def images(self, at: Int[np.ndarray, " n"]) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"]]:
        """Query and image that stand at those places."""
        return np.searchsorted(self.bounds, at, "right") - 1, self.key[at] & (2**32 - 1)


def _ordinal(scores: Float[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """Whole numbers in the order of float32 scores."""
    bits = scores.view(np.int32)
    return (bits ^ ((bits >> 31) & 0x7FFFFFFF)).astype(np.int64)


def _joined(begin: Int[np.ndarray, " m"], end: Int[np.ndarray, " m"]) -> tuple[np.ndarray, np.ndarray]:
    """The intervals begin <= x < end, overlapping ones joined."""
    order = np.argsort(begin, kind="stable")
    begin, reach = begin[order], np.maximum.accumulate(end[order])
    gap = begin[1:] >= reach[:-1]
    return begin[np.append(True, gap)], reach[np.append(gap, True)]


def _places(*keys: np.ndarray) -> Int[np.ndarray, " n"]:
    """Place of each row within its group, from 0, groups being the first of `keys`, which is ascending."""
    order = np.lexsort(keys[::-1])
    place = np.empty_like(order)
    place[order] = np.arange(len(order)) - np.searchsorted(keys[0], keys[0])
    return place


def _find(values: Int[np.ndarray, " n"], wanted: Int[np.ndarray, " m"]) -> Int[np.ndarray, " m"]:
    """Where each of `wanted` stands in `values`, which has them all."""
    order = np.argsort(values, kind="stable")
    return order[np.searchsorted(values, wanted, sorter=order)]


def _best(sides: _Sides, rows: slice, top: int) -> tuple[np.ndarray, ...]:
    """Query, place in its list, gallery position and exact similarity of the `top` best of some queries."""
    scores, _ = _block(sides, rows)
    least = scores.topk(min(top, scores.shape[1]), dim=1).values[:, -1:]
    near = (scores >= least - _margin(scores.dtype, sides.query.shape[1])) & (scores > -torch.inf)
    row, column = near.nonzero().T.cpu().numpy()
    value = _exact(sides, rows.start + row, column)
    order = np.lexsort((column, -value, row))
    row, column, value = row[order], column[order], value[order]
    place = np.arange(len(row)) - np.searchsorted(row, row)
    wanted = place < top
    return rows.start + row[wanted], place[wanted], column[wanted], value[wanted]


def _summary(
    query: Int[np.ndarray, " K"], rank: Int[np.ndarray, " K"], max_rank: int, average_precision: str
) -> Scores:
    """Scores from the ranks of all matches."""
    order = np.lexsort((rank, query))
    query, rank = query[order], rank[order]
    _, first, of, count = np.unique(query, return_index=True, return_inverse=True, return_counts=True)
    hit = 1 + np.arange(len(rank)) - first[of]  # 1, 2, ... within a query
    precision = hit / rank
    if average_precision == "trapezoid":
        before = np.where(rank > 1, (hit - 1) / np.maximum(rank - 1, 1), 1)
        precision = (precision + before) / 2
    cmc = np.cumsum(np.bincount(rank[first] - 1, minlength=max_rank)[:max_rank]) / len(first)
    return Scores(
        torch.from_numpy(cmc),
        float((np.bincount(of, precision) / count).mean()),
        float((count / rank[first + count - 1]).mean()),
        len(first),
    )


def _why_no_match(sides: _Sides) -> str:
    Q, G = len(sides.query), len(sides.gallery)
    if not Q or not G:
        return f"no query has a match: nothing to rank, {Q} queries, {G} gallery images besides junk"
    shared = np.isin(sides.gallery_pids, sides.query_pids)
    if not shared.any():
        return "no query has a match: queries and gallery share no pid; check that they are of one dataset"
    seen = sorted({*sides.query_camids.tolist(), *sides.gallery_camids[shared].tolist()})
    return (
        f"no query has a match in another camera: their images have camids {seen[:10]} only and each pid "
        "one camera; check that camids were read, or use data with several cameras"
    )
