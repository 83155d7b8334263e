"""ImPart: rates, expectation, and the truncated decomposition that it contains."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import mergebook as mb
from mergebook.compression.impart import drop_rates
from mergebook.errors import MethodError, ParameterError
from mergebook.merged import FactoredModel
from mergebook.weights import Experts


def experts(shape=(12, 8), tasks=("one", "two"), seed=0) -> Experts:
    generator = torch.Generator().manual_seed(seed)

    def noise(*size):
        return torch.randn(*size, generator=generator)

    base = {"w": noise(*shape), "bias": noise(5), "frozen": noise(2)}
    states = {t: base | {"w": base["w"] + noise(*shape), "bias": noise(5)} for t in tasks}
    return Experts(base, states)


def test_rates_by_hand():
    # Of 4 pairs the last is dropped; gamma = (0.7 - 0.25) / 0.75 = 0.6.
    singular = torch.tensor([4.0, 2.0, 1.0, 0.5])
    rates = drop_rates(singular, 0.7, 0.3, 1.0).tolist()
    # 0.6 * (0, 1/2, 3/4) has the mean 0.25; with the third dropped 0.43, with two 0.67.
    assert rates == pytest.approx([0, 1, 1, 1])
    # Of a small sparsity nothing is left once pairs are dropped: gamma = 0.
    assert drop_rates(singular, 0.2, 0.3, 1.0).tolist() == [0, 0, 0, 1]


SINGULAR = st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=30).map(
    lambda x: sorted(x, reverse=True)
)


@given(
    singular=SINGULAR, sparsity=st.floats(0, 0.999), prune=st.floats(0, 0.99), power=st.floats(0, 5)
)
def test_rates_grow_and_reach_the_sparsity(singular, sparsity, prune, power):
    rates = drop_rates(torch.tensor(singular, dtype=torch.float64), sparsity, prune, power)
    assert rates[0] == 0
    assert (rates.diff() >= -1e-12).all()
    assert rates.min() >= 0
    assert rates.max() <= 1
    only_the_first_is_left = bool((rates[1:] == 1).all())
    assert only_the_first_is_left or float(rates.mean()) >= sparsity - 1e-9


def test_without_rates_it_is_a_truncated_decomposition():
    # Sparsity of ratio 1 on a square matrix is 1/2; half of the pairs are dropped: gamma = 0.
    loaded = experts((8, 8))
    merged = mb.merge("impart", loaded, ratio=1.0, prune=0.5)
    assert isinstance(merged, FactoredModel)
    delta = loaded.layer("w").deltas[0]
    left, singular, right = torch.linalg.svd(delta.double())
    wanted = left[:, :4] * singular[:4] @ right[:4]
    torch.testing.assert_close(merged.vector("one", "w"), wanted.float(), rtol=0, atol=1e-5)
    assert merged.table["w"][1] == [4, 4]


def test_the_expectation_is_the_decomposition_without_the_dropped_pairs():
    loaded = experts((6, 6), tasks=("one",))
    merged = [mb.merge("impart", loaded, ratio=1.2, prune=0.0, exponent=0.2, seed=s)
              for s in range(400)]  # fmt: skip
    mean = torch.stack([m.vector("one", "w") for m in merged]).double()
    left, singular, right = torch.linalg.svd(loaded.layer("w").deltas[0].double())
    rank = merged[0].table["w"][1][0]
    wanted = left[:, :rank] * singular[:rank] @ right[:rank]
    error = mean.std(0) / 400**0.5
    assert rank > 1
    assert error.max() > 0  # it is random
    assert ((mean.mean(0) - wanted).abs() <= 5 * error + 1e-6).all()


def test_kept_entries_are_as_many_as_the_ratio_says():
    loaded = experts((96, 64))
    for ratio in (4.0, 8.0, 16.0):
        merged = mb.merge("impart", loaded, ratio=ratio)
        for task in loaded.tasks:
            kept = merged.values[task]["w"].numel()
            # Dropping whole pairs oversteps by at most one pair of 160 entries.
            assert 96 * 64 / ratio - 160 - 60 <= kept <= 96 * 64 / ratio + 60


def test_what_is_no_matrix_is_kept_exactly():
    loaded = experts()
    merged = mb.merge("impart", loaded)
    for task in loaded.tasks:
        assert torch.equal(merged.state_dict(task)["bias"], loaded.expert(task)["bias"])
    row = {"w": torch.zeros(1, 9), "scalar": torch.zeros(())}
    thin = Experts(row, {"one": {"w": torch.rand(1, 9), "scalar": torch.ones(())}})
    state = mb.merge("impart", thin).state_dict("one")
    assert all(torch.equal(state[key], thin.expert("one")[key]) for key in row)


def test_chance_depends_on_seed_task_and_name_alone():
    loaded = experts()
    alone = Experts(loaded.base, {"two": loaded.expert("two")})
    first, again, single, other = (
        mb.merge("impart", e, ratio=1.2, prune=0.0, seed=seed).vector("two", "w")
        for e, seed in ((loaded, 0), (loaded, 0), (alone, 0), (loaded, 1))
    )
    assert torch.equal(first, again)
    assert torch.equal(first, single)
    assert not torch.equal(first, other)


def test_storage_by_hand():
    loaded = experts((8, 8))
    merged = mb.merge("impart", loaded, ratio=1.0, prune=0.5)
    # Two tasks, each with two dense factors [8, 4] and a bias of 5; base of 64 + 5 + 2.
    factors = 2 * (8 + 8) * 4
    assert merged.storage().bits == 32 * (71 + 2 * 5) + factors + 32 * factors
    assert merged.storage().symbols["D"] == 10


def test_bad_input_is_named():
    with pytest.raises(ParameterError, match=r"impart: prune=1"):
        mb.merge("impart", experts(), prune=1)
    with pytest.raises(MethodError, match="unknown task 'three'"):
        mb.merge("impart", experts()).state_dict("three")
