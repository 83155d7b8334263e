"""One tensor of the base with the task vectors of all experts: what a merge works on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


def sum_tasks(values: Tensor) -> Tensor:
    """Sum ``[T, *s] -> [*s]`` over the first axis, strictly one task after the other.

    ``Tensor.sum`` regroups its terms depending on shape and position, so that the last bit (and
    with it the sign of a cancelling sum) would depend on the layer; this order does not, and for
    a handful of tasks it is as fast.
    """
    rows = values.unbind(0)
    total = rows[0].clone()
    for row in rows[1:]:
        total += row
    return total


@dataclass(frozen=True)
class Layer:
    """A named tensor of the base and its task vectors.

    Attributes
    ----------
    name : str
        Key in the state dict.
    base : Tensor, shape [*s]
        Pre-trained weights, in the type of the arithmetic. Read-only.
    deltas : Tensor, shape [T, *s]
        Task vectors, expert minus base; float32, or float64 where the checkpoints are.
    tasks : tuple of str
        The T tasks.
    """

    name: str
    base: Tensor
    deltas: Tensor
    tasks: tuple[str, ...]

    @cached_property
    def total(self) -> Tensor:
        """Sum of the task vectors ``[*s]``, in task order. Read-only."""
        return sum_tasks(self.deltas)

    @property
    def num_tasks(self) -> int:
        """Number of tasks T."""
        return len(self.tasks)

    @property
    def ndim(self) -> int:
        """Number of axes of the tensor."""
        return self.base.ndim

    @property
    def numel(self) -> int:
        """Number of entries of the tensor."""
        return self.base.numel()

    def per_task(self, value: float | Mapping[str, float] | Tensor) -> Tensor:
        """One number per task, shaped ``[T, 1, ...]`` to broadcast against the deltas.

        Parameters
        ----------
        value : float, mapping of task to float, or Tensor of shape [T]
            The same number for all tasks, or one for each.
        """
        if isinstance(value, Mapping):
            value = [value[task] for task in self.tasks]
        numbers = torch.as_tensor(value, dtype=self.deltas.dtype, device=self.deltas.device)
        return numbers.expand(self.num_tasks).reshape(-1, *[1] * self.ndim)
