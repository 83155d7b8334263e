"""RegMean [jin2023regmean] and RegMean++ [nguyen2025regmeanpp]: least squares on outputs."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor

from mergebook.activations import Seen, seen_inputs, solve
from mergebook.calibration import Calibration
from mergebook.registry import Range, merge_method
from mergebook.weights import Experts, Layer

FACTORS = (0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 1.0)


def damp(moments: Tensor, off_diagonal: float) -> Tensor:
    """Moments ``[..., d, d]`` with all entries off the diagonal multiplied by a factor."""
    diagonal = torch.diagonal(moments, dim1=-2, dim2=-1)
    return off_diagonal * moments + (1 - off_diagonal) * torch.diag_embed(diagonal)


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


def prepare_regmean_pp(
    experts: Experts, calibration: Calibration, num_images: int, off_diagonal: float
) -> dict[str, Tensor]:
    """The same block by block: what enters a block comes from the merged blocks before it."""
    merged = {key: experts.base[key].to(experts.dtype) for key in experts.base}
    merged |= {layer.name: layer.base + layer.total / layer.num_tasks for layer in experts}
    vectors = {}
    for seen in seen_inputs(experts, calibration.first(num_images), merged):
        if seen.kind == "linear":
            name = seen.layer.name
            vectors[name] = regression(seen, off_diagonal)
            merged[name] = experts.base[name].to(experts.dtype) + vectors[name]
    return vectors


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
    num_images: Annotated[int, Range(1)] = 64,
    off_diagonal: Annotated[float, Range(0, 1)] = 0.95,
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
    layer : Layer
        Base ``[*s]`` and task vectors ``[T, *s]``.
    state : dict of str to Tensor
        Merged task vectors of the linear maps.
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


@merge_method(
    "regmean_pp",
    title="RegMean++",
    paper="nguyen2025regmeanpp",
    family="statistics",
    prepare=prepare_regmean_pp,
    needs=("images",),
    grid={"off_diagonal": FACTORS},
)
def regmean_pp(
    layer: Layer,
    state: dict[str, Tensor],
    *,
    num_images: Annotated[int, Range(1)] = 64,
    off_diagonal: Annotated[float, Range(0, 1)] = 0.95,
) -> Tensor:
    r"""RegMean on what the merged model itself will feed to each block.

    As ``regmean``, but the tokens that enter block :math:`\ell` are the outputs of the merged
    blocks before it, for the images of every task. Within the block each expert's own maps carry
    them on. Blocks are merged one after the other, embedding first (averaged), output projection
    last [nguyen2025regmeanpp].

    Parameters
    ----------
    layer : Layer
        Base ``[*s]`` and task vectors ``[T, *s]``.
    state : dict of str to Tensor
        Merged task vectors of the linear maps.
    num_images : int, default 64
        Images per task, the first of the calibration; the released code takes 256.
    off_diagonal : float, default 0.95
        As for ``regmean``.

    Notes
    -----
    Singular sums of moments are treated as in ``regmean``. The released code merges the encoder's
    blocks and leaves the final norm at the base; here norms are averaged, and the output
    projection, which Hugging Face's tower lacks, is merged on the merged model's class tokens.
    """
    mean = layer.total / layer.num_tasks
    return layer.base + state.get(layer.name, mean)
