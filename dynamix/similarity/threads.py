"""Work spread over the cores of a CPU in parts that do not wait for each other.

Inside one parallel product all threads wait for the slowest one, and then again at the next product: beside
a process that takes half of a core, many small products took up to ten times as long. Here every thread
computes whole parts by itself and takes the next one when it is done.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

import torch

Part = TypeVar("Part")
Result = TypeVar("Result")
EACH = 8  # parts a thread, so that few cores are idle while the last ones end

_cores: ContextVar[int] = ContextVar("cores", default=0)


def cores() -> int:
    """How many threads torch was given."""
    return _cores.get() or torch.get_num_threads()


@contextmanager
def alone() -> Iterator[None]:
    """What the calling thread computes by itself takes one core; `spread` still uses all."""
    threads = torch.get_num_threads()
    token = _cores.set(cores())
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        _cores.reset(token)


def spread(work: Callable[[Part], Result], parts: Sequence[Part], device: torch.device) -> Iterator[Result]:
    """`work` of each part, in order, without gradients; on a GPU one part after the other.

    Work that sets something of the whole process, as `full_precision` does, needs that set around it.
    """
    work = torch.no_grad()(work)  # a thread's own
    threads = min(cores(), len(parts)) if device.type == "cpu" else 1
    if threads < 2:
        yield from map(work, parts)
        return
    before = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield from pool.map(work, parts)
    finally:
        torch.set_num_threads(before)  # also for threads that start later


def part_size(count: int, most: int, least: int = 128) -> int:
    """Rows a part, from `least` to `most`, so that every thread has several."""
    return min(most, max(least, -(-count // (EACH * cores()))))
