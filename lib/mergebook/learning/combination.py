"""Merged weights as a function of coefficients that can be learned."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from mergebook.weights import Experts, Layer
from mergebook.weights.qkv import Qkv, named_like

Parts = Callable[[Layer], tuple[Tensor, Tensor]]


class Combination:
    """Merged weights as a differentiable function of one coefficient per tensor and task.

    ``origin + sum_t coefficient[t] * vector[t]`` for each tensor. Origins and vectors of all
    tensors are held in memory, (T + 1) P' numbers: every step of learning needs all of them.

    Parameters
    ----------
    experts : Experts
        Base and experts.
    parts : callable, optional
        Maps a layer to its origin ``[*s]`` and vectors ``[T, *s]``; by default the base and the
        task vectors.
    qkv : {"fused", "split"}, optional
        How the layers show query, key and value, see :mod:`mergebook.weights.qkv`; by default as
        they are stored.

    Attributes
    ----------
    names : tuple of str
        The K tensors that are merged, so arranged.
    tasks : tuple of str
        The T tasks.
    dtype : torch.dtype
        Type of the arithmetic.
    """

    def __init__(
        self,
        experts: Experts,
        parts: Parts = lambda layer: (layer.base, layer.deltas),
        qkv: Qkv | None = None,
    ):
        view = experts.arranged(qkv) if qkv else experts
        self.names, self.tasks, self.dtype = view.trained, experts.tasks, experts.dtype
        self._base = experts.base
        self._frozen = frozen_weights(view)
        self._parts = [parts(layer) for layer in view]

    def __call__(self, coefficients: Tensor) -> dict[str, Tensor]:
        """State dict, in the type of the arithmetic, for coefficients ``[K, T]``."""
        merged = dict(self._frozen)
        rows = coefficients.unbind(0)
        for name, (origin, vectors), row in zip(self.names, self._parts, rows, strict=True):
            merged[name] = origin + torch.tensordot(row, vectors, 1)
        return named_like(merged, self._base)


def frozen_weights(experts: Experts) -> dict[str, Tensor]:
    """Tensors of the base that no expert changed, in the type of the arithmetic."""
    trained = set(experts.trained)
    return {key: experts.base[key].to(experts.dtype) for key in experts.base if key not in trained}
