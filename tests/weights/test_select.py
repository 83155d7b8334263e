"""The k-th largest magnitude over a stream of layers."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mergebook.weights import Experts, kth_largest, ranked, top_entries
from strategies import cases, flat, grid, reals


@given(data=st.data())
def test_equals_sorting(data):
    elements = data.draw(st.sampled_from((grid, reals)))
    dtype = data.draw(st.sampled_from((torch.float32, torch.float64, torch.bfloat16)))
    experts = data.draw(cases(elements=elements, dtypes=(dtype,))).load()
    if not experts.num_trained:
        return
    rank = data.draw(st.integers(1, experts.num_trained))
    values, ties = kth_largest(experts, rank)
    for row, task in enumerate(experts.tasks):
        delta = flat(experts.expert(task), experts.trained) - flat(experts.base, experts.trained)
        ordered = np.sort(np.abs(delta))[::-1]
        assert values[row] == ordered[rank - 1]
        assert ties[row] == np.sum(ordered[:rank] == ordered[rank - 1])


@given(data=st.data())
def test_signed_values_at_several_ranks_equal_sorting(data):
    elements = data.draw(st.sampled_from((grid, reals)))
    case = data.draw(cases(elements=elements, dtypes=(torch.float32, torch.float64)))
    frozen = data.draw(st.sampled_from((0, 3)))
    entries = data.draw(st.sampled_from(("trained", "stored")))
    experts = case.load(entries=entries, frozen_extra=frozen)
    count = experts.num_entries
    if count == 0:
        return
    rows = [layer.deltas.reshape(len(experts.tasks), -1) for layer in experts]
    zeros = torch.zeros(len(experts.tasks), count - experts.num_trained)
    everything = torch.cat([*rows, zeros], 1).sort(1, descending=True).values
    ranks = data.draw(st.lists(st.integers(1, count), min_size=1, max_size=3))
    got = ranked(experts, lambda layer: layer.deltas, lambda: ranks)
    assert torch.equal(got, everything[:, [rank - 1 for rank in ranks]].T.to(got.dtype))


def test_zeros_of_either_sign_are_one_value():
    values = torch.tensor([-1.0, 0.0, -0.0, 0.0, 2.0])
    experts = Experts({"w": torch.zeros(5)}, {"one": {"w": torch.ones(5)}})
    got = ranked(experts, lambda layer: values[None], lambda: range(1, 6))
    assert got.flatten().tolist() == [2.0, 0.0, 0.0, 0.0, -1.0]
    assert not got[1:4].signbit().any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_magnitudes_of_all_sizes(dtype):
    # Zero, the smallest subnormal, neighbours in the last bit, and the largest number.
    info = torch.finfo(dtype)
    one = torch.ones((), dtype=dtype)
    values = torch.stack(
        [
            one * 0,
            torch.nextafter(one * 0, one),
            one * info.tiny,
            torch.nextafter(one, one * 0),
            one,
            torch.nextafter(one, one * 2),
            one * info.max,
        ]
    )
    shuffled = values[torch.tensor([3, 0, 6, 5, 1, 4, 2])] * torch.tensor([1, -1] * 3 + [1])
    experts = Experts({"w": torch.zeros(7, dtype=dtype)}, {"one": {"w": shuffled}})
    for rank in range(1, 8):
        assert kth_largest(experts, rank)[0].item() == values[7 - rank].item()


@given(case=cases(), density=st.integers(0, 16).map(lambda n: n / 16))
def test_k_keeps_exactly_k(case, density):
    experts = case.load()
    top = top_entries(experts, density, "k")
    kept = sum(top.mask(layer).reshape(len(experts.tasks), -1).sum(1) for layer in experts)
    assert not experts.trained or kept.tolist() == [int(experts.num_entries * density)] * len(kept)


@given(case=cases(), density=st.integers(0, 16).map(lambda n: n / 16))
def test_k_plus_one_keeps_all_at_or_above_the_threshold(case, density):
    experts = case.load()
    top = top_entries(experts, density)
    rank = min(int(experts.num_entries * density) + 1, experts.num_trained)
    for row, task in enumerate(experts.tasks if rank else ()):
        delta = flat(experts.expert(task), experts.trained) - flat(experts.base, experts.trained)
        least = np.sort(np.abs(delta))[-rank]
        kept = [top.mask(layer)[row].reshape(-1) for layer in experts]
        np.testing.assert_array_equal(torch.cat(kept), np.abs(delta) >= least)


def test_large_layers_beside_small_ones():
    generator = torch.Generator().manual_seed(0)
    shapes = {"large": (300, 500), "small": (7,)}
    base = {key: torch.zeros(shape) for key, shape in shapes.items()}
    states = [{k: torch.randn(s, generator=generator) for k, s in shapes.items()} for _ in "ab"]
    experts = Experts(base, dict(zip("ab", states, strict=True)))
    for rank in (1, 30_000, experts.num_trained):
        values, _ = kth_largest(experts, rank)
        for value, state in zip(values, states, strict=True):
            magnitude = torch.cat([tensor.flatten() for tensor in state.values()]).abs()
            assert value == magnitude.kthvalue(magnitude.numel() - rank + 1).values
