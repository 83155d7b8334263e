"""FlexSwitch: where it starts, what training does to the loss, and what it stores."""

import pytest
import torch
from torch.nn import functional as F

import mergebook as mb
from mergebook.calibration import Calibration
from mergebook.compression.flex_switch import Gate
from mergebook.errors import ParameterError
from mergebook.towers import clip
from mergebook.weights import Experts


@pytest.fixture(scope="module")
def world():
    """One expert beside a mini backbone, one that equals it, a few random images."""
    visual = clip.load_backbone("mini-small").visual.state_dict()
    base = {key: value.clone() for key, value in visual.items()}
    generator = torch.Generator().manual_seed(3)

    def noise(like):
        return 0.1 * like.std().nan_to_num(1.0) * torch.randn(like.shape, generator=generator)

    moved = {key: value + noise(value) for key, value in base.items()}
    experts = Experts(base, {"moved": moved, "idle": base}, backbone="mini-small")
    inputs = torch.randn(12, 3, 32, 32, generator=generator)
    head = F.normalize(torch.randn(5, 64, generator=generator), dim=-1)
    both = dict.fromkeys(experts.tasks)
    calibration = Calibration("mini-small", both | dict.fromkeys(both, inputs),
                              dict.fromkeys(both, head), 20.0)  # fmt: skip
    return experts, calibration


def log_odds(weights, calibration) -> torch.Tensor:
    encoder = clip.visual_encoder("mini-small", weights)
    with torch.inference_mode():
        features = encoder(calibration.inputs["moved"])
    return calibration.logits(features, "moved").log_softmax(1)


def distance(merged, experts, calibration) -> float:
    """KL from the expert to the solution, on all images."""
    target = log_odds(experts.expert("moved"), calibration)
    found = log_odds(merged.state_dict("moved"), calibration)
    return float((target.exp() * (target - found)).sum(1).mean())


def share(merged) -> float:
    kept = sum(count.kept for count in merged.counts("moved").values())
    return kept / merged.sizes.num_trained


@pytest.mark.parametrize("drop", [0.0, 0.6, 0.95])
def test_before_training_it_is_signs_and_a_knob_with_one_threshold_per_tensor(world, drop):
    experts, calibration = world
    merged = mb.merge("flex_switch", experts, calibration, steps=0, bits=1, drop=drop)
    for layer in experts:
        delta = layer.deltas[0].double()
        ranked = delta.flatten().abs().sort().values
        on = delta.abs() > (ranked[int(len(ranked) * drop) - 1] if int(len(ranked) * drop) else 0)
        knob = (delta[on].square().sum() / on.sum()).sqrt()
        wanted = torch.where(on, delta.sign() * knob, 0.0).float()
        torch.testing.assert_close(merged.vector("moved", layer.name), wanted, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_levels_are_the_centres_of_equal_cells(bits):
    delta = torch.tensor([0.0, 0.3, -1.0, 2.0, -3.0, 5.0])
    gate = Gate(delta, bits)
    found, kept, (knob, step) = gate.hard(torch.tensor(0.5) / gate.size)
    width = 4.5 / 2 ** (bits - 1)
    cells = [min(int((x - 0.5) / width), 2 ** (bits - 1) - 1) for x in (1, 2, 3, 5)]
    assert kept.tolist() == [False, False, True, True, True, True]
    assert found.tolist() == [0, 0, *cells]
    centres = torch.tensor([0.5 + (c + 0.5) * width for c in cells])
    factor = float(delta[2:].norm() / centres.norm())
    assert float(knob) == pytest.approx(factor * (0.5 + width / 2), rel=1e-5)
    assert float(step) == pytest.approx(factor * width, rel=1e-5)


def test_gradients_reach_thresholds_and_scales_and_the_gate_stays_hard():
    gate = Gate(torch.tensor([0.1, -0.9, 1.0, 2.0]), 1)
    threshold = (torch.tensor(0.95) / gate.size).requires_grad_()
    scale = torch.tensor(2.0, requires_grad=True)
    value, soft = gate(threshold, scale)
    knob = float((torch.tensor([1.0, 2.0]).square().sum() / 2).sqrt())
    assert value.tolist() == pytest.approx([0, 0, 2 * knob, 2 * knob], abs=1e-6)
    value.sum().backward()
    assert float(scale.grad) == pytest.approx(2 * knob, rel=1e-5)
    odds = torch.sigmoid((gate.delta.abs() / gate.size - threshold.detach()) / 0.1)
    torch.testing.assert_close(soft, odds)
    slopes = -10 * odds * (1 - odds) * torch.tensor([1.0, -1.0, 1.0, 1.0]) * 2 * knob
    assert float(threshold.grad) == pytest.approx(float(slopes.sum()), rel=1e-4)


def test_training_lowers_the_distance_and_a_weight_on_sparsity_the_share(world):
    experts, calibration = world
    settings = {"bits": 2, "drop": 0.9, "lr": 0.05, "batch_size": 12}
    start, close, sparse = (
        mb.merge("flex_switch", experts, calibration, **settings, **own)
        for own in (
            {"steps": 0},
            {"steps": 8, "sparsity": 0.0},
            {"steps": 8, "sparsity": 50.0},
        )
    )
    assert distance(close, experts, calibration) < distance(start, experts, calibration)
    assert share(start) == pytest.approx(0.1, abs=0.002)
    assert share(sparse) < share(start)


def test_more_bits_come_closer_and_an_idle_expert_is_the_base(world):
    experts, calibration = world
    few, many = (
        mb.merge("flex_switch", experts, calibration, steps=0, bits=bits, drop=0.0)
        for bits in (1, 8)
    )
    assert distance(many, experts, calibration) < distance(few, experts, calibration) / 10
    idle = many.state_dict("idle")
    assert all(torch.equal(idle[key], experts.base[key]) for key in experts.base)


def test_storage_is_that_of_the_streams_and_two_knobs_per_tensor_and_task(world):
    experts, calibration = world
    one, two = (
        mb.merge("flex_switch", experts, calibration, steps=0, bits=bits) for bits in (1, 2)
    )
    knobs = 32 * len(experts.trained) * 2
    kept = sum(count.kept for count in one.counts("moved").values())
    assert two.storage().bits - one.storage().bits == kept + knobs
    streams = sum(8 * len(x) for own in one.streams.values() for x in own.values())
    padding = 8 * 2 * len(experts.trained)
    trained = 32 * one.sizes.num_trained
    assert streams - padding < one.storage().bits - trained - knobs <= streams


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_types_are_trained_alike(world, dtype):
    experts, calibration = world
    states = [
        {key: value.to(dtype) for key, value in state.items()}
        for state in (experts.base, experts.expert("moved"))
    ]
    other = Experts(states[0], {"moved": states[1]}, backbone="mini-small")
    merged = mb.merge("flex_switch", other, calibration, steps=1)
    plain = mb.merge("flex_switch", experts, calibration, steps=1)
    assert all(value.dtype == dtype for value in merged.state_dict("moved").values())
    assert merged.knobs.dtype == other.dtype
    assert share(merged) == pytest.approx(share(plain), abs=0.02)


def test_bad_input_is_named(world):
    with pytest.raises(ParameterError, match=r"flex_switch: bits=9"):
        mb.merge("flex_switch", *world, bits=9)
