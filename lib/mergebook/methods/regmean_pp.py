"""RegMean++: RegMean on what the merged model feeds to each block [nguyen2025regmeanpp]."""

from __future__ import annotations

from torch import Tensor

from mergebook.activations import seen_inputs
from mergebook.calibration import Calibration
from mergebook.methods.regmean import FACTORS, OffDiagonal, regression
from mergebook.registry import merge_method
from mergebook.registry.types import NumImages
from mergebook.weights import Experts, Layer


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
    num_images: NumImages = 64,
    off_diagonal: OffDiagonal = 0.95,
) -> Tensor:
    r"""RegMean on what the merged model itself will feed to each block.

    As ``regmean``, but the tokens that enter block :math:`\ell` are the outputs of the merged
    blocks before it, for the images of every task. Within the block each expert's own maps carry
    them on. Blocks are merged one after the other, embedding first (averaged), output projection
    last [nguyen2025regmeanpp].

    Parameters
    ----------
    num_images : int, default 64
        Images per task, the first of the calibration; the released code takes 256.

    Notes
    -----
    Singular sums of moments are treated as in ``regmean``. The released code merges the encoder's
    blocks and leaves the final norm at the base; here norms are averaged, and the output
    projection, which Hugging Face's tower lacks, is merged on the merged model's class tokens.
    """
    mean = layer.total / layer.num_tasks
    return layer.base + state.get(layer.name, mean)
