"""Interference, spectra and alignment, against matrices multiplied out and by hand."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import mergebook as mb
from blocks import BLOCKS, SHAPES, block_experts, state
from comparison import assert_near
from mergebook.analysis import alignment, row_interference, spectrum, subspace_profile
from mergebook.errors import ExperimentError
from mergebook.weights import Experts
from mergebook.weights.spectral import triplets


@pytest.fixture(scope="module")
def experts() -> Experts:
    return block_experts()


def multiplied_out(matrices: list[np.ndarray], k: int) -> float:
    parts = []
    for matrix in matrices:
        _, values, right = np.linalg.svd(matrix, full_matrices=False)
        parts.append(np.diag(values[:k] / np.linalg.norm(values[:k])) @ right[:k])
    return sum(
        np.linalg.norm(a @ b.T) for i, a in enumerate(parts) for j, b in enumerate(parts) if i != j
    )


@given(
    st.integers(2, 4), st.integers(1, 6), st.integers(1, 6), st.integers(0, 10**6), st.booleans()
)
def test_interference_equals_the_matrices_multiplied_out(tasks, m, n, seed, alike):
    rng = np.random.default_rng(seed)
    common = rng.normal(size=(m, n)) * 3 * alike
    matrices = [common + rng.normal(size=(m, n)) for _ in range(tasks)]
    parts = [triplets(torch.from_numpy(matrix)) for matrix in matrices]
    values, right = (torch.stack([part[i] for part in parts]) for i in (1, 2))
    found = row_interference(values, right)
    expected = [multiplied_out(matrices, k) for k in range(1, min(m, n) + 1)]
    assert_near(found, torch.tensor(expected), 1e-8)


def test_interference_of_equal_orthogonal_and_absent_row_spaces():
    values = torch.ones(3, 1, dtype=torch.float64)
    one, other = torch.eye(4, dtype=torch.float64)[:, :1], torch.eye(4, dtype=torch.float64)[:, 1:2]
    assert row_interference(values, torch.stack([one] * 3)).tolist() == [6.0]
    assert row_interference(values[:2], torch.stack([one, other])).tolist() == [0.0]
    nothing = torch.tensor([[1.0], [1.0], [0.0]], dtype=torch.float64)
    assert row_interference(nothing, torch.stack([one, one, one])).tolist() == [2.0]


def test_the_profile_is_that_of_each_centred_matrix(experts):
    average = mb.merge("averaging", experts).state_dict()
    ranks = (0.2, 0.5, 1.0)
    frame = subspace_profile(experts, ranks, average).set_index(["tensor", "rank"])
    assert set(frame.index) == {(key, rank) for key in BLOCKS for rank in ranks}
    for key in BLOCKS:
        matrices = [(experts.expert(t)[key] - average[key]).numpy() for t in experts.tasks]
        full = min(SHAPES[key])
        for rank in ranks:
            row, k = frame.loc[key, rank], max(1, int(rank * full))
            tails = [np.linalg.svd(matrix, compute_uv=False)[k:] for matrix in matrices]
            assert row["k"] == k
            assert row["interference"] == pytest.approx(multiplied_out(matrices, k) / 6, abs=1e-8)
            assert row["error"] == pytest.approx(sum((tail**2).sum() for tail in tails), abs=1e-8)
            assert row["energy"] == pytest.approx(sum((m**2).sum() for m in matrices))
    assert frame.loc[BLOCKS[1], 0.2][["kind", "block"]].tolist() == ["MLP", 1]
    plain = subspace_profile(experts, ranks).set_index(["tensor", "rank"])
    base = subspace_profile(experts, ranks, experts.base).set_index(["tensor", "rank"])
    assert plain.equals(base) and not plain.equals(frame)
    every = subspace_profile(experts, (0.5,), tensors="matrices")
    assert set(every["tensor"]) == {*BLOCKS, "proj"}


def test_the_spectrum_is_that_of_the_merged_change(experts):
    model = mb.merge("iso_c", experts)
    flat = spectrum(experts, model)
    assert set(flat["tensor"]) == set(BLOCKS) and flat["value"].min() == pytest.approx(1)
    summed = spectrum(experts, mb.merge("task_arithmetic", experts))
    for key in BLOCKS:
        total = sum((experts.expert(t)[key] - experts.base[key]).numpy() for t in experts.tasks)
        values = np.linalg.svd(total, compute_uv=False)
        part = summed[summed["tensor"] == key]
        assert part["value"].tolist() == pytest.approx((values / values[0]).tolist())
        assert part["position"].iloc[-1] == 1
    unchanged = spectrum(experts, mb.merge("zero_shot", experts))
    assert set(unchanged["value"]) == {0.0}


@pytest.mark.parametrize(("dimension", "energy"), [("residual", 0.9975), ("retained", 0.9025)])
def test_alignment_projects_on_the_leading_left_directions(experts, dimension, energy):
    model = mb.merge("task_arithmetic", experts, scale=0.5)
    frame = alignment(experts, model, dimension=dimension).set_index(["tensor", "task"])
    for key in BLOCKS:
        change = (model.state_dict()[key] - experts.base[key]).numpy()
        left, values, _ = np.linalg.svd(change, full_matrices=False)
        share = np.cumsum(values**2) / (values**2).sum()
        k = next(i for i, reached in enumerate(share, start=1) if reached >= energy)
        for task in experts.tasks:
            delta = (experts.expert(task)[key] - experts.base[key]).numpy()
            projected = left[:, :k] @ left[:, :k].T @ delta
            assert frame.loc[(key, task), "k"] == k
            expected = np.linalg.norm(projected) / np.linalg.norm(delta)
            assert frame.loc[(key, task), "alignment"] == pytest.approx(expected)


def test_one_task_lies_in_its_own_subspace():
    alone = Experts(state(0), {"one": state(1)})
    frame = alignment(alone, mb.merge("averaging", alone))
    assert frame["alignment"].min() > 0.998


def test_bad_input_is_named(experts):
    with pytest.raises(ExperimentError, match="two tasks"):
        subspace_profile(Experts(state(0), {"one": state(1)}), (0.5,))
    with pytest.raises(ExperimentError, match=r"above 0 and at most 1, got \[0\]"):
        subspace_profile(experts, [0])
    with pytest.raises(ExperimentError, match=r"no tensor 'transformer\.resblocks\.0\.attn"):
        subspace_profile(experts, (0.5,), {"proj": state(1)["proj"]})
    with pytest.raises(ExperimentError, match="unknown dimension 'full'"):
        alignment(experts, mb.merge("averaging", experts), dimension="full")
