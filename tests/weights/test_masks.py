"""Bit-packed masks."""

import math
import struct

import hypothesis.extra.numpy as hnp
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mergebook.errors import CheckpointError
from mergebook.weights import Masks, pack_mask, save_checkpoint, unpack_mask
from mergebook.weights.masks import pack_rows

SHAPES = st.one_of(st.just(()), hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=5))


@given(array=hnp.arrays(bool, SHAPES))
@settings(deadline=None)
def test_round_trip(array):
    mask = torch.from_numpy(array.copy()).reshape(array.shape)
    packed = pack_mask(mask)
    assert (packed.dtype, packed.shape) == (torch.uint8, (math.ceil(mask.numel() / 8),))
    assert torch.equal(unpack_mask(packed, mask.shape), mask)


def test_bit_order_is_fixed():
    mask = torch.tensor([1, 0, 0, 0, 0, 0, 1, 1, 1, 0], dtype=torch.bool)
    assert pack_mask(mask).tolist() == [0b10000011, 0b10000000]


def test_wrong_size_is_refused():
    with pytest.raises(CheckpointError, match=r"2 bytes does not fit .* \(3, 8\), which takes 3"):
        unpack_mask(torch.zeros(2, dtype=torch.uint8), (3, 8))


@pytest.fixture
def masks() -> Masks:
    a = torch.tensor([[[1, 0, 1]], [[1, 1, 1]]], dtype=torch.bool)
    b = torch.tensor([0, 1], dtype=torch.bool)
    packed = {"a": pack_rows(a), "b": pack_rows(b)}
    return Masks(("one", "two"), packed, {"a": (1, 3), "b": ()})


def test_access(masks):
    assert masks.keys() == ("a", "b")
    assert masks.num_entries == 4
    assert masks.mask("one", "a").tolist() == [[True, False, True]]
    assert masks.mask("two", "b").tolist() is True
    assert masks.counts("a").tolist() == [[2, 1, 2]]
    assert masks.counts("b").tolist() == 1
    assert masks.used("a").tolist() == [2, 3]
    assert (masks.density("one"), masks.density("two")) == (0.5, 1.0)
    with pytest.raises(CheckpointError, match="unknown task 'three'"):
        masks.mask("three", "a")


def test_file_round_trip_and_size(masks, tmp_path):
    path = masks.save(tmp_path / "masks.safetensors")
    again = Masks.load(path)
    assert again.tasks == masks.tasks
    for task in masks.tasks:
        for key in masks.shapes:
            assert torch.equal(again.mask(task, key), masks.mask(task, key))
    raw = path.read_bytes()
    header = 8 + struct.unpack("<Q", raw[:8])[0]
    assert len(raw) - header == 2 * 1 + 2 * 1  # T rows of whole bytes for each tensor


def test_other_files_are_refused(tmp_path):
    path = save_checkpoint({"w": torch.zeros(2)}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match="holds no masks"):
        Masks.load(path)
