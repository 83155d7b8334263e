"""What the solutions share that rebuild each task's vector from a compressed form."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping

from torch import Tensor

from mergebook.merged.base import MergedModel
from mergebook.weights.experts import Experts


class Rebuilt:
    """Base plus, for each task, a vector that is rebuilt when it is asked for.

    Comes before :class:`MergedModel` among the parents of a kind.

    Attributes
    ----------
    base : mapping of str to Tensor
        Pre-trained weights.
    """

    base: Mapping[str, Tensor]

    @abstractmethod
    def keys(self) -> tuple[str, ...]:
        """Names of the tensors that have vectors."""

    @abstractmethod
    def vector(self, task: str, key: str) -> Tensor:
        """One tensor of a task's vector ``[*s]``, in the type of the arithmetic."""

    def state_dict(self, task: str | None = None) -> dict[str, Tensor]:
        """Base plus the task's rebuilt vector, rounded once to the base's types."""
        self._check_task(task)
        weights = dict(self.base)
        for key in self.keys():
            vector = self.vector(task, key)
            weights[key] = (weights[key].to(vector.dtype) + vector).to(weights[key].dtype)
        return weights


def rebuilt_experts(merged: MergedModel, experts: Experts) -> Experts:
    """Experts as a compressed solution gives them back: to merge what was compressed.

    Parameters
    ----------
    merged : MergedModel
        A solution with weights per task, such as quantised task vectors.
    experts : Experts
        What it was made of; gives the base, the order of the tasks and the options.

    Returns
    -------
    Experts
        The same base with the rebuilt weights of all tasks, in memory.
    """
    return Experts(
        experts.base,
        {task: merged.state_dict(task) for task in experts.tasks},
        entries=experts.entries,
        frozen_extra=experts.frozen_extra,
        backbone=experts.backbone,
        progress=experts.progress,
    )
