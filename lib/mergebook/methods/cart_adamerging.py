"""CART with learned coefficients: AdaMerging around the average [choi2024cart]."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from torch import Tensor

from mergebook.calibration import Calibration
from mergebook.learning import Combination
from mergebook.learning.coefficients import merge_learned
from mergebook.merged import SharedModel
from mergebook.methods.cart import centred, decompose
from mergebook.registry import Learning, Range, model_method
from mergebook.registry.types import Qkv, Rank
from mergebook.weights import Experts, Layer

CENTRED_INITS = (1.0, 2.0)  # fewer tasks bear more


@model_method(
    "cart_adamerging",
    title="CART + AdaMerging",
    paper="choi2024cart",
    family="adapted",
    status="our reading",
    needs=("images",),
    grid={"init": CENTRED_INITS},
)
def cart_adamerging(
    experts: Experts,
    calibration: Calibration,
    *,
    rank: Rank = 0.16,
    init: Annotated[float, Range(0, 10)] = 2.0,
    clamp: Literal["none", "unit", "extended"] = "none",
    qkv: Qkv = "fused",
    learning: Learning = Learning(steps=60, lr=3e-2),
) -> SharedModel:
    r"""CART with one coefficient per task and tensor, learned on unlabelled images.

    .. math:: \theta^l = \theta_{avg}^l
        + \sum_t \lambda_t^l\, \mathrm{SVD}_k(\theta_t^l - \theta_{avg}^l)

    with the coefficients that minimise the entropy of the predictions, as in
    :data:`mergebook.methods.adamerging.adamerging_layer`. Which tensors are truncated and to what
    rank is the rule of :data:`mergebook.methods.cart.cart`; the others have whole centred vectors,
    and coefficients as well. Without a step it is CART at scale `init`. All truncated vectors are
    held in memory.

    Parameters
    ----------
    init : float, default 2.0
        Value that all :math:`\lambda_t^l` start from.
    clamp : {"none", "unit", "extended"}, default "none"
        Whether coefficients are free, or held within [0, 1] or [-0.5, 2].
    steps : int, default 60
        Steps of Adam; 10 000 in the configurations of the released code.
    lr : float, default 0.03
        Learning rate; 0.001 there, with more steps.

    Notes
    -----
    Our reading: the code of this variant is not released. Steps, batches and optimiser come from
    configuration fields left over in the CART repository and from AdaRank's runner. A field there
    asks for clamping, to [0, 1] or to an extended [-0.5, 2]; as most of the released starting
    values lie above 1, the default here does not clamp.

    The paper adapts on the unlabelled test images and the runner remembers the best of several
    evaluations on the test split. Here the images come from another split by default
    (:meth:`mergebook.Benchmark.calibration`) and the last step counts.
    """

    def parts(layer: Layer) -> tuple[Tensor, Tensor]:
        centre = layer.total / layer.num_tasks
        vectors = torch.stack(list(centred(layer, centre, matrices, rank)))
        return layer.base + centre, vectors

    matrices = decompose(experts, "blocks")
    combination = Combination(experts, parts, qkv)
    options = {"layerwise": True, "init": init, "clamp": clamp}
    return merge_learned(experts, combination, calibration, learning, **options)
