"""What else could have the effect of a mask over a merged vector: controls of the same storage."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mergebook.merged import MaskedModel
from mergebook.weights.masks import Masks, pack_rows, unpack_rows


def _with(
    model: MaskedModel, *, vector: dict[str, Tensor] | None = None, masks: Masks | None = None
) -> MaskedModel:
    """Copy a model with another vector or other masks."""
    vector = model.vector if vector is None else vector
    masks = model.masks if masks is None else masks
    copy = MaskedModel(model.sizes, model.base, vector, masks)
    copy.backbone = model.backbone
    return copy


def shuffle_masks(model: MaskedModel, seed: int = 0) -> MaskedModel:
    """Give each task a random mask with as many active entries in each tensor as its own.

    Parameters
    ----------
    model : MaskedModel
    seed : int, default 0
    """
    rng, packed = np.random.default_rng(seed), {}
    for key, shape in model.masks.shapes.items():
        rows = unpack_rows(model.masks.packed[key], shape).flatten(1).numpy()
        shuffled = np.stack([rng.permutation(row) for row in rows])
        packed[key] = pack_rows(torch.from_numpy(shuffled))
    return _with(model, masks=Masks(model.masks.tasks, packed, model.masks.shapes))


def exchange_masks(model: MaskedModel) -> MaskedModel:
    """Give each task the mask of the next one, and the last that of the first."""
    packed = {key: rows.roll(-1, 0) for key, rows in model.masks.packed.items()}
    return _with(model, masks=Masks(model.masks.tasks, packed, model.masks.shapes))


def random_vector(model: MaskedModel, seed: int = 0) -> MaskedModel:
    """Put a normal random vector, with the norm of each tensor, in the place of the merged one."""
    generator, vector = torch.Generator().manual_seed(seed), {}
    for key, value in model.vector.items():
        noise = torch.randn(value.shape, generator=generator)
        vector[key] = (noise * (value.float().norm() / noise.norm())).to(value)
    return _with(model, vector=vector)


def signs_only(model: MaskedModel) -> MaskedModel:
    """Keep the signs of the merged vector and, for each tensor, the mean size of its entries."""

    def flat(value: Tensor) -> Tensor:
        moved = value[value != 0]
        return value.sign() * moved.abs().float().mean().to(value) if moved.numel() else value

    return _with(model, vector={key: flat(value) for key, value in model.vector.items()})


def scale_vector(model: MaskedModel, scale: float) -> MaskedModel:
    """Multiply the merged vector."""
    return _with(model, vector={key: scale * value for key, value in model.vector.items()})
