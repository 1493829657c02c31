"""From images to unit features, a chunk at a time: nothing here grows with the number of images.

On a GPU the host stays one chunk ahead: while one is computed, the next is copied on a stream of its own and
queued, and only then is the first one's check waited for.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor, nn

from dynamix.data.views import normalize, send

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
    copying = torch.cuda.Stream(where) if where.type == "cuda" else None
    queued: deque[_Queued] = deque()
    for images, rows in chunks:
        ready = normalize(_moved(images, where, copying), normalization, weights.dtype)
        with torch.no_grad(), _evaluating(encoder), torch.autocast(where.type, torch.bfloat16, enabled=amp):
            features = encoder(ready)
        if features.dtype.itemsize < 4:
            features = features.float()  # a bfloat16 row cannot be made unit to better than 1 %
        queued.append(_Queued.of(features, rows))
        if copying is None or len(queued) > 1:
            yield queued.popleft().checked()
    while queued:
        yield queued.popleft().checked()


def _moved(
    images: UInt8[Tensor, "n 3 H W"], where: torch.device, copying: "torch.cuda.Stream | None"
) -> UInt8[Tensor, "n 3 H W"]:
    """The images on the device, copied beside what it computes."""
    if copying is None or images.is_cuda:
        return images.to(where)
    with torch.cuda.stream(copying):
        moved = send(images, where)
    computing = torch.cuda.current_stream(where)
    computing.wait_stream(copying)
    moved.record_stream(computing)  # its memory is in use there until then
    return moved


@dataclass(frozen=True)
class _Queued:
    """Features on their way, and the verdict on them."""

    rows: Int[Tensor, " n"]
    features: Float[Tensor, "n D"]
    length: Float[Tensor, " n"]
    bad: Bool[Tensor, ""]
    known: "torch.cuda.Event | None"  # when `bad` has arrived on the CPU

    @classmethod
    def of(cls, features: Float[Tensor, "n D"], rows: Int[Tensor, " n"]) -> "_Queued":
        length = torch.linalg.vector_norm(features, dim=1)
        bad, known = (~_has_direction(length)).any(), None
        if bad.is_cuda:
            bad = torch.empty((), dtype=torch.bool, pin_memory=True).copy_(bad, non_blocking=True)
            known = torch.cuda.current_stream(features.device).record_event()
        return cls(rows, features / length[:, None], length, bad, known)

    def checked(self) -> Chunk:
        """Rows and unit features; raises naming the first bad row."""
        if self.known is not None:
            self.known.synchronize()
        if self.bad:
            first = int((~_has_direction(self.length)).nonzero()[0, 0])
            what = "is all zeros" if self.length[first] == 0 else "is not finite"
            row = int(self.rows[first])
            raise ValueError(f"the feature of row {row} {what}: look at its image, or at a diverged encoder")
        return self.rows, self.features


def _has_direction(length: Float[Tensor, " n"]) -> Bool[Tensor, " n"]:
    return torch.isfinite(length) & (length > 0)


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
