"""RegMean: least squares on the outputs of linear maps [jin2023regmean]."""

from __future__ import annotations

from typing import Annotated

from torch import Tensor

from mergebook.activations import Seen, damp, seen_inputs, solve
from mergebook.calibration import Calibration
from mergebook.registry import Range, merge_method
from mergebook.registry.types import NumImages
from mergebook.weights import Experts, Layer

OffDiagonal = Annotated[float, Range(0, 1), r"Factor on :math:`G_t` off its diagonal."]
FACTORS = (0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 1.0)


def regression(seen: Seen, off_diagonal: float) -> Tensor:
    """Merged task vector of a linear map, in the shape in which the tensor is stored."""
    moments, deltas = damp(seen.moments, off_diagonal), seen.layer.deltas.double()
    mean = deltas.mean(0)
    pull = ((deltas - mean) @ moments).sum(0)
    return seen.stored(mean + solve(moments.sum(0), pull))


def prepare_regmean(
    experts: Experts, calibration: Calibration, num_images: int, off_diagonal: float
) -> dict[str, Tensor]:
    """Merged task vectors of the linear maps; every expert sees its images through itself."""
    return {
        seen.layer.name: regression(seen, off_diagonal)
        for seen in seen_inputs(experts, calibration.first(num_images))
        if seen.kind == "linear"
    }


@merge_method(
    "regmean",
    title="RegMean",
    paper="jin2023regmean",
    family="statistics",
    prepare=prepare_regmean,
    needs=("images",),
    grid={"off_diagonal": FACTORS},
)
def regmean(
    layer: Layer,
    state: dict[str, Tensor],
    *,
    num_images: NumImages = 64,
    off_diagonal: OffDiagonal = 0.95,
) -> Tensor:
    r"""Merge each linear map so that its outputs are closest to those of the experts' maps.

    .. math:: W = \arg\min_W \sum_t E_{x \sim t} \|Wx - W_t x\|^2
        = \Big(\sum_t W_t G_t\Big)\Big(\sum_t G_t\Big)^{-1},
        \qquad G_t = E[x x^\top]

    where x runs over the tokens that enter the map when expert t sees unlabelled images of its own
    task [jin2023regmean, sec. 3]. The entries of :math:`G_t` off the diagonal are multiplied by a
    factor first. Query, key, value, output, both maps of the MLP, and the output projection are
    linear maps; everything else (convolution, embeddings, biases, norms) is averaged.

    Parameters
    ----------
    num_images : int, default 64
        Images per task, the first of the calibration; the released code takes 256.
    off_diagonal : float, default 0.95
        Factor on the entries of :math:`G_t` off its diagonal: 1 is the least-squares solution, 0
        weighs each input dimension for itself. FusionBench's default for CLIP is 0.95; the paper
        chooses by model.

    Notes
    -----
    Our reading where :math:`\sum_t G_t` is singular: the solution that is nearest to the average of
    the experts. It is computed as the average plus the pseudo-inverse's solution for the rest, with
    eigenvalues below 1e-8 of the largest counted as zero. The released code inverts in float32,
    which fails or yields noise without the factor.

    As in the released code, :math:`G_t` is a mean over tokens, so that tasks count alike however
    many images they have. Query, key and value share their inputs: one stacked matrix or three
    give the same result. FusionBench's tower has no output projection; ours merges `proj`, too,
    from the class tokens alone.

    The tables of the AdaMerging line and of FusionBench report RegMean ten points apart (71.8 and
    82.4 on ViT-B/32), on different checkpoints: do not mix them.
    """
    mean = layer.total / layer.num_tasks
    return layer.base + state.get(layer.name, mean)
