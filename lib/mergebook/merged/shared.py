"""One state dict for all tasks."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

from mergebook.merged.base import MergedModel
from mergebook.storage import Sizes, Storage, shared_storage
from mergebook.weights.checkpoint import Checkpoint
from mergebook.weights.experts import Experts
from mergebook.weights.layer import Layer
from mergebook.weights.qkv import named_like


class SharedModel(MergedModel):
    """One state dict for all tasks. Its file is a plain checkpoint.

    Parameters
    ----------
    tasks : tuple of str
        The tasks.
    sizes : Sizes
        Numbers of trained and frozen entries.
    weights : mapping of str to Tensor
        The state dict.
    """

    kind = "shared"
    told = "no"

    def __init__(self, tasks: tuple[str, ...], sizes: Sizes, weights: Mapping[str, Tensor]):
        super().__init__(tasks, sizes)
        self.weights = weights

    @classmethod
    def build(
        cls, experts: Experts, function: Callable[[Layer], Tensor], view: Experts | None = None
    ) -> SharedModel:
        """Merge layer by layer.

        Parameters
        ----------
        experts : Experts
            Base and experts.
        function : callable
            Maps a layer to its merged weights ``[*s]``.
        view : Experts, optional
            The same experts with query, key and value arranged otherwise: the layers to merge.
        """
        view = view or experts
        merged = {layer.name: view.to_base(layer.name, function(layer)) for layer in view}
        weights = {key: merged[key] if key in merged else view.base[key] for key in view.base}
        return cls(experts.tasks, experts.sizes, named_like(weights, experts.base))

    def state_dict(self, task: str | None = None) -> dict[str, Tensor]:
        """Weights for all tasks."""
        self._check_task(task, needed=False)
        return dict(self.weights)

    def storage(self) -> Storage:
        """b(P' + F) bits."""
        return shared_storage(self.sizes)

    def stored(self) -> tuple[dict[str, Tensor], dict[str, str]]:
        """The state dict."""
        return dict(self.weights), {}

    @classmethod
    def restore(cls, file: Checkpoint, tasks: tuple[str, ...], sizes: Sizes) -> SharedModel:
        """Read it back."""
        return cls(tasks, sizes, file)
