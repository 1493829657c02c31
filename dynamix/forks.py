"""Work of a thread that a fork waits for.

A forked process has only the thread that forked, and every lock as it stood: one that another thread held
inside a library stays locked there for ever. Reader processes (`dynamix.data.images`) that were forked while
a thread multiplied matrices hung at their own first product, in the allocator of the BLAS.
"""

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")
PAUSE = 0.001  # seconds between two looks

# Sets of thread numbers and short sleeps instead of locks: the garbage collector may end a thread that waits
# here from within any line of another one, where a lock could be held.
_busy: set[int] = set()
_forking: set[int] = set()


def pieces(items: Iterable[Item], ended: Callable[[], bool] = lambda: False) -> Iterator[Item]:
    """The items, for a thread of its own: each is made between two forks. Stops early once `ended()`.

    Whatever forks, anywhere in the process, first waits for the items at work; new ones wait for the fork.
    """
    thread, iterator = threading.get_ident(), iter(items)
    while not ended():
        _busy.add(thread)  # first: a fork that begins from here on waits for this thread
        if _forking:  # and one that had begun is seen
            _busy.discard(thread)
            time.sleep(PAUSE)
            continue
        try:
            item = next(iterator)
        except StopIteration:
            return
        finally:
            _busy.discard(thread)
        yield item


def _before() -> None:
    _forking.add(threading.get_ident())
    while _busy - {threading.get_ident()}:
        time.sleep(PAUSE)


def _after() -> None:
    _forking.discard(threading.get_ident())


def _after_in_child() -> None:
    _busy.clear()
    _forking.clear()


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(before=_before, after_in_parent=_after, after_in_child=_after_in_child)
