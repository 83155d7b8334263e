"""TSV-M and isotropic merging: spectra, sizes of subspaces, other tensors, degenerate cases."""

import numpy as np
import pytest
import torch

import mergebook as mb
from comparison import assert_near
from mergebook.methods.isotropic import subspaces
from mergebook.methods.tsv import tsv_rank
from mergebook.weights import Experts, Layer


def matrices(number: int, shape: tuple[int, ...] = (8, 6), seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(number)]


def experts_of(*deltas: torch.Tensor, name: str = "w") -> Experts:
    """Experts over a base of zeros."""
    states = {f"task{t}": {name: delta} for t, delta in enumerate(deltas)}
    return Experts({name: torch.zeros_like(deltas[0])}, states)


def vector(method: str, experts: Experts, **params) -> torch.Tensor:
    (result,) = mb.merge(method, experts, scale=1.0, **params).state_dict().values()
    return result


def spectrum(matrix: torch.Tensor) -> np.ndarray:
    return np.linalg.svd(matrix.numpy(), compute_uv=False)


def test_singular_values_of_the_merge_are_those_that_the_tasks_kept():
    deltas = matrices(3)
    kept = np.concatenate([spectrum(delta)[:2] for delta in deltas])
    result = vector("tsv_m", experts_of(*deltas))
    np.testing.assert_allclose(spectrum(result), np.sort(kept)[::-1], atol=1e-9)
    plain = vector("tsv_m", experts_of(*deltas), orthogonal=False)
    assert not np.allclose(spectrum(plain), np.sort(kept)[::-1], atol=1e-2)


def test_tasks_that_are_orthogonal_already_are_added_up():
    blocks = matrices(2, (4, 3))
    deltas = [torch.zeros(8, 6, dtype=torch.float64) for _ in blocks]
    deltas[0][:4, :3], deltas[1][4:, 3:] = blocks
    result = vector("tsv_m", experts_of(*deltas))
    assert_near(result, deltas[0] + deltas[1], 1e-9)
    assert_near(result, vector("tsv_m", experts_of(*deltas), orthogonal=False), 1e-9)


def test_ranks_of_the_paper():
    def rank(full: int, tasks: int, budget: float = 1.0) -> int:
        base = torch.empty(4 * full, full, device="meta")
        return tsv_rank(Layer("w", base, base[None], ("t",) * tasks), budget)

    assert [rank(768, tasks) for tasks in (8, 14, 20)] == [96, 54, 38]
    assert [rank(1024, tasks) for tasks in (8, 14, 20)] == [128, 73, 51]
    assert [rank(96, 8, budget) for budget in (0, 0.5, 8, 100)] == [0, 6, 96, 96]


def test_equal_experts_share_their_directions():
    (delta,) = matrices(1)
    left, values, right = np.linalg.svd(delta.numpy(), full_matrices=False)
    best = torch.from_numpy((left[:, :2] * values[:2]) @ right[:2])
    assert_near(vector("tsv_m", experts_of(delta, delta, delta)), best, 1e-9)
    assert_near(vector("tsv_m", experts_of(delta, delta, delta), budget=3.0), delta, 1e-9)


def test_a_task_vector_of_zeros_takes_its_share_of_the_rank_and_nothing_else():
    deltas = matrices(2)
    idle = torch.zeros_like(deltas[0])
    with_idle = experts_of(*deltas, idle)
    assert_near(
        vector("tsv_m", with_idle), vector("tsv_m", experts_of(*deltas), budget=2 / 3), 1e-9
    )


@pytest.mark.parametrize("method", ["tsv_m", "iso_c", "iso_cts"])
@pytest.mark.parametrize(
    ("name", "shape"),
    [("text_projection", (8, 6)), ("conv", (2, 3, 2, 2)), ("bias", (5,)), ("logit_scale", ())],
)
def test_other_tensors_get_the_scaled_mean(method, name, shape):
    deltas = matrices(3, shape)
    (result,) = mb.merge(method, experts_of(*deltas, name=name), scale=0.7).state_dict().values()
    assert_near(result, 0.7 * sum(deltas) / 3, 1e-9)


def test_a_matrix_with_fewer_rows_than_tasks():
    deltas = matrices(4, (3, 7))
    assert not vector("tsv_m", experts_of(*deltas)).any()  # k = 0
    assert vector("iso_c", experts_of(*deltas)).any()
    assert_near(vector("iso_cts", experts_of(*deltas)), vector("iso_c", experts_of(*deltas)), 1e-9)


def test_isotropic_spectrum_is_flat_and_keeps_its_sum():
    deltas = matrices(3)
    total = spectrum(sum(deltas))
    result = spectrum(vector("iso_c", experts_of(*deltas)))
    np.testing.assert_allclose(result, total.mean(), atol=1e-9)
    common = spectrum(vector("iso_cts", experts_of(*deltas), common=0.5))
    np.testing.assert_allclose(common, common[0], atol=1e-9)
    everything = vector("iso_cts", experts_of(*deltas), common=1.0)
    assert_near(everything, vector("iso_c", experts_of(*deltas)), 1e-9)


@pytest.mark.parametrize(
    ("full", "sizes"),
    [
        (768, {8: (616, 19), 14: (614, 11), 20: (608, 8)}),
        (1024, {8: (816, 26), 14: (814, 15), 20: (824, 10)}),
    ],
)
def test_sizes_of_the_subspaces_of_the_paper(full, sizes):
    assert {tasks: subspaces(full, tasks, 0.8) for tasks in sizes} == sizes


def test_subspaces_always_fill_the_rank():
    for full in range(12):
        for tasks in range(1, 8):
            for common in (0.0, 0.3, 0.8, 1.0):
                shared, own = subspaces(full, tasks, common)
                assert shared >= 0 and own >= 0 and shared + tasks * own == full


@pytest.mark.parametrize("method", ["tsv_m", "iso_c", "iso_cts"])
def test_a_sum_that_lacks_rank_gets_no_directions_of_its_own_making(method):
    left, right = matrices(1, (8, 1))[0], matrices(1, (1, 6), seed=1)[0]
    result = vector(method, experts_of(left @ right, -0.5 * left @ right))
    assert np.linalg.matrix_rank(result.numpy(), tol=1e-9) == 1
    cancelled = vector(method, experts_of(left @ right, -left @ right))
    assert cancelled.isfinite().all()
    assert method == "tsv_m" or cancelled.abs().max() < 1e-15  # what rounding leaves
