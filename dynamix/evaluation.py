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

from dynamix.similarity import full_precision, row_sums, unit

PAIRS = 2**22  # numbers gathered at once to score doubtful pairs again


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
    shape, device = (len(sides.query_pids), top), sides.query.device
    lists = RankedLists(
        torch.full(shape, -1, device=device),
        torch.full(shape, -torch.inf, dtype=sides.query.dtype, device=device),
        torch.zeros(shape, dtype=torch.bool, device=device),
    )
    for rows in _chunks(sides, chunk):
        row, place, column, similarity = _best(sides, rows, top)
        lists.index[row, place] = column
        lists.similarity[row, place] = similarity.to(sides.query.dtype)
        lists.correct[row, place] = sides.query_pids[row] == sides.gallery_pids[column]
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
    """Queries and gallery on one device; the gallery also as unit rows, to search in."""

    query: Float[Tensor, "Q D"]
    gallery: Float[Tensor, "G D"]
    gallery_unit: Float[Tensor, "G D"]
    query_lengths: Float[Tensor, " Q"]  # float64
    gallery_lengths: Float[Tensor, " G"]
    query_pids: Int[Tensor, " Q"]
    gallery_pids: Int[Tensor, " G"]
    query_camids: Int[Tensor, " Q"]
    gallery_camids: Int[Tensor, " G"]


Array = Tensor | np.ndarray


def _sides(
    query: Array, gallery: Array, query_pids: Array, gallery_pids: Array, query_camids: Array,
    gallery_camids: Array, chunk: int,
) -> _Sides:  # fmt: skip
    if chunk < 1:
        raise ValueError(f"chunk must be at least 1, got {chunk}")
    if query.shape[1] != gallery.shape[1]:
        raise ValueError(f"query features have D = {query.shape[1]}, gallery features D = {gallery.shape[1]}")
    q, g = _tensor(query), _tensor(gallery)
    ids = []
    for rows, name, side in (
        (q, "query", (query_pids, query_camids)),
        (g, "gallery", (gallery_pids, gallery_camids)),
    ):
        finite = torch.isfinite(rows).all(1)
        if not finite.all():
            bad = int((~finite).nonzero()[0, 0])
            raise ValueError(f"{name} feature row {bad} is not finite: the encoder diverged on this image")
        for column, what in zip(side, ("pids", "camids"), strict=True):
            if len(column) != len(rows):
                raise ValueError(
                    f"{len(column)} {name}_{what} for {len(rows)} {name} features: pass one per row"
                )
            ids.append(_tensor(column).to(q.device, torch.int64))
    dtype = torch.promote_types(torch.promote_types(q.dtype, g.dtype), torch.float32)  # half is too coarse
    q, g = q.to(dtype), g.to(q.device, dtype)
    return _Sides(q, g, unit(g), _lengths(q), _lengths(g), ids[0], ids[2], ids[1], ids[3])


def _tensor(x: Array) -> Tensor:
    if isinstance(x, Tensor):
        return x.detach()
    return torch.from_numpy(x if x.flags.writeable else x.copy())  # torch warns of read-only memory


def _array(x: Array) -> np.ndarray:
    return x.detach().cpu().numpy() if isinstance(x, Tensor) else x


def _chunks(sides: _Sides, chunk: int) -> Iterator[Tensor]:
    rows = torch.arange(len(sides.query), device=sides.query.device)
    return (part for part in rows.split(chunk) if len(part))


def _block(
    sides: _Sides, rows: Int[Tensor, " q"]
) -> tuple[Float[Tensor, "q G"], Bool[Tensor, "q G"], Bool[Tensor, "q G"]]:
    """Approximate similarities of some queries, what of the gallery is ranked, and what is a match."""
    with full_precision(rows.device):
        scores = unit(sides.query[rows]) @ sides.gallery_unit.T
    same = sides.query_pids[rows, None] == sides.gallery_pids
    ranked = ~(same & (sides.query_camids[rows, None] == sides.gallery_camids)) & (sides.gallery_pids != -1)
    return scores, ranked, same & ranked


def _exact(sides: _Sides, i: Int[Tensor, " E"], j: Int[Tensor, " E"]) -> Float[Tensor, " E"]:
    """Cosines of pairs in float64, bit for bit the same wherever a pair stands."""
    step = max(1, PAIRS // max(1, sides.query.shape[1]))
    pairs = zip(i.split(step), j.split(step), strict=True)
    products = [row_sums(sides.query[a].double() * sides.gallery[b].double()) for a, b in pairs]
    return torch.cat(products) / (sides.query_lengths[i] * sides.gallery_lengths[j])


def _lengths(features: Float[Tensor, "n D"]) -> Float[Tensor, " n"]:
    step = max(1, PAIRS // max(1, features.shape[1]))
    length = torch.cat([row_sums(part.double().square()).sqrt() for part in features.split(step)])
    return length.where(length > 0, 1)  # a zero row has cosine 0 with everything


def _margin(scores: Float[Tensor, "q G"], dim: int) -> float:
    # Worst-case error of two products of unit vectors: pairs further apart keep their order when exact.
    return (dim + 32) * torch.finfo(scores.dtype).eps


def _match_ranks(sides: _Sides, rows: Int[Tensor, " q"]) -> tuple[np.ndarray, np.ndarray]:
    """Query and rank of every match of some queries, by query and rank; only matches are sorted.

    The rank of a match is 1 + the images above it + the images tied with it that stand before it.
    """
    scores, ranked, match = _block(sides, rows)
    margin = _margin(scores, sides.query.shape[1])
    match_row, match_column = match.nonzero(as_tuple=True)
    if not len(match_row):
        return np.empty(0, int), np.empty(0, int)
    levels = _levels(match_row, scores[match], len(rows))  # (q, M) ascending, inf at the end
    below = torch.searchsorted(
        levels + margin, scores, out_int32=True
    )  # (q, G) matches surely below each image
    doubtful = (below != torch.searchsorted(levels - margin, scores, out_int32=True)) & ranked
    row, column = doubtful.nonzero(as_tuple=True)  # the matches are among them
    value = _exact(sides, rows[row], column)
    is_match = match[row, column]
    levels = _levels(match_row, value[is_match], len(rows))
    place = _count_below(levels, row, value)
    below[row, column] = place.int()
    above = _above(below.masked_fill_(~ranked, 0), levels.shape[1])
    tied = value == levels[row, place.clamp(max=levels.shape[1] - 1)]
    before = torch.zeros_like(place)
    before[tied] = _number_in_group(row[tied] * levels.shape[1] + place[tied])
    rank = 1 + above[match_row, place[is_match]] + before[is_match]
    query = rows[match_row].cpu().numpy()
    order = np.lexsort((rank.cpu().numpy(), query))
    return query[order], rank.cpu().numpy()[order]


def _levels(row: Int[Tensor, " K"], score: Float[Tensor, " K"], q: int) -> Float[Tensor, "q M"]:
    """Scores (grouped by row) as one ascending line per row, padded with inf."""
    count = torch.bincount(row, minlength=q)
    place = torch.arange(len(row), device=row.device) - (count.cumsum(0) - count)[row]
    levels = score.new_full((q, int(count.max())), torch.inf)
    levels[row, place] = score
    return levels.sort(dim=1).values


def _count_below(
    levels: Float[Tensor, "q M"], row: Int[Tensor, " E"], value: Float[Tensor, " E"]
) -> Int[Tensor, " E"]:
    step = max(1, PAIRS // levels.shape[1])
    parts = zip(row.split(step), value.split(step), strict=True)
    return torch.cat([torch.searchsorted(levels[r], v[:, None])[:, 0] for r, v in parts])


def _above(below: Int[Tensor, "q G"], M: int) -> Int[Tensor, "q M"]:
    """How many images beat each level, from the number of levels below each image."""
    cell = below + (M + 1) * torch.arange(len(below), dtype=below.dtype, device=below.device)[:, None]
    count = torch.bincount(cell.flatten(), minlength=len(below) * (M + 1)).view(-1, M + 1)
    return count.flip(1).cumsum(1).flip(1)[:, 1:]


def _number_in_group(group: Int[Tensor, " E"]) -> Int[Tensor, " E"]:
    """0, 1, 2, ... within each group, in the order given."""
    ordered, order = group.sort(stable=True)
    number = torch.empty_like(group)
    number[order] = torch.arange(len(group), device=group.device) - torch.searchsorted(ordered, ordered)
    return number


def _best(sides: _Sides, rows: Int[Tensor, " q"], top: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Query, place in its list, gallery row and exact similarity of the `top` best of some queries."""
    scores, ranked, _ = _block(sides, rows)
    scores.masked_fill_(~ranked, -torch.inf)
    least = scores.topk(min(top, scores.shape[1]), dim=1).values[:, -1:]
    near = ranked & (scores >= least - _margin(scores, sides.query.shape[1]))
    row, column = near.nonzero(as_tuple=True)
    value = _exact(sides, rows[row], column)
    by_value = value.sort(descending=True, stable=True).indices
    order = by_value[row[by_value].sort(stable=True).indices]
    place = _number_in_group(row[order])
    order, place = order[place < top], place[place < top]
    return rows[row[order]], place, column[order], value[order]


def _summary(
    query: Int[np.ndarray, " K"], rank: Int[np.ndarray, " K"], max_rank: int, average_precision: str
) -> Scores:
    """Scores from the ranks of all matches, ordered by query and rank."""
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
        return f"nothing to rank: {Q} queries, {G} gallery images"
    people = sides.query_pids[sides.query_pids >= 0]
    shared = torch.isin(sides.gallery_pids, people)
    if not shared.any():
        return "no query has a match: queries and gallery share no pid; check that they are of one dataset"
    seen = sorted({*sides.query_camids.tolist(), *sides.gallery_camids[shared].tolist()})
    return (
        f"no query has a match in another camera: their images have camids {seen[:10]} only and each pid "
        "one camera; check that camids were read, or use data with several cameras"
    )
