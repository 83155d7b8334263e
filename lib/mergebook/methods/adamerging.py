"""AdaMerging: coefficients that make predictions certain [yang2024adamerging]."""

from __future__ import annotations

from mergebook.calibration import Calibration
from mergebook.learning import Combination
from mergebook.learning.coefficients import INITS, Clamp, Init, merge_learned
from mergebook.merged import SharedModel
from mergebook.registry import Learning, model_method
from mergebook.weights import Experts


@model_method(
    "adamerging_task",
    title="AdaMerging, per task",
    paper="yang2024adamerging",
    family="adapted",
    needs=("images",),
    grid={"init": INITS},
)
def adamerging_task(
    experts: Experts,
    calibration: Calibration,
    *,
    init: Init = 0.3,
    clamp: Clamp = "unit",
    learning: Learning = Learning(steps=30, lr=3e-3, batches=2),
) -> SharedModel:
    r"""Task arithmetic with one coefficient per task, learned on unlabelled images.

    :math:`\theta = \theta_0 + \sum_t \lambda_t \tau_t` with the T coefficients that minimise the
    entropy of the predictions, see :data:`adamerging_layer`. All task vectors are held in memory.

    Parameters
    ----------
    steps : int, default 30
        Steps of Adam; 500 in the paper.
    lr : float, default 0.003
        Learning rate; 0.001 in the paper, which takes more steps.
    """
    options = {"layerwise": False, "init": init, "clamp": clamp}
    return merge_learned(experts, Combination(experts), calibration, learning, **options)


@model_method(
    "adamerging_layer",
    title="AdaMerging, per layer",
    paper="yang2024adamerging",
    family="adapted",
    needs=("images",),
    grid={"init": INITS},
)
def adamerging_layer(
    experts: Experts,
    calibration: Calibration,
    *,
    init: Init = 0.3,
    clamp: Clamp = "unit",
    learning: Learning = Learning(steps=30, lr=3e-2, batches=2),
) -> SharedModel:
    r"""Task arithmetic with one coefficient per task and tensor, learned on unlabelled images.

    .. math:: \theta^l = \theta_0^l + \sum_t \lambda_t^l \tau_t^l, \qquad
        \min_\lambda \sum_t \sum_{\text{batches}} \frac1B \sum_{x \in B_t} H(p_\theta(y \mid x))

    with the entropy :math:`H(p) = -\sum_c p_c \log p_c` of the prediction under the task's frozen
    zero-shot head. All tasks count in each step of Adam [yang2024adamerging]. All task vectors are
    held in memory.

    Parameters
    ----------
    steps : int, default 30
        Steps of Adam; 500 in the paper.
    lr : float, default 0.03
        Learning rate; 0.001 in the paper, which takes more steps.

    Notes
    -----
    Released code takes "layer" as one tensor of the state dict, here as well; it stores query, key
    and value as one. It also counts six tensors of the text tower, which never get a gradient.
    FusionBench works on Hugging Face checkpoints, where query, key and value have a coefficient
    each, leaves the output projection out, takes one batch per task and step (``batches=1``) for
    1000 steps, does not clamp (``clamp="none"``), and adds 1e-8 inside the logarithm.

    Papers adapt on the unlabelled test images; here the images come from another split by default
    (:meth:`mergebook.Benchmark.calibration`).
    """
    options = {"layerwise": True, "init": init, "clamp": clamp}
    return merge_learned(experts, Combination(experts), calibration, learning, **options)
