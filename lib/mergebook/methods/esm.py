"""ESM: merging in the essential subspace [li2026esm]."""

from __future__ import annotations

import re
from typing import Annotated, Literal

import torch
from torch import Tensor

from mergebook.activations import SEEN, Seen, seen_inputs
from mergebook.calibration import Calibration
from mergebook.methods.tsv import tsv_vector
from mergebook.registry import Range, merge_method
from mergebook.registry.types import NumImages
from mergebook.weights import Experts, Layer
from mergebook.weights.spectral import triplets

Variant = Literal["paper", "released"]
EIGENVALUE_POWER = 0.15  # of the released code: how much a direction's energy counts


def prepare_esm(
    experts: Experts, calibration: Calibration, num_images: int, variant: Variant, polarise: bool
) -> dict[str, Tensor]:
    """Merged task vectors of the linear maps, scaled by layer, before their coefficient."""
    vectors = {}
    for seen in seen_inputs(experts, calibration.first(num_images)):
        name = seen.layer.name
        inner = calibration.tower.role(name) in ("query_key_value", "mlp")
        if seen.kind == "linear" and (variant == "paper" or inner):
            vectors[name] = seen.stored(_essential(seen, variant, polarise))
        elif seen.kind == "linear":
            vectors[name] = tsv_vector(experts.layer(name))
    if polarise:
        types: dict[str, list[str]] = {}
        for name in vectors:
            types.setdefault(re.sub(r"\d+", "*", name), []).append(name)
        for names in types.values():
            factors = _polarised(torch.stack([vectors[name].norm() for name in names]))
            vectors |= {n: f * vectors[n] for n, f in zip(names, factors, strict=True)}
    return vectors


def _essential(seen: Seen, variant: Variant, polarise: bool) -> Tensor:
    """Merged task vector ``[out, in]`` of one linear map."""
    released = variant == "released"
    deltas = seen.layer.deltas.double()
    number = max(1, deltas.shape[1] // len(deltas))
    bases, coordinates, norms = [], [], []
    for delta, moment in zip(deltas, seen.moments, strict=True):
        values, vectors = torch.linalg.eigh(delta @ moment @ delta.mT)
        values, vectors = values.flip(0)[:number], vectors.flip(1)[:, :number]
        weights = (values > SEEN * values[0]).double()  # a shift of zero has no directions
        if released and weights.any():
            weights = weights * (values.clamp(min=0) / values.mean()) ** EIGENVALUE_POWER
            weights = weights / weights.mean()
        bases.append(vectors * weights)
        coordinates.append(weights[:, None] * (vectors.mT @ delta))
        norms.append(delta.norm() if released else coordinates[-1].norm())
    basis, joint = torch.cat(bases, 1), torch.cat(coordinates)
    if polarise:
        joint = joint * _polarised(torch.stack(norms)).repeat_interleave(number)[:, None]
        joint = joint * _polarised(joint.norm(dim=0))
    (left, left_size), (right, right_size) = _whitened(basis), _whitened(joint)
    return left @ right * right_size * (2 * left_size if released else 1)


def _whitened(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Polar factor of a matrix, and the mean of its singular values."""
    left, values, right = triplets(matrix)
    return left @ right.mT, values.mean()


def _polarised(norms: Tensor) -> Tensor:
    """Squares of the norms over their mean; ones if all are zero."""
    mean = norms.mean()
    return (norms / mean).square() if mean > 0 else torch.ones_like(norms)


@merge_method(
    "esm",
    title="ESM",
    paper="li2026esm",
    family="statistics",
    status="our reading",
    prepare=prepare_esm,
    needs=("images",),
    qkv="fused",
    grid={"scale": (0.6, 0.8, 1.0, 1.2, 1.4, 1.6, 1.8, 2.0, 2.4)},
)
def esm(
    layer: Layer,
    state: dict[str, Tensor],
    *,
    scale: Annotated[float, Range(0, 5)] = 1.5,
    variant: Variant = "paper",
    polarise: bool = True,
    num_images: NumImages = 32,
) -> Tensor:
    r"""Give each task the directions in which its task vector moves the outputs the most.

    For each linear map with T tasks, with inputs x of expert t on a few unlabelled images:

    1. Essential subspace: of :math:`\Delta_t E[xx^\top] \Delta_t^\top`, the second moment of the
       shift :math:`\Delta_t x` of the outputs, take the :math:`k = \lfloor d_{out}/T \rfloor`
       leading eigenvectors :math:`P_t`, and coordinates :math:`A_t = P_t^\top \Delta_t`.
    2. Polarised scaling: multiply :math:`A_t` by
       :math:`(\|A_t\|_F / \mathrm{mean}_s \|A_s\|_F)^2`, stack all tasks into A, and multiply
       column j of A by :math:`(\|a_j\| / \mathrm{mean}_i \|a_i\|)^2`.
    3. Orthogonalise: with :math:`\mathrm{pol}` the polar factor and :math:`\bar\sigma` the mean
       singular value,
       :math:`\Delta = \mathrm{pol}([P_1|\dots|P_T])\;\bar\sigma(A)\,\mathrm{pol}(A)`.
    4. Multiply by :math:`(\|\Delta\|_F / \mathrm{mean} \|\Delta\|_F)^2`, the mean over the layers
       of the same type (such as all output maps of attention).

    :math:`\theta = \theta_0 + \alpha\Delta`; all other tensors take :math:`\alpha` times the mean
    of the task vectors [li2026esm].

    Parameters
    ----------
    scale : float, default 1.5
        The coefficient :math:`\alpha`, chosen on validation data in the paper. The two variants
        differ by a factor of about 2.
    variant : {"paper", "released"}, default "paper"
        The above, or the released code, see Notes.
    polarise : bool, default True
        Whether to scale (steps 2 and 4).
    num_images : int, default 32
        Images per task, the first of the calibration; 32 in the paper, which finds 4 enough.

    Notes
    -----
    Our reading of notes on the paper: whitening both factors, as they put it, would lose the size
    of A, so that step 3 keeps its mean singular value, as the released code does; the principal
    directions are those of the shift without subtracting its mean, also as in the code; a
    direction that no image moves is left out. Which tensors count as linear is not said: here all
    linear maps of the tower, with query, key and value stacked as in open_clip.

    The released code (``variant="released"``) treats only the stacked query-key-value and the maps
    of the MLP so; output maps of attention, output projection and positional embedding are merged
    by TSV-M, the first of them scaled by layer as well. It scales tasks by the norm of the whole
    :math:`\Delta_t`; weighs directions by :math:`(\lambda_i / \mathrm{mean}\,\lambda)^{0.15}`,
    brought to mean 1, in both factors; keeps the mean singular value of the basis, too; and
    multiplies by 2. It takes the images from the test set; here they are training images.
    """
    if layer.name in state:
        return layer.base + scale * state[layer.name]
    if variant == "released":
        return layer.base + scale * tsv_vector(layer)
    return layer.base + scale * layer.total / layer.num_tasks
