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
from mergebook.merged.intervened import READING, Activation, Site
from mergebook.registry import Range
from mergebook.towers.tower import Tower

Mini = Literal["mini", "mini_efficient", "mini_best_efficient", "mini_multi"]
Form = Literal[
    "noreft", "nodireft", "loreft", "direft", "consreft", "lobireft",
    "mini", "mini_efficient", "mini_best_efficient", "mini_multi",
]  # fmt: skip
Place = Literal["attention", "ln_1", "residual", "ln_2", "mlp", "block"]
Slices = Literal["of the form", "fixed", "shifted", "multi", "random"]
Edited = Annotated[Merge, "The static merge to edit."]
Biases = Literal["two", "one"]
# What the mini forms are made of: a form, and the slices that it edits.
MINI = {
    "mini": ("noreft", "fixed"),
    "mini_efficient": ("lobireft", "fixed"),
    "mini_best_efficient": ("lobireft", "shifted"),
    "mini_multi": ("noreft", "multi"),
}
# Where the four slices of "multi" start, of 768 coordinates; the last ends with them.
STARTS = (0, 184, 568)


@dataclass(frozen=True)
class Edit:
    """What an intervention computes apart from its form, and where; see :data:`intervmerge`.

    What is None stands for the first of its values.

    Attributes
    ----------
    rank : int, default 1
        Rank r.
    biases : {"two", "one"}, default "two"
        Whether "noreft" has a bias in both maps.
    part : int, default 0
        Slice width m; 0 takes the width over the number of blocks.
    blocks : int, default 24
        The last so many blocks are edited.
    skip : int, optional
        So many of the last blocks are left out before that.
    every : int, optional
        Of those blocks, every n-th is edited, the last one first.
    place : {"attention", "ln_1", "residual", "ln_2", "mlp", "block"}, optional
        Where in a block, see :class:`mergebook.towers.tower.Tower`.
    tokens : {"class", "patches", "all", "each patch"}, optional
        Which tokens are edited; those that the features are made of.
    slices : {"of the form", "fixed", "shifted", "multi", "random"}, optional
        Which coordinates are edited.
    activation : {"linear", "relu", "gelu"}, optional
        Of the map that reads the input.
    init : {"random", "identity"}, optional
        What the numbers start from.
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
    skip: (
        Annotated[int, Range(0), "So many of the last blocks are left out before that."] | None
    ) = None
    every: (
        Annotated[int, Range(1), "Of those, every n-th is edited, the last one first."] | None
    ) = None
    place: (
        Annotated[
            Place,
            "The output of the attention, of a layer norm or of the MLP, or the residual stream "
            "after the attention or after the block.",
        ]
        | None
    ) = None
    tokens: (
        Annotated[
            Literal["class", "patches", "all", "each patch"],
            "Edit the class token; or the patches (all tokens but the first), or all tokens, in "
            "the same way; or each patch by numbers of its own. None: the tokens that the features "
            "are made of, which is the class token of CLIP, and all tokens of a text encoder.",
        ]
        | None
    ) = None
    slices: (
        Annotated[
            Slices,
            "Which m coordinates a form edits that is no mini form: all; the first; the next in "
            "each block; four slices of m / 4; or, in each block, a slice drawn by `seed`.",
        ]
        | None
    ) = None
    activation: (
        Annotated[
            Activation, r"Of :math:`W h + b` or :math:`W_1 h + b_1`, where the form has such a map."
        ]
        | None
    ) = None
    init: (
        Annotated[
            Literal["random", "identity"],
            "Start from random numbers as released, or so that the merged model is unchanged.",
        ]
        | None
    ) = None


def slices(
    kind: str, width: int, block: int, part: int, generator: torch.Generator | None = None
) -> list[tuple[int, int]]:
    """The coordinates that the interventions of a block edit, as (start, stop).

    Parameters
    ----------
    kind : {"whole", "fixed", "shifted", "multi", "random"}
        All; the first m; those from block * m; four slices of m / 4; m from a random place.
    width : int
        Width d of the transformer.
    block : int
        Number of the block.
    part : int
        Slice width m.
    generator : torch.Generator, optional
        Draws the random place.

    Raises
    ------
    ParameterError
        If a slice does not fit into the width, or two of a block overlap.
    """
    if kind == "whole":
        return [(0, width)]
    if kind == "multi":
        each = part // 4
        starts = [place * width // 768 for place in STARTS] + [width - each]
        found = [(begin, begin + each) for begin in starts]
        if each < 1 or any(one[1] > two[0] for one, two in pairwise(found)):
            raise ParameterError(
                f"intervmerge: part={part} does not give four separate slices of {width}"
            )
        return found
    begin = block * part if kind == "shifted" else 0
    if begin + part > width:
        raise ParameterError(
            f"intervmerge: part={part}: the slice of block {block} ends at {begin + part}, "
            f"beyond the width {width}"
        )
    if kind == "random":
        begin = int(torch.randint(width - part + 1, (), generator=generator))
    return [(begin, begin + part)]


def edited_blocks(num_blocks: int, edit: Edit) -> list[int]:
    """Numbers of the blocks that are edited, in order.

    Raises
    ------
    ParameterError
        If `skip` leaves none.
    """
    last = num_blocks - 1 - (edit.skip or 0)
    if last < 0:
        raise ParameterError(f"intervmerge: skip={edit.skip} leaves none of {num_blocks} blocks")
    return sorted(range(last, max(-1, last - edit.blocks), -(edit.every or 1)))


def intervention_sites(tower: Tower, form: Form, edit: Edit = Edit(), seed: int = 0) -> list[Site]:
    """The sites of the edited blocks; `seed` draws random slices.

    Raises
    ------
    ParameterError
        If slices do not fit, no block is left, a mini form is given other slices than its own, or
        a form that does not read its input an activation.
    """
    kind, own = MINI.get(form, (form, "whole"))
    wanted = own if edit.slices in (None, "of the form") else edit.slices
    if form in MINI and wanted != own:
        raise ParameterError(f"intervmerge: form={form!r} has {own} slices, not slices={wanted!r}")
    activation = edit.activation or "linear"
    if activation != "linear" and kind not in READING:
        raise ParameterError(
            f"intervmerge: form={form!r} does not read its input: no activation={activation!r}"
        )
    ending = "" if edit.place == "block" else f".{edit.place or 'attention'}"
    part = edit.part or tower.width // tower.num_blocks
    patches = range(1, tower.num_tokens) if edit.tokens == "each patch" else ()
    generator = torch.Generator().manual_seed(seed)
    return [
        Site(f"blocks.{block}{ending}", kind, token, *span, activation)
        for block in edited_blocks(tower.num_blocks, edit)
        for span in slices(wanted, tower.width, block, part, generator)
        for token in patches or (edit.tokens or tower.read,)
    ]


def draw_intervention(biases: Biases = "two", init: str = "random") -> Draw:
    """The numbers of a site at the start, drawn in this order.

    Linear maps and their biases are uniform within one over the root of their width m, as torch's
    linear layers are; R is a basis of the columns of a Gaussian matrix; the bias of the forms that
    do not look at their input is uniform in [0, 1). With `init` "identity" some of these numbers
    are replaced so that a linear edit changes nothing at the start.
    """

    def draw(site: Site, rank: int, generator: torch.Generator) -> dict[str, Tensor]:
        numbers = _random_start(site, rank, biases, generator)
        return _still(site, numbers) if init == "identity" else numbers

    return draw


def _random_start(
    site: Site, rank: int, biases: Biases, generator: torch.Generator
) -> dict[str, Tensor]:
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


def _still(site: Site, numbers: dict[str, Tensor]) -> dict[str, Tensor]:
    """The numbers with which a linear edit leaves its input alone.

    Where a form subtracts what it reads, the map that writes reads the same; elsewhere what it
    writes is zero.
    """
    if site.form == "consreft":
        raise ParameterError(
            "intervmerge: init='identity' is not possible with form='consreft', which replaces "
            "a coordinate by a constant"
        )
    if site.form == "noreft":
        return numbers | {"w1": numbers["w2"].clone(), "b1": numbers.get("b2", numbers["b1"] * 0)}
    if site.form == "loreft":
        return numbers | {"w": numbers["r"].T.contiguous(), "b": numbers["b"] * 0}
    read = {"nodireft": ("w1", "b1"), "direft": ("w", "b"), "lobireft": ("b",)}[site.form]
    return numbers | {key: numbers[key] * 0 for key in read}
