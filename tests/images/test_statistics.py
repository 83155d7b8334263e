"""What statistics of a few images say, and the methods that merge by them."""

import pytest
import torch

import mergebook as mb
from comparison import assert_near
from mergebook.activations import (
    Seen,
    conjugate_gradients,
    damp,
    diagonal_fisher,
    output_gradients,
    output_moments,
    seen_inputs,
    solve,
)
from mergebook.activations.conflicts import conflict_basis, masking, trimmed_sum
from mergebook.calibration import Calibration
from mergebook.errors import CheckpointError, ParameterError
from mergebook.methods.esm import _polarised
from mergebook.methods.sens import prepare_sens
from mergebook.registry import get_method
from mergebook.towers import clip
from mergebook.towers.backbones import build_tower
from mergebook.towers.tape import Tape, tower_weights
from mergebook.weights import Experts, Layer
from mergebook.weights.qkv import named_like
from oracles import statistics as plain

METHODS = [n for n in mb.list_methods() if get_method(n).family == "statistics"]
SCALED = [n for n in METHODS if any(p.name == "scale" for p in get_method(n).parameters)]
LINEAR = (
    "attn.in_proj_weight",
    "attn.out_proj.weight",
    "mlp.c_fc.weight",
    "mlp.c_proj.weight",
)
FIRST = "transformer.resblocks.0."


def quick(name, **params):
    """A few steps where a method takes many."""
    return {"iterations": 3} | params if name == "mats" else params


# ---------------------------------------------------------------- the open tower


@pytest.mark.parametrize("backbone", ["mini-small", "mini-large"])
def test_the_open_tower_computes_what_the_tower_computes(backbone):
    module = clip.visual_template(backbone)
    size = module.image_size[0]
    x = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    tape, weights = Tape(backbone), module.state_dict()
    with torch.no_grad():
        expected = build_tower(backbone)(weights, x)
        torch.testing.assert_close(tape(weights, x), expected, rtol=1e-4, atol=1e-5)
        tape.taps.clear()
        for stage in tape.stages():
            x = stage(weights, x)
    torch.testing.assert_close(x, expected, rtol=1e-4, atol=1e-5)
    matrices = {key for key, value in weights.items() if value.ndim >= 2}
    scales = {key for key in weights if "ln_" in key and key.endswith("weight")}
    assert set(tape.taps) == (matrices | scales) - {"positional_embedding"}


def test_the_oracles_tower_is_open_clips(base, calibration):
    images = calibration.inputs["one"].double()
    features, _ = plain.forward("mini-small", plain.double(base), images)
    module = clip.visual_encoder("mini-small", base).double()
    torch.testing.assert_close(features, module(images), rtol=1e-10, atol=1e-12)


def test_gradients_at_the_outputs_leave_no_graph_behind(base, calibration):
    tape, images = Tape("mini-small"), calibration.inputs["one"]
    scores = lambda features: [features.sum(), features.square().sum()]  # noqa: E731
    for gradients in output_gradients(tape, base, images, scores):
        assert not any(gradient.requires_grad for gradient in gradients.values())
        assert not any(tap.x.requires_grad or tap.y.requires_grad for tap in tape.taps.values())
        assert all(gradients[key].shape == tap.y.shape for key, tap in tape.taps.items())
    # the gradient of a bias is that of the outputs, summed over images and tokens
    leaf = base[f"{FIRST}mlp.c_fc.bias"].clone().requires_grad_()
    tower = build_tower("mini-small")
    tower({**base, f"{FIRST}mlp.c_fc.bias": leaf}, images).square().sum().backward()
    own = gradients[f"{FIRST}mlp.c_fc.weight"].sum((0, 1))
    torch.testing.assert_close(own, leaf.grad, rtol=1e-3, atol=1e-4 * float(leaf.grad.abs().max()))


# ---------------------------------------------------------------- moments


def test_every_trained_map_is_seen_once_with_its_moments(base, states, calibration):
    frozen = f"{FIRST}attn.out_proj.weight"
    changed = {task: {**state, frozen: base[frozen]} for task, state in states.items()}
    experts = Experts(base, changed, backbone="mini-small")
    seen = {s.layer.name: s for s in seen_inputs(experts, calibration)}
    maps = {k for k in base if k.endswith(LINEAR) or k in ("conv1.weight", "proj")}
    scales = {k for k in base if "ln_" in k and k.endswith("weight")}
    assert set(seen) == (maps | scales) - {frozen}
    world = plain.World(base, changed, calibration, 100)
    for name, one in seen.items():
        for number, task in enumerate(experts.tasks):
            moment = torch.from_numpy(world.moment(task, name))
            wanted = moment.diagonal() if one.kind == "scale" else moment
            assert_near({name: one.moments[number]}, {name: wanted}, 1e-5)
            torch.testing.assert_close(one.stored(one.layer.base), experts.base[name])


def test_query_key_and_value_share_their_moments(experts, calibration):
    fused = {s.layer.name: s for s in seen_inputs(experts, calibration)}
    split = {s.layer.name: s for s in seen_inputs(experts.arranged("split"), calibration)}
    name = f"{FIRST}attn.in_proj_weight"
    parts = [split[f"{name}[{part}]"] for part in "qkv"]
    assert name not in split and len(split) == len(fused) + 2 * 6
    assert all(torch.equal(part.moments, fused[name].moments) for part in parts)
    assert torch.equal(torch.cat([part.layer.base for part in parts]), fused[name].layer.base)


def test_the_smallest_solution_ignores_what_no_image_has():
    x = torch.randn(3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    w = torch.randn(2, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    moment = x.T @ x
    found = solve(moment, w @ moment)
    torch.testing.assert_close(found @ x.T, w @ x.T)
    unseen = torch.linalg.svd(x).Vh[3:]
    torch.testing.assert_close(found @ unseen.T, torch.zeros(2, 2, dtype=torch.float64))
    assert not solve(torch.zeros_like(moment), torch.zeros_like(w)).any()


# ---------------------------------------------------------------- Fisher information


def test_exact_information_does_not_depend_on_batches_and_the_shortcut_does(base, calibration):
    exact = diagonal_fisher(calibration, "one", base, "exact", 6)
    assert_near(diagonal_fisher(calibration, "one", base, "exact", 1), exact, 1e-4)
    assert {key: value.shape for key, value in exact.items()} == {
        key: value.shape for key, value in base.items()
    }
    one, six = (diagonal_fisher(calibration, "one", base, "batched", n) for n in (1, 6))
    for other in (one, six):  # products of classes, and of images
        assert not torch.allclose(other["proj"], exact["proj"], rtol=0.05)
    assert not torch.allclose(one["proj"], six["proj"], rtol=0.05)


def test_with_two_classes_the_information_is_that_of_the_logit_difference(base, calibration):
    head, x = calibration.heads["three"], calibration.inputs["three"][:2]
    leaf = base["proj"].clone().requires_grad_()
    difference = calibration.logits(
        build_tower("mini-small")({**base, "proj": leaf}, x), "three", head
    )
    difference = difference[:, 0] - difference[:, 1]
    wanted = torch.zeros_like(leaf)
    for value in difference:
        p = value.detach().sigmoid()
        wanted += p * (1 - p) * torch.autograd.grad(value, leaf, retain_graph=True)[0] ** 2
    few = calibration.first(2)
    assert_near(diagonal_fisher(few, "three", base)["proj"], wanted / 2, 1e-3)


def test_of_one_token_kfac_is_the_exact_information(base, calibration):
    one = calibration.first(1)
    x = plain.forward("mini-small", plain.double(base), one.inputs["two"])[1]["proj"][0][0]
    output = output_moments(one, "two", base)["proj"].diagonal()
    exact = diagonal_fisher(one, "two", base)["proj"]
    assert_near(exact.double(), torch.outer(x.square(), output), 1e-4)


def test_a_key_bias_carries_no_information_and_is_averaged(experts, calibration):
    name = f"{FIRST}attn.in_proj_bias"
    merged = mb.merge("fisher", experts, calibration, normalise=False).state_dict()[name]
    average = mb.merge("averaging", experts).state_dict()[name]
    queries, keys, _ = (merged - average).abs().tensor_split(3)
    assert keys.max() < 1e-4 * queries.max()


def test_weights_favour_the_expert_with_information(base, states, calibration):
    # Same experts; the second task's images are classified with no doubt, so that nothing matters.
    sure = {**calibration.heads, "two": torch.zeros_like(calibration.heads["two"])}
    blank = Calibration("mini-small", calibration.inputs, sure, calibration.logit_scale)
    experts = Experts(base, {t: states[t] for t in ("one", "two")}, backbone="mini-small")
    merged = mb.merge("fisher", experts, blank, floor=0.0, normalise=False).state_dict()
    assert_near(merged, states["one"], 1e-6)
    nothing = Experts(base, {"two": states["two"], "zero": states["one"]}, backbone="mini-small")
    blank = Calibration(
        "mini-small",
        {"two": calibration.inputs["two"], "zero": calibration.inputs["one"]},
        {"two": sure["two"], "zero": torch.zeros(3, 64)},
        20.0,
    )
    average = mb.merge("averaging", nothing).state_dict()
    for normalise in (True, False):
        merged = mb.merge("fisher", nothing, blank, floor=0.0, normalise=normalise)
        assert_near(merged.state_dict(), average, 1e-6)


# ---------------------------------------------------------------- RegMean, LOT, MaTS


def residual(vectors, seen, factor=1.0):
    """Gradient of the least-squares objective, relative to its right-hand side."""
    moments = damp(seen.moments, factor)
    deltas = seen.layer.deltas.double()
    matrix = vectors.double().mT if seen.layer.name == "proj" else vectors.double()
    right = (deltas @ moments).sum(0)
    return float((matrix @ moments.sum(0) - right).norm() / right.norm())


def vectors_of(merged, experts):
    return {key: merged.state_dict()[key] - experts.base[key] for key in experts.trained}


@pytest.mark.parametrize(("name", "factor"), [("regmean", 0.95), ("regmean", 1.0), ("lot", 1.0)])
def test_least_squares_is_where_the_gradient_vanishes(name, factor, experts, calibration):
    params = {"off_diagonal": factor} if name == "regmean" else {"scale": 1.0}
    vectors = vectors_of(mb.merge(name, experts, calibration, **params), experts)
    average = vectors_of(mb.merge("averaging", experts), experts)
    for seen in seen_inputs(experts, calibration):
        if seen.kind == "linear":
            key = seen.layer.name
            assert residual(vectors[key], seen, factor) < 1e-4
            assert residual(average[key], seen, factor) > 1e-2


def test_regmean_and_lot_differ_only_where_no_image_was(experts, calibration):
    regression = vectors_of(mb.merge("regmean", experts, calibration, off_diagonal=1.0), experts)
    optimal = vectors_of(mb.merge("lot", experts, calibration, scale=1.0), experts)
    for key in experts.trained:
        if key.endswith(("in_proj_weight", "out_proj.weight", "c_fc.weight")):  # full rank
            assert_near(optimal[key], regression[key], 1e-3)
    # 3 * 6 images have one class token each: of the 96 directions before the projection,
    # the other 78 stay at the average for one, at the base for the other
    shared = torch.linalg.matrix_rank(optimal["proj"].double(), rtol=1e-4)
    assert shared <= 18 < torch.linalg.matrix_rank(regression["proj"].double(), rtol=1e-4)


def test_without_covariances_regmean_is_an_average_weighted_by_input_power(experts, calibration):
    vectors = vectors_of(mb.merge("regmean", experts, calibration, off_diagonal=0.0), experts)
    for seen in seen_inputs(experts, calibration):
        if seen.kind == "linear":
            power = seen.moments.diagonal(dim1=1, dim2=2)[:, None]
            wanted = (power * seen.layer.deltas).sum(0) / power.sum(0)
            key = seen.layer.name
            assert_near(vectors[key], seen.stored(wanted), 1e-4)


def test_one_matrix_or_three_is_the_same_regression(experts, calibration):
    split = experts.arranged("split")
    for name in ("regmean", "regmean_pp", "lot"):
        joint = mb.merge(name, experts, calibration).state_dict()
        parts = mb.merge(name, split, calibration).state_dict()
        assert_near(named_like(parts, experts.base), joint, 1e-5)


def test_merged_inputs_matter_only_after_blocks_that_differ(base, states, calibration):
    last = {
        task: {k: v if "resblocks.5." in k else base[k] for k, v in state.items()}
        for task, state in states.items()
    }
    experts = Experts(base, last, backbone="mini-small")
    own = mb.merge("regmean", experts, calibration).state_dict()
    assert_near(mb.merge("regmean_pp", experts, calibration).state_dict(), own, 1e-5)
    experts = Experts(base, states, backbone="mini-small")
    own = mb.merge("regmean", experts, calibration).state_dict()
    carried = mb.merge("regmean_pp", experts, calibration).state_dict()
    later = "transformer.resblocks.5.mlp.c_fc.weight"
    assert (own[later] - carried[later]).abs().max() > 1e-3 * own[later].abs().max()


def test_conjugate_gradients_solve_and_stay_where_the_map_is_zero():
    generator = torch.Generator().manual_seed(0)
    roots = torch.randn(2, 4, 3, dtype=torch.float64, generator=generator)
    inputs, outputs = roots @ roots.mT, roots[:, :3] @ roots[:, :3].mT  # inputs lack a direction
    truth, start = torch.randn(2, 3, 4, dtype=torch.float64, generator=generator)

    def operator(x):
        return (outputs @ (x @ inputs)).sum(0)

    found = conjugate_gradients(operator, operator(truth), start, 100)
    torch.testing.assert_close(operator(found), operator(truth), rtol=1e-8, atol=1e-8)
    assert torch.equal(conjugate_gradients(operator, operator(truth), start, 0), start)
    assert torch.equal(conjugate_gradients(operator, operator(start), start, 5), start)

    single = inputs[0]
    null = torch.linalg.eigh(single).eigenvectors[:, :1]
    found = conjugate_gradients(lambda x: x @ single, truth @ single, start, 50)
    torch.testing.assert_close(found @ null, start @ null)


def test_many_steps_on_the_covariance_give_regmean(experts, calibration):
    wanted = mb.merge("regmean", experts, calibration, off_diagonal=0.5).state_dict()
    merged = mb.merge("mats", experts, calibration, iterations=150, off_diagonal=0.5)
    assert_near(merged.state_dict(), wanted, 1e-3)


@pytest.mark.parametrize("objective", ["covariance", "fisher"])
def test_more_steps_come_closer(objective, experts, calibration):
    few, weights = calibration.first(2), tower_weights(experts, calibration)
    key = f"{FIRST}mlp.c_fc.weight"
    seen = next(s for s in seen_inputs(experts, few) if s.layer.name == key)
    outputs = [output_moments(few, task, weights[task])[key] for task in experts.tasks]
    outputs = torch.stack(outputs)
    if objective == "covariance":
        outputs = torch.eye(len(outputs[0]), dtype=torch.float64).expand_as(outputs)

    def energy(delta):
        """The quadratic form that the solution minimises; conjugate gradients never raise it."""
        apart = delta.double() - seen.layer.deltas.double()
        return float((apart * (outputs @ apart @ seen.moments)).sum())

    values = [
        energy(vectors_of(merged, experts)[key])
        for merged in (
            mb.merge("mats", experts, few, objective=objective, iterations=n) for n in (0, 2, 6)
        )
    ]
    assert values[0] > values[1] > values[2] > 0


# ---------------------------------------------------------------- CAT


def test_the_direction_of_the_largest_conflict_goes():
    # Task 0 sees the first input, task 1 the second; only what task 1 does to the first disturbs.
    moments = torch.stack([torch.diag(torch.tensor(d)).double() for d in ([1.0, 0], [0, 1.0])])
    deltas = torch.zeros(2, 3, 2, dtype=torch.float64)
    deltas[1] = torch.tensor([[3.0, 0.0], [1.0, 1.0], [0.0, 5.0]])
    layer = Layer("w", deltas[0], deltas, ("a", "b"))
    seen = Seen("linear", layer, moments, deltas[0].shape)
    basis = conflict_basis(deltas, seen, 0, 0.4, 1.0)  # one of three outputs
    conflict = deltas[1] @ torch.diag(torch.tensor([1.0, -1.0]).double()) @ deltas[1].mT
    values, vectors = torch.linalg.eigh(conflict)
    assert basis.shape == (3, 1) and abs(float(basis[:, 0] @ vectors[:, values.argmax()])) > 0.999
    assert conflict_basis(deltas, seen, 1, 1.0, 1.0).numel() == 0  # task 0 does nothing to task 1
    assert conflict_basis(deltas, seen, 0, 1.0, 0.0).shape == (3, 1)  # the conflict has rank 1
    assert conflict_basis(deltas, seen, 0, 1.0, 1e9).numel() == 0  # task 1 needs all of it


def test_only_positive_scores_are_masked_and_norms_come_back():
    remove = masking(
        [torch.tensor([3.0, -1.0, 0.0, 2.0]), torch.tensor([-1.0, -2.0, -3.0, 0.0])], 0.5
    )
    ones = torch.ones(4)
    assert remove(0, ones).tolist() == [0, 1, 1, 0] and remove(1, ones).tolist() == [1, 1, 1, 1]
    deltas = torch.stack([ones, 2 * ones])
    torch.testing.assert_close(trimmed_sum(deltas, remove, False), torch.tensor([1.0, 3, 3, 1]))
    scaled = trimmed_sum(deltas, remove, True)
    torch.testing.assert_close(scaled, ones + torch.tensor([0.0, 1, 1, 0]) * 2 * 2**0.5)
    gone = trimmed_sum(deltas, lambda i, x: torch.zeros_like(x), True)
    assert not gone.any()


def test_untrimmed_cat_is_task_arithmetic(experts, calibration):
    wanted = mb.merge("task_arithmetic", experts, scale=0.4).state_dict()
    nothing = {"rank": 0.0, "trim_scales": 0.0, "trim_shifts": 0.0}
    assert_near(mb.merge("cat", experts, calibration, **nothing).state_dict(), wanted, 1e-6)
    selfish = {"rank": 1.0, "trim_scales": 1.0, "trim_shifts": 0.0, "trade_off": 1e9}
    # Of the projection, six images do not show all that a task vector needs for itself.
    merged = mb.merge("cat", experts, calibration, **selfish).state_dict()
    del merged["proj"], wanted["proj"]
    assert_near(merged, wanted, 1e-6)


# ---------------------------------------------------------------- ESM, Sens-Merging


def test_of_one_expert_esm_keeps_the_directions_and_flattens_their_sizes(base, states, calibration):
    experts = Experts(base, {"one": states["one"]}, backbone="mini-small")
    merged = mb.merge("esm", experts, calibration, scale=1.0, polarise=False)
    vectors = vectors_of(merged, experts)
    key = f"{FIRST}mlp.c_fc.weight"
    delta = (states["one"][key] - base[key]).double()
    u, s, vh = torch.linalg.svd(delta, full_matrices=False)
    assert_near(vectors[key].double(), s.mean() * u @ vh, 1e-4)


def test_polarising_favours_the_larger_task_dimension_and_layer():
    norms = torch.tensor([1.0, 3.0])
    torch.testing.assert_close(_polarised(norms), torch.tensor([0.25, 2.25]))
    assert _polarised(torch.zeros(2)).tolist() == [1, 1]


def test_high_temperatures_give_task_arithmetic_and_coefficients_have_mean_one(
    experts, calibration
):
    wanted = mb.merge("task_arithmetic", experts, scale=0.3).state_dict()
    assert_near(mb.merge("sens", experts, calibration, temperature=1e9).state_dict(), wanted, 1e-6)
    state = prepare_sens(experts, calibration, 3, 0.01)
    assert set(state) == set(experts.trained)
    for coefficients in state.values():
        assert float(coefficients.mean()) == pytest.approx(1)
    assert float(state[f"{FIRST}ln_1.weight"].std()) > 0.01
    parts = {"conv1.weight": "embedding", f"{FIRST}ln_1.bias": "0", "proj": "output"}
    tower = calibration.tower
    assert {key: tower.part_of(key) for key in parts} == parts
    same = [state[key] for key in state if tower.part_of(key) == "3"]
    assert len(same) > 5 and all(torch.equal(one, same[0]) for one in same)


# ---------------------------------------------------------------- what holds for all


@pytest.mark.parametrize("name", SCALED)
def test_scale_zero_gives_the_base(name, experts, calibration, base):
    merged = mb.merge(name, experts, calibration.first(2), scale=0.0).state_dict()
    assert all(torch.equal(merged[key], base[key]) for key in base)


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("fisher", {}),
        ("regmean", {}),
        ("regmean_pp", {}),
        ("mats", {"start": "average"}),
        ("mats", {"start": "average", "objective": "fisher"}),
        ("cat", {"scale": 1.0}),
        ("sens", {"scale": 1.0}),
    ],
)
def test_one_expert_comes_back(name, params, base, states, calibration):
    experts = Experts(base, {"one": states["one"]}, backbone="mini-small")
    merged = mb.merge(name, experts, calibration.first(2), **quick(name, **params))
    assert_near(merged.state_dict(), states["one"], 1e-6)


@pytest.mark.parametrize("name", ["fisher", "regmean", "regmean_pp", "mats", "lot"])
def test_equal_experts_come_back_where_images_were(name, base, states, calibration):
    experts = Experts(base, {t: states["one"] for t in ("one", "two")}, backbone="mini-small")
    params = {"scale": 1.0} if name == "lot" else {}
    if name == "mats":
        params = {"start": "average"}
    merged = mb.merge(name, experts, calibration, **quick(name, **params)).state_dict()
    if name != "lot":
        return assert_near(merged, states["one"], 1e-6)
    whole = {k: v for k, v in states["one"].items() if v.ndim == 1 or k == "conv1.weight"}
    assert_near({key: merged[key] for key in whole}, whole, 1e-5)
    tower, x = build_tower("mini-small"), calibration.inputs["one"]
    with torch.no_grad():  # on the images themselves nothing drifts
        wanted, got = tower(states["one"], x), tower(merged, x)
    torch.testing.assert_close(got, wanted, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("name", METHODS)
def test_experts_equal_to_the_base_and_idle_ones_do_no_harm(name, base, states, calibration):
    few = calibration.first(1)
    same = Experts(base, {"one": base, "two": dict(base)}, backbone="mini-small")
    merged = mb.merge(name, same, few, **quick(name)).state_dict()
    assert all(torch.equal(merged[key], base[key]) for key in base)
    idle = Experts(base, {"one": states["one"], "two": base}, backbone="mini-small")
    merged = mb.merge(name, idle, few, **quick(name)).state_dict()
    assert all(value.isfinite().all() for value in merged.values())
    assert any(not torch.equal(merged[key], base[key]) for key in base)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
@pytest.mark.parametrize("name", METHODS)
def test_other_types_and_tensors_beside_the_tower(name, dtype, base, states, calibration):
    def cast(state, shift):
        extra = {"scale": torch.tensor(shift), "none": torch.zeros(0, 3), "more": torch.ones(4)}
        extra["more"] = extra["more"] * shift
        return {key: value.to(dtype) for key, value in {**state, **extra}.items()}

    world = {task: cast(states[task], n + 1.0) for n, task in enumerate(("one", "two"))}
    experts = Experts(cast(base, 0.0), world, backbone="mini-small")
    merged = mb.merge(name, experts, calibration.first(2), **quick(name)).state_dict()
    assert merged.keys() == experts.base.keys()
    for key, value in merged.items():
        assert value.dtype == dtype and value.isfinite().all()
        assert value.shape == experts.base[key].shape
    assert 0 < merged["scale"] <= 3


@pytest.mark.parametrize("name", METHODS)
def test_what_is_not_finite_or_does_not_fit_is_named(name, base, states, calibration):
    few, key = calibration.first(1), f"{FIRST}mlp.c_fc.bias"
    broken = {**states["two"], key: torch.full_like(states["two"][key], torch.inf)}
    experts = Experts(base, {"one": states["one"], "two": broken}, backbone="mini-small")
    with pytest.raises(mb.MergebookError, match="two"):
        mb.merge(name, experts, few, **quick(name))
    other = {k: v[..., :3] if k == "proj" else v for k, v in base.items()}
    changed = {k: v + 1 for k, v in other.items()}
    for wrong in ({"w": torch.zeros(2)}, other):
        twin = changed if wrong is other else {"w": torch.ones(2)}
        experts = Experts(wrong, {"one": twin}, backbone="mini-small")
        with pytest.raises(CheckpointError, match="mini-small has a tensor"):
            mb.merge(name, experts, few, **quick(name))


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("fisher", {"num_images": 0}),
        ("fisher", {"estimate": "empirical"}),
        ("regmean", {"off_diagonal": 1.5}),
        ("mats", {"objective": "diagonal"}),
        ("cat", {"rank": -0.1}),
        ("lot", {"scale": 6.0}),
        ("esm", {"variant": "port"}),
        ("sens", {"temperature": 0.0}),
    ],
)
def test_bad_parameters_are_named(name, params, experts, calibration):
    with pytest.raises(ParameterError, match=f"{name}: {next(iter(params))}="):
        mb.merge(name, experts, calibration, **params)
