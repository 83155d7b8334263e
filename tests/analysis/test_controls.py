"""Controls of masked models: what each changes, and what it leaves as it is."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import mergebook as mb
from mergebook import analysis
from mergebook.weights import Experts


def masked(seed=0, tasks=3, size=40):
    generator = torch.Generator().manual_seed(seed)

    def draw():
        return {"a": torch.randn(size, generator=generator),
                "b": torch.randn(5, 8, generator=generator)}  # fmt: skip

    experts = Experts(draw(), {f"task {n}": draw() for n in range(tasks)})
    return mb.merge("tall_ta", experts, threshold=0.5)


def used(model):
    return {key: model.masks.used(key).tolist() for key in model.masks.shapes}


@given(st.integers(0, 99), st.integers(0, 99))
def test_shuffled_masks_keep_their_density_in_each_tensor(seed, shuffle):
    model = masked(seed)
    control = analysis.shuffle_masks(model, shuffle)
    assert used(control) == used(model)
    again = analysis.shuffle_masks(model, shuffle)
    assert all(torch.equal(control.masks.packed[k], again.masks.packed[k]) for k in ("a", "b"))


def test_shuffled_masks_are_other_masks():
    model = masked()
    first, second = (analysis.shuffle_masks(model, n).masks.packed["b"] for n in (0, 1))
    assert not torch.equal(first, model.masks.packed["b"])
    assert not torch.equal(first, second)


def test_exchanged_masks_are_those_of_the_next_task():
    model = masked()
    control, tasks = analysis.exchange_masks(model), model.tasks
    for task, following in zip(tasks, (*tasks[1:], tasks[0]), strict=True):
        assert torch.equal(control.masks.mask(task, "a"), model.masks.mask(following, "a"))


@given(st.integers(0, 99))
def test_a_random_vector_has_the_norms_of_the_sum(seed):
    model = masked()
    control = analysis.random_vector(model, seed)
    for key, value in model.vector.items():
        assert float(control.vector[key].norm()) == pytest.approx(float(value.norm()), rel=1e-5)
        cosine = torch.cosine_similarity(control.vector[key].flatten(), value.flatten(), 0)
        assert abs(float(cosine)) < 0.9


def test_signs_keep_signs_and_the_mean_size():
    model = masked()
    model.vector["a"][:7] = 0
    control = analysis.signs_only(model)
    value, flat = model.vector["a"], control.vector["a"]
    assert torch.equal(flat.sign(), value.sign())
    sizes = flat.abs().unique().tolist()
    assert sizes == pytest.approx([0, float(value[value != 0].abs().mean())])


@given(st.floats(-2, 2))
@settings(deadline=None)  # the first call is slow
def test_scaling_moves_the_masked_weights_in_proportion(scale):
    model = masked()
    moved = analysis.scale_vector(model, scale).state_dict("task 0")
    base, whole = model.base, model.state_dict("task 0")
    for key in ("a", "b"):
        expected = base[key] + scale * (whole[key] - base[key])
        torch.testing.assert_close(moved[key], expected, rtol=1e-4, atol=1e-5)


def test_the_model_is_left_as_it_is_and_knows_its_backbone():
    model = masked()
    model.backbone = "mini-small"
    before = {key: value.clone() for key, value in model.vector.items()}
    for control in (
        analysis.shuffle_masks(model),
        analysis.exchange_masks(model),
        analysis.random_vector(model),
        analysis.signs_only(model),
        analysis.scale_vector(model, 2),
    ):
        assert control.backbone == "mini-small"
    assert all(torch.equal(model.vector[key], before[key]) for key in before)
