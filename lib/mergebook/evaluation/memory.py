"""Peak memory of a computation, counted tensor by tensor: the same on every machine."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only


class PeakMemory(TorchDispatchMode):
    """Count the bytes of all tensors that are made inside a ``with`` block and alive together.

    The operating system's figure depends on the allocator and on what ran before; this one does
    not. Tensors that existed before and memory outside torch are not counted.

    Attributes
    ----------
    live, peak : int
        Bytes now, and at most so far.
    """

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._seen: set[int] = set()

    def __torch_dispatch__(
        self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        known = []
        tree_map_only(Tensor, lambda tensor: known.append(_address(tensor)), (args, kwargs))
        result = func(*args, **(kwargs or {}))
        tree_map_only(Tensor, lambda tensor: self._count(tensor, known), result)
        return result

    def _count(self, tensor: Tensor, known: list[int]) -> None:
        address = _address(tensor)
        if address in self._seen or address in known:  # a view, or written in place
            return
        storage = tensor.untyped_storage()
        size = storage.nbytes()
        self._seen.add(address)
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._release, address, size).atexit = False

    def _release(self, address: int, size: int) -> None:
        self._seen.discard(address)
        self.live -= size


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata
