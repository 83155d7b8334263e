"""Quantised task vectors: each on its own, or as offsets from a shared one [kim2025tvq]."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from mergebook.merged.packing import pack_codes
from mergebook.merged.quantised import QuantisedModel, dequantise
from mergebook.registry import model_method
from mergebook.registry.types import Bits
from mergebook.weights import Experts, Layer

Part = tuple[Tensor, Tensor]  # codes [R, *s] and grids [R, 2]


def quantise(values: Tensor, bits: int) -> Part:
    """Round tensors to uniform grids that span their values, one grid each.

    Parameters
    ----------
    values : Tensor, shape [R, *s]
        R tensors.
    bits : int
        Bits per entry.

    Returns
    -------
    codes : Tensor, uint8 [R, *s]
        ``clip(floor(x / step + 1/2) - first, 0, 2**bits - 1)``.
    grids : Tensor, shape [R, 2]
        ``step = (max - min) / (2**bits - 1)`` and ``first = floor(min / step + 1/2)``. Where all
        entries are equal, the step is their magnitude and nothing is lost.
    """
    codes = torch.empty(values.shape, dtype=torch.uint8)
    grids = torch.empty(len(values), 2, dtype=values.dtype)
    for row, code, grid in zip(values.double(), codes, grids, strict=True):
        low, high = row.min(), row.max()
        step = (high - low) / (2**bits - 1) if high > low else low.abs()
        grid[0] = step
        unit = grid[0].double()  # the step that is stored
        if unit == 0:  # all zero, or a range below the smallest number there is
            unit = torch.ones_like(unit)
        first = (low / unit + 0.5).floor()
        grid[1] = first
        code.copy_(((row / unit + 0.5).floor() - first).clamp_(0, 2**bits - 1))
    return codes, grids


def _compress(
    experts: Experts,
    function: Callable[[Layer], tuple[Part, ...]],
    bits: int,
    shared_bits: int = 0,
    whole: bool = False,
) -> QuantisedModel:
    """Quantise layer by layer: `function` gives the tasks' part and, if any, the shared one."""
    table, streams, grids = {}, {}, {}
    for layer in experts:
        parts = function(layer)
        widths = (bits, shared_bits)
        streams[layer.name] = pack_codes(
            *((codes, width) for (codes, _), width in zip(parts, widths, strict=False))
        )
        grids[layer.name] = torch.cat([grid for _, grid in parts])
        name = str(experts.base[layer.name].dtype).removeprefix("torch.")
        table[layer.name] = (tuple(layer.base.shape), name)
    base = {key: experts.base[key] for key in experts.base if not (whole and key in table)}
    return QuantisedModel(
        experts.tasks,
        experts.sizes,
        base,
        table,
        streams,
        grids,
        bits=bits,
        shared_bits=shared_bits,
        whole=whole,
    )


@model_method("tvq", title="TVQ", paper="kim2025tvq", family="compression")
def tvq(
    experts: Experts,
    *,
    bits: Bits = 4,
    target: Literal["task_vector", "expert"] = "task_vector",
) -> QuantisedModel:
    r"""Quantise each task vector, tensor by tensor, on a uniform grid over its range.

    :math:`\Delta = (\max\tau_t - \min\tau_t) / (2^b - 1)`,
    :math:`q = \lfloor\tau_t / \Delta\rceil + z` with zero point
    :math:`z = -\lfloor\min\tau_t / \Delta\rceil`, and :math:`\hat\tau_t = \Delta (q - z)`. The
    error of an entry is at most :math:`\Delta/2`. It works because task vectors have a range much
    narrower than weights. Storage b(P' + F) + bits T P' + 32 N bits, two of the N numbers for
    the grid of each tensor and task.

    Each task gets its own expert back, nearly. To merge what was compressed, as the paper does,
    pass :func:`mergebook.merged.rebuilt.rebuilt_experts` to any method.

    Parameters
    ----------
    bits : int, default 4
        Bits per entry; the paper has 8, 4, 3 and 2.
    target : {"task_vector", "expert"}, default "task_vector"
        What is quantised: the task vector, or the expert's whole weights, the paper's comparison
        (then the base's trained entries are not stored).

    Notes
    -----
    Rests on the paper's formula and on the options that the released configuration names. Our
    reading: halves are rounded up; a tensor with all entries equal is stored exactly. Storage
    counts the grids and the base, which published tables of storage leave out.
    """

    def code(layer: Layer) -> tuple[Part]:
        if target == "task_vector":
            return (quantise(layer.deltas, bits),)
        whole = [experts.expert(task)[layer.name].to(experts.dtype) for task in experts.tasks]
        return (quantise(torch.stack(whole), bits),)

    return _compress(experts, code, bits, whole=target == "expert")


@model_method("rtvq", title="RTVQ", paper="kim2025tvq", family="compression")
def rtvq(
    experts: Experts,
    *,
    bits: Bits = 2,
    base_bits: Bits = 3,
    error_correction: bool = True,
) -> QuantisedModel:
    r"""Quantise the mean of the task vectors once, and each task's offset from it with few bits.

    :math:`\tau_t = (\theta_t - \bar\theta) + (\bar\theta - \theta_0)` with :math:`\bar\theta` the
    mean of the experts. The second term is quantised first and stored once; with error correction
    the offsets :math:`\theta_t - \theta_0 - \hat{\bar\tau}` are taken from its quantised values,
    so that they make up for its rounding. Grids as in :data:`tvq`. Effective bits per entry and
    task: bits + base_bits / T. Storage b(P' + F) + (bits T + base_bits) P' + 32 N bits.

    Parameters
    ----------
    bits : int, default 2
        Bits per entry of an offset.
    base_bits : int, default 3
        Bits per entry of the mean task vector.
    error_correction : bool, default True
        Whether offsets are taken from the quantised mean, or from the mean itself.

    Notes
    -----
    As for :data:`tvq`. What the paper calls base is here the mean task vector; its 3 and 2 bits
    are the defaults.
    """

    def code(layer: Layer) -> tuple[Part, Part]:
        mean = (layer.total / layer.num_tasks)[None]
        codes, grid = quantise(mean, base_bits)
        origin = dequantise(codes[0], grid[0]) if error_correction else mean[0]
        return quantise(layer.deltas - origin, bits), (codes, grid)

    return _compress(experts, code, bits, shared_bits=base_bits)
