"""Screening: products of coarse codes that find the few pairs worth an exact score.

A product of 8-bit codes takes a quarter, one of bfloat16 half the time of float32 on a CPU that has them;
on a GPU tensor cores multiply bfloat16. With x = x' + e and c = c' + d, x' and c' coded, the error of a score
is |x.c - x'.c'| <= |e||c| + |x'||d|. These lengths are measured while coding, so the bound is rigorous, and a
pair beyond it needs no second look. Centroids are coded less their mean m: x.m is the same for every
centroid, and without it neither scores nor errors are larger than the spread of the centroids.
"""

from collections.abc import Iterator
from functools import cache
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dynamix.similarity.exact import blocks, full_precision, margin, product, seconds
from dynamix.similarity.threads import alone, spread

Kind = Literal["int8", "bfloat16", "float32"]
DEVICES = ("cpu", "cuda")
GROUP = 32  # centroids that share a scale; their largest score stands for them
ROWS = {"cpu": 1024, "cuda": 4096}  # features a product
TILE = {  # centroids a product, as measured: large enough for what comes after it to cost little
    "cpu": {"int8": 8192, "bfloat16": 8192, "float32": 4096},
    "cuda": {"int8": 32768, "bfloat16": 32768, "float32": 32768},
}
LOOKS = 32  # groups a feature and tile
SLACK = 1.01  # the measured lengths are themselves rounded
LOWEST = torch.iinfo(torch.int32).min


class Codes(NamedTuple):
    """Rows in groups of `group`: row = scale x value + error, the last up to the given length."""

    values: Tensor  # (n, D) int8, bfloat16 or float32; n a multiple of the group
    scale: Float[Tensor, " g"]  # type: ignore[assignment]
    size: Float[Tensor, " g"]  # the largest length of a group's rows, coded or not
    error: Float[Tensor, " g"]


class Tile(NamedTuple):
    """Coarse scores of all features with some centroids, in groups of centroids."""

    start: int  # the first centroid
    scores: Tensor  # (g, GROUP, n), to be scaled
    scale: Float[Tensor, "g n"]
    highest: Float[Tensor, "g n"]  # the largest score of each group
    bound: Float[Tensor, "g n"]  # how far a score may be off


def encode(rows: Float[Tensor, "n D"], kind: Kind, group: int = 1) -> Codes:
    """Codes of rows, `group` of them to a scale; padded with zero rows to whole groups."""
    rows = torch.nn.functional.pad(rows.float(), (0, 0, 0, -len(rows) % group))
    blocks = rows.view(-1, group, rows.shape[1])
    if kind == "float32":
        lengths = rows.norm(dim=1).view(-1, group).amax(1)
        return Codes(rows, torch.ones_like(lengths), lengths, torch.zeros_like(lengths))
    if kind == "int8":
        scale = blocks.abs().amax((1, 2)).clamp(min=1e-30) / _levels()
        values = (blocks / scale[:, None, None]).round_().to(torch.int8)
        coded = values.float().mul_(scale[:, None, None])
    else:
        scale = torch.ones_like(blocks[:, 0, 0])
        values = blocks.to(getattr(torch, kind))
        coded = values.float()
    error = (blocks - coded).norm(dim=2).amax(1)
    return Codes(values.view(-1, rows.shape[1]), scale, blocks.norm(dim=2).amax(1) + error, error)


def encode_centered(
    centroids: Float[Tensor, "P D"], lengths: Float[Tensor, " P"], mean: Float[Tensor, " D"], kind: Kind
) -> Codes:
    """Codes of unit centroids less their mean, a block at a time: they are never there twice."""
    count = len(centroids) + -len(centroids) % GROUP
    values = torch.empty(count, centroids.shape[1], dtype=getattr(torch, kind), device=centroids.device)

    def code(rows: slice) -> tuple[Tensor, ...]:
        coded = encode((centroids[rows] / lengths[rows, None]).float() - mean, kind, GROUP)
        values[rows.start : rows.start + len(coded.values)] = coded.values
        return coded[1:]

    rest = zip(*spread(code, blocks(centroids, GROUP), centroids.device), strict=True)
    return Codes(values, *map(torch.cat, rest))


@cache
def kinds(device: str) -> tuple[Kind, ...]:
    """The kinds of codes this machine multiplies, the fastest first; slower ones only if they are finer."""
    if device == "cuda":
        return ("bfloat16", "float32")  # 8 bits gain little: their scores take 4 bytes instead of 2
    chosen: list[Kind] = []
    for kind in ("float32", "bfloat16", "int8"):
        if not chosen or _seconds(kind) < _seconds(chosen[0]):
            chosen.insert(0, kind)
    return tuple(chosen)


@cache
def _levels() -> int:
    """How far codes of 8 bits go from 0: as far as this machine's product of them is exact.

    Without VNNI processors add two products in 16 bits, where those of 127 overflow without a word.
    """
    for most in (127, 63):
        ones = torch.full((256, 512), most, dtype=torch.int8)
        signs = [torch._int_mm(ones, sign * ones.T) == sign * 512 * most**2 for sign in (1, -1)]
        if all(exact.all() for exact in signs):
            return most
    raise RuntimeError("torch multiplies no 8-bit integers exactly here")


@cache
def _seconds(kind: Kind) -> float:
    """Of a small product; on one thread, as a busy core would hold up all of them."""
    rows, columns = torch.ones(256, 512), torch.ones(512, 512)
    with alone():
        try:
            left, right = encode(columns, kind), encode(rows, kind)
            out = _room(left, len(rows))
            return seconds(lambda: _product(left.values, right.values, out))
        except (RuntimeError, AttributeError):  # this build of torch has no such product, or a wrong one
            return float("inf")


def _kind(codes: Codes) -> str:
    return str(codes.values.dtype).removeprefix("torch.")


def _room(codes: Codes, columns: int) -> Tensor:
    dtype = torch.int32 if codes.values.dtype == torch.int8 else codes.values.dtype
    return torch.empty(len(codes.values), columns, dtype=dtype, device=codes.values.device)


def _product(left: Tensor, right: Tensor, room: Tensor) -> Tensor:
    """left @ right.T, written to `room`."""
    if left.dtype == torch.float32:
        return product(left, right, room)
    with full_precision(left.device):
        if left.dtype == torch.int8:
            return torch._int_mm(left, right.T, out=room)
        return torch.mm(left, right.T, out=room)


def tiles(
    features: Codes, centroids: Codes, count: int, own: Int[Tensor, " n"] | None = None, first: int = 0
) -> Iterator[Tile]:
    """Coarse scores with the `count` centroids from the group of `first` on, a tile at a time.

    A feature's `own` centroid (-1: none) and pads get the lowest score. The next tile overwrites a tile.
    """
    size = TILE[centroids.values.device.type][_kind(centroids)]
    starts = range(first // GROUP * GROUP, len(centroids.values), size)
    mine, bounds = _owners(own, starts)
    room = _room(Codes(*(x[:size] for x in centroids)), len(features.values))
    lowest = LOWEST if room.dtype == torch.int32 else -torch.inf
    coded = _coded_error(centroids)
    for number, start in enumerate(starts):
        values = centroids.values[start : start + size]
        scores = _product(values, features.values, room[: len(values)])
        if start + len(values) > count:
            scores[count - start :] = lowest
        if own is not None:
            rows = mine[bounds[number] : bounds[number + 1]]
            scores[own[rows] - start, rows] = lowest
        groups = slice(start // GROUP, (start + len(values)) // GROUP)
        grouped = scores.view(-1, GROUP, scores.shape[1])
        scale = centroids.scale[groups, None] * features.scale
        reach = centroids.size[groups, None] * (features.error + coded * features.size)
        bound = SLACK * (reach + centroids.error[groups, None] * features.size)
        bound += margin(torch.float32, values.shape[1])
        yield Tile(start, grouped, scale, grouped.amax(1) * scale, bound)


def _coded_error(codes: Codes) -> float:
    # bfloat16 scores are rounded once more when they are written.
    return 2**-8 if codes.values.dtype == torch.bfloat16 else 0.0


def _owners(own: Int[Tensor, " n"] | None, starts: range) -> tuple[Tensor, list[int]]:
    """Features in the order of their own centroids, and where those of each tile begin and end."""
    if own is None:
        return torch.empty(0), []
    ordered, order = own.sort()
    edges = torch.arange(starts.start, starts.stop + starts.step, starts.step, device=own.device)
    return order, torch.searchsorted(ordered, edges).tolist()


def leaders(tile: Tile, reached: Float[Tensor, " n"]) -> tuple[Tensor, Tensor]:
    """(feature, centroid) of the best coarse score of each feature, where above what it has `reached`."""
    highest, group = tile.highest.max(0)
    i = (highest > reached).nonzero()[:, 0]
    return i, tile.start + group[i] * GROUP + tile.scores[group[i], :, i].argmax(1)


def hits(tile: Tile, limit: Float[Tensor, " n"], most: int) -> tuple[Tensor, Tensor, Tensor] | None:
    """(feature, centroid, upper bound) of the pairs whose score may reach the feature's `limit`.

    None when there are more than `most`, or too many groups to look into.
    """
    group, i = (tile.highest + tile.bound >= limit).nonzero(as_tuple=True)
    if len(group) > LOOKS * len(limit):
        return None
    upper = tile.scores[group, :, i] * tile.scale[group, i, None] + tile.bound[group, i, None]
    pair, place = (upper >= limit[i, None]).nonzero(as_tuple=True)
    if len(pair) > most:
        return None
    return i[pair], tile.start + group[pair] * GROUP + place, upper[pair, place]
