"""How tests compare tensors, and mappings of names to them: each assertion says where it fails."""

from collections.abc import Mapping

import torch

SMALLEST = 1e-3  # a tensor whose numbers are below this is compared as if this were its largest


def assert_near(got, wanted, tolerance: float) -> None:
    """Equal up to `tolerance`, relative to the largest magnitude of each tensor that is wanted.

    Tensors, or mappings of the same names to tensors or mappings.
    """
    for where, left, right in _pairs(got, wanted):
        size = max(SMALLEST, float(right.abs().max())) if right.numel() else SMALLEST
        torch.testing.assert_close(
            left, right, rtol=0, atol=tolerance * size, msg=lambda text, at=where: f"{at}: {text}"
        )


def assert_equal(got, wanted) -> None:
    """Equal to the bit, in types too: tensors, or mappings of the same names to them."""
    for where, left, right in _pairs(got, wanted):
        assert left.dtype == right.dtype, where
        assert torch.equal(left, right), where


def _pairs(got, wanted, where="tensor"):
    if not isinstance(wanted, Mapping):
        yield where, got, wanted
        return
    assert got.keys() == wanted.keys(), where
    for name in wanted:
        yield from _pairs(got[name], wanted[name], name)
