"""LOT Merging: layer-wise optimal task vectors [sun2025lot]."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor

from mergebook.activations import seen_inputs, solve
from mergebook.calibration import Calibration
from mergebook.registry import Range, merge_method
from mergebook.registry.types import NumImages
from mergebook.weights import Experts, Layer


def prepare_lot(experts: Experts, calibration: Calibration, num_images: int) -> dict[str, Tensor]:
    """Optimal task vectors of matrices and scales, before their coefficient."""
    vectors = {}
    for seen in seen_inputs(experts, calibration.first(num_images)):
        deltas, moments = seen.layer.deltas.double(), seen.moments
        total = moments.sum(0)
        if seen.kind == "scale":
            mean = deltas.mean(0)
            vector = torch.where(total > 0, (moments * deltas).sum(0) / total, mean)
        else:
            vector = solve(total, (deltas @ moments).sum(0))
        vectors[seen.layer.name] = seen.stored(vector)
    return vectors


@merge_method(
    "lot",
    title="LOT Merging",
    paper="sun2025lot",
    family="statistics",
    prepare=prepare_lot,
    needs=("images",),
    grid={"scale": (0.6, 0.8, 1.0, 1.2, 1.4, 1.6, 1.8, 2.0)},
)
def lot(
    layer: Layer,
    state: dict[str, Tensor],
    *,
    scale: Annotated[float, Range(0, 5)] = 1.2,
    num_images: NumImages = 64,
) -> Tensor:
    r"""Merge task vectors so that features drift least, layer by layer, in closed form.

    .. math:: \theta = \theta_0 + \lambda T^\star, \qquad T^\star = \begin{cases}
        \big(\sum_t T_t G_t\big)\big(\sum_t G_t\big)^{+} & \text{of matrices, } G_t = E[xx^\top] \\
        \sum_t E[x^2]\, T_t \,/ \sum_t E[x^2] & \text{of scales of norms, by entry} \\
        \frac1T \sum_t T_t & \text{of all else (biases, shifts, embeddings)} \end{cases}

    The inputs x are those of expert t on unlabelled images of its task: tokens; patches for the
    convolution, which counts as a matrix; normalised tokens for the scale of a norm
    [sun2025lot, eqs. 9 and 12]. The pseudo-inverse leaves a direction that no image has at zero.

    Parameters
    ----------
    scale : float, default 1.2
        The coefficient :math:`\lambda`; the paper's 1.2 is for ViT-B/32, 1.5 for ViT-L/14.
    num_images : int, default 64
        Images per task, the first of the calibration; 64 as in the paper, which finds the result
        flat from 16 on.

    Notes
    -----
    This is RegMean without damping, on task vectors in place of weights, so that what no image has
    stays at the base and not at the average; with inputs of full rank and :math:`\lambda = 1` both
    give the same matrices.

    Our reading of a text whose equations are restored from its prose and from a port: the port
    solves with a float32 pseudo-inverse, which drops eigenvalues below about 1e-4 of the largest;
    here it is 1e-8. On the mini suite, 1e-10 to 1e-3 change the accuracy by 0.2 points. Moments are
    means, not sums, over tokens: the same where all tasks have equally many images. Query, key and
    value share their inputs, so that one stacked matrix gives what three give. The final norm sees
    only the class token. The paper averages the results of three random sets of images.
    """
    mean = layer.total / layer.num_tasks
    return layer.base + scale * state.get(layer.name, mean)
