"""The forms of IntervMerge: where their interventions sit, and what they start from."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Literal

import torch
from torch import Tensor

from mergebook.errors import ParameterError
from mergebook.interventions.merges import Merge
from mergebook.interventions.starts import Draw, orthonormal, uniform
from mergebook.merged.intervened import Site
from mergebook.registry import Range
from mergebook.towers.tower import Tower

Mini = Literal["mini", "mini_efficient", "mini_best_efficient", "mini_multi"]
Form = Literal[
    "noreft", "nodireft", "loreft", "direft", "consreft", "lobireft",
    "mini", "mini_efficient", "mini_best_efficient", "mini_multi",
]  # fmt: skip
Edited = Annotated[Merge, "The static merge to edit."]
Biases = Literal["two", "one"]
SHIFTS = {"mini_efficient": "lobireft", "mini_best_efficient": "lobireft"}
# Where the four slices of "mini_multi" start, of 768 coordinates; the last ends with them.
STARTS = (0, 184, 568)


@dataclass(frozen=True)
class Edit:
    """What an intervention computes apart from its form, and where; see :data:`intervmerge`.

    Attributes
    ----------
    rank : int, default 1
        Rank r.
    biases : {"two", "one"}, default "two"
        Whether "noreft" has a bias in both maps.
    part : int, default 0
        Slice width m of the mini forms; 0 takes the width over the number of blocks.
    blocks : int, default 24
        The last so many blocks are edited.
    place : {"attention", "block"}, optional
        The output of the attention, which None stands for as well, or of the whole block.
    tokens : {"class", "all"}, optional
        The class token, which None stands for as well, or every token.
    """

    rank: Annotated[int, Range(1, 4_096), "Rank r."] = 1
    biases: Annotated[
        Biases,
        'Whether "noreft" (also in the mini forms) has a bias in both maps, or one, which can do '
        "the same with r numbers less.",
    ] = "two"
    part: Annotated[
        int,
        Range(0),
        "Slice width m of the mini forms; 0 takes the width over the number of blocks, which is "
        "the released 64 on ViT-B.",
    ] = 0
    blocks: Annotated[
        int, Range(1), "The last so many blocks are edited; all, where there are fewer."
    ] = 24
    place: (
        Annotated[
            Literal["attention", "block"], "The output of the attention, or of the whole block."
        ]
        | None
    ) = None
    tokens: (
        Annotated[Literal["class", "all"], "Edit the class token, or every token in the same way."]
        | None
    ) = None


def slices(form: Form, width: int, block: int, part: int) -> list[tuple[int, int]]:
    """The coordinates that the interventions of a block edit, as (start, stop).

    Parameters
    ----------
    form : str
        See :data:`intervmerge`.
    width : int
        Width d of the transformer.
    block : int
        Number of the block.
    part : int
        Slice width m of the mini forms.

    Raises
    ------
    ParameterError
        If a slice does not fit into the width, or two of a block overlap.
    """
    if not form.startswith("mini"):
        return [(0, width)]
    if form == "mini_multi":
        each = part // 4
        starts = [place * width // 768 for place in STARTS] + [width - each]
        found = [(begin, begin + each) for begin in starts]
        if each < 1 or any(one[1] > two[0] for one, two in pairwise(found)):
            raise ParameterError(
                f"intervmerge: part={part} does not give four separate slices of {width}"
            )
        return found
    begin = block * part if form == "mini_best_efficient" else 0
    if begin + part > width:
        raise ParameterError(
            f"intervmerge: part={part}: the slice of block {block} ends at {begin + part}, "
            f"beyond the width {width}"
        )
    return [(begin, begin + part)]


def intervention_sites(tower: Tower, form: Form, edit: Edit = Edit()) -> list[Site]:
    """The sites of the last `edit.blocks` blocks."""
    kind = SHIFTS.get(form, "noreft" if form.startswith("mini") else form)
    ending = "" if edit.place == "block" else ".attention"
    part = edit.part or tower.width // tower.num_blocks
    return [
        Site(f"blocks.{block}{ending}", kind, edit.tokens or "class", *span)
        for block in range(max(0, tower.num_blocks - edit.blocks), tower.num_blocks)
        for span in slices(form, tower.width, block, part)
    ]


def draw_intervention(biases: Biases = "two") -> Draw:
    """The numbers of a site at the start, drawn in this order.

    Linear maps and their biases are uniform within one over the root of their width m, as torch's
    linear layers are; R is a basis of the columns of a Gaussian matrix; the bias of the forms that
    do not look at their input is uniform in [0, 1).
    """

    def draw(site: Site, rank: int, generator: torch.Generator) -> dict[str, Tensor]:
        width = site.stop - site.start
        numbers: dict[str, Tensor] = {}

        def linear(*shape: int) -> Tensor:
            return uniform(*shape, fan_in=width, generator=generator)

        if site.form in ("noreft", "nodireft"):
            numbers |= {"w1": linear(rank, width), "b1": linear(rank), "w2": linear(rank, width)}
            if site.form == "noreft" and biases == "two":
                numbers["b2"] = linear(rank)
            return numbers
        if rank > width:
            raise ParameterError(
                f"intervmerge: rank={rank} is more than the {width} coordinates it edits"
            )
        numbers["r"] = orthonormal(torch.randn(width, rank, generator=generator))
        if site.form in ("loreft", "direft"):
            return numbers | {"w": linear(rank, width), "b": linear(rank)}
        return numbers | {"b": torch.rand(rank, generator=generator)}

    return draw
