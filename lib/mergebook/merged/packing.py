"""Small whole numbers, a few bits each, packed into bytes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from mergebook.errors import CheckpointError


def to_bits(codes: np.ndarray, bits: int) -> np.ndarray:
    """Digits of whole numbers ``[n]`` from 0 to 2**bits - 1: ``uint8 [n * bits]``.

    Each number's highest bit comes first.
    """
    shifts = np.arange(bits - 1, -1, -1, dtype=codes.dtype)
    return ((codes[:, None] >> shifts) & 1).astype(np.uint8).ravel()


def from_bits(digits: np.ndarray, bits: int) -> np.ndarray:
    """Undo :func:`to_bits`: ``[n * bits] -> int64 [n]``."""
    places = 1 << np.arange(bits - 1, -1, -1, dtype=np.int64)
    return digits.reshape(-1, bits).astype(np.int64) @ places


def pack_codes(*groups: tuple[Tensor, int]) -> Tensor:
    """Pack groups of numbers, each with its own width, one after the other: ``uint8 [bytes]``.

    Only the end is filled up to a whole byte.

    Parameters
    ----------
    *groups : (Tensor, int)
        Numbers from 0 to 2**bits - 1, of any shape, and their width in bits, 1 to 8.
    """
    digits = [to_bits(codes.flatten().cpu().numpy(), bits) for codes, bits in groups]
    return torch.from_numpy(np.packbits(np.concatenate(digits)))


def unpack_codes(packed: Tensor, bits: int, shape: Sequence[int], start: int = 0) -> Tensor:
    """Numbers of one width that :func:`pack_codes` wrote: int64 ``[*shape]``.

    Parameters
    ----------
    packed : Tensor, uint8 [bytes]
        The stream; only the bytes that are asked for are unpacked.
    bits : int
        Width of the numbers.
    shape : sequence of int
        Shape of what is asked for.
    start : int, default 0
        Number of bits that come before it.

    Raises
    ------
    CheckpointError
        If the stream ends too early.
    """
    stop = start + math.prod(shape) * bits
    if stop > 8 * len(packed):
        raise CheckpointError(
            f"{len(packed)} bytes are too few for a tensor of shape {tuple(shape)} at {bits} bits "
            f"that starts at bit {start}"
        )
    first = start // 8
    digits = np.unpackbits(packed[first : -(-stop // 8)].numpy())[start - 8 * first :]
    numbers = from_bits(digits[: stop - start], bits)
    return torch.from_numpy(numbers).reshape(tuple(shape))
