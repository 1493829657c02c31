"""Pairs of centroids above a threshold, and the components they form."""

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from dynamix.similarity import screen
from dynamix.similarity.blocks import triangle_blocks
from dynamix.similarity.exact import check_chunk, full_precision, margin, rounding
from dynamix.similarity.prepared import Prepared

EDGES = 2**20  # edges kept before they are united into components
PLAIN = 2048  # centroids a plain product
DENSE = 16  # a tile with more than one likely pair in this many is multiplied plainly


@torch.no_grad()
def pairs_above(
    centroids: Float[Tensor, "P D"] | Prepared,
    threshold: float | int,
    *,
    groups: Int[Tensor, " P"] | None = None,
    chunk: int | None = None,
) -> Int[Tensor, "E 2"]:
    """All pairs i < j with cosine >= threshold, in ascending order (merging, Sec. 3.2).

    With groups only pairs within one group. Memory O(chunk^2 + P D + E), in blocks of the upper triangle.

    Raises:
        ValueError: no centroids, rows that are not finite, chunk < 1.
    """
    ready = _ready(centroids, groups, chunk)
    edges = list(_edges(ready, threshold, groups, chunk))
    pairs = torch.cat([*edges, torch.empty((0, 2), dtype=torch.int64, device=ready.centroids.device)])
    return pairs[(pairs[:, 0] * len(ready) + pairs[:, 1]).argsort()]


@torch.no_grad()
def components(
    centroids: Float[Tensor, "P D"] | Prepared,
    threshold: float | int,
    *,
    groups: Int[Tensor, " P"] | None = None,
    chunk: int | None = None,
) -> Int[Tensor, " P"]:
    """For each centroid the smallest index of its connected component (merging, Sec. 3.2).

    The graph joins the pairs of `pairs_above`. Edges are united block by block and those inside a known
    component dropped, so that memory stays O(chunk^2 + P D) even when one component swallows everything.
    """
    ready = _ready(centroids, groups, chunk)
    roots, device = np.arange(len(ready)), ready.centroids.device
    known = torch.arange(len(ready), device=device)
    waiting: list[np.ndarray] = []
    for edges in _edges(ready, threshold, groups, chunk, known):
        waiting.append(known[edges].cpu().numpy())
        if sum(map(len, waiting)) > EDGES:
            roots, waiting = _unite(roots, waiting), []
            known.copy_(torch.from_numpy(roots))  # the search sees it and skips what is joined
    return torch.from_numpy(_unite(roots, waiting)).to(device)


def _unite(roots: Int[np.ndarray, " P"], edges: list[np.ndarray]) -> Int[np.ndarray, " P"]:
    ends = np.concatenate([*edges, np.empty((0, 2), dtype=np.int64)])
    shape = (len(roots), len(roots))
    graph = coo_array((np.ones(len(ends), dtype=np.int8), (ends[:, 0], ends[:, 1])), shape=shape)
    part = connected_components(graph, directed=False)[1][roots]
    _, first, inverse = np.unique(part, return_index=True, return_inverse=True)
    return first[inverse].astype(np.int64)


def _ready(
    centroids: Float[Tensor, "P D"] | Prepared, groups: Int[Tensor, " G"] | None, chunk: int | None
) -> Prepared:
    check_chunk(chunk)
    ready = centroids if isinstance(centroids, Prepared) else Prepared(centroids)
    if groups is not None and len(groups) != len(ready):
        raise ValueError(f"{len(groups)} groups for {len(ready)} centroids: pass one per centroid")
    return ready


def _edges(
    ready: Prepared,
    threshold: float | int,
    groups: Int[Tensor, " P"] | None,
    chunk: int | None,
    known: Int[Tensor, " P"] | None = None,
) -> Iterator[Int[Tensor, "E 2"]]:
    """Blocks of edges; those inside one component of `known` (read anew for each block) are left out."""
    if groups is None and ready.screened:
        yield from _screened_edges(ready, threshold, chunk, known)
        return
    if groups is None:
        groups = torch.zeros(len(ready), dtype=torch.int64, device=ready.centroids.device)
    for first, second in triangle_blocks(groups, ready.shape[1], chunk or 1024):
        yield _plain_edges(ready, threshold, first, second, known)


def _plain_edges(
    ready: Prepared,
    threshold: float | int,
    first: Int[Tensor, "G R"],
    second: Int[Tensor, "G C"],
    known: Int[Tensor, " P"] | None,
) -> Int[Tensor, "E 2"]:
    """Edges of a batch of blocks (pads are -1), from plain products."""
    wanted = (first >= 0)[:, :, None] & (first[:, :, None] < second[:, None, :])
    if known is not None:
        wanted &= known[first.clamp(min=0)][:, :, None] != known[second.clamp(min=0)][:, None, :]
        if not wanted.any():
            return first.new_empty(0, 2)
    with full_precision(first.device):
        scores = ready.unit(first.clamp(min=0)) @ ready.unit(second.clamp(min=0)).mT  # (G, R, C)
    limit, off = threshold - rounding(scores.dtype), margin(scores.dtype, ready.shape[1])
    group, row, column = (wanted & (scores >= limit - off)).nonzero(as_tuple=True)
    i, j, score = first[group, row], second[group, column], scores[group, row, column]
    doubtful = (score < limit + off).nonzero()[:, 0]
    if len(doubtful):
        score[doubtful] = ready.pair_scores(i[doubtful], j[doubtful])
    return torch.stack((i, j), 1)[score >= limit]


def _screened_edges(
    ready: Prepared, threshold: float | int, chunk: int | None, known: Int[Tensor, " P"] | None
) -> Iterator[Int[Tensor, "E 2"]]:
    """Edges among all centroids: coarse products of the upper triangle, exact scores of likely pairs."""
    everyone = torch.arange(len(ready), device=ready.centroids.device)
    for rows in everyone.split(chunk or screen.ROWS[everyone.device.type]):
        yield from _edges_of(rows, everyone, ready, threshold, known)


def _edges_of(
    rows: Int[Tensor, " n"],
    everyone: Int[Tensor, " P"],
    ready: Prepared,
    threshold: float | int,
    known: Int[Tensor, " P"] | None,
) -> Iterator[Int[Tensor, "E 2"]]:
    """Edges of some consecutive centroids with those after them."""
    kind, start, left = screen.kinds(rows.device.type)[0], int(rows[0]), ready.unit(rows)
    with full_precision(rows.device):
        limit = (threshold - left @ ready.mean.to(left)).float() - 2 * rounding(torch.float32)
    for tile in screen.tiles(screen.encode(left, kind), ready.codes(kind), len(ready), first=start):
        found = screen.hits(tile, limit, tile.scores.numel() // DENSE)
        if found is None:
            columns = everyone[tile.start : tile.start + tile.scores.shape[0] * screen.GROUP]
            for some in columns.split(PLAIN):
                yield _plain_edges(ready, threshold, rows[None], some[None], known)
            continue
        i, j = found[0] + start, found[1]
        wanted = i < j if known is None else (i < j) & (known[i] != known[j])
        i, j = i[wanted], j[wanted]
        yield torch.stack((i, j), 1)[ready.pair_scores(i, j) >= threshold - rounding(left.dtype)]
