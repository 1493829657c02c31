"""Retrieval scores (CMC, mAP, mINP) and ranked lists, in query chunks; quality of pseudo-labels.

Similarities are found with matrix products, whose last bits depend on their shape; whatever lies within
rounding of a decision is scored again in float64, one pair at a time in a fixed order. Hence the ranking
is that of the float64 cosines, equal images tie exactly, and `chunk` never changes the answer.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dynamix.similarity import row_sums, unit
from dynamix.similarity.exact import product

PAIRS = 2**22  # numbers gathered at once for doubtful pairs
CACHED = 2**18  # and on the CPU, where they then stay in the cache
TILE = 4096  # gallery images multiplied at once
SHORT = 192  # terms of one product: the fewer, the smaller the error and what must be scored again
FEW = 64  # intervals that are looked through one by one
JUNK = -1


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


@torch.no_grad()
def evaluate(
    query_features: Float[Tensor, "Q F"] | Float[np.ndarray, "Q F"],
    gallery_features: Float[Tensor, "G D"] | Float[np.ndarray, "G D"],
    query_pids: Int[Tensor, " q"] | Int[np.ndarray, " q"],
    gallery_pids: Int[Tensor, " g"] | Int[np.ndarray, " g"],
    query_camids: Int[Tensor, " qc"] | Int[np.ndarray, " qc"],
    gallery_camids: Int[Tensor, " gc"] | Int[np.ndarray, " gc"],
    *,
    chunk: int = 256,
    max_rank: int = 50,
    average_precision: Literal["step", "trapezoid"] = "step",
) -> Scores:
    """CMC, mAP and mINP of ranking the gallery by cosine for each query (Market-1501 protocol).

    Per query, gallery images with pid -1 (junk) and those of the query's pid and camera are deleted; ties
    are broken by gallery row. Queries left without a match are skipped and not counted. "trapezoid" is the
    average precision of the original Market-1501 code. mINP: matches over the rank of the last match.
    Memory O(chunk x G).

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
    found = [_match_ranks(sides, rows) for rows in _chunks(sides, chunk)]
    query, rank = (np.concatenate([part[k] for part in found] or [np.empty(0, int)]) for k in (0, 1))
    if not len(query):
        raise ValueError(_why_no_match(sides))
    return _summary(query, rank, max_rank, average_precision)


@torch.no_grad()
def ranked_lists(
    query_features: Float[Tensor, "Q F"] | Float[np.ndarray, "Q F"],
    gallery_features: Float[Tensor, "G D"] | Float[np.ndarray, "G D"],
    query_pids: Int[Tensor, " q"] | Int[np.ndarray, " q"],
    gallery_pids: Int[Tensor, " g"] | Int[np.ndarray, " g"],
    query_camids: Int[Tensor, " qc"] | Int[np.ndarray, " qc"],
    gallery_camids: Int[Tensor, " gc"] | Int[np.ndarray, " gc"],
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


def label_quality(
    labels: Int[Tensor, " N"] | Int[np.ndarray, " N"], truth: Int[Tensor, " M"] | Int[np.ndarray, " M"]
) -> LabelQuality:
    """Pairwise precision, recall and F1 of labels, and the V-measure (Rosenberg and Hirschberg 2007).

    Over the rows where both are >= 0: -1 is a removed image in `labels`, junk in `truth`. A share of no
    pairs at all (every image a label of its own, no row left) is 0, as is the V-measure of no rows.
    Counts of (label, person) only, O(N log N): no matrix of pairs.

    Raises:
        ValueError: sizes that disagree.
    """
    said, true = _array(labels), _array(truth)
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
    gallery_unit: Float[Tensor, "G D"]
    query_lengths: Float[Tensor, " Q"]  # float64
    gallery_lengths: Float[Tensor, " G"]
    query_pids: Int[np.ndarray, " Q"]
    gallery_pids: Int[np.ndarray, " G"]
    query_camids: Int[np.ndarray, " Q"]
    gallery_camids: Int[np.ndarray, " G"]
    gallery_rows: Int[np.ndarray, " G"]  # where each image stands in the gallery given
    by_pid: Int[np.ndarray, " G"]  # positions in ascending order of pid


Array = Tensor | np.ndarray


def _sides(
    query: Array, gallery: Array, query_pids: Array, gallery_pids: Array, query_camids: Array,
    gallery_camids: Array, chunk: int,
) -> _Sides:  # fmt: skip
    if chunk < 1:
        raise ValueError(f"chunk must be at least 1, got {chunk}")
    if query.ndim != 2 or gallery.ndim != 2:
        raise ValueError(f"features must be one row per image, got shapes {query.shape} and {gallery.shape}")
    if query.shape[1] != gallery.shape[1]:
        raise ValueError(f"query features have D = {query.shape[1]}, gallery features D = {gallery.shape[1]}")
    q, g = _tensor(query), _tensor(gallery)
    ids = []
    for rows, name, side in (
        (q, "query", (query_pids, query_camids)),
        (g, "gallery", (gallery_pids, gallery_camids)),
    ):
        bad = _not_finite(rows)
        if bad is not None:
            raise ValueError(f"{name} feature row {bad} is not finite: the encoder diverged on this image")
        for column, what in zip(side, ("pids", "camids"), strict=True):
            if len(column) != len(rows):
                raise ValueError(
                    f"{len(column)} {name}_{what} for {len(rows)} {name} features: pass one per row"
                )
            ids.append(_array(column).astype(np.int64))
    dtype = torch.promote_types(torch.promote_types(q.dtype, g.dtype), torch.float32)  # half is too coarse
    kept = np.flatnonzero(ids[2] != JUNK)
    if len(kept) < len(g):
        g = g[torch.from_numpy(kept).to(g.device)]
    q, g, pids = q.to(dtype), g.to(q.device, dtype), ids[2][kept]
    return _Sides(
        q, g, unit(g), _lengths(q), _lengths(g), ids[0], pids, ids[1], ids[3][kept], kept,
        np.argsort(pids, kind="stable"),
    )  # fmt: skip


def _not_finite(rows: Float[Tensor, "n D"]) -> int | None:
    """The first row that holds an infinite or undefined number."""
    if not rows.numel():
        return None
    bad = ~torch.isfinite(torch.stack(rows.aminmax(dim=1))).all(0)  # an undefined number is both extremes
    return int(bad.nonzero()[0, 0]) if bad.any() else None


def _tensor(x: Array) -> Tensor:
    if isinstance(x, Tensor):
        return x.detach()
    return torch.from_numpy(x if x.flags.writeable else x.copy())  # torch warns of read-only memory


def _array(x: Array) -> np.ndarray:
    return x.detach().cpu().numpy() if isinstance(x, Tensor) else x


def _chunks(sides: _Sides, chunk: int) -> Iterator[slice]:
    starts = range(0, len(sides.query), chunk)
    return (slice(start, min(start + chunk, len(sides.query))) for start in starts)


class _Matches(NamedTuple):
    """The matches of some queries: those of the k-th are column[start[k] : start[k + 1]]."""

    column: Int[np.ndarray, " K"]
    start: Int[np.ndarray, " q1"]


def _block(sides: _Sides, rows: slice) -> tuple[Float[Tensor, "q G"], _Matches]:
    """Approximate similarities of some queries, -inf where an image is not ranked, and their matches."""
    pids = sides.query_pids[rows]
    first, last = (
        np.searchsorted(sides.gallery_pids[sides.by_pid], pids, side) for side in ("left", "right")
    )
    count = last - first
    row = np.repeat(np.arange(len(pids)), count)
    column = sides.by_pid[np.arange(len(row)) + np.repeat(first - np.cumsum(count) + count, count)]
    own_camera = sides.query_camids[rows][row] == sides.gallery_camids[column]
    scores = _products(unit(sides.query[rows]), sides.gallery_unit)
    own = torch.from_numpy(np.stack((row[own_camera], column[own_camera]))).to(scores.device)
    scores[own[0], own[1]] = -torch.inf
    matches = np.bincount(row[~own_camera], minlength=len(pids))
    return scores, _Matches(column[~own_camera], np.append(0, np.cumsum(matches)))


def _products(left: Float[Tensor, "q D"], right: Float[Tensor, "G D"]) -> Float[Tensor, "q G"]:
    """left @ right.T, each entry a sum of short products: its error is bounded by that of a short one."""
    scores, pieces = left.new_empty(len(left), len(right)), left.split(SHORT, dim=1)
    for start in range(0, len(right), TILE):
        some = right[start : start + TILE].split(SHORT, dim=1)
        out = scores[:, start : start + TILE]
        for number, (a, b) in enumerate(zip(pieces, some, strict=True)):
            part = product(a.contiguous(), b.contiguous())
            out.copy_(part) if number == 0 else out.add_(part)
    return scores


def _margin(dtype: torch.dtype, dim: int) -> float:
    # Worst-case error of two of `_products` of unit vectors: pairs further apart keep their order when exact.
    return (min(dim, SHORT) + dim // SHORT + 20) * torch.finfo(dtype).eps


def _exact(sides: _Sides, i: Int[np.ndarray, " E"], j: Int[np.ndarray, " E"]) -> Float[np.ndarray, " E"]:
    """Cosines of pairs in float64, bit for bit the same wherever a pair stands."""
    a, b = (torch.from_numpy(side).to(sides.query.device) for side in (i, j))
    step = max(1, (PAIRS if a.is_cuda else CACHED) // max(1, sides.query.shape[1]))
    products = [
        row_sums(sides.query.index_select(0, one).double().mul_(sides.gallery.index_select(0, other)))
        for one, other in zip(a.split(step), b.split(step), strict=True)
    ]
    return (torch.cat(products) / (sides.query_lengths[a] * sides.gallery_lengths[b])).cpu().numpy()


def _lengths(features: Float[Tensor, "n D"]) -> Float[Tensor, " n"]:
    step = max(1, (PAIRS if features.is_cuda else CACHED) // max(1, features.shape[1]))
    length = torch.cat([row_sums(part.double().square()).sqrt() for part in features.split(step)])
    return length.where(length > 0, 1)  # a zero row has cosine 0 with everything


class _Doubt(NamedTuple):
    """Images of one query too close to a match to tell their order without exact scores."""

    query: int
    column: Int[np.ndarray, " n"]  # the images, matches among them, ascending
    match: Int[np.ndarray, " m"]  # the matches whose rank depends on them, as columns
    place: Int[np.ndarray, " m"]  # where those stand among all matches
    above: Int[np.ndarray, " m"]  # images surely above them that are not in `column`


def _match_ranks(sides: _Sides, rows: slice) -> tuple[np.ndarray, np.ndarray]:
    """Query and rank of every match of some queries, by query; only images near a match are looked at.

    The rank of a match is 1 + the images above it + the images tied with it that stand before it.
    """
    block, matches = _block(sides, rows)
    scores, margin = block.cpu().numpy(), _margin(block.dtype, sides.query.shape[1])
    rank = np.empty(len(matches.column), dtype=np.int64)
    waiting: list[_Doubt] = []
    pairs = 0
    for k, row in enumerate(scores):
        place = np.arange(matches.start[k], matches.start[k + 1])
        if not len(place):
            continue
        rank[place], doubt = _ranks_of(row, matches.column[place], margin)
        if doubt is not None:
            waiting.append(doubt._replace(query=rows.start + k, place=place[doubt.place]))
            pairs += len(doubt.column)
        if pairs > PAIRS:
            _decide(sides, waiting, rank)
            waiting, pairs = [], 0
    _decide(sides, waiting, rank)
    return rows.start + np.repeat(np.arange(len(scores)), np.diff(matches.start)), rank


def _ranks_of(
    row: Float[np.ndarray, " G"], match: Int[np.ndarray, " M"], margin: float
) -> tuple[Int[np.ndarray, " M"], _Doubt | None]:
    """Ranks of one query's matches, and what leaves some of them in doubt."""
    level = row[match]
    low, high = level - margin, level + margin
    near = np.flatnonzero(row >= low.min())  # all others are surely below every match
    score = row[near]
    above, reached = _counts(score, low, high)
    doubtful = np.flatnonzero(reached - above > 1)  # more than itself
    if not len(doubtful):
        return 1 + above, None
    inside = _inside(score, np.sort(low[doubtful]), np.sort(high[doubtful]))
    sure = above[doubtful] - _counts(score[inside], low[doubtful], high[doubtful])[0]
    return 1 + above, _Doubt(0, near[inside], match[doubtful], doubtful, sure)


def _counts(
    score: Float[np.ndarray, " n"], low: Float[np.ndarray, " m"], high: Float[np.ndarray, " m"]
) -> tuple[Int[np.ndarray, " m"], Int[np.ndarray, " m"]]:
    """How many scores lie above each `high`, and how many reach each `low`."""
    n, m = len(score), len(low)
    if n * (80 - m) > 12_000 * m:  # two comparisons of a line and m calls cost less than its sort
        counts = np.array(
            [
                (np.count_nonzero(score > b), np.count_nonzero(score >= a))
                for a, b in zip(low, high, strict=True)
            ]
        )
        return counts[:, 0], counts[:, 1]
    ordered = np.sort(score)
    return n - np.searchsorted(ordered, high, "right"), n - np.searchsorted(ordered, low, "left")


def _inside(
    score: Float[np.ndarray, " n"], low: Float[np.ndarray, " m"], high: Float[np.ndarray, " m"]
) -> Int[np.ndarray, " inside"]:
    """Which scores lie in one of the intervals; those are ascending and may overlap."""
    gap = low[1:] > high[:-1]
    low, high = low[np.append(True, gap)], high[np.append(gap, True)]
    if len(low) > FEW:
        return np.flatnonzero(np.searchsorted(low, score, "right") > np.searchsorted(high, score, "left"))
    found = np.zeros(len(score), dtype=bool)
    for least, most in zip(low, high, strict=True):
        found |= (score >= least) & (score <= most)
    return np.flatnonzero(found)


def _decide(sides: _Sides, waiting: list[_Doubt], rank: Int[np.ndarray, " K"]) -> None:
    """Write the ranks of the matches in doubt, from exact scores."""
    if not waiting:
        return
    size = np.array([len(doubt.column) for doubt in waiting])
    query = np.repeat([doubt.query for doubt in waiting], size)
    column = np.concatenate([doubt.column for doubt in waiting])
    order = np.lexsort((column, -_exact(sides, query, column), query))
    start = np.cumsum(size) - size
    better = np.empty_like(order)
    better[order] = np.arange(len(order)) - np.repeat(start, size)
    for doubt, first in zip(waiting, start, strict=True):
        rank[doubt.place] = 1 + doubt.above + better[first + np.searchsorted(doubt.column, doubt.match)]


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
