"""From images to unit features, a chunk at a time: nothing here grows with the number of images."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from dynamix.data.views import normalize

Chunk = tuple[Int[Tensor, " n"], Float[Tensor, "n D"]]


def extract(
    encoder: nn.Module,
    chunks: Iterable[tuple[UInt8[Tensor, "n 3 H W"], Int[Tensor, " n"]]],
    *,
    device: str | torch.device | None = None,
    normalization: str,
    amp: bool = False,
) -> Iterator[Chunk]:
    """Embed chunks of (uint8 images, rows): yields rows and unit features on `device`.

    Runs in eval mode without gradient; between chunks the encoder is in the mode it was in. `device`
    defaults to the encoder's; `amp` runs the network in bfloat16. O(chunk) memory. Raises ValueError
    naming the first row whose feature is not finite, or has no direction.
    """
    weights = next(encoder.parameters())
    where = torch.device(device) if device is not None else weights.device
    for images, rows in chunks:
        ready = normalize(images.to(where, non_blocking=True), normalization, weights.dtype)
        with torch.no_grad(), _evaluating(encoder), torch.autocast(where.type, torch.bfloat16, enabled=amp):
            features = encoder(ready)
        if features.dtype.itemsize < 4:
            features = features.float()  # a bfloat16 row cannot be made unit to better than 1 %
        yield rows, _unit(features, rows)


def gather(chunks: Iterable[Chunk], count: int | None = None) -> Float[Tensor, "N D"]:
    """All features of `extract` in one array (N, D), in the order they come, for evaluation.

    Give `count` (N) to fill one array in place instead of joining pieces, and to have it checked.
    Raises ValueError when there is nothing, or not `count` rows.
    """
    if count is None:
        parts = [features for _, features in chunks]
        if not parts:
            raise ValueError("no features to gather: the table is empty")
        return torch.cat(parts)
    out: Tensor | None = None
    filled = 0
    for _, features in chunks:
        if out is None:
            out = features.new_empty(count, features.shape[1])
        if filled + len(features) > count:
            raise ValueError(f"more than the {count} features announced: give the number of rows asked for")
        out[filled : filled + len(features)] = features
        filled += len(features)
    if out is None or filled != count:
        raise ValueError(f"{filled} features of the {count} announced: some images were not embedded")
    return out


def _unit(features: Float[Tensor, "n D"], rows: Int[Tensor, " n"]) -> Float[Tensor, "n D"]:
    length = torch.linalg.vector_norm(features, dim=1)
    bad = ~(torch.isfinite(length) & (length > 0))
    if bad.any():
        first = int(bad.nonzero()[0, 0])
        what = "is all zeros" if length[first] == 0 else "is not finite"
        raise ValueError(
            f"the feature of row {int(rows[first])} {what}: look at its image, or at a diverged encoder"
        )
    return features / length[:, None]


@contextmanager
def _evaluating(encoder: nn.Module) -> Iterator[None]:
    """Eval mode inside; afterwards every module is back in its own mode."""
    modes = [(module, module.training) for module in encoder.modules()]
    encoder.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
