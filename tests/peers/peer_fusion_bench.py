"""FusionBench: its algorithms on pools of modules, or the functions under them on state dicts."""

import math
from types import SimpleNamespace

import pytest
import torch
from fusion_bench.method import TaskArithmeticAlgorithm, TiesMergingAlgorithm
from fusion_bench.method.dare import DareTiesMerging
from fusion_bench.method.dare.utils import module_random_drop_, param_random_drop_
from fusion_bench.method.doge_ta.doge_ta import DOGE_TA_Algorithm
from fusion_bench.method.emr_merging.utils import emr_merge
from fusion_bench.method.fisher_merging.fisher_merging import merging_with_fisher_weights
from fusion_bench.method.isotropic_merging.iso_utils import iso_c, iso_cts
from fusion_bench.method.magmax.magmax import MagMaxAlgorithm
from fusion_bench.method.model_stock.model_stock import ModelStock
from fusion_bench.method.regmean.regmean import merging_with_regmean_weights
from fusion_bench.method.simple_average import simple_average
from fusion_bench.method.slerp.slerp import slerp_on_state_dicts
from fusion_bench.method.tall_mask.utils import (
    find_optimal_mask,
    generate_task_masks,
    load_tall_mask,
)
from fusion_bench.method.task_arithmetic import task_arithmetic_merge
from fusion_bench.method.task_singular_vector.utils import TSVM_utils
from fusion_bench.method.task_singular_vector.utils.TSVC_utils import compute_svd_and_compress
from fusion_bench.method.ties_merging.ties_merging_utils import (
    state_dict_to_vector,
    ties_merging,
    topk_values_mask,
    vector_to_state_dict,
)
from fusion_bench.modelpool import BaseModelPool

import mergebook as mb
from mergebook.activations import Seen
from mergebook.methods import fisher
from mergebook.methods.regmean import regression
from mergebook.weights import Experts
from peers.cases import (
    Module,
    add,
    apart,
    assert_agree,
    each_tensor,
    models,
    ours,
    stack,
    state_of,
    task_vectors,
)

BASE, EXPERTS = models()
VECTORS = task_vectors(BASE, EXPERTS)
KEYS = sorted(BASE)


def pool(experts=EXPERTS, base=BASE):
    modules = {"_pretrained_": Module(base)}
    return modules | {task: Module(expert) for task, expert in experts.items()}


def scaled(vector, scale):
    return {key: scale * value for key, value in vector.items()}


def flat(state):
    return torch.cat([state[key].flatten() for key in KEYS])


def unflat(vector):
    parts = vector.split([BASE[key].numel() for key in KEYS])
    return {key: part.reshape(BASE[key].shape) for key, part in zip(KEYS, parts, strict=True)}


# ---------------------------------------------------------------------- of entries


def test_task_arithmetic_agrees():
    theirs = state_of(TaskArithmeticAlgorithm(scaling_factor=0.3).run(pool()))
    assert_agree(ours("task_arithmetic", BASE, EXPERTS, scale=0.3), theirs)


def test_the_function_for_task_arithmetic_does_not_run():
    with pytest.raises(TypeError, match="expected Parameter, got Tensor"):
        task_arithmetic_merge(Module(BASE), [Module(e) for e in EXPERTS.values()], 0.3)


def test_averaging_agrees():
    assert_agree(ours("averaging", BASE, EXPERTS), simple_average(list(EXPERTS.values())))


@pytest.mark.parametrize("combine", ["sum", "mean"])
@pytest.mark.parametrize("density", [0.1, 0.2, 0.5])
def test_ties_agrees_global_trim_and_k_plus_one(combine, density):
    algorithm = TiesMergingAlgorithm(
        scaling_factor=0.3, threshold=density, remove_keys=[], merge_func=combine
    )
    theirs = state_of(algorithm.run(pool()))
    params = {"scale": 0.3, "density": density, "combine": combine}
    assert_agree(ours("ties", BASE, EXPERTS, keep="k+1", **params), theirs)
    assert apart(ours("ties", BASE, EXPERTS, keep="k", **params), theirs, BASE) > 1e-3
    assert apart(each_tensor("ties", BASE, EXPERTS, **params), theirs, BASE) > 0.1


def test_ties_agrees_where_values_cancel():
    vectors = torch.tensor([[1.0, -2.0, -3.0], [-1.0, -2.0, -3.0]])
    theirs = ties_merging(vectors, reset_thresh=0.9, merge_func="mean")
    experts = {str(t): {"w": vector} for t, vector in enumerate(vectors)}
    result = ours("ties", {"w": torch.zeros(3)}, experts, density=0.9, combine="mean")
    assert_agree(result, {"w": theirs})
    assert theirs.tolist() == [-1, -2, -3]


def test_a_density_of_one_means_everything_and_just_above_one_per_cent():
    values = torch.arange(1.0, 1001)[None]
    kept = [int((topk_values_mask(values, K=k)[0] != 0).sum()) for k in (0.9, 20, 1.001)]
    assert kept == [901, 201, 11]
    with pytest.raises((RuntimeError, IndexError)):  # there is no 0-th smallest value
        topk_values_mask(values, K=1)
    experts = {"one": {"w": values}}
    assert_agree(ours("ties", {"w": torch.zeros(1, 1000)}, experts, density=1.0), experts["one"])


def test_the_way_to_a_vector_and_back():
    """An older release wrote into the reference that it is given; this one does not."""
    reference = {key: tensor.clone() for key, tensor in BASE.items()}
    back = vector_to_state_dict(state_dict_to_vector(EXPERTS["task0"]), reference)
    assert_agree(EXPERTS["task0"], dict(back), 0)
    assert_agree(BASE, reference, 0)


@pytest.mark.parametrize("drop", [0.5, 0.9])
def test_dare_divides_what_is_left_by_one_minus_p(drop):
    vector = torch.randn(40, 50, generator=torch.Generator().manual_seed(0)) + 3
    theirs = torch.nn.Parameter(vector.clone())
    torch.manual_seed(0)
    param_random_drop_(theirs, drop, rescale=True)
    kept = theirs.detach() != 0
    torch.testing.assert_close(theirs.detach(), vector * kept / (1 - drop))
    result = ours(
        "dare_ta", {"w": torch.zeros(40, 50)}, {"one": {"w": vector}}, scale=1.0, drop=drop
    )
    torch.testing.assert_close(result["w"], vector * (result["w"] != 0) / (1 - drop))


def test_dare_ties_trims_after_thinning():
    algorithm = DareTiesMerging(
        sparsity_ratio=0.6,
        only_on_linear_weights=False,
        rescale=True,
        scaling_factor=0.5,
        threshold=20,
        remove_keys=[],
        merge_func="sum",
    )
    torch.manual_seed(0)
    theirs = state_of(algorithm.run(BaseModelPool(pool())))
    torch.manual_seed(0)
    experts = {}
    for task, vector in zip(EXPERTS, VECTORS, strict=True):
        thinned = Module(vector)
        module_random_drop_(thinned, 0.6, rescale=True)
        experts[task] = add(BASE, state_of(thinned))
    assert_agree(ours("ties", BASE, experts, density=0.2, scale=0.5, combine="sum"), theirs)


def test_magmax_agrees():
    theirs = state_of(MagMaxAlgorithm(scaling_factor=0.5).run(pool()))
    assert_agree(ours("magmax", BASE, EXPERTS, scale=0.5), theirs)
    tied = {"a": {"w": torch.tensor([2.0, -1.0])}, "b": {"w": torch.tensor([-2.0, 0.5])}}
    zero = {"w": torch.zeros(2)}
    theirs = state_of(MagMaxAlgorithm(scaling_factor=1.0).run(pool(tied, zero)))
    assert theirs["w"].tolist() == [-2, -1]
    assert_agree(ours("magmax", zero, tied, scale=1.0), theirs)


@pytest.mark.parametrize("threshold", [0.2, 0.4, 1.0])
def test_tall_masks_agree(threshold):
    vectors = torch.stack([flat(vector) for vector in VECTORS])
    experts = torch.stack([flat(expert) for expert in EXPERTS.values()])
    theirs = generate_task_masks(vectors, experts, flat(BASE), tall_mask_lambda=threshold)
    merged = mb.merge("tall_ta", Experts(BASE, EXPERTS), threshold=threshold)
    for task, mask in zip(EXPERTS, theirs, strict=True):
        marks = torch.cat([merged.masks.mask(task, key).flatten() for key in KEYS])
        # They compare weights, this library task vectors: rounding decides on a few entries.
        assert (marks != mask).float().mean() < 2e-3


@pytest.mark.parametrize("k", [1, 2, 4])
def test_consensus_agrees(k):
    vectors = torch.stack([flat(vector) for vector in VECTORS])
    experts = torch.stack([flat(expert) for expert in EXPERTS.values()])
    masks = generate_task_masks(vectors, experts, flat(BASE), tall_mask_lambda=0.4)
    theirs = flat(BASE) + 0.3 * vectors.sum(0) * (masks.sum(0) >= k)
    result = flat(ours("consensus_ta", BASE, EXPERTS, scale=0.3, k=k, threshold=0.4))
    assert ((result - theirs).abs() > 1e-6).float().mean() < 2e-3


def test_tall_masks_that_they_save_they_cannot_load(tmp_path):
    (tmp_path / "tall_masks" / "tower").mkdir(parents=True)
    settings = SimpleNamespace(load_mask=False, use_ties=False)
    config = SimpleNamespace(
        DATASETS=["A"],
        method=settings,
        model_location=str(tmp_path / "checkpoints"),
        model="tower",
        num_tasks=1,
    )
    masks = {"A": {"w": torch.tensor([True, False, True])}}
    find_optimal_mask({0.4: {"AVal:top1": 0.5}}, {0.4: masks}, config)
    assert (tmp_path / "tall_masks/tower/TALL_mask_1task.npy").is_file()
    with pytest.raises(Exception, match="TALL Masks are not constructed yet"):
        load_tall_mask([], masks["A"], config)


def test_emr_agrees_as_released():
    vector, masks, rescalers = emr_merge(VECTORS)
    params = {"rescaler": "released", "cancelled": "negative"}
    merged = mb.merge("emr", Experts(BASE, EXPERTS), **params)
    assert_agree(vector, dict(merged.vector))
    torch.testing.assert_close(merged.rescalers, rescalers)
    for number, task in enumerate(EXPERTS):
        for key in BASE:
            assert torch.equal(merged.masks.mask(task, key), masks[key][number])
        own = {key: rescalers[number] * masks[key][number] * vector[key] for key in BASE}
        assert_agree(merged.state_dict(task), add(BASE, own))
    by_formula = mb.merge("emr", Experts(BASE, EXPERTS), rescaler="paper").rescalers
    assert (by_formula / rescalers - 1).abs().max() > 1e-3


# ---------------------------------------------------------------------- of angles


@pytest.mark.parametrize("t", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("of", ["weights", "task_vectors"])
def test_slerp_of_two_agrees(t, of):
    two = {task: EXPERTS[task] for task in ("task0", "task1")}
    ends = list(two.values()) if of == "weights" else VECTORS[:2]
    theirs = slerp_on_state_dicts(t, *ends)
    theirs = theirs if of == "weights" else add(BASE, theirs)
    assert_agree(ours("slerp", BASE, two, t=t, of=of), theirs)


def model_stock(experts, base=BASE):
    return state_of(ModelStock().run(BaseModelPool(pool(experts, base))))


def test_model_stock_of_two_agrees_where_the_angle_is_acute():
    two = {task: EXPERTS[task] for task in ("task0", "task1")}
    result, theirs = ours("model_stock", BASE, two), model_stock(two)
    acute = [key for key in BASE if (VECTORS[0][key] * VECTORS[1][key]).sum() > 0]
    assert_agree({k: result[k] for k in acute}, {k: theirs[k] for k in acute}, 1e-5)
    assert len(acute) == len(BASE)


def test_model_stock_of_more_averages_angles_not_cosines():
    theirs = model_stock(EXPERTS)
    by_hand, count = {}, len(EXPERTS)
    for key, rows in stack(VECTORS).items():
        flat_rows = torch.nn.functional.normalize(rows.flatten(1).double(), dim=1)
        pairs = torch.combinations(torch.arange(count))
        angles = torch.stack([(flat_rows[i] @ flat_rows[j]).clamp(-1, 1).acos() for i, j in pairs])
        cosine = math.cos(angles.mean())
        by_hand[key] = count * cosine / (1 + (count - 1) * cosine) * rows.mean(0)
    assert_agree(add(BASE, by_hand), theirs, 1e-5)
    assert 1e-5 < apart(ours("model_stock", BASE, EXPERTS), theirs, BASE) < 0.1


def test_model_stock_steps_away_from_experts_that_disagree():
    base = {"w": torch.zeros(2)}
    experts = {"a": {"w": torch.tensor([1.0, 0.2])}, "b": {"w": torch.tensor([-0.9, 0.4])}}
    theirs = model_stock(experts, base)
    assert theirs["w"] @ (experts["a"]["w"] + experts["b"]["w"]) < 0
    assert_agree(ours("model_stock", base, experts), base)


# ---------------------------------------------------------------------- of matrices


def split(state):
    """Query, key and value apart, as FusionBench's own checkpoints have them."""
    stacked = {key: tensor for key, tensor in state.items() if key.endswith("in_proj_weight")}
    parts = {
        key.replace("in_proj_weight", f"{name}_proj.weight"): part
        for key, tensor in stacked.items()
        for name, part in zip("qkv", tensor.chunk(3), strict=True)
    }
    return {key: tensor for key, tensor in state.items() if key not in stacked} | parts


SPECTRAL = {
    "iso_c": lambda vectors: iso_c(vectors, "cpu"),
    "iso_cts": lambda vectors: iso_cts(vectors, 0.8, "cpu"),
    "tsv_m": lambda vectors: TSVM_utils.compute_and_sum_svd_mem_reduction(
        vectors, accelerator="cpu"
    ),
}


@pytest.mark.parametrize("method", SPECTRAL)
def test_spectral_merges_agree_on_the_same_matrices(method):
    theirs = add(BASE, scaled(SPECTRAL[method](VECTORS), 1.2))
    assert_agree(ours(method, BASE, EXPERTS, scale=1.2, qkv="fused"), theirs, 1e-5)


@pytest.mark.parametrize("method", SPECTRAL)
def test_query_key_and_value_apart_are_other_matrices(method):
    base, experts = split(BASE), {task: split(expert) for task, expert in EXPERTS.items()}
    vectors = task_vectors(base, experts)
    theirs = add(base, SPECTRAL[method](vectors))
    assert_agree(ours(method, base, experts, qkv="split"), theirs, 1e-5)
    assert_agree(split(ours(method, BASE, EXPERTS, qkv="split")), theirs, 1e-5)
    fused = split(ours(method, BASE, EXPERTS, qkv="fused"))
    block = {key: base[key] for key in base if key.endswith("_proj.weight") and "attn" in key}
    assert apart(fused, theirs, block) > 0.2


@pytest.mark.parametrize("method", SPECTRAL)
def test_a_text_projection_is_one_more_matrix_to_them(method):
    """The papers' code leaves it out by its name, FusionBench only if told."""
    base = {"text_projection": torch.zeros(6, 5)}
    experts = {
        str(t): {"text_projection": torch.randn(6, 5, generator=torch.Generator().manual_seed(t))}
        for t in range(2)
    }
    vectors = list(experts.values())
    average = {"text_projection": sum(v["text_projection"] for v in vectors) / 2}
    theirs = SPECTRAL[method](vectors)
    assert apart(average, theirs, base) > 0.1
    assert_agree(ours(method, base, experts), average)


def test_tsv_c_agrees_on_matrices():
    merged = mb.merge("tsv_c", Experts(BASE, EXPERTS))
    for task, vector in zip(EXPERTS, VECTORS, strict=True):
        state = merged.state_dict(task)
        for key, value in vector.items():
            if value.ndim == 2:
                _, u, s, v = compute_svd_and_compress(key, value, 1 / len(EXPERTS))
                value = u * s @ v
            torch.testing.assert_close(state[key], BASE[key] + value, rtol=0, atol=1e-5, msg=key)


def test_doge_agrees():
    names = {"encoder.0.attn.out_proj.weight": (12, 12), "encoder.0.mlp.c_fc.weight": (24, 12)}
    generator = torch.Generator().manual_seed(0)
    base = {key: torch.randn(shape, generator=generator) / 10 for key, shape in names.items()}
    base["conv1.weight"] = torch.zeros(3)
    experts = {
        f"task{t}": {
            key: value + 0.02 * torch.randn(value.shape, generator=generator)
            for key, value in base.items()
        }
        for t in range(3)
    }
    algorithm = DOGE_TA_Algorithm(subspace=6, K=30, lamda=0.07)
    theirs = state_of(algorithm.run(pool(experts, base)))
    result = ours("doge", base, experts, scale=0.07, density=0.3, divisor=6)
    assert_agree(result, theirs, 1e-5)
    assert apart(result, base, base) == 1  # it does change something


# ---------------------------------------------------------------------- of statistics


def test_fisher_agrees_given_the_same_information(monkeypatch):
    """Their pipeline wants their data; what it does with squared gradients is compared."""
    generator = torch.Generator().manual_seed(0)
    information = {
        task: {
            key: size * torch.rand(tensor.shape, generator=generator).pow(4)
            for key, tensor in BASE.items()
        }
        for task, size in zip(EXPERTS, (0.01, 0.1, 1.0, 10.0), strict=True)
    }
    monkeypatch.setattr(fisher, "tower_weights", lambda experts, calibration: EXPERTS)
    monkeypatch.setattr(fisher, "diagonal_fisher", lambda few, task, *rest: information[task])
    images = SimpleNamespace(first=lambda number: None)
    experts = Experts(BASE, EXPERTS)
    for normalise in (True, False):
        theirs = merging_with_fisher_weights(
            {key: [expert[key] for expert in EXPERTS.values()] for key in BASE},
            list(information.values()),
            torch.ones(len(EXPERTS)) / len(EXPERTS),
            normalize_fisher_weight=normalise,
            minimal_fisher_weight=1e-6,
        )
        sums = fisher.prepare_fisher(experts, images, 1, "exact", 1, normalise, 1e-6)
        merged = {layer.name: fisher.fisher.function(layer, sums) for layer in experts}
        assert_agree(merged, theirs)


@pytest.mark.parametrize("factor", [0.0, 0.95, 1.0])
def test_regmean_agrees_given_the_same_moments(factor):
    generator = torch.Generator().manual_seed(0)
    key = "encoder.0.mlp.c_fc.weight"
    inputs = torch.randn(len(EXPERTS), 200, 12, generator=generator)
    moments = inputs.mT @ inputs / 200
    theirs = merging_with_regmean_weights(
        {key: [expert[key] for expert in EXPERTS.values()]},
        [{key.removesuffix(".weight"): moment} for moment in moments],
        reduce_non_diagonal_ratio=factor,
    )
    layer = Experts(BASE, EXPERTS).layer(key)
    seen = Seen("linear", layer, moments.double(), layer.base.shape)
    result = {key: layer.base + regression(seen, factor)}
    assert_agree(result, theirs, 1e-5)
