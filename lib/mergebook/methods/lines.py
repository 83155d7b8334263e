"""LiNeS: scale the merged task vector by depth [wang2025lines]."""

from __future__ import annotations

import re
from typing import Annotated

from torch import Tensor

from mergebook.methods.task_arithmetic import SCALES
from mergebook.registry import Range, merge_method
from mergebook.weights import Experts, Layer

BLOCK = re.compile(r"(?:^|\.)(\d+)\.")  # as in transformer.resblocks.3.attn.out_proj.weight


def block_of(name: str) -> int | None:
    """Number of the transformer block that a tensor belongs to: the first number in its name."""
    match = BLOCK.search(name)
    return int(match[1]) if match else None


def count_blocks(experts: Experts) -> int:
    """Number of blocks of the model, from the names of its tensors."""
    numbers = [block_of(name) for name in experts.base]
    return 1 + max((number for number in numbers if number is not None), default=-1)


@merge_method(
    "lines", title="LiNeS", paper="wang2025lines", prepare=count_blocks, grid={"slope": SCALES}
)
def lines(
    layer: Layer,
    num_blocks: int,
    *,
    floor: Annotated[float, Range(0, 3)] = 1.0,
    slope: Annotated[float, Range(0, 3)] = 0.5,
) -> Tensor:
    r"""Task arithmetic with a coefficient that grows linearly with depth.

    In block :math:`l = 0, \dots, L - 1`,

    .. math::

        \theta^l = \theta_0^l + \Bigl(\alpha + \beta \frac{l}{L - 1}\Bigr) \sum_t \tau_t^l,

    and with :math:`\alpha` alone in tensors outside of the blocks, the last ones included
    [wang2025lines]. For a sum of T task vectors the paper sets :math:`\alpha = 1/T`, the average,
    and searches :math:`\beta`.

    Parameters
    ----------
    floor : float, default 1.0
        :math:`T \alpha`: coefficient of the first block in units of the average's.
    slope : float, default 0.5
        :math:`\beta`: how much larger the coefficient of the last block is.

    Notes
    -----
    A block's number is the first number between dots in a name: ``resblocks.3.`` of open_clip,
    ``layers.3.`` of Hugging Face. Without blocks, or with a single one, this is task arithmetic.
    The released code scales any merge in this way; for one other than a sum it multiplies
    :math:`\alpha` by the ratio of the L1 norms of the sum and of the merged vector. Applied to
    task arithmetic only here.
    """
    scale = floor / layer.num_tasks
    block = block_of(layer.name)
    if block is not None and num_blocks > 1:
        scale += slope * block / (num_blocks - 1)
    return layer.base + scale * layer.total
