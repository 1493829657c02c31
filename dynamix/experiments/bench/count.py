"""What some work costs in numbers that do not depend on the machine's mood: multiplications and bytes.

A clock measures the neighbors as well; these two counts come out the same twice.
"""

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode
from torch.utils.weak import WeakIdKeyDictionary


def _product(left: tuple[int, int], right: tuple[int, int], **_: Any) -> int:
    return 2 * left[0] * left[1] * right[1]


def _linear(left: tuple[int, int], right: tuple[int, int], *_: Any, **__: Any) -> int:
    return 2 * left[0] * left[1] * right[0]


# torch counts the products of its own floating-point kernels only.
OTHERS = {torch.ops.aten._int_mm: _product}
if hasattr(torch.ops.mkldnn, "_linear_pointwise"):
    OTHERS[torch.ops.mkldnn._linear_pointwise] = _linear


@dataclass(frozen=True)
class Counted:
    """The cost of one call."""

    flop: int  # operations in matrix products, a multiplication and an addition as two
    peak: int  # most bytes of tensors alive at once beyond those that stood before
    value: Any  # what the call returned


def counted(work: Callable[[], Any]) -> Counted:
    """Run `work` and count its matrix operations and the peak of its tensors' memory.

    Scratch space inside a kernel, numpy arrays and what other threads do are not seen.
    """
    with FlopCounterMode(display=False, custom_mapping=OTHERS) as operations, _Bytes() as memory:
        value = work()
    return Counted(int(operations.get_total_flops()), memory.peak, value)


class _Bytes(TorchDispatchMode):
    """Follows every storage that an operation returns until it is freed."""

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self.known = WeakIdKeyDictionary()

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        kwargs = kwargs or {}
        given = {id(t.untyped_storage()) for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)}
        out = func(*args, **kwargs)
        for each in tree_leaves(out):
            # A view, or a result written in place, brings no new memory.
            if isinstance(each, Tensor) and id(each.untyped_storage()) not in given:
                self._follow(each.untyped_storage())
        self.peak = max(self.peak, self.live)
        return out

    def _follow(self, storage: torch.UntypedStorage) -> None:
        if storage in self.known:
            return
        size = storage.nbytes()
        self.known[storage] = True
        self.live += size
        weakref.finalize(storage, self._freed, size)

    def _freed(self, size: int) -> None:
        self.live -= size
