"""EMR: what is elected, what a mask keeps, and the norm that the rescaler gives back."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import mergebook as mb
from mergebook.errors import MethodError
from mergebook.merged import RescaledModel
from mergebook.weights import Experts
from strategies import cases, reals

VECTORS = ([3.0, -1.0, 2.0, 0.0], [1.0, -4.0, -2.0, 0.0], [-2.0, 1.0, 0.0, 0.0])


def merge(vectors=VECTORS, names=("w",), **params):
    """Experts with one tensor of the given entries, or several that share them out."""
    rows = torch.tensor(vectors)
    parts = rows.split(rows.shape[1] // len(names), 1)
    base = {key: torch.zeros(part.shape[1]) for key, part in zip(names, parts, strict=True)}
    states = {
        f"task{t}": {key: part[t].clone() for key, part in zip(names, parts, strict=True)}
        for t in range(len(rows))
    }
    return mb.merge("emr", Experts(base, states), **params)


def bits(merged, task) -> list[int]:
    return merged.masks.mask(task, "w").int().tolist()


def test_rule_by_hand():
    merged = merge()
    # Sums are 2, -4, 0, 0: the largest positive, the largest negative, nothing, nothing.
    assert merged.vector["w"].tolist() == [3, -4, 0, 0]
    assert [bits(merged, f"task{t}") for t in range(3)] == [[1, 1, 0, 0], [1, 1, 0, 0], [0] * 4]
    # Sums of magnitudes 6, 7 and 3 against 7, 7 and none.
    assert merged.rescalers.tolist() == pytest.approx([6 / 7, 1, 0])
    assert merged.state_dict("task0")["w"].tolist() == pytest.approx([18 / 7, -24 / 7, 0, 0])
    assert merged.state_dict("task2")["w"].tolist() == [0, 0, 0, 0]


def test_an_entry_that_cancels_is_negative_in_the_released_code():
    merged = merge(cancelled="negative")
    assert merged.vector["w"].tolist() == [3, -4, -2, 0]
    assert [bits(merged, f"task{t}") for t in range(3)] == [[1, 1, 0, 0], [1, 1, 1, 0], [0] * 4]


def test_released_rescaler_weighs_tensors_alike():
    vectors = [[1.0, 1.0, 1.0, 1.0, 8.0], [2.0, 2.0, 2.0, 2.0, 8.0]]
    base = {"matrix": torch.zeros(4), "bias": torch.zeros(1)}
    states = {
        f"task{t}": {"matrix": torch.tensor(row[:4]), "bias": torch.tensor(row[4:])}
        for t, row in enumerate(vectors)
    }
    experts = Experts(base, states)
    # The elected vector is (2, 2, 2, 2, 8): sums 12 and 16, means 1 + 8 and 2 + 8.
    paper, released, none = (
        mb.merge("emr", experts, rescaler=rule).rescalers.tolist()
        for rule in ("paper", "released", "none")
    )
    assert paper == pytest.approx([12 / 16, 1])
    assert released == pytest.approx([9 / 10, 1])
    assert none == [1, 1]


def test_equal_experts_come_back():
    merged = merge([VECTORS[0]] * 3)
    assert merged.rescalers.tolist() == [1, 1, 1]
    for task in merged.tasks:
        assert merged.state_dict(task)["w"].tolist() == VECTORS[0]


@given(case=cases(min_tasks=2, elements=reals), data=st.data())
def test_masks_keep_what_agrees_and_the_rescaler_gives_back_the_norm(case, data):
    experts = case.load()
    rule = data.draw(st.sampled_from(("paper", "released")))
    merged = mb.merge("emr", experts, rescaler=rule)
    own, kept = (dict.fromkeys(experts.tasks, 0.0) for _ in range(2))
    for key in merged.vector:
        deltas = {t: (case.experts[t][key] - case.base[key]).double() for t in experts.tasks}
        vector = merged.vector[key].double()
        weight = 1 if rule == "paper" else 1 / vector.numel()
        for task, delta in deltas.items():
            mask = merged.masks.mask(task, key)
            assert torch.equal(mask, delta * vector > 0)
            assert (vector.abs() >= delta.abs())[mask].all()
            own[task] += weight * float(delta.abs().sum())
            kept[task] += weight * float((mask * vector).abs().sum())
        found = torch.stack([(delta == vector) & (vector != 0) for delta in deltas.values()])
        assert torch.equal(found.any(0), vector != 0)  # each entry is that of a task
    assert len(merged.rescalers) == (len(experts.tasks) if merged.vector else 0)
    for task, factor in zip(experts.tasks, merged.rescalers.tolist(), strict=False):
        # Equal norms, unless nothing agrees.
        assert factor * kept[task] == pytest.approx(own[task] if kept[task] else 0.0, rel=1e-5)


@pytest.mark.parametrize(("dtype", "width"), [(torch.float32, 32), (torch.float64, 64)])
def test_storage_counts_the_rescalers(dtype, width):
    base = {"w": torch.zeros(5, dtype=dtype), "frozen": torch.zeros(2, dtype=dtype)}
    states = {task: base | {"w": torch.full((5,), value, dtype=dtype)}
              for task, value in (("one", 1.0), ("two", 2.0))}  # fmt: skip
    merged = mb.merge("emr", Experts(base, states))
    assert isinstance(merged, RescaledModel)
    # base, frozen, vector, two masks, two rescalers
    assert merged.storage().bits == width * (2 * 5 + 2) + 2 * 5 + 2 * width
    assert merged.storage().expression == f"{width}(2P'+F) + TP' + {width}T"


def test_tasks_are_asked_for_by_name():
    with pytest.raises(MethodError, match="differs by task"):
        merge().state_dict()
    with pytest.raises(MethodError, match="unknown task 'task7'"):
        merge().state_dict("task7")
