"""A state dict for each task."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from mergebook.merged.base import Group, MergedModel, group
from mergebook.storage import Sizes, Storage, experts_storage
from mergebook.weights.checkpoint import Checkpoint
from mergebook.weights.experts import Experts


class TaskModels(MergedModel):
    """A state dict for each task; tensors that no expert changed are stored once.

    Parameters
    ----------
    sizes : Sizes
        Numbers of trained and frozen entries.
    frozen : mapping of str to Tensor
        Tensors that all tasks share.
    own : mapping of task to mapping of str to Tensor
        Tensors of each task.
    """

    kind = "per-task"

    def __init__(
        self,
        sizes: Sizes,
        frozen: Mapping[str, Tensor],
        own: Mapping[str, Mapping[str, Tensor]],
    ):
        super().__init__(tuple(own), sizes)
        self.frozen = frozen
        self.own = own

    @classmethod
    def build(cls, experts: Experts) -> TaskModels:
        """The experts themselves."""
        own: dict[str, dict[str, Tensor]] = {task: {} for task in experts.tasks}
        for layer in experts:  # reading a layer checks its values
            for task in experts.tasks:
                own[task][layer.name] = experts.expert(task)[layer.name]
        trained = set(experts.trained)
        frozen = {key: experts.base[key] for key in experts.base if key not in trained}
        return cls(experts.sizes, frozen, own)

    def state_dict(self, task: str | None = None) -> dict[str, Tensor]:
        """The task's own weights."""
        self._check_task(task)
        return {**self.frozen, **self.own[task]}

    def storage(self) -> Storage:
        """b(T P' + F) bits."""
        return experts_storage(self.sizes, len(self.tasks))

    def stored(self) -> tuple[dict[str, Tensor], dict[str, str]]:
        """Shared tensors, and the tensors of each task under its number."""
        tensors = group("frozen", self.frozen)
        for row, own in enumerate(self.own.values()):
            tensors |= group(f"task{row}", own)
        return tensors, {}

    @classmethod
    def restore(cls, file: Checkpoint, tasks: tuple[str, ...], sizes: Sizes) -> TaskModels:
        """Read it back."""
        own = {task: Group(file, f"task{row}") for row, task in enumerate(tasks)}
        return cls(sizes, Group(file, "frozen"), own)
