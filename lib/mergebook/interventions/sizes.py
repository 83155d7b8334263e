"""How many numbers a correction adds to each task, without a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mergebook.interventions.correct import intervention
from mergebook.interventions.forms import draw_intervention, intervention_sites
from mergebook.interventions.starts import start
from mergebook.interventions.surgery import draw_surgery, surgery_sites
from mergebook.registry.parameters import read_parameters
from mergebook.towers import clip
from mergebook.towers.backbones import build_tower, modality


@dataclass(frozen=True)
class Architecture:
    """What the size of a correction depends on, see :class:`mergebook.towers.tower.Tower`."""

    num_blocks: int
    width: int
    num_tokens: int
    num_features: int
    read: Literal["class", "all"] = "class"

    @classmethod
    def of(cls, backbone: str) -> Architecture:
        """The architecture of a backbone; of CLIP's from open_clip's configuration."""
        if modality(backbone) == "text":
            tower = build_tower(backbone)
            return cls(tower.num_blocks, tower.width, tower.num_tokens, tower.num_features, "all")
        config = clip.configuration(backbone)
        vision = config["vision_cfg"]
        tokens = 1 + (vision["image_size"] // vision["patch_size"]) ** 2
        return cls(vision["layers"], vision["width"], tokens, config["embed_dim"])


def numbers_per_task(backbone: str, method: str, **params: object) -> int:
    """Numbers that a correction of a backbone adds to each task.

    Parameters
    ----------
    backbone : str
        One of :func:`mergebook.towers.backbones.list_backbones`.
    method : str
        One of the family "intervention".
    **params
        Its parameters.

    Raises
    ------
    BackboneError, MethodError, ParameterError
        If backbone or method are unknown, or a parameter is not valid.
    """
    found = intervention(method)
    packed = read_parameters(found.function, num_positional=1).pack(found.check(**params))
    tower = Architecture.of(backbone)
    if "edit" in packed:
        edit = packed["edit"]
        sites = intervention_sites(tower, packed["form"], edit)
        draw, rank = draw_intervention(edit.biases), edit.rank
    else:
        sites = surgery_sites(tower, blocks=method == "surgery_v2")
        draw, rank = draw_surgery, packed["rank"]
    return sum(value.numel() for own in start(sites, rank, 1, draw, 0) for value in own.values())
