"""All backbones by name: CLIP's image encoders, and a text encoder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mergebook.errors import BackboneError, unknown
from mergebook.suites import Task
from mergebook.towers import clip, minilm
from mergebook.towers.clip import Backbone
from mergebook.towers.device import HOME, AwayTower, compute_device
from mergebook.towers.minilm import TextBackbone
from mergebook.towers.tower import Tower

LANGUAGE = (minilm.NAME,)
TRAINED_HERE = (*clip.MINI, *LANGUAGE)  # backbones whose experts are fine-tuned on first use


def list_backbones() -> tuple[str, ...]:
    """Names of the backbones: the mini ones, the papers', and the text encoder."""
    return (*clip.MINI, *clip.PAPER, *LANGUAGE)


def modality(name: str) -> Literal["image", "text"]:
    """What a backbone encodes.

    Raises
    ------
    BackboneError
        Unknown name.
    """
    if name not in list_backbones():
        raise BackboneError(unknown("backbone", name, list_backbones()))
    return "text" if name in LANGUAGE else "image"


def load_backbone(
    name: str = "mini-small", path: str | Path | None = None
) -> Backbone | TextBackbone:
    """Load a pre-trained backbone.

    Parameters
    ----------
    name : str, default "mini-small"
        One of :func:`list_backbones`.
    path : path, optional
        A safetensors file with other weights, see :func:`mergebook.towers.clip.load_backbone` and
        :func:`mergebook.towers.minilm.load_backbone`.

    Raises
    ------
    BackboneError
        Unknown name, weights that cannot be had, or weights that do not fit.
    """
    loader = minilm if modality(name) == "text" else clip
    return loader.load_backbone(name, path)


def build_tower(name: str, **hooks: Any) -> Tower:
    """Return a backbone's encoder as a function of its weights, see :class:`Tower`.

    It runs where :mod:`mergebook.towers.device` says; with hooks other than `edit` at home.
    """
    if modality(name) == "text":
        tower: Tower = minilm.build_tower(name, **hooks)
    else:
        from mergebook.towers.vit import ImageTower

        tower = ImageTower(name, **hooks)
    away = compute_device() if set(hooks) <= {"edit"} else HOME
    return tower if away == HOME else AwayTower(tower, away)


def build_encoder(name: str, state: Mapping[str, Tensor]) -> nn.Module:
    """Return a backbone's encoder with the given weights.

    Parameters
    ----------
    name : str
        One of :func:`list_backbones`.
    state : mapping
        State dict of the encoder.

    Returns
    -------
    nn.Module
        Maps preprocessed inputs to features [N, d]; in evaluation mode. Its state dict has the
        names of `state`.

    Raises
    ------
    BackboneError
        Unknown backbone, or keys and shapes that do not fit.
    """
    if modality(name) == "image":
        return clip.visual_encoder(name, state)
    tower = minilm.build_tower(name)
    for key, shape in tower.shapes().items():
        if key not in state or state[key].shape != shape:
            found = f"has {tuple(state[key].shape)}" if key in state else "is missing"
            raise BackboneError(
                f"encoder of {name!r}: tensor {key!r} should have the shape {tuple(shape)}, {found}"
            )
    weights = {k: v.float() if v.is_floating_point() else v for k, v in state.items()}
    return tower.encoder({key: value.clone() for key, value in weights.items()}).eval()


def build_head(backbone: Backbone | TextBackbone, task: Task) -> Tensor:
    """Build a task's zero-shot head.

    The weight of class c is the normalised mean over the templates of the normalised text
    features [radford2021clip]_.

    Returns
    -------
    Tensor, float32 [C, d]
        Rows have unit length; logits are ``logit_scale * features @ head.T``.
    """
    rows = []
    for name in task.class_names:
        features = backbone.encode_text([template.format(name) for template in task.templates])
        rows.append(F.normalize(features.mean(0), dim=-1))
    return torch.stack(rows)
