"""What a caller has set, and what a merge leaves behind: gradients off, random numbers, threads."""

from dataclasses import replace

import pytest
import torch

import mergebook as mb
from mergebook.suites import load_suite
from mergebook.towers import clip
from mergebook.training import FinetuneRecipe, finetune
from mergebook.weights import Experts

LENGTHS = ("steps", "rounds", "iterations")
FEW = {"batch_size": 4, "num_images": 4, "neighbours": 3}


def quick(name: str) -> dict:
    """Parameters with a step of training where the method trains."""
    names = {parameter.name for parameter in mb.get_method(name).parameters}
    few = dict.fromkeys(LENGTHS, 1) | FEW
    return {key: value for key, value in few.items() if key in names}


@pytest.fixture
def no_backbones():
    """Nothing is kept from an earlier test, so that all that is kept is made anew."""
    clip.load_backbone.cache_clear()
    clip.visual_template.cache_clear()


def copied(states, calibration):
    """The same numbers in tensors of their own."""
    states = {task: {k: v.clone() for k, v in own.items()} for task, own in states.items()}
    parts = {
        name: {task: value.clone() for task, value in getattr(calibration, name).items()}
        for name in ("inputs", "heads", "labels")
    }
    return states, replace(calibration, **parts)


@pytest.mark.parametrize("name", mb.list_methods())
def test_a_merge_is_the_same_with_gradients_off(
    name, base, states, experts, calibration, no_backbones
):
    random = torch.random.get_rng_state()
    merged = mb.merge(name, experts, calibration, **quick(name))
    encoder = merged.encoder(experts.tasks[0])
    assert torch.equal(torch.random.get_rng_state(), random)

    with torch.no_grad():
        without = mb.merge(name, experts, calibration, **quick(name))
    with torch.inference_mode():  # not the call alone: its inputs are of this mode, too
        copies, images = copied(states, calibration)
        fresh = Experts({k: v.clone() for k, v in base.items()}, copies, backbone="mini-small")
        inferred = mb.merge(name, fresh, images, **quick(name))
    for other in (without, inferred):
        left, right = merged.stored()[0], other.stored()[0]
        assert left.keys() == right.keys()
        assert all(torch.equal(left[key], right[key]) for key in left)
        assert not any(value.is_inference() for value in right.values())
    inputs = calibration.inputs[experts.tasks[0]]
    with torch.no_grad():
        features = encoder(inputs)
    with torch.inference_mode():
        assert torch.equal(inferred.encoder(experts.tasks[0])(inputs), features)


def test_backbones_made_with_gradients_off_can_be_trained(no_backbones):
    task, recipe = load_suite()["cells"], FinetuneRecipe(steps=1, warmup=1, train_size=16)
    random = torch.random.get_rng_state()
    with torch.inference_mode():
        inside = finetune(clip.load_backbone("mini-small"), task, recipe)
    outside = finetune(clip.load_backbone("mini-small"), task, recipe)
    assert torch.equal(torch.random.get_rng_state(), random)
    assert all(torch.equal(inside[key], outside[key]) for key in outside)
    assert not any(value.is_inference() for value in inside.values())


def test_a_seed_decides_what_a_backbone_starts_from():
    first, again, other = ({}, {}, {})
    for seed, state in ((1, first), (1, again), (2, other)):
        torch.manual_seed(seed)
        state |= clip.create("mini-small").visual.state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["proj"], other["proj"])
