"""AdaRank: choose singular components by minimising entropy [lee2026adarank]."""

from __future__ import annotations

from typing import Annotated

from mergebook.calibration import Calibration
from mergebook.learning.coefficients import INITS
from mergebook.learning.components import Components, Learn, merge_chosen
from mergebook.merged import SharedModel
from mergebook.registry import Learning, Range, model_method
from mergebook.registry.types import Qkv, Rank
from mergebook.weights import Experts


@model_method(
    "adarank",
    title="AdaRank",
    paper="lee2026adarank",
    family="adapted",
    needs=("images",),
    grid={"init": INITS},
)
def adarank(
    experts: Experts,
    calibration: Calibration,
    *,
    rank: Rank = 1.0,
    init: Annotated[float, Range(0, 10)] = 0.3,
    learn: Learn = "both",
    qkv: Qkv = "fused",
    learning: Learning = Learning(steps=60, lr=3e-3),
) -> SharedModel:
    r"""Task arithmetic with learned masks on the singular components of the task vectors.

    With :math:`\tau_t^l = U_t^l \Sigma_t^l V_t^{l\top}` for the matrices of attention and MLPs,

    .. math:: \theta^l = \theta_0^l
        + \sum_t \lambda_t^l\, U_t^l \big(\mathrm{diag}(B_t^l)\, \Sigma_t^l\big) V_t^{l\top}, \qquad
        \min_{B, \lambda} \sum_t \frac1B \sum_{x \in B_t} H(p_\theta(y \mid x)),

    over masks :math:`B_t^l \in \{0, 1\}^r` and one coefficient per task and tensor, also for
    tensors that are not decomposed. A mask entry is 1 if its logit b is positive; the gradient is
    that of :math:`\mathrm{sigmoid}(b / 10)` (straight-through). H is the entropy of the prediction
    under the task's frozen zero-shot head [lee2026adarank]. Singular vectors of all task vectors
    are held in memory.

    Parameters
    ----------
    rank : float, default 1.0
        Share of the components that are kept at first, the largest: floor(rank * r) of r.
    init : float, default 0.3
        Value that all :math:`\lambda_t^l` start from.
    steps : int, default 60
        Steps of Adam; 10 000 in the paper.
    lr : float, default 0.003
        Learning rate; 0.001 in the paper, which takes more steps.

    Notes
    -----
    Matrices are those of :data:`mergebook.methods.cart.cart` under "blocks". The released code
    decomposes in float32, and has a soft mask and limits on the coefficients that its
    configurations leave off. It starts task arithmetic at 0.05 for 20 tasks (ViT-B/32), takes
    smaller batches for ViT-L/14, evaluates on the test split along the way, and remembers the best
    result; here the last step counts.

    Papers adapt on the unlabelled test images; here the images come from another split by default
    (:meth:`mergebook.Benchmark.calibration`).
    """
    options = {"rank": rank, "init": init, "learn": learn}
    components = Components(experts, centred=False, qkv=qkv)
    return merge_chosen(experts, components, calibration, learning, **options)
