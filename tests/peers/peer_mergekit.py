"""mergekit: state dicts in memory, `merge_state_dicts`."""

import pytest
import torch
from mergekit.merge_methods.api import merge_state_dicts

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


def peer(method, experts=EXPERTS, **params):
    return merge_state_dicts({"base": BASE} | experts, method, base="base", parameters=params)


def test_task_arithmetic_agrees():
    theirs = peer("task_arithmetic", weight=0.3)
    assert_agree(ours("task_arithmetic", BASE, EXPERTS, scale=0.3), theirs)


def test_linear_is_averaging():
    theirs = merge_state_dicts(EXPERTS, "linear", parameters={"weight": 1.0})
    assert_agree(ours("averaging", BASE, EXPERTS), theirs)


@pytest.mark.parametrize("density", [0.1, 0.2, 0.5])
def test_ties_trims_tensor_by_tensor_and_keeps_exactly_k(density):
    theirs = peer("ties", weight=1.0, density=density)
    params = {"scale": 1.0, "density": density, "combine": "mean"}
    assert_agree(each_tensor("ties", BASE, EXPERTS, keep="k", **params), theirs)
    assert apart(ours("ties", BASE, EXPERTS, keep="k", **params), theirs, BASE) > 0.1


def test_ties_weight_cancels_and_lambda_is_the_scale():
    params = {"density": 0.2, "combine": "mean", "keep": "k"}
    assert_agree(peer("ties", weight=0.3, density=0.2), peer("ties", weight=1.0, density=0.2))
    assert_agree(
        each_tensor("ties", BASE, EXPERTS, scale=0.3, **params),
        peer("ties", weight=1.0, density=0.2, **{"lambda": 0.3}),
    )


def test_ties_keeps_at_least_one_entry_of_a_tensor():
    base, experts = {"s": torch.zeros(3)}, {"one": {"s": torch.tensor([1.0, 3.0, 2.0])}}
    models = {"base": base} | experts
    parameters = {"weight": 1.0, "density": 0.2}
    theirs = merge_state_dicts(models, "ties", base="base", parameters=parameters)
    assert theirs["s"].tolist() == [0, 3, 0]
    assert ours("ties", base, experts, density=0.2, keep="k")["s"].tolist() == [0, 0, 0]


@pytest.mark.parametrize("density", [0.5, 0.1])
def test_dare_rescales_to_the_l1_norm(density):
    torch.manual_seed(0)
    one = {"task0": EXPERTS["task0"]}
    theirs = peer("dare_linear", one, weight=1.0, density=density)
    factors = []
    for key, vector in VECTORS[0].items():
        kept = (theirs[key] - BASE[key]).abs() > 1e-6
        if not kept.any():
            continue
        factor = vector.abs().sum() / (vector * kept).abs().sum()
        torch.testing.assert_close(
            theirs[key], BASE[key] + factor * vector * kept, rtol=0, atol=1e-6
        )
        factors.append(float(factor))
    # The paper, and this library, multiply by 1 / density, whatever was drawn.
    assert max(abs(factor * density - 1) for factor in factors) > 0.1
    result = ours("dare_ta", BASE, one, scale=1.0, drop=1 - density)
    for key, vector in VECTORS[0].items():
        kept = result[key] != BASE[key]
        torch.testing.assert_close(
            result[key], BASE[key] + vector * kept / density, rtol=0, atol=1e-6
        )


def test_dare_without_rescaling_only_drops():
    torch.manual_seed(0)
    theirs = peer(
        "dare_linear", {"task0": EXPERTS["task0"]}, weight=1.0, density=0.5, rescale=False
    )
    for key, vector in VECTORS[0].items():
        kept = theirs[key] != BASE[key]
        torch.testing.assert_close(theirs[key], BASE[key] + vector * kept, rtol=0, atol=1e-6)


def test_breadcrumbs_agree_while_there_is_room():
    theirs = peer("breadcrumbs", weight=0.4, density=0.2, gamma=0.1)
    params = {"scale": 0.4, "density": 0.2, "outliers": 0.1}
    assert_agree(ours("breadcrumbs", BASE, EXPERTS, **params), theirs)
    by_rows = ours("breadcrumbs", BASE, EXPERTS, over="rows", **params)
    assert apart(by_rows, theirs, BASE) > 0.1


def test_breadcrumbs_remove_fewer_outliers_to_reach_the_density():
    theirs = peer("breadcrumbs", weight=1.0, density=0.9, gamma=0.3)
    params = {"scale": 1.0, "density": 0.9, "outliers": 0.3}
    assert apart(ours("breadcrumbs", BASE, EXPERTS, **params), theirs, BASE) > 0.1
    by_hand = {}
    for key in BASE:
        n = BASE[key].numel()
        small = n - max(0, n - int(0.9 * n) - int(0.3 * n))  # all but the smallest
        top = small - int(0.9 * n)
        by_hand[key] = sum(
            v[key] * (largest(v[key], small) & ~largest(v[key], top)) for v in VECTORS
        )
    assert_agree(add(BASE, by_hand), theirs)


def test_breadcrumbs_of_a_scalar():
    base, experts = {"s": torch.tensor(0.0)}, {"one": {"s": torch.tensor(1.0)}}
    parameters = {"weight": 1.0, "density": 0.5, "gamma": 0.1}
    models = {"base": base} | experts
    theirs = merge_state_dicts(models, "breadcrumbs", base="base", parameters=parameters)
    assert theirs["s"] == 0
    assert ours("breadcrumbs", base, experts, scale=1.0, density=0.5, outliers=0.1)["s"] == 1


@pytest.mark.parametrize("t", [0.0, 0.3, 0.5, 1.0])
def test_slerp_of_two_experts_agrees(t):
    two = {task: EXPERTS[task] for task in ("task0", "task1")}
    theirs = merge_state_dicts(two, "slerp", base="task0", parameters={"t": t})
    assert_agree(ours("slerp", BASE, two, t=t), theirs)


def test_slerp_interpolates_with_the_base_or_between_task_vectors():
    """Given a base and an expert, the base is one of the two ends; task vectors are no choice."""
    pair = {"base": BASE, "task0": EXPERTS["task0"]}
    theirs = merge_state_dicts(pair, "slerp", base="base", parameters={"t": 1.0})
    assert_agree(EXPERTS["task0"], theirs)
    vectors = {f"task{t}": vector for t, vector in enumerate(VECTORS[:2])}
    theirs = merge_state_dicts(vectors, "slerp", base="task0", parameters={"t": 0.4})
    two = {task: EXPERTS[task] for task in ("task0", "task1")}
    assert_agree(ours("slerp", BASE, two, t=0.4, of="task_vectors"), add(BASE, theirs))


def test_slerp_of_a_zero_tensor_is_shorter():
    one, zero = {"w": torch.tensor([3.0, 4.0])}, {"w": torch.zeros(2)}
    theirs = merge_state_dicts({"a": one, "b": zero}, "slerp", base="a", parameters={"t": 0.5})
    torch.testing.assert_close(theirs["w"], one["w"] * 0.5**0.5)  # as at 90 degrees
    base = {"w": torch.ones(2)}
    assert_agree(ours("slerp", base, {"a": one, "b": zero}), {"w": one["w"] / 2})


def test_model_stock_agrees():
    assert_agree(ours("model_stock", BASE, EXPERTS), peer("model_stock"))


def test_model_stock_steps_away_from_experts_that_disagree():
    base = {"w": torch.zeros(2)}
    experts = {"a": {"w": torch.tensor([1.0, 0.2])}, "b": {"w": torch.tensor([-0.9, 0.4])}}
    theirs = merge_state_dicts({"base": base} | experts, "model_stock", base="base")
    average = (experts["a"]["w"] + experts["b"]["w"]) / 2
    cosine = torch.cosine_similarity(experts["a"]["w"], experts["b"]["w"], dim=0)
    torch.testing.assert_close(theirs["w"], 2 * cosine / (1 + cosine) * average)
    assert theirs["w"] @ average < 0
    assert_agree(ours("model_stock", base, experts), base)


def test_dare_ties_elects_without_trimming():
    torch.manual_seed(0)
    theirs = peer("dare_ties", weight=1.0, density=0.6)
    torch.manual_seed(0)
    weights = {f"task{t}": 1.0 for t in range(len(VECTORS))}
    for key, rows in stack(VECTORS).items():
        thinned = []
        for task, row in zip(weights, rows, strict=True):
            pair = {"base": {"w": torch.zeros_like(row)}, task: {"w": row}}
            parameters = {"weight": 1.0, "density": 0.6}
            thinned.append(
                merge_state_dicts(pair, "dare_linear", base="base", parameters=parameters)["w"]
            )
        experts = {str(t): {"w": row} for t, row in enumerate(thinned)}
        base = {"w": torch.zeros_like(rows[0])}
        params = {"density": 1.0, "scale": 1.0, "combine": "sum"}
        result = ours("ties", base, experts, **params)["w"]
        torch.testing.assert_close(BASE[key] + result, theirs[key], rtol=0, atol=1e-5, msg=key)
