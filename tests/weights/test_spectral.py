"""Leading directions and polar factors against NumPy, and which tensors count as matrices."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mergebook.weights import Experts
from mergebook.weights.spectral import (
    factors,
    is_chosen,
    is_matrix,
    polar,
    resolve,
    singular_values,
    triplets,
)
from strategies import settings  # noqa: F401  (loads the profile)

SHAPES = [(5, 3), (3, 5), (4, 4), (1, 7), (6, 1), (0, 3), (3, 0)]


def gaussian(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def truncate(matrix: torch.Tensor, k: int) -> np.ndarray:
    left, right = factors(matrix, k)
    assert left.shape == (len(matrix), k) and right.shape == (matrix.shape[1], k)
    return (left @ right.mT).numpy()


@pytest.mark.parametrize("size", [1e-5, 1.0, 1e5])
def test_what_counts_as_zero_is_relative_to_the_largest(size):
    left, right = gaussian(5, 3).svd()[0], gaussian(4, 4, seed=1).svd()[0]
    values = torch.tensor([1.0, 1e-3, 1e-9], dtype=torch.float64)  # the last one counts as zero
    matrix = size * (left * values) @ right[:, :3].mT
    u, s, v = triplets(matrix, 3)
    np.testing.assert_allclose(s / size, [1, 1e-3, 0], atol=1e-12)
    for side in (u, v):
        np.testing.assert_allclose(side.norm(dim=0), [1, 1, 0], atol=1e-9)


def test_a_matrix_of_zeros_has_no_directions():
    assert not any(part.any() for part in triplets(torch.zeros(4, 3, dtype=torch.float64), 2))


@pytest.mark.parametrize("shape", SHAPES)
def test_factors_are_the_truncated_decomposition(shape):
    matrix = gaussian(*shape)
    left, values, right = np.linalg.svd(matrix.numpy(), full_matrices=False)
    for k in range(min(shape) + 1):
        best = (left[:, :k] * values[:k]) @ right[:k]
        np.testing.assert_allclose(truncate(matrix, k), best, atol=1e-12)
        u, s, v = triplets(matrix, k)
        assert (u.shape, s.shape, v.shape) == ((shape[0], k), (k,), (shape[1], k))
        np.testing.assert_allclose(s.numpy(), values[:k], atol=1e-12)
        np.testing.assert_allclose(((u * s) @ v.mT).numpy(), best, atol=1e-12)
        np.testing.assert_allclose((u.mT @ u).numpy(), np.eye(k), atol=1e-12)
        np.testing.assert_allclose((v.mT @ v).numpy(), np.eye(k), atol=1e-12)
    np.testing.assert_allclose(singular_values(*factors(matrix)).numpy(), values, atol=1e-12)


@pytest.mark.parametrize("shape", [(40, 30), (30, 40)])
def test_an_uneven_spectrum_costs_no_accuracy(shape):
    basis = [torch.linalg.qr(gaussian(n, 30, seed=n))[0] for n in shape]
    values = torch.logspace(0, -4, 30, dtype=torch.float64)
    matrix = ((basis[0] * values) @ basis[1].mT).float()
    left, found, right = np.linalg.svd(matrix.double().numpy(), full_matrices=False)
    np.testing.assert_allclose(
        truncate(matrix, 10), (left[:, :10] * found[:10]) @ right[:10], atol=1e-13
    )
    np.testing.assert_allclose(polar(matrix).numpy(), left @ right, atol=1e-7)


def test_inputs_stay_and_single_precision_is_widened():
    matrix = gaussian(4, 3).float()
    before = matrix.clone()
    assert {part.dtype for part in (*triplets(matrix, 2), polar(matrix))} == {torch.float64}
    assert torch.equal(matrix, before)


def test_directions_that_do_not_exist_are_zero():
    column, row = gaussian(5, 1, seed=1), gaussian(1, 4, seed=2)
    u, s, v = triplets(column @ row, 3)
    assert s[0] > 0 and not s[1:].any()
    assert not u[:, 1:].any() and not v[:, 1:].any()
    torch.testing.assert_close((u * s) @ v.mT, column @ row)
    for part in triplets(torch.zeros(5, 4)):
        assert not part.any()
    assert not polar(torch.zeros(3, 2)).any()


def test_polar_factor_has_orthonormal_columns_and_is_the_closest_such_matrix():
    matrix = gaussian(6, 3)
    factor = polar(matrix)
    torch.testing.assert_close(factor.mT @ factor, torch.eye(3, dtype=torch.float64))
    distance = (matrix - factor).norm()
    for seed in range(20):
        turned = torch.linalg.qr(factor + 0.1 * gaussian(6, 3, seed=seed))[0]
        assert (matrix - turned * turned.mul(factor).sum(0).sign()).norm() > distance
    torch.testing.assert_close(polar(matrix.mT), factor.mT)


@given(order=st.permutations(range(4)), signs=st.tuples(*[st.sampled_from((-1.0, 1.0))] * 4))
def test_polar_factor_follows_the_columns(order, signs):
    signs = torch.tensor(signs, dtype=torch.float64)
    for matrix in (gaussian(6, 4), gaussian(3, 4), gaussian(6, 2) @ gaussian(2, 4)):
        torch.testing.assert_close(
            polar(matrix[:, order] * signs), polar(matrix)[:, order] * signs, rtol=0, atol=1e-9
        )


def test_polar_factor_of_repeated_columns_shares_the_direction():
    unit = torch.linalg.qr(gaussian(5, 2))[0]
    torch.testing.assert_close(
        polar(torch.cat([unit, unit], 1)), torch.cat([unit, unit], 1) / 2**0.5
    )


BLOCK = "transformer.resblocks.0.attn.in_proj_weight"
NAMES = {
    BLOCK: (True, True),
    "transformer.resblocks.0.mlp.c_fc.weight": (True, True),
    "vision_model.encoder.layers.3.self_attn.q_proj.weight": (True, True),
    "encoder.layer.0.attention.self.query.weight": (True, True),
    "encoder.layer.0.intermediate.dense.weight": (True, True),
    "encoder.layer.0.output.dense.weight": (True, True),
    "encoder.layer.0.output.LayerNorm.weight": (False, True),
    "embeddings.word_embeddings.weight": (False, True),
    "positional_embedding": (False, True),
    "proj": (False, True),
    "mlp.ln.weight": (False, True),
    "attn.bias": (False, True),
    "text_projection": (False, False),
    "attn.text_projection": (False, False),
}


@pytest.mark.parametrize("name", NAMES)
def test_which_tensors_are_matrices(name):
    matrix, blocks = torch.zeros(2, 3), NAMES[name][0]
    assert is_chosen(name, matrix, "blocks") == blocks
    assert is_chosen(name, matrix, "matrices") == is_matrix(name, matrix) == NAMES[name][1]
    for other in (torch.zeros(3), torch.zeros(()), torch.zeros(2, 3, 1, 1)):
        assert not is_chosen(name, other, "blocks") and not is_chosen(name, other, "matrices")


def test_a_model_without_names_of_blocks_has_matrices_only():
    def model(name: str) -> Experts:
        return Experts({name: torch.zeros(2, 2)}, {"one": {name: torch.ones(2, 2)}})

    assert resolve(model(BLOCK), "blocks") == "blocks"
    assert resolve(model("encoder.layer.0.attention.self.query.weight"), "blocks") == "blocks"
    assert resolve(model("layers.0.dense.weight"), "blocks") == "matrices"
    assert resolve(model(BLOCK), "matrices") == "matrices"
