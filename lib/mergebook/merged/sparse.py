"""A sparse vector for each task."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from mergebook.merged.base import Group, MergedModel, group
from mergebook.merged.reading import check_shapes
from mergebook.storage import Sizes, Storage, sparse_storage
from mergebook.weights.checkpoint import Checkpoint
from mergebook.weights.experts import Experts
from mergebook.weights.layer import Layer
from mergebook.weights.masks import Masks, pack_rows


class SparseModel(MergedModel):
    """Base plus, for each task, some entries of the task's own vector.

    Parameters
    ----------
    sizes : Sizes
        Numbers of trained and frozen entries.
    base : mapping of str to Tensor
        Pre-trained weights.
    masks : Masks
        Which entries each task keeps.
    values : mapping of str to Tensor
        Kept entries of each tensor, 1-D, in the base's type: those of the first task in the order
        of the tensor, then those of the second, and so on.
    """

    kind = "sparse"

    def __init__(
        self,
        sizes: Sizes,
        base: Mapping[str, Tensor],
        masks: Masks,
        values: Mapping[str, Tensor],
    ):
        super().__init__(masks.tasks, sizes)
        self.base = base
        self.masks = masks
        self.values = values

    @classmethod
    def build(cls, experts: Experts, function: Callable[[Layer], Tensor]) -> SparseModel:
        """Sparsify layer by layer: `function` maps a layer to its masks, bool ``[T, *s]``."""
        values, packed, shapes = {}, {}, {}
        for layer in experts:
            masks = function(layer)
            kept = [
                experts.to_base(layer.name, delta)[mask]
                for delta, mask in zip(layer.deltas, masks, strict=True)
            ]
            values[layer.name] = torch.cat(kept)
            packed[layer.name] = pack_rows(masks)
            shapes[layer.name] = layer.base.shape
        return cls(experts.sizes, experts.base, Masks(experts.tasks, packed, shapes), values)

    def state_dict(self, task: str | None = None) -> dict[str, Tensor]:
        """Base plus the task's kept entries."""
        self._check_task(task)
        row = self.tasks.index(task)
        weights = dict(self.base)
        for key, values in self.values.items():
            counts = self.masks.used(key).tolist()
            own = values[sum(counts[:row]) :][: counts[row]]
            weights[key] = weights[key].clone()
            weights[key][self.masks.mask(task, key).to(own.device)] += own
        return weights

    def storage(self) -> Storage:
        """b(P' + F + K) + T P' bits, K the kept entries of all tasks."""
        kept: Counter[int] = Counter()
        for values in self.values.values():
            kept[8 * values.dtype.itemsize] += values.numel()
        return sparse_storage(self.sizes, len(self.tasks), kept)

    def stored(self) -> tuple[dict[str, Tensor], dict[str, str]]:
        """Base, packed masks, kept entries."""
        tensors = group("base", self.base) | group("values", self.values)
        return tensors | group("masks", self.masks.packed), {"masks": self.masks.describe()}

    @classmethod
    def restore(cls, file: Checkpoint, tasks: tuple[str, ...], sizes: Sizes) -> SparseModel:
        """Read it back."""
        masks = Masks.described_by(file, Group(file, "masks"))
        check_shapes(file, "masks", masks.shapes.items())
        return cls(sizes, Group(file, "base"), masks, Group(file, "values"))
