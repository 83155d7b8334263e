"""CART: arithmetic around the average, with task vectors of low rank [choi2024cart]."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from mergebook.methods.tsv import tsv_vector
from mergebook.registry import merge_method
from mergebook.registry.types import Rank, Scale, Tensors, WideScale
from mergebook.weights import Experts, Layer
from mergebook.weights.spectral import directions, factors, is_chosen, resolve, singular_values

Origin = Literal["average", "base", "task_arithmetic", "tsv_m"]
Rule = Literal["share", "energy"]
RANKS = (0.08, 0.16, 0.32)


def cart_rank(full: int, rank: float) -> int:
    r"""Number of directions :math:`k = \max(1, \lfloor \rho\,r \rfloor)` of r; 0 if rank is 0."""
    return min(full, max(1, int(rank * full))) if rank > 0 else 0


@dataclass(frozen=True)
class Decomposition:
    """What merges of the same experts around the same origin have in common.

    Attributes
    ----------
    tensors : {"blocks", "matrices"}
        What is truncated, as :func:`mergebook.weights.spectral.resolve` returns it.
    known : dict of (str, int) to Tensor, or None
        Singular directions ``[r, r]`` of the centred matrix of a tensor's name and a task's number,
        kept when they are first needed. None keeps nothing.
    """

    tensors: Tensors
    known: dict[tuple[str, int], Tensor] | None = None

    def chooses(self, layer: Layer) -> bool:
        """Whether a layer is among what is truncated."""
        return is_chosen(layer.name, layer.base, self.tensors)

    def directions(self, name: str, task: int, matrix: Tensor) -> Tensor:
        """Return the singular directions of a task's centred matrix."""
        if self.known is None:
            return directions(matrix)
        if (name, task) not in self.known:
            self.known[name, task] = directions(matrix)
        return self.known[name, task]


def decompose(
    experts: Experts,
    tensors: Tensors,
    origin: Origin = "average",
    origin_scale: float = 0.0,
    reuse: bool = False,
) -> Decomposition:
    """Prepare to decompose centred task vectors, and to keep them if there are several merges.

    Origin and its scale are not used: they say, to who calls this, when it must be done again.
    """
    return Decomposition(resolve(experts, tensors), {} if reuse else None)


def truncate(matrix: Tensor, rank: float, rule: Rule, known: Tensor) -> Tensor:
    """Keep the leading singular directions of a matrix ``[m, n]``, see :data:`cart`."""
    if rule == "share":
        left, right = factors(matrix, cart_rank(min(matrix.shape), rank), known)
    else:
        left, right = factors(matrix, known=known)
        energy = singular_values(left, right).square()
        kept = energy.cumsum(0) - energy < rank * energy.sum()  # what comes before is not enough
        left, right = left[:, kept], right[:, kept]
    return left @ right.mT


def centred(
    layer: Layer, centre: Tensor, parts: Decomposition, rank: float, rule: Rule = "share"
) -> Iterator[Tensor]:
    r"""Truncated centred task vectors :math:`\mathrm{SVD}_k(\tau_t - c)`, one after the other.

    Parameters
    ----------
    centre : Tensor, shape [*s]
        The origin minus the base, c.
    parts : Decomposition
        Of the experts around this origin.
    rank : float
        Kept share; 0 gives zeros, 1 (or a tensor that is not truncated) the whole vectors.
    rule : {"share", "energy"}, default "share"
        See :data:`cart`.

    Yields
    ------
    Tensor, shape [*s]
        That of the next task, in the type of the arithmetic.
    """
    whole = rank == 1 or not parts.chooses(layer)
    for number, delta in enumerate(layer.deltas):
        vector = delta - centre
        if rank == 0:
            yield torch.zeros_like(vector)
        elif whole:
            yield vector
        else:
            known = parts.directions(layer.name, number, vector)
            yield truncate(vector, rank, rule, known).to(vector.dtype)


def _centre(layer: Layer, origin: Origin, origin_scale: float) -> Tensor:
    if origin == "average":
        return layer.total / layer.num_tasks
    if origin == "task_arithmetic":
        return origin_scale * layer.total
    return tsv_vector(layer) if origin == "tsv_m" else torch.zeros_like(layer.base)


def sum_of_centred(
    layer: Layer, centre: Tensor, average: bool, parts: Decomposition, rank: float, rule: Rule
) -> Tensor:
    """Sum ``[*s]`` of :func:`centred`; exactly zero where it is zero by definition.

    `average` says that the centre is the average, around which whole vectors cancel.
    """
    whole = rank == 1 or not parts.chooses(layer)
    if not whole and rule == "share":
        full = min(layer.base.shape)
        whole = cart_rank(full, rank) == full
    if rank == 0 or (whole and average):
        return torch.zeros_like(centre)
    if whole:
        return layer.total - layer.num_tasks * centre
    return sum(centred(layer, centre, parts, rank, rule))


@merge_method(
    "cart",
    title="CART",
    paper="choi2024cart",
    prepare=decompose,
    qkv="fused",
    grid={"rank": RANKS, "scale": (1.0, 2.0, 3.0, 4.0)},
)
def cart(
    layer: Layer,
    parts: Decomposition,
    *,
    rank: Rank = 0.12,
    scale: WideScale = 2.0,
    origin: Origin = "average",
    origin_scale: Scale = 0.3,
    tensors: Tensors = "blocks",
    rule: Rule = "share",
) -> Tensor:
    r"""Add to the average the leading singular directions of the centred experts.

    With :math:`\theta_{avg} = \frac1T \sum_t \theta_t` and, for a matrix of
    :math:`r = \min(m, n)`, :math:`\mathrm{SVD}_k` the sum of its k leading singular triplets,
    :math:`k = \max(1, \lfloor \rho\,r \rfloor)` (0 at :math:`\rho = 0`),

    .. math:: \theta = \theta_{avg} + \lambda \sum_t \mathrm{SVD}_k(\theta_t - \theta_{avg}) .

    Centred vectors sum to zero: with a share of 0 or 1, or a scale of 0, the result is the average
    to the bit, and with two experts it is the average to rounding. What is added equals what is
    cut off, with the other sign. Tensors that are not decomposed are averaged [choi2024cart].

    Parameters
    ----------
    rank : float, default 0.12
        Kept share :math:`\rho` of the full rank; released are 0.12, 0.16 and 0.32 for 8, 14 and
        20 tasks.
    scale : float, default 2.0
        The coefficient :math:`\lambda`; released are 2.0, 1.5 and 1.9 for 8, 14 and 20 tasks.
    origin : {"average", "base", "task_arithmetic", "tsv_m"}, default "average"
        Where vectors are centred, and where their sum is added: the average; the base (no
        centring, :data:`cart_uncentred`); :math:`\theta_0 + c \sum_t \tau_t`; or TSV-M at scale 1
        (:data:`mergebook.methods.tsv.tsv_m`).
    origin_scale : float, default 0.3
        The coefficient c of the origin "task_arithmetic".
    tensors : {"blocks", "matrices"}, default "blocks"
        Which tensors are decomposed. "blocks", as in the paper: matrices with ``attn`` or ``mlp``,
        but neither ``ln`` nor ``bias``, in their name, which are the weights of attention and MLPs
        in CLIP (open_clip and Hugging Face), GPT-2 and Llama; and, which that rule does not know,
        those of BERT. A model without such a name has no
        blocks to tell apart: there, and under "matrices", it is every tensor with two axes but
        ``text_projection`` (the rule of TSV and Iso), embeddings included.
    rule : {"share", "energy"}, default "share"
        What `rank` is a share of: the full rank, or the sum of squared singular values, of which
        each task keeps the fewest directions that reach it (in the released code, but off in its
        configurations).

    Notes
    -----
    Tensors that are not decomposed keep their centred vectors whole. These cancel only for the
    average; from another origin they amount to task arithmetic, as in the ablations of AdaRank's
    code.

    A search decomposes once: directions are kept from one merge to the next around the same origin
    (:meth:`mergebook.registry.Method.on`), in float64 the square of each matrix's smaller side. A
    single merge keeps none.

    Peers: the LoRA merging of core-space-merging rounds k up. The released code decomposes in
    float32, and query, key and value stacked; checkpoints that store them apart are stacked first,
    unless ``qkv="split"``. At rank 0 it drops the vectors of all tensors, as here.

    Our reading: how the paper chose its rank and scale is not said in the parts that we could read;
    "about 8 %", as a summary of it has it, and the released 12 to 32 % differ.
    """
    centre = _centre(layer, origin, origin_scale)
    total = sum_of_centred(layer, centre, origin == "average", parts, rank, rule)
    return layer.base + centre + scale * total


@merge_method(
    "cart_uncentred",
    title="CART without centring",
    paper="choi2024cart",
    prepare=decompose,
    qkv="fused",
    grid={"rank": RANKS, "scale": (0.1, 0.2, 0.3, 0.4)},
)
def cart_uncentred(
    layer: Layer,
    parts: Decomposition,
    *,
    rank: Rank = 0.12,
    scale: WideScale = 0.3,
    tensors: Tensors = "blocks",
    rule: Rule = "share",
) -> Tensor:
    r"""Task arithmetic with task vectors of low rank: CART's ablation of centring.

    :math:`\theta = \theta_0 + \lambda \sum_t \mathrm{SVD}_k(\tau_t)` on the matrices that
    :data:`cart` decomposes, plain task arithmetic on all other tensors and at rank 1. The same as
    :data:`cart` with ``origin="base"``.

    Parameters
    ----------
    rank : float, default 0.12
        Kept share :math:`\rho` of the full rank.
    scale : float, default 0.3
        The coefficient :math:`\lambda`.
    tensors : {"blocks", "matrices"}, default "blocks"
        Which tensors are decomposed, see :data:`cart`.
    rule : {"share", "energy"}, default "share"
        What `rank` is a share of, see :data:`cart`.
    """
    total = sum_of_centred(layer, torch.zeros_like(layer.base), False, parts, rank, rule)
    return layer.base + scale * total
