"""peft: the functions that merge adapters, given one task vector per call."""

import pytest
import torch
from peft.utils import merge_utils

import mergebook as mb
from mergebook.weights import Experts
from peers.cases import add, apart, assert_agree, each_tensor, models, ours, task_vectors

BASE, EXPERTS = models()
VECTORS = task_vectors(BASE, EXPERTS)


def peer(function, scale, **params):
    """Their result: the base plus what the function makes of the task vectors of each tensor."""
    weights = torch.full((len(VECTORS),), float(scale))
    merged = {key: function([vector[key] for vector in VECTORS], weights, **params) for key in BASE}
    return add(BASE, merged)


def test_task_arithmetic_agrees():
    theirs = peer(merge_utils.task_arithmetic, 0.3)
    assert_agree(ours("task_arithmetic", BASE, EXPERTS, scale=0.3), theirs)


@pytest.mark.parametrize("density", [0.1, 0.2, 0.5])
def test_ties_trims_tensor_by_tensor_and_keeps_exactly_k(density):
    theirs = peer(merge_utils.ties, 1, density=density)
    params = {"scale": 1.0, "density": density, "combine": "mean"}
    assert_agree(each_tensor("ties", BASE, EXPERTS, keep="k", **params), theirs)
    assert apart(each_tensor("ties", BASE, EXPERTS, keep="k+1", **params), theirs, BASE) > 0.01
    assert apart(ours("ties", BASE, EXPERTS, keep="k", **params), theirs, BASE) > 0.1


def test_ties_takes_the_positive_side_where_values_cancel():
    vectors = [torch.tensor([1.0, -2.0, -3.0]), torch.tensor([-1.0, -2.0, -3.0])]
    with pytest.warns(UserWarning, match="no pruning"):
        theirs = merge_utils.ties(vectors, torch.ones(2), density=1.0)
    assert theirs.tolist() == [1, -2, -3]
    experts = {str(t): {"w": vector} for t, vector in enumerate(vectors)}
    result = ours("ties", {"w": torch.zeros(3)}, experts, density=1.0)["w"]
    assert result.tolist() == [-1, -2, -3]  # the sign that most other entries have


def test_magnitude_prune_is_the_sum_of_vectors_pruned_by_tensor():
    theirs = peer(merge_utils.magnitude_prune, 0.3, density=0.2)
    by_hand = {}
    for key in BASE:
        base, experts = {key: BASE[key]}, {task: {key: EXPERTS[task][key]} for task in EXPERTS}
        pruned = mb.merge("magnitude_pruning", Experts(base, experts), density=0.2, keep="k")
        by_hand[key] = 0.3 * sum(pruned.state_dict(task)[key] - BASE[key] for task in EXPERTS)
    assert_agree(add(BASE, by_hand), theirs)
    pruned = mb.merge("magnitude_pruning", Experts(BASE, EXPERTS), density=0.2, keep="k")
    totals = {
        key: 0.3 * sum(pruned.state_dict(task)[key] - BASE[key] for task in EXPERTS) for key in BASE
    }
    assert apart(add(BASE, totals), theirs, BASE) > 0.1  # the whole vector is pruned at once


@pytest.mark.parametrize("drop", [0.5, 0.9])
def test_dare_divides_what_is_left_by_the_density(drop):
    vector = torch.randn(40, 50, generator=torch.Generator().manual_seed(0)) + 3
    torch.manual_seed(1)
    theirs = merge_utils.dare_linear([vector], torch.ones(1), density=1 - drop)
    kept = theirs != 0
    torch.testing.assert_close(theirs, vector * kept / (1 - drop))
    assert abs(kept.float().mean().item() - (1 - drop)) < 0.05
    base = {"w": torch.zeros(40, 50)}
    result = ours("dare_ta", base, {"one": {"w": vector}}, scale=1.0, drop=drop)["w"]
    torch.testing.assert_close(result, vector * (result != 0) / (1 - drop))
    assert abs((result != 0).float().mean().item() - (1 - drop)) < 0.05


def test_dare_ties_elects_without_trimming():
    torch.manual_seed(0)
    vectors = [vector["encoder.0.mlp.c_fc.weight"] for vector in VECTORS]
    theirs = merge_utils.dare_ties(vectors, torch.ones(len(vectors)), density=0.6)
    torch.manual_seed(0)
    thinned = [merge_utils.prune(vector, 0.6, "random", rescale=True) for vector in vectors]
    base = {"w": torch.zeros_like(theirs)}
    experts = {str(t): {"w": vector} for t, vector in enumerate(thinned)}
    assert_agree(ours("ties", base, experts, density=1.0), {"w": theirs})
