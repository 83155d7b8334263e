"""One state dict for all tasks, and a learned head for each."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from mergebook.errors import MethodError
from mergebook.merged.base import Group, group
from mergebook.merged.shared import SharedModel
from mergebook.storage import Part, Sizes, Storage, closed_form, parts_of
from mergebook.weights.checkpoint import Checkpoint


class HeadedModel(SharedModel):
    """One state dict for all tasks, and a learned head for each.

    Parameters
    ----------
    sizes : Sizes
        Numbers of trained and frozen entries.
    weights : mapping of str to Tensor
        The state dict.
    heads : mapping of task to Tensor, float32 [C, D]
        The learned heads.

    Raises
    ------
    MethodError
        If a head is not a float32 matrix (names the task).
    """

    kind = "shared with heads"

    def __init__(self, sizes: Sizes, weights: Mapping[str, Tensor], heads: Mapping[str, Tensor]):
        super().__init__(tuple(heads), sizes, weights)
        for task, head in heads.items():
            if head.ndim != 2 or head.dtype != torch.float32:
                raise MethodError(
                    f"the head of task {task!r} must be a float32 matrix, "
                    f"got {head.dtype} with {head.ndim} axes"
                )
        self.heads = heads

    def head(self, task: str) -> Tensor:
        """Learned head ``[C, D]`` of a task."""
        self._check_task(task)
        return self.heads[task]

    def storage(self) -> Storage:
        """b(P' + F) + 32 H bits, with H the entries of all heads."""
        return headed_storage(self.sizes, sum(head.numel() for head in self.heads.values()))

    def stored(self) -> tuple[dict[str, Tensor], dict[str, str]]:
        """The state dict, and the heads under the numbers of their tasks."""
        heads = {str(row): head for row, head in enumerate(self.heads.values())}
        return group("weights", self.weights) | group("heads", heads), {}

    @classmethod
    def restore(cls, file: Checkpoint, tasks: tuple[str, ...], sizes: Sizes) -> HeadedModel:
        """Read it back."""
        stored = Group(file, "heads")
        heads = {task: stored[str(row)] for row, task in enumerate(tasks)}
        return cls(sizes, Group(file, "weights"), heads)


def headed_storage(sizes: Sizes, num_head_entries: int) -> Storage:
    """One model for all tasks and a head of 32-bit entries for each: b(P' + F) + 32H."""
    parts = parts_of("trained weights", sizes.trained) + parts_of("frozen weights", sizes.frozen)
    parts += [Part("heads", num_head_entries, 32)]
    return closed_form(parts, "{b}(P'+F) + 32H", sizes, H=num_head_entries)
