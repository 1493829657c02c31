"""Scores that are the same bits wherever a pair stands, and what decides between them."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dynamix.similarity.threads import alone, spread

BLOCK = 2**20  # numbers gathered at once: they stay in cache from one operation to the next


def rounding(dtype: torch.dtype) -> float:
    """Cosines closer than this are equal: ties and thresholds are decided up to it."""
    return 8 * torch.finfo(dtype).eps


def margin(dtype: torch.dtype, dim: int) -> float:
    """Worst-case error of two products of unit vectors, so that no tied pair escapes the second look."""
    return (dim + 32) * torch.finfo(dtype).eps


def working(*dtypes: torch.dtype) -> torch.dtype:
    """The type to compute in: the widest of `dtypes`, and float32 for half precision."""
    widest = torch.float32
    for dtype in dtypes:
        widest = torch.promote_types(widest, dtype)
    return widest


def row_sums(x: Float[Tensor, "*n D"]) -> Float[Tensor, "*n"]:
    """Sums over the last axis by halving: the same bits for every batch shape, unlike `sum` or `@`."""
    while x.shape[-1] > 1:
        half = x.shape[-1] // 2
        total = x[..., :half] + x[..., half : 2 * half]
        if x.shape[-1] % 2:
            total[..., 0] += x[..., -1]
        x = total
    return x[..., 0]


def lengths(rows: Float[Tensor, "n D"]) -> Float[Tensor, " n"]:
    """Length of each row, 1 for a zero row: what `unit` divides by."""
    out = torch.empty_like(rows[:, 0])

    def measure(part: slice) -> None:
        length = row_sums(rows[part] * rows[part]).sqrt()
        out[part] = length.where(length > 0, 1)

    _each_block(measure, rows)
    return out


def unit(features: Float[Tensor, "n D"]) -> Float[Tensor, "n D"]:
    """Rows scaled to length 1 (a zero row stays zero), bit for bit the same in any batch."""
    out = torch.empty_like(features)

    def scale(part: slice) -> None:
        out[part] = features[part] / lengths(features[part])[:, None]

    _each_block(scale, features)
    return out


def _each_block(work: Callable[[slice], None], rows: Float[Tensor, "n D"]) -> None:
    if rows.requires_grad and torch.is_grad_enabled():  # one thread writes down how to go back
        for part in blocks(rows):
            work(part)
    else:
        deque(spread(work, blocks(rows), rows.device), 0)


def blocks(rows: Float[Tensor, "n D"], multiple: int = 1) -> list[slice]:
    """Parts of rows that stay in cache; `multiple` rows, or several times as many, each."""
    step = max(1, BLOCK // max(1, rows.shape[1]) // multiple) * multiple
    return [slice(start, start + step) for start in range(0, len(rows), step)]


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Neither autocast nor TF32 nor sums in half precision may touch an exact search."""
    before = torch.get_float32_matmul_precision()
    cuda = torch.backends.cuda.matmul
    reduced = cuda.allow_bf16_reduced_precision_reduction
    torch.set_float32_matmul_precision("highest")
    cuda.allow_bf16_reduced_precision_reduction = False
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(before)
        cuda.allow_bf16_reduced_precision_reduction = reduced


def product(
    left: Float[Tensor, "n D"], right: Float[Tensor, "m D"], out: Float[Tensor, "n m"], *, add: bool = False
) -> Float[Tensor, "n m"]:
    """left @ right.T in full precision, written to `out` or added to it, by the library that is fastest."""
    with full_precision(left.device):
        if left.dtype == right.dtype == torch.float32 and left.device.type == "cpu" and _by_onednn():
            part = _onednn(left, right)
            return out.add_(part) if add else out.copy_(part)
        return torch.addmm(out, left, right.T, beta=int(add), out=out)


def _onednn(left: Float[Tensor, "n D"], right: Float[Tensor, "m D"]) -> Float[Tensor, "n m"]:
    return torch.ops.mkldnn._linear_pointwise(left, right, None, "none", [], "")


@cache
def _by_onednn() -> bool:
    """Whether oneDNN is faster than BLAS here: up to twice as fast on processors that are not Intel's."""
    left, right, out = torch.ones(128, 256), torch.ones(256, 256), torch.empty(128, 256)
    with alone(), full_precision(left.device):
        try:
            return 1.1 * seconds(lambda: _onednn(left, right)) < seconds(
                lambda: torch.mm(left, right.T, out=out)
            )
        except (RuntimeError, AttributeError):  # this build of torch comes without it
            return False


def seconds(work: Callable[[], object]) -> float:
    """The shortest of a few calls: another process may have held up the others."""
    took = []
    for _ in range(12):  # the first one prepares the kernel
        began = time.perf_counter()
        work()
        took.append(time.perf_counter() - began)
    return min(took)


def check_chunk(chunk: int | None) -> None:
    """Raises ValueError for a chunk below 1."""
    if chunk is not None and chunk < 1:
        raise ValueError(f"chunk must be at least 1, got {chunk}")


def check_finite(rows: Float[Tensor, "n D"], name: str) -> None:
    """Raises ValueError naming the first row with a number that is not finite."""
    finite: Bool[Tensor, " n"] = torch.isfinite(rows.sum(1))  # NaN and inf survive a sum: one pass, no mask
    if finite.all():
        return
    finite = torch.isfinite(rows).all(1)  # a sum may overflow where no number does
    if not finite.all():
        why = ": beyond float16's 65,504? keep features in float32" if rows.dtype == torch.float16 else ""
        raise ValueError(f"{name} row {int((~finite).nonzero()[0, 0])} is not finite{why}")


def check_sizes(
    features: Float[Tensor, "n F"], centroids: Float[Tensor, "P D"], own: Int[Tensor, " m"] | None
) -> None:
    """Raises ValueError for D that disagree, or own centroids that do not exist."""
    if features.shape[1] != centroids.shape[1]:
        raise ValueError(f"features have D = {features.shape[1]}, centroids D = {centroids.shape[1]}")
    if own is not None and len(own) != len(features):
        raise ValueError(f"{len(own)} own centroids for {len(features)} features: pass one per row")
    if own is not None and len(own) and not -1 <= int(own.min()) <= int(own.max()) < len(centroids):
        raise ValueError(f"own must lie in -1..{len(centroids) - 1}, got {int(own.min())}..{int(own.max())}")
