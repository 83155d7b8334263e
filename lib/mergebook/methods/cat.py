"""CAT Merging: conflict-aware trimming of task vectors [sun2025cat]."""

from __future__ import annotations

from typing import Annotated

from torch import Tensor

from mergebook.activations import seen_inputs
from mergebook.activations.conflicts import (
    conflict_basis,
    conflict_scores,
    masking,
    projecting,
    trimmed_sum,
)
from mergebook.calibration import Calibration
from mergebook.registry import Range, merge_method
from mergebook.registry.types import NumImages, Scale
from mergebook.weights import Experts, Layer


def prepare_cat(
    experts: Experts,
    calibration: Calibration,
    num_images: int,
    rank: float,
    trade_off: float,
    trim_scales: float,
    trim_shifts: float,
    rescale: bool,
) -> dict[str, Tensor]:
    """Sums of the trimmed task vectors of linear maps, scales and shifts."""
    vectors = {}
    for seen in seen_inputs(experts, calibration.first(num_images)):
        deltas = seen.layer.deltas.double()
        if seen.kind == "linear":
            bases = [conflict_basis(deltas, seen, t, rank, trade_off) for t in range(len(deltas))]
            vector = trimmed_sum(deltas, projecting(bases), rescale)
        elif seen.kind == "scale":
            scores = [conflict_scores(deltas, seen, t, trade_off) for t in range(len(deltas))]
            vector = trimmed_sum(deltas, masking(scores, trim_scales), rescale)
        else:
            continue
        vectors[seen.layer.name] = seen.stored(vector)
    for layer in experts:
        if layer.ndim == 1 and layer.name not in vectors:
            deltas = layer.deltas.double()
            squares = deltas.square()
            scores = list(squares.sum(0) - squares)
            vector = trimmed_sum(deltas, masking(scores, trim_shifts), rescale=False)
            vectors[layer.name] = vector.to(layer.deltas.dtype)
    return vectors


@merge_method(
    "cat",
    title="CAT Merging",
    paper="sun2025cat",
    family="statistics",
    prepare=prepare_cat,
    symmetric=False,
    needs=("images",),
    qkv="split",
    grid={"rank": (0.02, 0.05, 0.1), "scale": (0.3, 0.4, 0.5)},
)
def cat(
    layer: Layer,
    state: dict[str, Tensor],
    *,
    scale: Scale = 0.4,
    rank: Annotated[float, Range(0, 1)] = 0.02,
    trade_off: Annotated[float, Range(0)] = 1.0,
    trim_scales: Annotated[float, Range(0, 1)] = 0.02,
    trim_shifts: Annotated[float, Range(0, 1)] = 0.02,
    rescale: bool = True,
    num_images: NumImages = 8,
) -> Tensor:
    r"""Take from each task vector what disturbs the other tasks, then add up.

    For every protected task i in turn, from the task vectors of all others, with
    :math:`G_t = E[xx^\top]` of the inputs of expert t on a few unlabelled images of its task:

    - linear maps :math:`T_j`: project out the leading eigenvectors :math:`B_i`, with positive
      eigenvalue, of :math:`\sum_{j \ne i} T_j (G_i - \lambda G_j) T_j^\top`:
      :math:`T_j \leftarrow T_j - B_i B_i^\top T_j`;
    - scales of norms: set to zero the dimensions d with the largest
      :math:`\sum_{j \ne i} (E_i[x_d^2] - \lambda E_j[x_d^2])\, T_j[d]^2`;
    - shifts (biases, class token): the same with :math:`\sum_{j \ne i} T_j[d]^2`.

    Bases and scores are those of the task vectors before any trimming. Then
    :math:`\theta = \theta_0 + \alpha \sum_t \hat T_t`; convolution and positional embedding are not
    trimmed [sun2025cat].

    Parameters
    ----------
    rank : float, default 0.02
        Eigenvectors removed for each protected task, as a share of the number of outputs (rounded
        down).
    trade_off : float, default 1.0
        The weight :math:`\lambda` of what trimming costs the trimmed task itself.
    trim_scales, trim_shifts : float, default 0.02
        Entries of each scale and each shift removed per protected task, as a share (rounded down).
    rescale : bool, default True
        Whether a trimmed map or scale gets its norm back after each step.
    num_images : int, default 8
        Images per task, the first of the calibration; the paper says that two or three are enough.

    Notes
    -----
    Projections do not commute: the result depends, slightly, on the order of the tasks.

    Our reading: the values of :math:`\alpha, \lambda` and of the numbers of directions are not
    known to us; the defaults were chosen on the mini suite's validation images. A port that says it
    mirrors the authors' code takes the inputs of :math:`\theta_0 + \alpha\tau_t`, not of the
    expert; restores norms after each step, which the published formula does not show
    (``rescale``); takes eigenvectors from the small end of the spectrum if their number is fixed;
    scores shifts by the protected task's own squared entries; and leaves a vector alone that would
    vanish altogether, which here becomes zero. Scores that are not positive are no conflict and
    are never trimmed here. Query, key and value are separate maps by default.
    """
    return layer.base + scale * state.get(layer.name, layer.total)
