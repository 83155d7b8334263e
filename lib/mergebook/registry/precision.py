"""The type of a result's weights: what a method supports, and rounding to it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import torch

from mergebook.errors import CheckpointError, ParameterError, unknown
from mergebook.merged import MergedModel, SharedModel
from mergebook.storage import Sizes
from mergebook.weights import Experts
from mergebook.weights.sources import facts_of_all

RESULTS = ("float64", "float32", "bfloat16", "float16")  # names only, see `cli.declarations`


def widest(dtypes: Iterable[torch.dtype]) -> torch.dtype:
    """The narrowest type that holds all values of those among the types that are floating."""
    wide = torch.float16
    for dtype in dtypes:
        if dtype.is_floating_point:
            wide = torch.promote_types(wide, dtype)
    return wide


def type_named(dtype: str) -> torch.dtype:
    """The type of that name.

    Raises
    ------
    ParameterError
        If it is none of :data:`RESULTS`.
    """
    if dtype not in RESULTS:
        raise ParameterError(unknown("dtype", dtype, RESULTS))
    return getattr(torch, dtype)


def check_supported(
    name: str, gives: type[MergedModel], dtype: torch.dtype, experts: Experts
) -> None:
    """Refuse a type that a method's result cannot have.

    One set of weights is rounded to any type. What holds more than that is stored as it was read.

    Parameters
    ----------
    name : str
        The method, for the message.
    gives : type
        The kind of model that it returns.
    dtype : torch.dtype
        The type that was asked for.
    experts : Experts
        What is merged.

    Raises
    ------
    ParameterError
        If the result would have another type.
    """
    if gives is SharedModel:
        return
    read = {kind for _, kind in facts_of_all(experts.base, {}).values() if kind.is_floating_point}
    if read - {dtype}:
        raise ParameterError(
            f"{name} keeps more than one set of weights, which is stored as the inputs "
            f"are; a narrower type is for methods that give one model. Convert the inputs first"
        )


def rounded(merged: MergedModel, dtype: torch.dtype) -> MergedModel:
    """A solution with its floating-point tensors in a type that :func:`check_supported` allows.

    Raises
    ------
    CheckpointError
        If a value is too large for the type.
    """
    if not isinstance(merged, SharedModel):
        return merged  # has that type already
    bits = 8 * dtype.itemsize
    weights = merged.weights = dict(merged.weights)
    frozen = Counter({bits: merged.sizes.num_frozen})
    for key, tensor in weights.items():
        if tensor.is_floating_point():
            weights[key] = tensor.to(dtype)  # in place of the wide one, which is let go
            if not torch.isfinite(weights[key]).all():
                raise CheckpointError(f"tensor {key!r} came out beyond the range of {dtype}")
        else:
            frozen[bits] -= tensor.numel()
            frozen[8 * tensor.dtype.itemsize] += tensor.numel()
    trained = Counter({bits: merged.sizes.num_trained})
    merged.sizes = Sizes(dict(+trained), dict(+frozen))  # + drops the zeros
    return merged
