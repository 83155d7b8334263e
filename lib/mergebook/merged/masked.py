"""One merged vector and a mask per task."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from mergebook.merged.base import Group, MergedModel, group
from mergebook.merged.reading import check_shapes
from mergebook.storage import Sizes, Storage, masked_storage
from mergebook.weights.checkpoint import Checkpoint
from mergebook.weights.experts import Experts
from mergebook.weights.layer import Layer
from mergebook.weights.masks import Masks, pack_rows


class MaskedModel(MergedModel):
    """Base plus, for each task, the part of one merged vector that the task's mask selects.

    Parameters
    ----------
    sizes : Sizes
        Numbers of trained and frozen entries.
    base : mapping of str to Tensor
        Pre-trained weights.
    vector : mapping of str to Tensor
        Merged task vector of the trained tensors, in the base's types.
    masks : Masks
        One mask per task over the same tensors.
    """

    kind = "masked"

    def __init__(
        self,
        sizes: Sizes,
        base: Mapping[str, Tensor],
        vector: Mapping[str, Tensor],
        masks: Masks,
    ):
        super().__init__(masks.tasks, sizes)
        self.base = base
        self.vector = vector
        self.masks = masks

    @classmethod
    def build(
        cls, experts: Experts, function: Callable[[Layer], tuple[Tensor, Tensor]]
    ) -> MaskedModel:
        """Compress layer by layer.

        Parameters
        ----------
        experts : Experts
            Base and experts.
        function : callable
            Maps a layer to its merged vector ``[*s]`` and its masks, bool ``[T, *s]``.
        """
        vector, packed, shapes = {}, {}, {}
        for layer in experts:
            merged, masks = function(layer)
            vector[layer.name] = experts.to_base(layer.name, merged)
            packed[layer.name] = pack_rows(masks)
            shapes[layer.name] = layer.base.shape
        return cls(experts.sizes, experts.base, vector, Masks(experts.tasks, packed, shapes))

    def state_dict(self, task: str | None = None) -> dict[str, Tensor]:
        """Base plus the masked vector: ``base + mask * vector``."""
        self._check_task(task)
        weights = dict(self.base)
        for key, vector in self.vector.items():
            mask = self.masks.mask(task, key).to(vector.device)
            weights[key] = torch.where(mask, weights[key] + vector, weights[key])
        return weights

    def storage(self) -> Storage:
        """b(2P' + F) + T P' bits."""
        return masked_storage(self.sizes, len(self.tasks))

    def stored(self) -> tuple[dict[str, Tensor], dict[str, str]]:
        """Base, vector, packed masks."""
        tensors = group("base", self.base) | group("vector", self.vector)
        return tensors | group("masks", self.masks.packed), {"masks": self.masks.describe()}

    @classmethod
    def restore(cls, file: Checkpoint, tasks: tuple[str, ...], sizes: Sizes) -> MaskedModel:
        """Read it back."""
        masks = Masks.described_by(file, Group(file, "masks"))
        check_shapes(file, "masks", masks.shapes.items())
        return cls(sizes, Group(file, "base"), Group(file, "vector"), masks)
