"""Methods that learn on images: what they start from, what they may change, and their traps."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch

import mergebook as mb
from comparison import assert_equal, assert_near
from mergebook.calibration import Calibration
from mergebook.errors import MethodError, ParameterError
from mergebook.learning import Combination, entropy, learn_coefficients, minimise
from mergebook.learning.components import Components, kept, learn_components
from mergebook.learning.pseudo_labels import pseudo_label_loss
from mergebook.learning.tuning import labelled_batches, tune
from mergebook.merged import HeadedModel
from mergebook.registry import Learning
from mergebook.storage import Sizes
from mergebook.weights import Experts
from oracles.adapted import choose_components, symerge_solution

ENTROPY = ("adamerging_task", "adamerging_layer", "adamerging_task_pp", "adamerging_layer_pp",
           "cart_adamerging", "adarank", "cart_adarank")  # fmt: skip
ADAPTED = (*ENTROPY, "symerge")
ALL = (*ADAPTED, "multitask", "atm")
LEARNING = Learning(steps=3, lr=0.02, batch_size=6)


def short(name: str) -> dict:
    return {"steps": 1, "rounds": 1} if name == "atm" else {"steps": 1}


@pytest.fixture
def images(calibration, experts) -> Calibration:
    return calibration.select(experts.tasks)


@pytest.fixture(scope="module")
def one(calibration) -> Calibration:
    return calibration.select(["one"])


# ---------------------------------------------------------------- before the first step


@pytest.mark.parametrize(
    ("name", "params", "plain", "plain_params"),
    [
        ("adamerging_task", {"init": 0.4}, "task_arithmetic", {"scale": 0.4}),
        ("adamerging_layer", {"init": 0.4}, "task_arithmetic", {"scale": 0.4}),
        (
            "adamerging_task_pp",
            {"density": 0.3, "keep": "k"},
            "ties",
            {"density": 0.3, "keep": "k"},
        ),
        ("adamerging_layer_pp", {}, "ties", {}),
        ("cart_adamerging", {"rank": 0.2, "init": 1.7}, "cart", {"rank": 0.2, "scale": 1.7}),
        ("cart_adamerging", {"qkv": "split"}, "cart", {"qkv": "split", "rank": 0.16}),
        ("cart_adarank", {"rank": 0.2, "init": 1.7}, "cart", {"rank": 0.2, "scale": 1.7}),
        ("adarank", {"init": 0.4}, "task_arithmetic", {"scale": 0.4}),
        ("adarank", {"init": 0.4, "qkv": "split"}, "task_arithmetic", {"scale": 0.4}),
        ("adarank", {"rank": 0.2}, "cart_uncentred", {"rank": 0.2, "scale": 0.3}),
        ("symerge", {"init": 0.4}, "task_arithmetic", {"scale": 0.4}),
    ],
)
def test_without_a_step_it_is_the_merge_it_starts_from(
    name, params, plain, plain_params, experts, calibration
):
    if plain == "ties":
        plain_params = {"combine": "sum", "scale": 0.3, **plain_params}
    adapted = mb.merge(name, experts, calibration, steps=0, **params)
    assert_near(adapted.state_dict(), mb.merge(plain, experts, **plain_params).state_dict(), 2e-6)


def test_training_starts_at_the_base_or_the_average(experts, calibration, base):
    assert_equal(mb.merge("multitask", experts, calibration, steps=0).state_dict(), base)
    assert_equal(mb.merge("atm", experts, calibration, rounds=0).state_dict(), base)
    merged = mb.merge("atm", experts, calibration, rounds=0, start="average")
    assert_equal(merged.state_dict(), mb.merge("averaging", experts).state_dict())


# ---------------------------------------------------------------- inputs of every sort


@pytest.mark.parametrize("name", ALL)
def test_experts_equal_to_the_base_give_the_base(name, base, one):
    experts = Experts(base, {"one": base}, backbone="mini-small")
    assert_equal(mb.merge(name, experts, one, **short(name)).state_dict(), base)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_other_types_of_weights(name, dtype, base, states, one):
    cast = [{key: value.to(dtype) for key, value in s.items()} for s in (base, states["one"])]
    experts = Experts(cast[0], {"one": cast[1]}, backbone="mini-small")
    state = mb.merge(name, experts, one, **short(name)).state_dict()
    assert all(state[key].dtype == dtype and state[key].isfinite().all() for key in base)
    assert not torch.equal(state["proj"], cast[0]["proj"])


@pytest.mark.parametrize("name", ADAPTED)
def test_an_expert_that_changed_nothing_does_no_harm(name, base, states, calibration):
    experts = Experts(base, {"one": states["one"], "two": base}, backbone="mini-small")
    state = mb.merge(name, experts, calibration, steps=2, lr=0.05).state_dict()
    assert all(tensor.isfinite().all() for tensor in state.values())


def test_the_coefficients_of_an_idle_expert_stay(base, states, calibration):
    experts = Experts(base, {"one": states["one"], "two": base}, backbone="mini-small")
    images = calibration.select(experts.tasks)
    for layerwise in (True, False):
        learned, _ = learn_coefficients(
            Combination(experts), images, LEARNING, layerwise=layerwise, init=0.3, clamp="unit"
        )
        assert torch.all(learned[:, 1] == 0.3)
        assert not torch.any(learned[:, 0] == 0.3)


@pytest.mark.parametrize("name", ENTROPY)
def test_a_loss_that_is_not_finite_is_named(name, experts, calibration):
    inputs = {**calibration.inputs, "two": torch.full_like(calibration.inputs["two"], math.nan)}
    broken = Calibration("mini-small", inputs, calibration.heads, 20.0)
    with pytest.raises(MethodError, match=r"learning the .*coefficients: loss is nan at step 0"):
        mb.merge(name, experts, broken, steps=1)


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("adamerging_layer", {"clamp": "extended"}),
        ("adamerging_layer", {"batches": 0}),
        ("adarank", {"learn": "nothing"}),
        ("symerge", {"samples": "some"}),
        ("atm", {"steps": 0}),
        ("multitask", {"optimizer": "adam"}),
    ],
)
def test_parameters_out_of_range_are_refused(name, params, experts, calibration):
    with pytest.raises(ParameterError, match=next(iter(params))):
        mb.merge(name, experts, calibration, **params)


# ---------------------------------------------------------------- coefficients


def test_a_coefficient_per_task_is_the_same_in_all_layers(experts, images):
    combination = Combination(experts)
    options = {"init": 0.3, "clamp": "unit"}
    learned, _ = learn_coefficients(combination, images, LEARNING, layerwise=False, **options)
    assert learned.shape == (len(experts.trained), 3)
    assert torch.equal(learned, learned[:1].expand_as(learned))
    layerwise, _ = learn_coefficients(combination, images, LEARNING, layerwise=True, **options)
    assert len(layerwise.unique(dim=0)) > 1


def test_limits_of_the_coefficients(experts, images):
    combination = Combination(experts)
    options = {"learning": replace(LEARNING, lr=0.2), "layerwise": True, "init": 0.9}
    for clamp, low, high in (("unit", 0, 1), ("extended", -0.5, 2)):
        learned, _ = learn_coefficients(combination, images, clamp=clamp, **options)
        assert low <= learned.min() and learned.max() <= high
    free, _ = learn_coefficients(combination, images, clamp="none", **options)
    assert free.max() > 1


def test_a_coefficient_beyond_its_limits_gets_no_gradient(experts, calibration, states, base):
    merged = mb.merge("adamerging_layer", experts, calibration, init=1.5, steps=2, lr=0.1)
    full = {key: sum(s[key] - base[key] for s in states.values()) + base[key] for key in base}
    assert_near(merged.state_dict(), full, 2e-6)


def test_entropy_of_the_predictions_falls(experts, images):
    learning = replace(LEARNING, steps=6)  # batches hold all images: steps can be compared
    _, curve = learn_coefficients(
        Combination(experts), images, learning, layerwise=True, init=0.3, clamp="unit"
    )
    assert len(curve) == 6
    assert all(later < earlier for earlier, later in pairwise(curve))
    start = mb.merge("task_arithmetic", experts).encoder()
    with torch.no_grad():
        scores = [images.logits(start(images.inputs[t]), t) for t in experts.tasks]
    assert curve[0] == pytest.approx(float(sum(map(entropy, scores))), rel=1e-5)


def test_entropy_by_hand_and_without_nan():
    assert float(entropy(torch.zeros(5, 4))) == pytest.approx(math.log(4))
    assert float(entropy(torch.tensor([[0.0, math.log(3.0)]]))) == pytest.approx(
        math.log(4) - 0.75 * math.log(3)
    )
    sure = torch.tensor([[1e4, 0.0]], requires_grad=True)
    entropy(sure).backward()
    assert torch.equal(sure.grad, torch.zeros(1, 2))


# ---------------------------------------------------------------- masks on components


def test_a_mask_is_hard_forward_and_soft_backward():
    logits = torch.tensor([-3.0, -0.1, 0.0, 0.1, 20.0], requires_grad=True)
    mask = kept(logits)
    assert torch.equal(mask, torch.tensor([0.0, 0.0, 0.0, 1.0, 1.0]))
    (mask * torch.arange(1.0, 6.0)).sum().backward()
    p = 1 / (1 + torch.exp(-logits.detach() / 10))
    torch.testing.assert_close(logits.grad, torch.arange(1.0, 6.0) * p * (1 - p) / 10)


@pytest.mark.parametrize(("rank", "number"), [(0.0, 0), (0.005, 0), (0.3, 28), (1.0, 96)])
def test_the_largest_components_are_kept_at_first(rank, number, experts, images):
    components = Components(experts, centred=False, qkv="fused")
    _, masks, _ = learn_components(
        components, images, Learning(steps=0, lr=0), rank=rank, init=0.3, learn="both"
    )
    assert len(masks) == 4 * 6  # stacked query, key and value; output; two maps of the MLP
    for mask in masks.values():
        assert torch.equal(mask, (torch.arange(96) < number).float().expand(3, 96))


@pytest.mark.parametrize(("learn", "fixed"), [("masks", 0), ("coefficients", 1)])
def test_what_is_not_learned_stays(learn, fixed, experts, images):
    components = Components(experts, centred=True, qkv="split")
    learning = Learning(steps=1, lr=0.2, batch_size=6)
    coefficients, masks, _ = learn_components(
        components, images, learning, rank=0.5, init=1.5, learn=learn
    )
    stayed = (
        bool(torch.all(coefficients == 1.5)),
        all(torch.equal(m, (torch.arange(96) < 48).float().expand(3, 96)) for m in masks.values()),
    )
    assert stayed == (fixed == 0, fixed == 1)


def test_masks_of_two_steps_are_those_of_brute_force(base, states, experts, images):
    options = {"rank": 0.5, "init": 0.3, "learn": "both"}
    training = {"steps": 2, "lr": 0.08, "batch_size": 4, "seed": 1}
    components = Components(experts, centred=False, qkv="fused")
    _, masks, _ = learn_components(components, images, Learning(**training), **options)
    how = options | training | {"qkv": "fused"}
    _, expected = choose_components(base, states, images, False, **how)
    assert masks.keys() == expected.keys()
    pairs = [(masks[key] > 0, expected[key]) for key in masks]
    different = sum(int((ours != theirs).sum()) for ours, theirs in pairs)
    flipped = sum(int((ours != (torch.arange(96) < 48)).sum()) for ours, _ in pairs)
    assert flipped > 500  # of 24 matrices, 3 tasks, 96 components
    assert different <= flipped // 100  # logits within rounding of their threshold


# ---------------------------------------------------------------- labels of the experts


def test_trusted_images_by_hand():
    # Agreement; the expert surer; the merged model surer; both equally sure.
    own = torch.tensor([[0.9, 0.1], [0.6, 0.4], [0.9, 0.1], [0.2, 0.8]], dtype=torch.float64)
    label, probability = torch.tensor([0, 1, 1, 0]), torch.tensor([0.7, 0.7, 0.7, 0.8]).double()
    loss = pseudo_label_loss(own.log(), label, probability, "all")
    assert float(loss) == pytest.approx(-math.log(0.9 * 0.4 * 0.1 * 0.2) / 4)
    trusted = pseudo_label_loss(own.log()[:3], label[:3], probability[:3], "confident")
    assert float(trusted) == pytest.approx(-math.log(0.9 * 0.4) / 2)
    none = own.log()[2:3].requires_grad_()
    loss = pseudo_label_loss(none, label[2:3], probability[2:3], "confident")
    loss.backward()
    assert loss.item() == 0 and torch.equal(none.grad, torch.zeros(1, 2).double())


@pytest.mark.parametrize("samples", ["confident", "all"])
def test_heads_are_those_of_brute_force(samples, base, states, experts, calibration):
    how = {"samples": samples, "learn": "both", "init": 0.3, "clamp": "unit", "steps": 2,
           "lr": 0.05, "batch_size": 4, "seed": 2}  # fmt: skip
    merged = mb.merge("symerge", experts, calibration, **how)
    _, heads = symerge_solution(base, states, calibration, **how)
    for task, head in heads.items():
        torch.testing.assert_close(merged.head(task), head, rtol=0, atol=1e-6)
        assert not torch.allclose(head, calibration.heads[task], atol=1e-3)


def test_heads_or_coefficients_alone(experts, calibration):
    arithmetic = mb.merge("task_arithmetic", experts).state_dict()
    heads = mb.merge("symerge", experts, calibration, learn="heads", steps=1)
    assert_near(heads.state_dict(), arithmetic, 2e-6)
    assert all(not torch.equal(heads.head(t), calibration.heads[t]) for t in experts.tasks)
    weights = mb.merge("symerge", experts, calibration, learn="coefficients", steps=1)
    for task in experts.tasks:
        torch.testing.assert_close(weights.head(task), calibration.heads[task], rtol=0, atol=1e-7)
    assert not torch.allclose(weights.state_dict()["proj"], arithmetic["proj"], atol=1e-5)


def test_storage_of_heads(experts, calibration):
    merged = mb.merge("symerge", experts, calibration, steps=0)
    entries = 64 * (3 + 4 + 2)
    assert merged.storage().bits == 32 * (697728 + entries)
    assert merged.storage().formula().startswith("32(P'+F) + 32H = ")
    assert merged.storage().symbols["H"] == entries
    with pytest.raises(MethodError, match="nowhere"):
        merged.head("nowhere")


@pytest.mark.parametrize("head", [torch.zeros(3), torch.zeros(3, 4, dtype=torch.float64)])
def test_a_head_must_be_a_matrix(head):
    with pytest.raises(MethodError, match="'one'"):
        HeadedModel(Sizes({}, {}), {}, {"one": head})


# ---------------------------------------------------------------- tuning and merging


def test_one_gradient_step_a_round_is_multi_task_gradient_descent(experts, images, base):
    merged = mb.merge("atm", experts, images, rounds=3, steps=1, optimizer="sgd", lr=0.05,
                      batch_size=4, seed=5)  # fmt: skip
    learning = Learning(steps=3, lr=0.05, batch_size=4, optimizer="sgd", seed=5)
    streams = {task: labelled_batches(images, task, learning) for task in experts.tasks}
    descent = tune(base, experts.trained, images, streams, learning, cosine=False)
    assert_near(merged.state_dict(), descent, 2e-6)
    assert not torch.allclose(descent["proj"], base["proj"], atol=1e-4)


def test_more_steps_a_round_are_not(experts, images):
    options = {"optimizer": "sgd", "lr": 0.05, "batch_size": 6}
    often = mb.merge("atm", experts, images, rounds=4, steps=1, **options).state_dict()
    seldom = mb.merge("atm", experts, images, rounds=1, steps=4, **options).state_dict()
    assert not torch.allclose(often["proj"], seldom["proj"], atol=1e-5)


def test_one_task_is_plain_fine_tuning(base, states, one):
    experts = Experts(base, {"one": states["one"]}, backbone="mini-small")
    options = {"batch_size": 4, "lr": 1e-3, "seed": 3}
    merged = mb.merge("atm", experts, one, rounds=1, steps=2, **options).state_dict()
    learning = Learning(steps=2, optimizer="adamw", **options)
    streams = {"one": labelled_batches(one, "one", learning)}
    tuned = tune(base, experts.trained, one, streams, learning, cosine=False)
    assert_near(merged, tuned, 2e-6)


def test_scale_stretches_the_step_of_a_round(experts, images, base):
    options = {"rounds": 1, "steps": 1, "lr": 1e-3, "batch_size": 4}
    once = mb.merge("atm", experts, images, **options).state_dict()
    twice = mb.merge("atm", experts, images, scale=2.0, **options).state_dict()
    stretched = {key: base[key] + 2 * (once[key] - base[key]) for key in base}
    assert_near(twice, stretched, 2e-6)


@pytest.mark.parametrize("name", ["atm", "multitask"])
def test_tensors_that_no_expert_changed_stay(name, experts, calibration, base):
    state = mb.merge(name, experts, calibration, **short(name)).state_dict()
    assert torch.equal(state["ln_pre.bias"], base["ln_pre.bias"])
    names = experts.trained
    assert not any(torch.equal(state[key], base[key]) for key in names)


def test_the_order_of_the_tasks_does_not_change_their_batches(experts, calibration):
    options = {"rounds": 1, "steps": 1, "optimizer": "sgd", "lr": 0.05}
    left = mb.merge("atm", experts, calibration, **options).state_dict()
    other = experts.select(experts.tasks[::-1])
    assert_near(left, mb.merge("atm", other, calibration, **options).state_dict(), 2e-6)


# ---------------------------------------------------------------- the loop


def test_gradient_descent_by_hand():
    x, idle = torch.tensor([3.0, 4.0], requires_grad=True), torch.ones(1, requires_grad=True)
    plain = Learning(steps=1, lr=0.1, optimizer="sgd")
    assert minimise([x, idle], lambda step: x.square().sum(), plain) == [25.0]
    torch.testing.assert_close(x.detach(), torch.tensor([2.4, 3.2]))
    assert torch.equal(idle.detach(), torch.ones(1))
    minimise([x], lambda step: x.square().sum(), plain, clip=1.0)
    torch.testing.assert_close(x.detach(), torch.tensor([2.34, 3.12]))
    minimise([x], lambda step: 0 * x.sum(), Learning(steps=1, lr=0.1), weight_decay=0.5)
    torch.testing.assert_close(x.detach(), 0.95 * torch.tensor([2.34, 3.12]))


def test_a_cosine_brings_the_rate_to_zero():
    x = torch.zeros(1, requires_grad=True)
    places = []

    def loss(step):
        places.append(x.item())
        return -x.sum()

    minimise([x], loss, Learning(steps=4, lr=1.0, optimizer="sgd"), cosine=True)
    rates = [b - a for a, b in zip(places, [*places[1:], x.item()], strict=True)]
    assert rates == pytest.approx([(1 + math.cos(math.pi * step / 4)) / 2 for step in range(4)])


def test_nothing_to_learn_is_no_error():
    def never(step):
        raise AssertionError("the loss was asked for")

    assert minimise([], never, Learning(steps=3, lr=0.1)) == []
    assert minimise([torch.ones(1, requires_grad=True)], never, Learning(steps=0, lr=0.1)) == []
