"""CART around any weights, and in some tensors only: what its origin and its place contribute."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

from mergebook.errors import ExperimentError
from mergebook.merged import SharedModel
from mergebook.methods.cart import decompose, sum_of_centred
from mergebook.weights import Experts, Layer
from mergebook.weights.qkv import Arranged


def cart_around(experts: Experts, centre: Mapping[str, Tensor]) -> Callable[..., SharedModel]:
    r"""CART with any weights as its origin, prepared for several ranks and scales.

    :math:`\theta = c + \lambda \sum_t \mathrm{SVD}_k(\theta_t - c)` in the matrices of attention
    and MLPs. All other tensors keep those of the centre c, so that origins differ in what is
    decomposed alone; :data:`mergebook.methods.cart.cart` adds their whole centred vectors, which
    cancel for the average only.

    Parameters
    ----------
    experts : Experts
    centre : mapping of str to Tensor
        The weights c, with the base's names: a merged model's ``state_dict()``.

    Returns
    -------
    callable
        ``merge(rank, scale) -> SharedModel``, see :data:`mergebook.methods.cart.cart`. The
        decompositions are made by its first call, and kept.

    Raises
    ------
    ExperimentError
        If the centre lacks a tensor of the base.
    """
    missing = [key for key in experts.base if key not in centre]
    if missing:
        raise ExperimentError(f"the centre has no tensor {missing[0]!r}")
    view, origin = experts.arranged("fused"), Arranged(centre, "fused")
    parts = decompose(view, "blocks", reuse=True)

    def merge(rank: float, scale: float) -> SharedModel:
        def merged(layer: Layer) -> Tensor:
            start = origin[layer.name].to(layer.base)
            if not parts.chooses(layer):
                return start
            total = sum_of_centred(layer, start - layer.base, False, parts, rank, "share")
            return start + scale * total

        model = SharedModel.build(experts, merged, view)
        model.backbone = experts.backbone
        return model

    return merge


def graft(model: SharedModel, other: SharedModel, chosen: Callable[[str], bool]) -> SharedModel:
    """Take the tensors with chosen names from one model, and all others from another.

    Parameters
    ----------
    model, other : SharedModel
        Merged from the same experts.
    chosen : callable
        Says of a tensor's name whether `model` gives it.
    """
    mine, rest = model.state_dict(), other.state_dict()
    weights = {key: mine[key] if chosen(key) else rest[key] for key in rest}
    mixed = SharedModel(model.tasks, model.sizes, weights)
    mixed.backbone = model.backbone
    return mixed
