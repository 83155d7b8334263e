"""A tiny world with images: a mini backbone, three experts beside it, a few random images."""

import pytest
import torch

from mergebook.calibration import Calibration
from mergebook.towers import clip
from mergebook.weights import Experts

TASKS = {"one": 3, "two": 4, "three": 2}  # name -> number of classes
IMAGES = 6


def _noise(generator, like, size):
    return size * like.std().nan_to_num(1.0) * torch.randn(like.shape, generator=generator)


@pytest.fixture(scope="session")
def base():
    """State dict of the mini backbone's image tower."""
    return {k: v.clone() for k, v in clip.load_backbone("mini-small").visual.state_dict().items()}


@pytest.fixture(scope="session")
def states(base):
    """Experts: the base with noise of a tenth of each tensor's spread; one tensor is frozen."""
    generator = torch.Generator().manual_seed(1)
    return {
        task: {
            key: value if key == "ln_pre.bias" else value + _noise(generator, value, 0.1)
            for key, value in base.items()
        }
        for task in TASKS
    }


@pytest.fixture
def experts(base, states):
    return Experts(base, states, backbone="mini-small")


@pytest.fixture(scope="session")
def calibration():
    """Random images with random labels and random heads."""
    generator = torch.Generator().manual_seed(2)
    inputs = {task: torch.randn(IMAGES, 3, 32, 32, generator=generator) for task in TASKS}
    labels = {t: torch.randint(c, (IMAGES,), generator=generator) for t, c in TASKS.items()}
    heads = {
        task: torch.nn.functional.normalize(torch.randn(c, 64, generator=generator), dim=-1)
        for task, c in TASKS.items()
    }
    return Calibration("mini-small", inputs, heads, 20.0, labels)
