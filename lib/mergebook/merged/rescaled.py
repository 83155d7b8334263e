"""One merged vector, and a mask and a rescaler per task."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from mergebook.merged.base import Group
from mergebook.merged.masked import MaskedModel
from mergebook.merged.reading import check_shapes
from mergebook.storage import Part, Sizes, Storage, closed_form, masked_storage
from mergebook.weights.checkpoint import Checkpoint
from mergebook.weights.masks import Masks


def rescaled_storage(sizes: Sizes, num_tasks: int, rescalers: Tensor) -> Storage:
    """Base, one merged vector, a mask and a rescaler per task: b(2P' + F) + T P' + 32 T.

    A rescaler has the width of the arithmetic: 64 bits where the checkpoints are float64.
    """
    width = 8 * rescalers.dtype.itemsize
    parts = [*masked_storage(sizes, num_tasks).parts, Part("rescalers", rescalers.numel(), width)]
    expression = "{b}(2P'+F) + TP'" + (f" + {width}T" if rescalers.numel() else "")
    return closed_form(parts, expression, sizes, T=num_tasks)


class RescaledModel(MaskedModel):
    """Base plus, for each task, the masked part of one merged vector times the task's rescaler.

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
    rescalers : Tensor, shape [T]
        One factor per task, in the type of the arithmetic; empty where nothing was trained.
    """

    kind = "rescaled"

    def __init__(
        self,
        sizes: Sizes,
        base: Mapping[str, Tensor],
        vector: Mapping[str, Tensor],
        masks: Masks,
        rescalers: Tensor,
    ):
        super().__init__(sizes, base, vector, masks)
        self.rescalers = rescalers

    def state_dict(self, task: str | None = None) -> dict[str, Tensor]:
        """Base plus the rescaled, masked vector: ``base + rescaler * mask * vector``."""
        self._check_task(task)
        weights = dict(self.base)
        for key, vector in self.vector.items():
            mask = self.masks.mask(task, key).to(vector.device)
            factor = self.rescalers[self.tasks.index(task)]
            own = factor * torch.where(mask, vector, 0).to(factor.dtype)
            weights[key] = (weights[key].to(own.dtype) + own).to(vector.dtype)
        return weights

    def storage(self) -> Storage:
        """b(2P' + F) + T P' + 32 T bits."""
        return rescaled_storage(self.sizes, len(self.tasks), self.rescalers)

    def stored(self) -> tuple[dict[str, Tensor], dict[str, str]]:
        """Base, vector, packed masks, rescalers."""
        tensors, header = super().stored()
        return tensors | {"rescalers": self.rescalers}, header

    @classmethod
    def restore(cls, file: Checkpoint, tasks: tuple[str, ...], sizes: Sizes) -> RescaledModel:
        """Read it back."""
        masks = Masks.described_by(file, Group(file, "masks"))
        check_shapes(file, "masks", masks.shapes.items())
        vector = Group(file, "vector")
        return cls(sizes, Group(file, "base"), vector, masks, file["rescalers"])
