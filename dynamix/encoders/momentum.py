"""The momentum encoder: a slowly moving average of the encoder, the only network used at inference."""

import copy
from collections.abc import Iterable
from typing import Literal

import torch
from torch import Tensor, nn

Buffers = Literal["own", "ema", "copy"]


def momentum_copy(encoder: nn.Module) -> nn.Module:
    """A copy of `encoder` that takes no gradient: the momentum encoder before the first step (Sec. 3.1)."""
    return copy.deepcopy(encoder).requires_grad_(False)


@torch.no_grad()
def update_momentum(
    momentum: nn.Module, encoder: nn.Module, decay: float = 0.999, buffers: Buffers = "own"
) -> None:
    """Move the weights, in place: momentum <- decay * momentum + (1 - decay) * encoder (Eq. 2).

    `buffers` are BatchNorm's running statistics. own: not touched; run the momentum encoder in train mode
    and it keeps its own, as ICE does. ema: averaged like the weights, counters copied. copy: the encoder's.
    Raises ValueError on a decay outside [0, 1], an unknown `buffers`, or networks that differ.
    """
    if not 0 <= decay <= 1:
        raise ValueError(f"the momentum decay must lie in [0, 1], got {decay}")
    if buffers not in ("own", "ema", "copy"):
        raise ValueError(f"buffers must be own, ema or copy, got {buffers!r}")
    _lerp(*_paired(momentum.named_parameters(), encoder.named_parameters()), 1 - decay)
    if buffers == "own":
        return
    mine, theirs = _paired(momentum.named_buffers(), encoder.named_buffers())
    averaged = [buffers == "ema" and b.is_floating_point() for b in mine]
    _lerp(_where(mine, averaged, True), _where(theirs, averaged, True), 1 - decay)
    copied = _where(mine, averaged, False)
    if copied:
        torch._foreach_copy_(copied, _where(theirs, averaged, False))


def decay_at(step: int, decay: float, ramp: bool) -> float:
    """The decay lambda of Eq. 2 at a step counted from 0; ramped, min(decay, (1 + t) / (10 + t)).

    The ramp lets the average follow the first steps of a short run from scratch (ours, not the paper's).
    """
    return min(decay, (1 + step) / (10 + step)) if ramp else decay


def _lerp(mine: list[Tensor], theirs: list[Tensor], weight: float) -> None:
    if mine:
        torch._foreach_lerp_(mine, theirs, weight)


def _where(tensors: list[Tensor], flags: list[bool], wanted: bool) -> list[Tensor]:
    return [t for t, flag in zip(tensors, flags, strict=True) if flag is wanted]


def _paired(
    mine: Iterable[tuple[str, Tensor]], theirs: Iterable[tuple[str, Tensor]]
) -> tuple[list[Tensor], list[Tensor]]:
    """Two networks' tensors side by side; ValueError where names or shapes differ."""
    a, b = dict(mine), dict(theirs)
    wrong = sorted(a.keys() ^ b.keys()) or [name for name in a if a[name].shape != b[name].shape]
    if wrong:
        raise ValueError(
            f"momentum and encoder differ at {wrong[0]!r}: make the momentum encoder with momentum_copy"
        )
    return list(a.values()), [b[name] for name in a]
