"""Singular components of task vectors, of which masks choose some: what AdaRank learns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import torch
from torch import Tensor

from mergebook.calibration import Calibration
from mergebook.learning.combination import frozen_weights
from mergebook.learning.descent import minimise
from mergebook.learning.objectives import entropy_of_all_tasks
from mergebook.merged import SharedModel
from mergebook.registry import Qkv
from mergebook.registry.types import Learning
from mergebook.weights import Experts
from mergebook.weights.qkv import named_like
from mergebook.weights.spectral import factors, is_chosen, resolve

Learn = Annotated[
    Literal["both", "masks", "coefficients"], "What is learned; the rest stays as it starts."
]
START = 0.1  # distance of a fresh logit from the threshold at 0
TEMPERATURE = 10.0


class Components:
    """Merged weights as a function of coefficients and of masks on singular components.

    Holds the singular vectors of all experts: for a square matrix twice the size of its task
    vectors.

    Parameters
    ----------
    experts : Experts
        Base and experts.
    centred : bool
        Whether vectors start, and are added, at the average of the experts, as in CART, or at the
        base.
    qkv : {"fused", "split"}
        Query, key and value as one matrix or as three.

    Attributes
    ----------
    names : tuple of str
        The K tensors that are merged.
    ranks : dict of str to int
        Full rank r of each decomposed matrix.
    """

    def __init__(self, experts: Experts, centred: bool, qkv: Qkv):
        view = experts.arranged(qkv)
        self.names, self.tasks, self.dtype = view.trained, experts.tasks, experts.dtype
        self._base, self._frozen = experts.base, frozen_weights(view)
        self._origins: list[Tensor] = []
        self._whole: dict[str, Tensor] = {}
        self._factors: dict[str, tuple[Tensor, Tensor]] = {}
        chosen = resolve(view, "blocks")
        for layer in view:
            shift = layer.total / layer.num_tasks if centred else torch.zeros_like(layer.base)
            self._origins.append(layer.base + shift)
            if is_chosen(layer.name, layer.base, chosen):
                pairs = [factors(delta - shift) for delta in layer.deltas]
                left, right = (
                    torch.cat(side, 1).to(self.dtype) for side in zip(*pairs, strict=True)
                )
                self._factors[layer.name] = left, right.mT.contiguous()
            else:
                self._whole[layer.name] = layer.deltas - shift
        self.ranks = {k: left.shape[1] // len(self.tasks) for k, (left, _) in self._factors.items()}

    def __call__(self, coefficients: Tensor, masks: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """State dict for coefficients ``[K, T]`` and masks ``[T, r]`` of decomposed matrices."""
        merged = dict(self._frozen)
        rows = coefficients.unbind(0)
        for name, origin, row in zip(self.names, self._origins, rows, strict=True):
            if (
                name in self._factors
            ):  # the components of all tasks, side by side: [m, T r] [T r, n]
                left, right = self._factors[name]
                merged[name] = origin + left * (row[:, None] * masks[name]).flatten() @ right
            else:
                merged[name] = origin + torch.tensordot(row, self._whole[name], 1)
        return named_like(merged, self._base)


def kept(logits: Tensor) -> Tensor:
    """Mask of the components with positive logits, with the gradient of sigmoid(logits / 10)."""
    soft = torch.sigmoid(logits / TEMPERATURE)
    return (logits > 0).to(soft.dtype) + (soft - soft.detach())


def learn_components(
    components: Components,
    calibration: Calibration,
    learning: Learning,
    *,
    rank: float,
    init: float,
    learn: Learn,
) -> tuple[Tensor, dict[str, Tensor], list[float]]:
    """Masks and coefficients that make the predictions of the merged model certain.

    Parameters
    ----------
    components : Components
        Merged weights as a function of both.
    calibration : Calibration
        Images of the same tasks, in the same order.
    learning : Learning
        Steps, learning rate, images of each task per step.
    rank : float
        Share of the components of each matrix that are kept at first.
    init : float
        Value that all coefficients start from.
    learn : {"both", "masks", "coefficients"}
        What is learned; the rest stays as it starts.

    Returns
    -------
    coefficients : Tensor, shape [K, T]
        One for each tensor and task.
    masks : dict of str to Tensor, shape [T, r]
        Zeros and ones: the kept components of each decomposed matrix, largest first.
    curve : list of float
        The loss before each step.
    """
    num_tasks, dtype = len(components.tasks), components.dtype
    coefficients = torch.full((len(components.names), num_tasks), init, dtype=dtype)
    logits = {}
    for name, full in components.ranks.items():
        logits[name] = torch.full((num_tasks, full), -START, dtype=dtype)
        logits[name][:, : int(rank * full)] = START
    learned = ([coefficients] if learn != "masks" else []) + (
        list(logits.values()) if learn != "coefficients" else []
    )
    for tensor in learned:
        tensor.requires_grad_()
    objective = entropy_of_all_tasks(calibration, learning)

    def loss(step: int) -> Tensor:
        masks = {name: kept(values) for name, values in logits.items()}
        return objective(components(coefficients, masks), step)

    learned = learned if components.names else []  # experts equal to the base: nothing to learn
    curve = minimise(learned, loss, learning, by_step=True, what="masks and coefficients")
    masks = {name: kept(values).detach() for name, values in logits.items()}
    return coefficients.detach(), masks, curve


def merge_chosen(
    experts: Experts,
    components: Components,
    calibration: Calibration,
    learning: Learning,
    **options: object,
) -> SharedModel:
    """Merge with the masks and coefficients that :func:`learn_components` finds."""
    coefficients, masks, _ = learn_components(components, calibration, learning, **options)
    merged = components(coefficients, masks)
    return SharedModel.build(experts, lambda layer: merged[layer.name])
