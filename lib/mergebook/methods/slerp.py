"""Spherical linear interpolation between experts."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from torch import Tensor

from mergebook.methods.model_stock import Over, gram
from mergebook.registry import Range, merge_method
from mergebook.weights import Experts, Layer, sum_tasks

Of = Literal["weights", "task_vectors"]
COLINEAR = 0.9995  # |cosine| above which directions count as one, as in mergekit


def shares(products: Tensor, t: float) -> Tensor:
    """Coefficients ``[T]`` of the vectors with these inner products ``[T, T]``, see :data:`slerp`.

    The vectors enter by their inner products only, so that the whole model needs one pass.
    """
    merged = torch.zeros(len(products), dtype=torch.float64)
    merged[0] = 1
    for k in range(1, len(products)):
        step = t / (t + (1 - t) * k)
        lengths = math.sqrt(max(0.0, float(merged @ products @ merged) * float(products[k, k])))
        cosine = float(merged @ products[k]) / lengths if lengths else 1.0
        first, second = 1 - step, step
        if abs(cosine) <= COLINEAR:
            angle = math.acos(cosine)
            first, second = (math.sin(x * angle) / math.sin(angle) for x in (first, second))
        merged *= first
        merged[k] = second
    return merged


def vectors(layer: Layer, of: Of) -> Tensor:
    """What is interpolated, ``[T, *s]``."""
    return layer.deltas if of == "task_vectors" else layer.base + layer.deltas


def prepare_slerp(experts: Experts, t: float, of: Of, over: Over) -> Tensor | None:
    """Coefficients ``[T]`` for the whole model; None if each tensor has its own."""
    if over == "tensor":
        return None
    products = torch.zeros(len(experts.tasks), len(experts.tasks), dtype=torch.float64)
    for layer in experts:
        products += gram(vectors(layer, of)).cpu()
    return shares(products, t)


@merge_method(
    "slerp",
    title="SLERP",
    paper=None,
    status="common knowledge",
    prepare=prepare_slerp,
    symmetric=False,
    grid={"t": (0.4, 0.5, 0.6, 0.7, 0.8)},
)
def slerp(
    layer: Layer,
    state: Tensor | None,
    *,
    t: Annotated[float, Range(0, 1)] = 0.5,
    of: Of = "weights",
    over: Over = "tensor",
) -> Tensor:
    r"""Interpolate between the experts along arcs instead of straight lines.

    Two vectors with the angle :math:`\Omega` between them:

    .. math::

        \mathrm{slerp}(v_1, v_2; t) = \frac{\sin((1 - t)\Omega)}{\sin\Omega}\, v_1
        + \frac{\sin(t\,\Omega)}{\sin\Omega}\, v_2,

    or :math:`(1 - t) v_1 + t v_2` where the cosine of the angle exceeds 0.9995 in magnitude, or a
    vector is zero. More experts are taken in one after the other, in their given order: the
    (k + 1)-th at :math:`t_k = t / (t + (1 - t) k)` into the result for the first k. On straight
    lines t = 1/2 would be the average of all; a smaller t favours the earlier ones; t = 0 is the
    first expert, t = 1 the last.

    Parameters
    ----------
    t : float, default 0.5
        Place on the arc, 0 to 1.
    of : {"weights", "task_vectors"}, default "weights"
        What is interpolated. Weights of experts of one base are nearly colinear, so that the
        result is nearly their average; task vectors are nearly orthogonal and keep their length.
    over : {"tensor", "vector"}, default "tensor"
        Angles of each tensor, or of all trained tensors together.

    Notes
    -----
    mergekit interpolates between the weights of exactly two models, tensor by tensor, with the
    same threshold (0.9995); a zero tensor has the angle of 90 degrees there. It has another
    method for more models at once. Interpolation of several experts by turns depends on their
    order; the order and the t_k are our choice.
    """
    rows = vectors(layer, of)
    coefficients = shares(gram(rows).cpu(), t) if state is None else state
    merged = sum_tasks(rows * layer.per_task(coefficients))
    return layer.base + merged if of == "task_vectors" else merged
