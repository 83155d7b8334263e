"""What the registry says about who is told the task, against what the encoders do."""

import pytest
import torch

import mergebook as mb
from mergebook.errors import MethodError
from mergebook.towers import clip

METHODS = mb.list_methods()
LENGTHS = ("steps", "router_steps", "rounds", "iterations")


@pytest.mark.parametrize("name", METHODS)
def test_the_registry_says_who_is_told_the_task(name, experts, calibration):
    method = mb.get_method(name)
    short = {each.name: 2 for each in method.parameters if each.name in LENGTHS}
    merged = method(experts, calibration, **short)
    images = torch.cat(list(calibration.inputs.values()))
    with torch.inference_mode():
        by_task = [merged.encoder(task)(images) for task in merged.tasks]
        assert method.told == merged.told
        if method.told == "yes":
            assert not any(torch.equal(by_task[0], other) for other in by_task[1:])
            with pytest.raises(MethodError, match="this solution differs by task"):
                merged.encoder()
            return
        untold = merged.encoder()(images)
        assert all(torch.equal(untold, features) for features in by_task)
        if method.told == "no":
            fixed = clip.visual_encoder(merged.backbone, merged.state_dict())
            assert torch.equal(untold, fixed(images))
        else:
            assert merged.encoder("one") is merged.encoder("two")
            assert not any(
                torch.allclose(untold, encoder(images), atol=1e-6) for encoder in without(merged)
            )


def without(merged):
    """Encoders that do not look at the image: what a guess must differ from."""
    states = [merged.inner.state_dict(task) for task in merged.tasks]
    if merged.static is not None:
        states.append(merged.state_dict())
    return [clip.visual_encoder(merged.backbone, state) for state in states]
