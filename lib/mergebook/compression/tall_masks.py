"""TALL masks: where in a merged vector does each task live [wang2024localizing]."""

from __future__ import annotations

from typing import Annotated

from torch import Tensor

from mergebook.merged import MaskedModel
from mergebook.methods.consensus import tall_mask
from mergebook.methods.ties import prepare_ties, ties_vector
from mergebook.registry import PerTask, Range, model_method
from mergebook.weights import Experts, Layer
from mergebook.weights.select import Keep

# The search of the paper's code, per task.
THRESHOLDS = (0.2, 0.3, 0.4, 0.5, 0.6)


@model_method(
    "tall_ta",
    title="TALL Mask + TA",
    paper="wang2024localizing",
    family="compression",
    grid={"threshold": THRESHOLDS},
)
def tall_ta(
    experts: Experts,
    *,
    threshold: Annotated[PerTask, Range(0, 10)] = 0.4,
    strict: bool = True,
) -> MaskedModel:
    r"""One mask per task over the sum of the task vectors.

    :math:`\hat\theta_t = \theta_0 + m_t \odot \tau_{MTL}` with :math:`\tau_{MTL} = \sum_t \tau_t`
    and :math:`m_t = 1\{|\tau_t| > \lambda_t |\tau_{MTL} - \tau_t|\}` [wang2024localizing, sec. 4].
    At threshold 1 the mask minimises :math:`\|\hat\theta_t - \theta_t\|_1` over all binary masks;
    a larger threshold makes it sparser. Storage b(2P' + F) + T P' bits.

    Parameters
    ----------
    experts : Experts
        Base and experts.
    threshold : float or mapping of task to float, default 0.4
        The thresholds :math:`\lambda_t`, chosen for each task on its validation split.
    strict : bool, default True
        ``>`` as in the released code, or ``>=`` as in the paper's formula; they differ where both
        sides are equal, in practice where no task changed a weight.
    """

    def localise(layer: Layer) -> tuple[Tensor, Tensor]:
        return layer.total, tall_mask(layer, layer.total, threshold, strict=strict)

    return MaskedModel.build(experts, localise)


@model_method(
    "tall_ties",
    title="TALL Mask + TIES",
    paper="wang2024localizing",
    family="compression",
    grid={"threshold": THRESHOLDS},
)
def tall_ties(
    experts: Experts,
    *,
    threshold: Annotated[PerTask, Range(0, 10)] = 0.4,
    density: Annotated[float, Range(0, 1)] = 0.2,
    keep: Keep = "k+1",
    strict: bool = True,
) -> MaskedModel:
    r"""One mask per task over the TIES vector (disjoint sum, scale 1).

    As :func:`tall_ta` with :math:`\tau_{MTL}` from TIES; the :math:`\tau_t` that it is compared
    with are not trimmed. Where TIES left nothing, every task that changed the weight uses it (for
    thresholds below 1). Storage b(2P' + F) + T P' bits.

    Parameters
    ----------
    experts : Experts
        Base and experts.
    threshold : float or mapping of task to float, default 0.4
        The thresholds :math:`\lambda_t`, chosen for each task on its validation split.
    density : float, default 0.2
        Kept share of the trimming, see :data:`mergebook.methods.ties.ties`.
    keep : {"k+1", "k"}, default "k+1"
        Rule of the trimming, see :data:`mergebook.methods.ties.ties`.
    strict : bool, default True
        ``>`` as in the released code, or ``>=`` as in the paper's formula.
    """
    state = prepare_ties(experts, density, keep)

    def localise(layer: Layer) -> tuple[Tensor, Tensor]:
        vector = ties_vector(layer, state, "sum")
        return vector, tall_mask(layer, vector, threshold, strict=strict)

    return MaskedModel.build(experts, localise)
