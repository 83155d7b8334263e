"""AWD and DOGE: descents against brute force on whole vectors, and what they leave alone."""

import math

import pytest
import torch

import mergebook as mb
from mergebook.learning.disentangling import disentangle
from mergebook.methods.doge import modification
from mergebook.weights import Experts


def correlated(number: int, size: int, seed: int = 0) -> torch.Tensor:
    """Vectors ``[T, P]`` of length about 1 that share a part."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(number, size, generator=generator, dtype=torch.float64)
    shared = torch.randn(size, generator=generator, dtype=torch.float64)
    return (rows + 0.7 * shared) / math.sqrt(1.5 * size)


def loss(vectors: torch.Tensor, delta: torch.Tensor, penalty: float) -> torch.Tensor:
    apart = vectors - delta
    cosines = torch.nn.functional.normalize(apart) @ torch.nn.functional.normalize(apart).T
    off = ~torch.eye(len(vectors), dtype=torch.bool)
    return cosines[off].abs().mean() + penalty * delta.norm()


@pytest.mark.parametrize("penalty", [0.1, 0.0])
def test_descent_in_the_span_is_descent_on_the_whole_vector(penalty):
    vectors = correlated(5, 3000)
    delta = torch.zeros(3000, dtype=torch.float64, requires_grad=True)
    for _ in range(60):
        (gradient,) = torch.autograd.grad(loss(vectors, delta, penalty), delta)
        delta = (delta - 0.05 * gradient).detach().requires_grad_()
    found = disentangle(vectors @ vectors.T, penalty, 0.05, 60) @ vectors
    torch.testing.assert_close(found, delta.detach(), rtol=0, atol=1e-10)
    assert found.norm() > 0.05
    assert loss(vectors, found, 0) < 0.9 * loss(vectors, torch.zeros(3000).double(), 0)


def test_dependent_task_vectors_do_not_disturb_the_descent():
    vectors = correlated(3, 500)
    vectors = torch.cat([vectors, vectors[:1], torch.zeros_like(vectors[:1])])
    found = disentangle(vectors @ vectors.T, 0.1, 0.05, 60)
    assert found.isfinite().all() and found.abs().max() < 1
    torch.testing.assert_close(found[0], found[3])


def experts_of(vectors: torch.Tensor, names: str = "ab") -> Experts:
    """Experts over a base of zeros, their vectors cut into tensors."""
    parts = [row.tensor_split(len(names)) for row in vectors]
    states = {f"task{t}": dict(zip(names, part, strict=True)) for t, part in enumerate(parts)}
    return Experts({n: torch.zeros_like(states["task0"][n]) for n in names}, states)


def flat(merged) -> torch.Tensor:
    state = merged.state_dict()
    return torch.cat([state[key].flatten() for key in sorted(state)])


def test_orthogonal_task_vectors_have_nothing_redundant():
    experts = experts_of(torch.eye(6, dtype=torch.float64)[:3] * 2)
    merged = flat(mb.merge("awd", experts, scale=0.5))
    assert torch.equal(merged, flat(mb.merge("task_arithmetic", experts, scale=0.5)))


def test_scope_is_the_whole_model_or_each_tensor():
    vectors = correlated(3, 40)
    whole = disentangle(vectors @ vectors.T, 0.1, 0.01, 300)
    halves = [disentangle(v @ v.T, 0.1, 0.01, 300) for v in vectors.tensor_split(2, dim=1)]
    experts = experts_of(vectors)
    torch.testing.assert_close(
        flat(mb.merge("awd", experts, scale=1.0)), (vectors - whole @ vectors).sum(0)
    )
    parts = zip(halves, vectors.tensor_split(2, dim=1), strict=True)
    apart = torch.cat([(v - c @ v).sum(0) for c, v in parts])
    torch.testing.assert_close(flat(mb.merge("awd", experts, scale=1.0, scope="layer")), apart)
    assert not torch.allclose(halves[0], halves[1], rtol=0.01)


def doge_loss(deltas: torch.Tensor, coefficients: torch.Tensor, change: torch.Tensor):
    merged = (coefficients[:, None, None] * (deltas + change)).sum(0)
    return sum((delta * (delta - merged)).sum(1).square().sum() for delta in deltas)


@pytest.mark.parametrize("shape", [(6, 9), (9, 6)])
def test_modification_is_adam_on_the_projected_gradient(shape):
    deltas = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    coefficients = 0.5 / deltas.flatten(1).norm(dim=1)
    basis = torch.linalg.qr(torch.randn(shape[0], 2).double())[0]
    change = torch.zeros(shape, dtype=torch.float64, requires_grad=True)
    adam = torch.optim.Adam([change], lr=0.01)
    for _ in range(30):
        adam.zero_grad()
        doge_loss(deltas, coefficients, change).backward()
        change.grad -= basis @ basis.T @ change.grad
        adam.step()
    found = modification(deltas, coefficients, basis, 0.01, 30)
    torch.testing.assert_close(found, change.detach(), rtol=0, atol=1e-9)
    start = doge_loss(deltas, coefficients, torch.zeros_like(found))
    assert doge_loss(deltas, coefficients, found) < start


NAME = "encoder.layers.0.self_attn.q_proj.weight"


def block_experts(extra: float = 1.0) -> Experts:
    """Two experts with two block matrices of 8 entries and three other tensors."""
    generator = torch.Generator().manual_seed(0)

    def state(size: float) -> dict[str, torch.Tensor]:
        shapes = {NAME: (2, 4), "mlp.fc1.weight": (4, 2), "embedding": (3, 3), "mlp.fc1.bias": (4,)}
        state = {k: size * torch.randn(s, generator=generator).double() for k, s in shapes.items()}
        return state | {"embedding": extra * state["embedding"]}

    return Experts(state(0), {"one": state(1), "two": state(2)})


def test_only_blocks_change_and_without_steps_each_task_has_the_same_length():
    merged = mb.merge("doge", block_experts(), steps=0, density=1.0, scale=0.5).state_dict()
    assert not merged["embedding"].any() and not merged["mlp.fc1.bias"].any()
    experts = block_experts()
    for key in (NAME, "mlp.fc1.weight"):
        units = [experts.expert(t)[key] / experts.expert(t)[key].norm() for t in experts.tasks]
        torch.testing.assert_close(merged[key], 0.5 * (units[0] + units[1]))


def test_marks_are_of_the_task_vector_over_all_blocks_and_no_other_tensor():
    one = block_experts(extra=1000.0).select(["one"])
    merged = mb.merge("doge", one, steps=0, density=0.25).state_dict()
    kept = {key: int(merged[key].count_nonzero()) for key in merged}
    assert kept[NAME] + kept["mlp.fc1.weight"] == sum(kept.values()) == 16 * 0.25 + 1
    sizes = torch.cat([one.expert("one")[k].flatten() for k in (NAME, "mlp.fc1.weight")]).abs()
    smallest = min(one.expert("one")[k].abs()[merged[k] != 0].min() for k in kept if kept[k])
    assert smallest == sizes.sort(descending=True).values[4]
    # Steps move the marked entries, and no others.
    moved = mb.merge("doge", one, steps=5, density=0.25, lr=0.01).state_dict()
    for key in merged:
        assert torch.equal(moved[key] != 0, merged[key] != 0)
    assert not torch.equal(moved[NAME], merged[NAME])


def test_an_expert_equal_to_the_base_changes_nothing():
    experts = block_experts()
    idle = Experts(experts.base, {"one": experts.expert("one"), "idle": dict(experts.base)})
    left = mb.merge("doge", idle, steps=0).state_dict()
    right = mb.merge("doge", experts.select(["one"]), steps=0).state_dict()
    assert all(torch.equal(left[key], right[key]) for key in left)
