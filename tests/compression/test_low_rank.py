"""TSV-C and CART-Indexing: exact ends, what is stored, names of the tensors, and bad input."""

import numpy as np
import pytest
import torch

import mergebook as mb
from mergebook.errors import CheckpointError, MethodError
from mergebook.merged.low_rank import Factors, LowRankModel, low_rank_storage
from mergebook.methods.cart import cart_rank
from mergebook.storage import Sizes
from mergebook.weights import Experts

SHAPES = {"attn.in_proj_weight": (18, 6), "mlp.weight": (6, 24), "embedding": (5, 6), "b": (7,)}


def state(seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {key: torch.randn(shape, generator=generator) for key, shape in SHAPES.items()} | {
        "frozen": torch.ones(3),
        "steps": torch.tensor(5),
    }


@pytest.fixture(scope="module")
def experts() -> Experts:
    return Experts(state(0), {f"task{t}": state(t) for t in (1, 2, 3)}, backbone="mini-small")


def truncated(matrix: torch.Tensor, k: int) -> torch.Tensor:
    left, values, right = np.linalg.svd(matrix.double().numpy(), full_matrices=False)
    return torch.from_numpy((left[:, :k] * values[:k]) @ right[:k]).float()


@pytest.mark.parametrize("name", ["tsv_c", "cart_indexing"])
@pytest.mark.parametrize("qkv", ["fused", "split"])
def test_at_full_rank_every_expert_is_restored_to_the_bit(name, qkv, experts):
    full = {"tsv_c": {"budget": 3.0}, "cart_indexing": {"rank": 1.0}}[name]
    merged = mb.merge(name, experts, qkv=qkv, **full)
    for task in experts.tasks:
        restored = merged.state_dict(task)
        assert restored.keys() == experts.base.keys()
        assert all(torch.equal(restored[key], experts.expert(task)[key]) for key in restored)
    # As many numbers as the experts themselves: no factors larger than their matrix.
    assert merged.storage().bits == mb.merge("fine_tuned", experts).storage().bits


def test_tsv_c_truncates_every_matrix_and_keeps_the_rest(experts):
    merged = mb.merge("tsv_c", experts)
    for task in experts.tasks:
        weights, expert = merged.state_dict(task), experts.expert(task)
        for key, k in {"attn.in_proj_weight": 2, "mlp.weight": 2, "embedding": 1}.items():
            wanted = experts.base[key] + truncated(expert[key] - experts.base[key], k)
            torch.testing.assert_close(weights[key], wanted, rtol=0, atol=1e-5)
        assert torch.equal(weights["b"], expert["b"])
        assert torch.equal(weights["frozen"], expert["frozen"])


def test_cart_indexing_truncates_blocks_around_the_average(experts):
    merged = mb.merge("cart_indexing", experts, rank=0.34, scale=0.5)
    average = mb.merge("averaging", experts).state_dict()
    for task in experts.tasks:
        weights, expert = merged.state_dict(task), experts.expert(task)
        for key in SHAPES:
            centred = expert[key] - average[key]
            centred = (
                truncated(centred, 2) if key in ("attn.in_proj_weight", "mlp.weight") else centred
            )
            torch.testing.assert_close(
                weights[key], average[key] + 0.5 * centred, rtol=0, atol=1e-5
            )


def test_storage_by_hand(experts):
    storage = mb.merge("tsv_c", experts).storage()
    factors = 3 * (2 * (18 + 6 + 1) + 2 * (6 + 24 + 1) + 1 * (5 + 6 + 1))
    origins = 18 * 6 + 6 * 24 + 5 * 6
    frozen = 3 * 32 + 64
    assert storage.bits == 32 * (origins + 3 * 7 + factors) + frozen
    assert storage.expression == "b(L+F+T(P'-L)+K)"
    assert (storage.symbols["L"], storage.symbols["K"]) == (origins, factors)


def test_a_matrix_is_stored_whole_where_factors_would_be_larger(experts):
    merged = mb.merge("tsv_c", experts, budget=2.5)  # k = 5, 5, 4 of 6, 6, 5
    assert isinstance(merged, LowRankModel)
    assert (
        merged.factors == {}
    )  # 5 (18 + 6 + 1) > 18 * 6, 5 (6 + 24 + 1) > 6 * 24, 4 (5 + 6 + 1) > 5 * 6
    delta = experts.expert("task2")["mlp.weight"] - experts.base["mlp.weight"]
    wanted = experts.base["mlp.weight"] + truncated(delta, 5)
    torch.testing.assert_close(merged.state_dict("task2")["mlp.weight"], wanted, rtol=0, atol=1e-5)


# Weight matrices of a block of width d, as open_clip stores them; ViT-B has 12 blocks of 768.
BLOCK = [(2304, 768), (768, 768), (3072, 768), (768, 3072)]


def share(k: int) -> float:
    """Numbers that one task stores, relative to the matrices, for ViT-B."""
    factors = {}
    for block in range(12):
        for number, (rows, columns) in enumerate(BLOCK):
            parts = [(rows, columns), (1, rows, k), (1, k), (1, columns, k)]
            factors[f"{block}.{number}"] = Factors(*(torch.empty(p, device="meta") for p in parts))
    storage = low_rank_storage(Sizes({32: 84_934_656}, {}), 1, factors)
    assert storage.symbols["L"] == 84_934_656
    assert storage.bits == 32 * (storage.symbols["L"] + storage.symbols["K"])
    return round(100 * storage.symbols["K"] / storage.symbols["L"], 1)


def test_shares_of_storage_at_the_published_ranks():
    ranks = [cart_rank(768, rank) for rank in (0.04, 0.08, 0.12, 0.16, 0.32)]
    assert [share(k) for k in ranks] == [5.2, 10.6, 16.0, 21.2, 42.5]
    assert [share(768 // tasks) for tasks in (8, 14, 20)] == [16.7, 9.4, 6.6]


@pytest.mark.parametrize("qkv", ["fused", "split"])
def test_saved_and_loaded_under_the_names_of_the_base(qkv, experts, tmp_path):
    merged = mb.merge("tsv_c", experts, qkv=qkv)
    again = mb.load_merged(merged.save(tmp_path / "low_rank.safetensors"))
    assert type(again) is LowRankModel and again.backbone == "mini-small"
    assert again.storage() == merged.storage()
    for task in experts.tasks:
        left, right = merged.state_dict(task), again.state_dict(task)
        assert list(left) == list(right) == list(experts.base)
        assert all(torch.equal(left[key], right[key]) for key in left)
    name = "attn.in_proj_weight[k]" if qkv == "split" else "attn.in_proj_weight"
    assert name in again.factors
    with pytest.raises(MethodError, match=r"unknown task 'task'.*task1, task2, task3"):
        again.state_dict("task")


def test_arranging_query_key_and_value_changes_what_is_truncated(experts):
    fused = mb.merge("tsv_c", experts, qkv="fused").state_dict("task1")
    split = mb.merge("tsv_c", experts, qkv="split").state_dict("task1")
    key = "attn.in_proj_weight"
    parts = (experts.expert("task1")[key] - experts.base[key]).split(6)
    wanted = experts.base[key] + torch.cat([truncated(part, 2) for part in parts])
    torch.testing.assert_close(split[key], wanted, rtol=0, atol=1e-5)
    assert not torch.allclose(split[key], fused[key], atol=1e-2)


def test_a_singular_value_beyond_half_precision_is_refused():
    base = {"w": torch.zeros(40, 40, dtype=torch.float16)}
    huge = {"w": torch.full((40, 40), 3e4, dtype=torch.float16)}
    experts = Experts(base, {"one": huge, "two": dict(base)})
    with pytest.raises(
        CheckpointError, match=r"tensor 'w': a singular value is beyond torch.float16"
    ):
        mb.merge("tsv_c", experts, budget=0.5)
