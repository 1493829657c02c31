"""Several processes as one (torchrun): who does what share, and how the shares become one again.

Without torchrun everything here is the identity, so that no caller asks how many processes there are.
Between GPUs tensors travel by NCCL, between CPUs by gloo; what the host knows (rows, errors) always by gloo,
so that no GPU has to wait for it.
"""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from jaxtyping import Float, Int
from torch import Tensor
from torch.distributed.rendezvous import rendezvous

PATIENCE = timedelta(minutes=30)  # one process may be busy this long while others wait for it
RESUME = "the same command goes on from the last checkpoint, and torchrun --max-restarts N does by itself"


@contextmanager
def started() -> Iterator[None]:
    """Join the processes that torchrun started, and part from them; alone, nothing happens.

    Raises ValueError without torchrun's variables or with more processes than GPUs, RuntimeError when
    another process is gone.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or ranks() > 1:
        yield
        return
    _connect()
    try:
        yield
        barrier()  # nobody leaves while another may still send
    except RuntimeError as error:
        if _lost(error):
            reason = re.sub(r"^\[[^\]]*\] *", "", str(error).strip().splitlines()[0]).split(". ")[0]
            raise RuntimeError(
                f"rank {rank()} lost another process of the job, see what that one says ({reason}); {RESUME}"
            ) from error
        raise
    dist.destroy_process_group()


def _connect() -> None:
    missing = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if missing:
        raise ValueError(
            f"WORLD_SIZE is {os.environ['WORLD_SIZE']} but {', '.join(missing)} not set: start several "
            "processes with torchrun --nproc-per-node N -m dynamix train, or unset WORLD_SIZE"
        )
    place = device()
    if place.type == "cuda":
        torch.cuda.set_device(place)
    store, mine, count = next(rendezvous("env://", timeout=PATIENCE))
    if os.environ.get("LOCAL_WORLD_SIZE") == str(count):
        # After a restart on one machine the launcher's store still holds the dead processes' addresses.
        store = dist.PrefixStore(f"start {os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", store)
    backend = "cpu:gloo,cuda:nccl" if place.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=store, rank=mine, world_size=count, timeout=PATIENCE)


def _lost(error: RuntimeError) -> bool:
    """Whether an error says that the connection broke, and not what this process did wrong."""
    return isinstance(error, dist.DistError) or "gloo" in str(error).lower()


def device() -> torch.device:
    """Where this process computes: a GPU of its own, or the CPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    if ranks() == 1 and "LOCAL_RANK" not in os.environ:
        return torch.device("cuda")
    if local_rank() >= torch.cuda.device_count():
        raise ValueError(
            f"{os.environ.get('LOCAL_WORLD_SIZE', local_rank() + 1)} processes on a machine of "
            f"{torch.cuda.device_count()} GPUs: lower --nproc-per-node"
        )
    return torch.device("cuda", local_rank())


def rank() -> int:
    """This process among `ranks()`, 0 when alone."""
    return dist.get_rank() if _together() else 0


def ranks() -> int:
    """Processes of the job, 1 when alone."""
    return dist.get_world_size() if _together() else 1


def local_rank() -> int:
    """This process among those of its machine."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def leader() -> bool:
    """Whether this is the process that writes and speaks."""
    return rank() == 0


def _together() -> bool:
    return dist.is_available() and dist.is_initialized()


def barrier() -> None:
    """Wait for all processes; on the host, so that no GPU's time limit runs meanwhile."""
    everyone(None)


@contextmanager
def all_or_none() -> Iterator[None]:
    """Work that every rank does for itself: where it fails on one, it fails on all."""
    try:
        yield
    except Exception as error:
        agree(error)
    else:
        agree()


@contextmanager
def first_here_first() -> Iterator[None]:
    """One process of each machine before its others: what it puts on disk they find there."""
    if local_rank() > 0:
        agree()
        yield
    else:
        with all_or_none():
            yield


def everyone(value: Any) -> list[Any]:
    """What each rank passes, in rank order; small things only."""
    if ranks() == 1:
        return [value]
    values: list[Any] = [None] * ranks()
    dist.all_gather_object(values, value)
    return values


def agree(error: Exception | None = None) -> None:
    """Each rank says whether it failed; if one did, all raise what it says. Every rank must call it."""
    problems = everyone(None if error is None else f"{error}")
    if error is not None:
        raise error
    for who, problem in enumerate(problems):
        if problem is not None:
            raise RuntimeError(f"rank {who} stopped: {problem}")


def same(what: str, value: Any) -> None:
    """ValueError, on all ranks, unless they all pass an equal `value`; `what` names it and the remedy."""
    values = everyone(value)
    for who, other in enumerate(values):
        if other != values[0]:
            raise ValueError(f"rank 0 has {values[0]}, rank {who} has {other}: {what}")


def check_divides(ids_multi: int, ids_single: int) -> None:
    """ValueError unless every rank gets the same number of a batch's identities (N_P) of both kinds."""
    for name, count in (("ids_multi", ids_multi), ("ids_single", ids_single)):
        if count % ranks():
            fit = [
                n for n in range(1, ids_multi + ids_single + 1) if not ids_multi % n and not ids_single % n
            ]
            raise ValueError(
                f"batch.{name} = {count} identities do not divide among {ranks()} processes: start "
                f"one of {', '.join(map(str, fit))} (--nproc-per-node), or change batch.{name}"
            )


def share() -> slice:
    """The rows of each batch that this rank prepares: every `ranks()`-th, so that all see one mixture."""
    return slice(rank(), None, ranks())


def own_part(count: int, block: int) -> slice:
    """Which of `count` rows this rank embeds: whole blocks, side by side; perhaps none."""
    blocks = -(-count // block)
    first, last = (blocks * k // ranks() * block for k in (rank(), rank() + 1))
    return slice(min(first, count), min(last, count))


def sum_(tensor: Tensor) -> Tensor:
    """The sum over the ranks, in place; every rank must call it, and all get the same bits."""
    if ranks() > 1:
        dist.all_reduce(tensor)
    return tensor


def average_(tensors: Sequence[Tensor]) -> None:
    """Floating-point tensors become their mean over the ranks, in place, in one message."""
    if ranks() == 1 or not tensors:
        return
    flat = sum_(torch.cat([tensor.detach().flatten() for tensor in tensors])) / ranks()
    for tensor, mean in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(mean.view_as(tensor))


def join(rows: np.ndarray, *columns: np.ndarray) -> tuple[np.ndarray, ...]:
    """What each rank knows of its own rows, put together: (rows, *columns) of all ranks, in rank order."""
    parts = everyone((rows, *columns))
    # A rank without rows may not know what its columns are made of.
    parts = [part for part in parts if len(part[0])] or parts[:1]
    return tuple(np.concatenate(pieces) for pieces in zip(*parts, strict=True))


def collect(
    rows: Int[Tensor, " b"], room: int, error: Exception | None = None
) -> tuple[Int[Tensor, " B"], tuple[int, ...]]:
    """The rows of all shares of a batch, in the order of `gather`, and how many each rank holds.

    A share is `room` rows, fewer where images could not be read; a rank that failed passes its error, and
    then all raise. On the host: nothing here waits for a GPU.
    """
    if ranks() == 1:
        agree(error)
        return rows, (len(rows),)
    mine = torch.full((room + 1,), -1)
    mine[0] = -1 if error is not None else len(rows)
    if error is None:
        mine[1 : len(rows) + 1] = rows
    parts = torch.empty(ranks(), room + 1, dtype=torch.int64)
    dist.all_gather_into_tensor(parts.view(-1), mine)
    counts = tuple(parts[:, 0].tolist())
    if min(counts) < 0:
        agree(error)
    if min(counts) == 0:
        who = counts.index(0)
        raise ValueError(f"none of the {room} images of rank {who}'s share of a batch can be read")
    return _whole(parts[:, 1:, None], counts)[:, 0], counts


def gather(features: Float[Tensor, "b D"], counts: tuple[int, ...] | None = None) -> Float[Tensor, "B D"]:
    """Every rank's share of a batch as the whole batch in its own order, differentiable.

    `counts` are the rows of each rank where they are not all alike. The gradient is that of a loss which
    every rank computes alike, from the whole batch: times `ranks()`, which averaging over ranks (DDP) undoes.
    """
    if ranks() == 1:
        return features
    return _Gather.apply(features, counts or (len(features),) * ranks())


def _whole(parts: Tensor, counts: tuple[int, ...]) -> Tensor:
    """(ranks, room, D) to (B, D): the batch's order, or rank by rank where rows are missing."""
    if min(counts) == max(counts):
        return parts[:, : counts[0]].transpose(0, 1).flatten(0, 1)
    return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, counts: tuple[int, ...]) -> Tensor:
        ctx.counts = counts
        room = max(counts)
        mine = features.contiguous()
        if len(mine) < room:
            mine = torch.cat([mine, mine.new_zeros(room - len(mine), mine.shape[1])])
        parts = mine.new_empty(ranks(), room, mine.shape[1])
        dist.all_gather_into_tensor(parts.view(-1, mine.shape[1]), mine)
        return _whole(parts, counts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        # The loss is the same on every rank, and so is its gradient: the sum over ranks needs no message.
        counts, gradient = ctx.counts, gradients[0]
        if min(counts) == max(counts):
            own = gradient[rank() :: ranks()]
        else:
            own = gradient.split(list(counts))[rank()]
        return own * ranks(), None
