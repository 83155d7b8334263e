"""TALL masks: where in a merged vector does each task live [wang2024localizing]."""

from __future__ import annotations

from typing import Annotated

from torch import Tensor

from mergebook.merged import MaskedModel
from mergebook.methods.consensus import tall_mask
from mergebook.methods.ties import prepare_ties, ties_vector
from mergebook.registry import model_method
from mergebook.registry.types import Density, Keep, Threshold
from mergebook.weights import Experts, Layer

Strict = Annotated[
    bool,
    "``>`` as in the released code, or ``>=`` as in the paper's formula; they differ where both "
    "sides are equal, in practice where no task changed a weight.",
]

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
    threshold: Threshold = 0.4,
    strict: Strict = True,
) -> MaskedModel:
    r"""One mask per task over the sum of the task vectors.

    :math:`\hat\theta_t = \theta_0 + m_t \odot \tau_{MTL}` with :math:`\tau_{MTL} = \sum_t \tau_t`
    and :math:`m_t = 1\{|\tau_t| > \lambda_t |\tau_{MTL} - \tau_t|\}` [wang2024localizing, sec. 4].
    At threshold 1 the mask minimises :math:`\|\hat\theta_t - \theta_t\|_1` over all binary masks;
    a larger threshold makes it sparser. The paper's formula has :math:`\ge`, see `strict`.

    Storage b(2P' + F) + T P' bits, with b bits a weight, P' weights that fine-tuning changes and F
    that it does not.
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
    threshold: Threshold = 0.4,
    density: Density = 0.2,
    keep: Keep = "k+1",
    strict: Strict = True,
) -> MaskedModel:
    r"""One mask per task over the TIES vector (disjoint sum, scale 1).

    As :func:`tall_ta` with :math:`\tau_{MTL}` from TIES; the :math:`\tau_t` that it is compared
    with are not trimmed. Where TIES left nothing, every task that changed the weight uses it (for
    thresholds below 1). Storage b(2P' + F) + T P' bits.
    """
    state = prepare_ties(experts, density, keep)

    def localise(layer: Layer) -> tuple[Tensor, Tensor]:
        vector = ties_vector(layer, state, "sum")
        return vector, tall_mask(layer, vector, threshold, strict=strict)

    return MaskedModel.build(experts, localise)
