"""CART: its ends, its identities, which tensors it touches, and its origins."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import mergebook as mb
from comparison import assert_near
from mergebook.errors import ParameterError
from mergebook.methods.cart import Decomposition, cart_rank
from mergebook.registry import get_method
from mergebook.weights import Experts
from mergebook.weights.spectral import directions
from strategies import cases, reals

D = 6
SHAPES = {
    "transformer.resblocks.0.attn.in_proj_weight": (3 * D, D),
    "transformer.resblocks.0.attn.in_proj_bias": (3 * D,),
    "transformer.resblocks.0.attn.out_proj.weight": (D, D),
    "transformer.resblocks.0.mlp.c_fc.weight": (4 * D, D),
    "transformer.resblocks.0.mlp.c_proj.weight": (D, 4 * D),
    "transformer.resblocks.0.ln_1.weight": (D,),
    "conv1.weight": (D, 3, 2, 2),
    "positional_embedding": (5, D),
    "proj": (D, 4),
    "text_projection": (D, D),
}
BLOCKS = [key for key in SHAPES if ("attn" in key or "mlp" in key) and len(SHAPES[key]) == 2]


def state(seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        key: torch.randn(shape, generator=generator, dtype=torch.float64)
        for key, shape in SHAPES.items()
    }


@pytest.fixture(scope="module")
def experts() -> Experts:
    return Experts(state(0), {f"task{t}": state(t) for t in (1, 2, 3, 4)})


def truncated(matrix: torch.Tensor, k: int) -> torch.Tensor:
    left, values, right = np.linalg.svd(matrix.numpy(), full_matrices=False)
    return torch.from_numpy((left[:, :k] * values[:k]) @ right[:k])


def merged(name: str, experts: Experts, **params) -> dict[str, torch.Tensor]:
    return mb.merge(name, experts, **params).state_dict()


@given(data=st.data())
def test_rank_zero_rank_one_and_scale_zero_are_the_average_to_the_bit(data):
    experts = data.draw(cases(elements=reals)).load()
    scale = data.draw(st.sampled_from((0.5, 1.0, 7.0)))
    rule = data.draw(st.sampled_from(("share", "energy")))
    average = merged("averaging", experts)
    for params in ({"rank": 0.0}, {"rank": 1.0}, {"scale": 0.0}):
        result = merged("cart", experts, **({"scale": scale, "rule": rule} | params))
        assert all(torch.equal(result[key], average[key]) for key in average)


@pytest.mark.parametrize(("rank", "k"), [(0.05, 1), (0.4, 2), (0.5, 3), (0.99, 5)])
def test_what_is_added_is_what_is_cut_off_with_the_other_sign(experts, rank, k):
    average = merged("averaging", experts)
    result = merged("cart", experts, rank=rank, scale=1.5)
    for key in BLOCKS:
        centred = [experts.expert(task)[key] - average[key] for task in experts.tasks]
        heads = sum(truncated(matrix, k) for matrix in centred)
        tails = sum(matrix - truncated(matrix, k) for matrix in centred)
        assert_near(result[key], average[key] + 1.5 * heads, 1e-11)
        assert_near(result[key], average[key] - 1.5 * tails, 1e-11)


def test_ranks_of_the_released_configurations():
    shares = (0.04, 0.08, 0.12, 0.16, 0.32)
    assert [cart_rank(768, share) for share in shares] == [30, 61, 92, 122, 245]
    assert [cart_rank(1024, share) for share in shares] == [40, 81, 122, 163, 327]
    assert [cart_rank(96, share) for share in (0, 0.001, 1)] == [0, 1, 96]


def test_blocks_are_decomposed_and_everything_else_is_averaged(experts):
    average = merged("averaging", experts)

    def changed(**params) -> set[str]:
        result = merged("cart", experts, rank=0.3, **params)
        return {key for key in SHAPES if not torch.equal(result[key], average[key])}

    assert changed() == set(BLOCKS)
    assert changed(tensors="matrices") == {*BLOCKS, "positional_embedding", "proj"}


def test_a_model_with_other_names_has_all_its_matrices_decomposed():
    names = {key: f"w{number}" for number, key in enumerate(SHAPES)}
    states = [{names[key]: tensor for key, tensor in state(t).items()} for t in range(3)]
    renamed = Experts(states[0], {"one": states[1], "two": states[2] | {"w0": states[0]["w0"]}})
    result = merged("cart", renamed, rank=0.3, origin="base")
    same = merged("cart", renamed, rank=0.3, origin="base", tensors="matrices")
    assert all(torch.equal(result[key], same[key]) for key in result)
    total = merged("task_arithmetic", renamed, scale=2.0)
    whole = {names[key] for key in SHAPES if len(SHAPES[key]) != 2}
    assert {key for key in result if torch.allclose(result[key], total[key])} == whole


def huggingface(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same weights with query, key and value apart."""
    name = "transformer.resblocks.0.attn."
    rest = {key: tensor for key, tensor in weights.items() if not key.endswith("in_proj_weight")}
    thirds = weights[f"{name}in_proj_weight"].split(D)
    return rest | {f"{name}{x}_proj.weight": part for x, part in zip("qkv", thirds, strict=True)}


@pytest.mark.parametrize("name", ["cart", "cart_uncentred", "tsv_m", "iso_c", "iso_cts", "doge"])
@pytest.mark.parametrize("qkv", ["fused", "split"])
def test_both_sorts_of_checkpoints_give_the_same_model(name, qkv, experts):
    apart = Experts(
        huggingface(experts.base),
        {task: huggingface(experts.expert(task)) for task in experts.tasks},
    )
    left = huggingface(merged(name, experts, qkv=qkv))
    right = merged(name, apart, qkv=qkv)
    assert left.keys() == right.keys()
    assert_near(left, right, 1e-11)
    other = {"fused": "split", "split": "fused"}[qkv]
    key = "transformer.resblocks.0.attn.k_proj.weight"
    assert not torch.allclose(left[key], huggingface(merged(name, experts, qkv=other))[key])


def test_without_centring_and_without_truncation_it_is_task_arithmetic(experts):
    total = merged("task_arithmetic", experts, scale=0.4)
    for result in (
        merged("cart_uncentred", experts, rank=1.0, scale=0.4),
        merged("cart", experts, rank=1.0, scale=0.4, origin="base"),
    ):
        assert all(torch.equal(result[key], total[key]) for key in total)
    left = merged("cart_uncentred", experts, rank=0.3, scale=0.4)
    right = merged("cart", experts, rank=0.3, scale=0.4, origin="base")
    assert all(torch.equal(left[key], right[key]) for key in left)
    for key in BLOCKS:
        sums = sum(truncated(experts.expert(t)[key] - experts.base[key], 1) for t in experts.tasks)
        assert_near(left[key], experts.base[key] + 0.4 * sums, 1e-11)


def test_origins_at_full_rank(experts):
    total = {key: sum(experts.expert(t)[key] for t in experts.tasks) - 4 * experts.base[key]
             for key in SHAPES}  # fmt: skip
    result = merged(
        "cart", experts, rank=1.0, scale=0.6, origin="task_arithmetic", origin_scale=0.2
    )
    factor = 0.2 + 0.6 * (1 - 0.2 * 4)
    tsv = merged("tsv_m", experts)
    around = merged("cart", experts, rank=1.0, scale=0.6, origin="tsv_m")
    for key in SHAPES:
        assert_near(result[key], experts.base[key] + factor * total[key], 1e-11)
        shift = tsv[key] - experts.base[key]
        assert_near(around[key], tsv[key] + 0.6 * (total[key] - 4 * shift), 1e-11)
    start = merged("cart", experts, scale=0.0, origin="tsv_m")
    assert_near({key: start[key] for key in SHAPES}, {key: tsv[key] for key in SHAPES}, 1e-11)


@pytest.mark.parametrize(
    ("rank", "kept"), [(0.5, 1), (0.64, 1), (0.65, 2), (0.92, 2), (0.95, 3), (1.0, 3)]
)
def test_energy_rule_keeps_the_fewest_directions_that_reach_the_share(rank, kept):
    base, values = torch.zeros(3, 3, dtype=torch.float64), torch.tensor([3.0, 2.0, 1.0])
    one = {"attn": torch.diag(values).double()[:, [1, 2, 0]]}  # shares 9/14, 13/14, 1
    model = Experts({"attn": base}, {"one": one})
    result = merged("cart", model, rank=rank, rule="energy", origin="base", scale=1.0)["attn"]
    assert int(torch.linalg.matrix_rank(result)) == kept
    assert_near(result.square().sum(), (values[:kept].double() ** 2).sum(), 1e-11)


def test_a_search_decomposes_once_for_each_origin(experts, monkeypatch):
    counted = []

    def count(matrix):
        counted.append(matrix.shape)
        return directions(matrix)

    monkeypatch.setattr("mergebook.methods.cart.directions", count)
    merge = get_method("cart").on(experts)
    points = [{"rank": r, "scale": s, "rule": rule} for r in (0.2, 0.5) for s in (1.0, 2.0)
              for rule in ("share", "energy")]  # fmt: skip
    found = [merge(**point).state_dict() for point in points]
    assert len(counted) == len(BLOCKS) * len(experts.tasks)
    merge(origin="base")
    assert len(counted) == 2 * len(BLOCKS) * len(experts.tasks)
    for point, weights in zip(points, found, strict=True):
        alone = merged("cart", experts, **point)
        assert all(torch.equal(weights[key], alone[key]) for key in SHAPES)


def test_a_single_merge_keeps_no_directions(experts, monkeypatch):
    made = []

    def make(*args):
        made.append(Decomposition(*args))
        return made[-1]

    monkeypatch.setattr("mergebook.methods.cart.Decomposition", make)
    merged("cart", experts)
    get_method("cart").on(experts)()
    once, several = made
    assert once.known is None
    assert len(several.known) == len(BLOCKS) * len(experts.tasks)


def test_bad_parameters_are_named(experts):
    with pytest.raises(ParameterError, match=r"cart: rank=1.5 is not a number from 0 to 1"):
        mb.merge("cart", experts, rank=1.5)
    with pytest.raises(
        ParameterError, match=r"cart: origin='mean' is not one of 'average', 'base'"
    ):
        mb.merge("cart", experts, origin="mean")
