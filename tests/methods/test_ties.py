"""TIES: which entries are kept, and what happens when values cancel."""

import pytest
import torch

import mergebook as mb
from mergebook.weights import Experts


def experts_of(*vectors, **options) -> Experts:
    """Experts over a base of zeros from their task vectors, each a mapping or a list."""
    states = [v if isinstance(v, dict) else {"w": v} for v in vectors]
    states = [{k: torch.tensor(v, dtype=torch.float32) for k, v in s.items()} for s in states]
    base = {key: torch.zeros_like(tensor) for key, tensor in states[0].items()}
    return Experts(base, {f"task{t}": state for t, state in enumerate(states)}, **options)


def merged(experts: Experts, **params) -> list[float]:
    state = mb.merge("ties", experts, **params).state_dict()
    return torch.cat([state[key].flatten() for key in sorted(state)]).tolist()


def test_by_hand():
    experts = experts_of([4, 3, -1, 0.5], [2, -5, -3, 0.25])
    # k + 1 = 3 of 4 stay; signs +, -, -; the fourth entry is trimmed by both.
    assert merged(experts, density=0.5) == [3, -5, -2, 0]
    assert merged(experts, density=0.5, combine="sum") == [6, -5, -4, 0]
    assert merged(experts, density=0.5, combine="sum", scale=0.5) == [3, -2.5, -2, 0]
    # Exactly 2 of 4 stay: (4, 3) and (-5, -3).
    assert merged(experts, density=0.5, keep="k") == [4, -5, -3, 0]


def test_k_plus_one_keeps_all_magnitudes_equal_to_the_threshold():
    assert merged(experts_of([1, -2, 2, -2, 3]), density=0.4) == [0, -2, 2, -2, 3]


def test_k_keeps_the_first_of_equal_magnitudes_in_the_order_of_the_names():
    vector = {"b": [2.0, 2.0], "a": [[1.0, -2.0]], "c": [3.0, 2.0]}
    for order in ("abc", "cba", "bca"):  # the order of the state dict does not matter
        experts = experts_of({key: vector[key] for key in order})
        assert merged(experts, density=0.5, keep="k") == [0, -2, 2, 0, 3, 0]
        assert merged(experts, density=0.5, keep="k+1") == [0, -2, 2, 2, 3, 2]


@pytest.mark.parametrize(
    ("density", "keep", "kept"),
    [(0, "k", 0), (0, "k+1", 1), (0.2, "k", 1), (0.2, "k+1", 2), (1, "k", 5), (1, "k+1", 5)],
)
def test_number_kept(density, keep, kept):
    values = merged(experts_of([1, 2, 3, 4, 5]), density=density, keep=keep)
    assert values == [0] * (5 - kept) + [5 - kept + 1 + i for i in range(kept)]


def test_stored_entries_dilute_the_density():
    vector = {"w": [5.0, 4.0, 3.0, 2.0, 1.0], "frozen": [0.0] * 5}
    assert merged(experts_of(vector), density=0.4, keep="k")[5:] == [5, 4, 0, 0, 0]
    diluted = experts_of(vector, entries="stored")
    assert diluted.num_entries == 10
    assert merged(diluted, density=0.4, keep="k")[5:] == [5, 4, 3, 2, 0]
    outside = experts_of({"w": vector["w"]}, entries="stored", frozen_extra=5)
    assert merged(outside, density=0.4, keep="k") == [5, 4, 3, 2, 0]
    assert merged(outside, density=0.9, keep="k") == [5, 4, 3, 2, 1]  # k = 9: zeros are kept, too


def test_cancelling_entries_take_the_sign_of_the_majority_of_the_whole_model():
    # The sums of entry 0 cancel. Elsewhere two signs are negative, one is positive.
    model = {"a": [1.0, -1.0], "b": [1.0, -1.0]}
    other = {"a": [-1.0, -1.0], "b": [1.0, -1.0]}
    assert merged(experts_of(model, other), density=1, combine="sum") == [-1, -2, 2, -2]
    positive = [{k: [-x for x in v] for k, v in vector.items()} for vector in (model, other)]
    assert merged(experts_of(*positive), density=1, combine="sum") == [1, 2, -2, 2]


def test_cancelling_entries_stay_when_there_is_no_majority():
    assert merged(experts_of([1, 2, -2], [-1, 2, -2]), density=1) == [0, 2, -2]


def test_trimming_is_global_not_per_tensor():
    experts = experts_of({"large": [10.0, 20.0], "small": [0.1, 0.2]})
    assert merged(experts, density=0.5, keep="k") == [10, 20, 0, 0]
