"""CART with AdaRank: choose components of centred task vectors [lee2026adarank]."""

from __future__ import annotations

from typing import Annotated

from mergebook.calibration import Calibration
from mergebook.learning.components import Components, Learn, merge_chosen
from mergebook.merged import SharedModel
from mergebook.methods.cart_adamerging import CENTRED_INITS
from mergebook.registry import Learning, Range, model_method
from mergebook.registry.types import Qkv, Rank
from mergebook.weights import Experts


@model_method(
    "cart_adarank",
    title="CART + AdaRank",
    paper="lee2026adarank",
    family="adapted",
    needs=("images",),
    grid={"init": CENTRED_INITS},
)
def cart_adarank(
    experts: Experts,
    calibration: Calibration,
    *,
    rank: Rank = 0.16,
    init: Annotated[float, Range(0, 10)] = 2.0,
    learn: Learn = "both",
    qkv: Qkv = "fused",
    learning: Learning = Learning(steps=60, lr=3e-3),
) -> SharedModel:
    r"""AdaRank around the average: learned masks on the components of centred task vectors.

    As :data:`mergebook.methods.adarank.adarank` with
    :math:`\theta_{avg} = \frac1T \sum_t \theta_t` in place of :math:`\theta_0` and the singular
    components of :math:`\theta_t - \theta_{avg}`. Without a step it is
    :data:`mergebook.methods.cart.cart` (but for its rank, which is at least one component).

    Parameters
    ----------
    rank : float, default 0.16
        Share of the components that are kept at first, the largest. Released for ViT-B/32: 0.16
        for 8 tasks, 0.32 for 14 and 20.
    init : float, default 2.0
        Value that all coefficients start from. Released for ViT-B/32: 2.3, 2.8 and 2.4 for 8, 14
        and 20 tasks.
    steps : int, default 60
        Steps of Adam; 10 000 in the paper.
    lr : float, default 0.003
        Learning rate; 0.001 in the paper, which takes more steps.
    """
    options = {"rank": rank, "init": init, "learn": learn}
    components = Components(experts, centred=True, qkv=qkv)
    return merge_chosen(experts, components, calibration, learning, **options)
