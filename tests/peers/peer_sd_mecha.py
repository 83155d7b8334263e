"""sd-mecha: recipes over state dicts in memory."""

from itertools import pairwise

import pytest
import sd_mecha
import torch
from sd_mecha.extensions.builtin.merge_methods import ties

from peers.cases import (
    add,
    apart,
    assert_agree,
    each_tensor,
    largest,
    models,
    ours,
    stack,
    task_vectors,
)

BASE, EXPERTS = models()
VECTORS = task_vectors(BASE, EXPERTS)


def nodes():
    """Recipe nodes of the base and of the task vectors."""
    base = sd_mecha.model(BASE)
    return base, [sd_mecha.model(expert) - base for expert in EXPERTS.values()]


def run(recipe, **options):
    return sd_mecha.merge(recipe, **({"output_dtype": torch.float32} | options))


def test_task_arithmetic_agrees():
    base, deltas = nodes()
    total = deltas[0] + deltas[1] + deltas[2] + deltas[3]
    assert_agree(ours("task_arithmetic", BASE, EXPERTS, scale=0.3), run(base + total * 0.3))


def test_the_result_is_float16_unless_asked():
    base, deltas = nodes()
    theirs = sd_mecha.merge(base + deltas[0] * 0.3)
    assert {tensor.dtype for tensor in theirs.values()} == {torch.float16}
    result = ours("task_arithmetic", BASE, EXPERTS)
    assert {tensor.dtype for tensor in result.values()} == {torch.float32}


def test_averaging_agrees():
    theirs = run(sd_mecha.n_average(*[sd_mecha.model(expert) for expert in EXPERTS.values()]))
    assert_agree(ours("averaging", BASE, EXPERTS), theirs)


@pytest.mark.parametrize("density", [0.1, 0.2, 0.5])
def test_ties_trims_tensor_by_tensor(density):
    base, deltas = nodes()
    theirs = run(base + sd_mecha.ties_sum(*deltas, k=density, vote_sgn=True))
    kept = {key: n - max(int((1 - density) * n), 1) + 1 for key, n in numels().items()}
    by_hand = {}
    for key, rows in stack(VECTORS).items():
        trimmed = torch.stack([row * largest(row, kept[key]) for row in rows])
        agree = trimmed.sign() == trimmed.sum(0).sign()
        by_hand[key] = (trimmed * agree).sum(0) / agree.sum(0).clamp(min=1)
    assert_agree(add(BASE, by_hand), theirs)
    params = {"scale": 1.0, "density": density, "combine": "mean"}
    assert apart(ours("ties", BASE, EXPERTS, **params), theirs, BASE) > 0.1
    # Of a share that is not whole they keep one entry more; else it is k + 1 of each tensor.
    assert {kept[key] - int(density * n) for key, n in numels().items()} <= {1, 2}
    if density == 0.5:
        assert_agree(each_tensor("ties", BASE, EXPERTS, **params), theirs)


def numels():
    return {key: tensor.numel() for key, tensor in BASE.items()}


def test_ties_counts_heads_unless_asked():
    """By default the sign is elected by the number of tasks, not by the sum of their values."""
    base, deltas = nodes()
    theirs = run(base + sd_mecha.ties_sum(*deltas, k=1.0))
    by_hand = {}
    for key, rows in stack(VECTORS).items():
        agree = rows.sign() == rows.sign().sum(0).sign()
        by_hand[key] = (rows * agree).sum(0) / agree.sum(0).clamp(min=1)
    assert_agree(add(BASE, by_hand), theirs)
    assert apart(ours("ties", BASE, EXPERTS, density=1.0), theirs, BASE) > 0.1


def test_ties_leaves_an_entry_at_the_base_where_values_cancel():
    vectors = [torch.tensor([1.0, -2.0, -3.0]), torch.tensor([-1.0, -2.0, -3.0])]
    theirs = sd_mecha.ties_sum.__wrapped__(*vectors, k=1.0, vote_sgn=True)
    assert theirs.tolist() == [0, -2, -3]
    experts = {str(t): {"w": vector} for t, vector in enumerate(vectors)}
    result = ours("ties", {"w": torch.zeros(3)}, experts, density=1.0)["w"]
    assert result.tolist() == [-1, -2, -3]


@pytest.mark.parametrize("t", [0.0, 0.3, 1.0])
def test_slerp_interpolates_the_length_apart(t):
    two = {task: EXPERTS[task] for task in ("task0", "task1")}
    a, b = (sd_mecha.model(expert) for expert in two.values())
    theirs = run(sd_mecha.slerp(a, b, alpha=t))
    by_hand = {}
    for key in BASE:
        x, y = (expert[key].double() for expert in two.values())
        angle = torch.acos(torch.cosine_similarity(x.flatten(), y.flatten(), dim=0))
        direction = torch.sin((1 - t) * angle) * x / x.norm() + torch.sin(t * angle) * y / y.norm()
        length = (1 - t) * x.norm() + t * y.norm()
        by_hand[key] = (direction / torch.sin(angle) * length).float()
    assert_agree(by_hand, theirs, 1e-4)  # their angle is computed in float32
    assert apart(ours("slerp", BASE, two, t=t), theirs, BASE) < 0.1  # lengths are nearly equal


def test_model_stock_looks_at_rows_and_at_neighbours():
    base, deltas = nodes()
    theirs = run(base + sd_mecha.model_stock(*deltas))
    by_hand = {}
    for key, rows in stack(VECTORS).items():
        pairs = pairwise(rows)  # first and second, second and third, ...
        cosine = torch.stack([torch.cosine_similarity(a, b, dim=-1) for a, b in pairs]).mean(0)
        count = len(rows)
        ratio = count * cosine / (1 + (count - 1) * cosine)
        by_hand[key] = ratio.unsqueeze(-1) * rows.mean(0)
    assert_agree(add(BASE, by_hand), theirs, 1e-5)
    assert apart(ours("model_stock", BASE, EXPERTS), theirs, BASE) > 0.1


def test_dropout_divides_by_the_number_of_tasks_that_kept_an_entry():
    """Their DARE averages over what is left; the paper's adds up."""
    rows = stack(VECTORS)["encoder.0.mlp.c_fc.weight"]
    theirs = ties.dropout.__wrapped__(*rows, probability=0.5, seed=0)
    one_by_one = [
        ties.dropout.__wrapped__(
            *[row if t == t_ else torch.zeros_like(row) for t_, row in enumerate(rows)],
            probability=0.5,
            seed=0,
        )
        for t in range(len(rows))
    ]
    torch.testing.assert_close(sum(one_by_one), theirs)
    # A task's part is its vector over (1 - p), divided by how many tasks kept the entry.
    divisors = torch.stack(
        [rows[t] / 0.5 / part for t, part in enumerate(one_by_one)]
    )  # infinite where dropped
    kept = divisors.isfinite()
    count = kept.sum(0).expand_as(divisors)
    torch.testing.assert_close(divisors[kept], count[kept].float(), rtol=1e-4, atol=1e-4)
    assert set(count[kept].tolist()) == {1, 2, 3, 4}


@pytest.mark.parametrize("rank", [0, 3, 12])
def test_cart_put_together_from_their_parts_agrees(rank):
    """They have no CART, but averages and truncated matrices; these have 12 directions each."""
    names = (
        "encoder.0.attn.in_proj_weight",
        "encoder.0.mlp.c_fc.weight",
        "encoder.0.mlp.c_proj.weight",
    )
    base = {key: BASE[key] for key in names}
    experts = {task: {key: expert[key] for key in names} for task, expert in EXPERTS.items()}
    average = sd_mecha.n_average(*[sd_mecha.model(expert) for expert in experts.values()])
    centred = [
        sd_mecha.truncate_rank(
            sd_mecha.model(expert) - average, rank=rank, use_approximate_basis=False
        )
        for expert in experts.values()
    ]
    total = centred[0] + centred[1] + centred[2] + centred[3]
    theirs = run(average + total * 1.5)
    assert_agree(ours("cart", base, experts, rank=rank / 12, scale=1.5), theirs, 1e-5)
