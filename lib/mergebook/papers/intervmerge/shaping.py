"""Size, place and form of an intervention."""

from __future__ import annotations

from collections.abc import Iterator

from mergebook.claims import OURS, Numbers, Part, above, below
from mergebook.papers.intervmerge.chapter import CHAPTER, SURGERY, SURGERY_V2

# parameter_budget --------------------------------------------------


@CHAPTER.claim(
    "More rank makes Surgery better: the largest beyond the smallest",
    where="released code's notes",
    by=SURGERY,
    page="parameter_budget",
    printed="",
)
def surgery_rank(n: Numbers) -> Iterator[Part]:
    for at in n.settings:
        gain = n.kept("largest Surgery", at) - n.kept("smallest Surgery", at)
        yield above(0, gain, f"largest rank beyond the smallest, {at}", "points")


@CHAPTER.claim(
    "At equal size SurgeryV2 is better than Surgery",
    where="ranks of the released code",
    by=SURGERY_V2,
    page="parameter_budget",
    printed="",
)
def deeper_at_equal_size(n: Numbers) -> Iterator[Part]:
    for at in n.settings:
        gain = n.kept("SurgeryV2", at) - n.kept("Surgery of SurgeryV2's size", at)
        yield above(0, gain, f"SurgeryV2 beyond Surgery, {at}", "points")


@CHAPTER.claim(
    "At equal size IntervMerge is better than Surgery", where=OURS, page="parameter_budget"
)
def inside_at_equal_size(n: Numbers) -> Iterator[Part]:
    for at in n.settings:
        gain = n.kept("IntervMerge", at) - n.kept("Surgery of IntervMerge's size", at)
        yield above(0, gain, f"IntervMerge beyond Surgery, {at}", "points")


# placement ---------------------------------------------------------


@CHAPTER.claim(
    "Rank 1 in all blocks is better than the same budget in the last block",
    where="public summary",
    page="placement",
    printed="",
)
def spread(n: Numbers) -> Iterator[Part]:
    for at in n.settings:
        gain = n.kept("all blocks", at) - n.kept("last block, same budget", at)
        yield above(0, gain, f"all blocks beyond the last, {at}", "points")


@CHAPTER.claim(
    "Each further block that is edited, counted from the last, helps",
    where=OURS,
    page="placement",
)
def more_blocks(n: Numbers) -> Iterator[Part]:
    for at in n.settings:
        for few, many in zip(n.last_blocks, n.last_blocks[1:], strict=False):
            gain = n.kept(many, at) - n.kept(few, at)
            yield above(0, gain, f"{many} beyond {few}, {at}", "points")


@CHAPTER.claim(
    "The class token is enough: editing all tokens gains less than 1 point",
    where="choice of the released code; the margin is ours",
    page="placement",
    printed="",
)
def class_token(n: Numbers) -> Iterator[Part]:
    for at in n.settings:
        for tokens in ("all", "patches"):
            gain = n.kept(f"tokens: {tokens}", at) - n.kept("all blocks", at)
            yield below(0.01, gain, f"{tokens} beyond the class token, {at}", "points")


@CHAPTER.claim(
    "The attention's output is the best place in a block",
    where="choice of the released code",
    page="placement",
    printed="",
)
def best_place(n: Numbers) -> Iterator[Part]:
    for at in n.settings:
        for place in n.places:
            if place != "attention":
                gain = n.kept("all blocks", at) - n.kept(f"place: {place}", at)
                yield above(0, gain, f"attention beyond {place}, {at}", "points")


# rank_and_form -----------------------------------------------------


@CHAPTER.claim(
    "Rank 1 is enough: the largest rank gains less than 1 point",
    where="choice of the released scripts; the margin is ours",
    page="rank_and_form",
    printed="",
)
def rank_one(n: Numbers) -> Iterator[Part]:
    for at in n.settings:
        gain = n.kept(f"rank {max(n.ranks)}", at) - n.kept("rank 1", at)
        yield below(0.01, gain, f"rank {max(n.ranks)} beyond rank 1, {at}", "points")


@CHAPTER.claim(
    "The default form is better than the other five, at rank 1",
    where="choice of the released scripts",
    page="rank_and_form",
    printed="",
)
def best_form(n: Numbers) -> Iterator[Part]:
    for at in n.settings:
        for form in n.forms:
            if form != "noreft":
                gain = n.kept("noreft", at) - n.kept(form, at)
                yield above(0, gain, f"noreft beyond {form}, {at}", "points")


# mini --------------------------------------------------------------


@CHAPTER.claim(
    "A constant on a slice that shifts from block to block is better than on a fixed one",
    where='the released code calls it "best"',
    page="mini",
    printed="",
)
def shifted(n: Numbers) -> Iterator[Part]:
    for at in n.settings:
        gain = n.kept("lobireft, shifted", at) - n.kept("lobireft, fixed", at)
        yield above(0, gain, f"shifted beyond fixed, {at}", "points")


@CHAPTER.claim(
    "Random slices are as good as shifted ones: less than 1 point apart", where=OURS, page="mini"
)
def random_slices(n: Numbers) -> Iterator[Part]:
    for at in n.settings:
        gap = n.kept("lobireft, shifted", at) - n.kept("lobireft, random", at)
        yield below(0.01, gap, f"shifted beyond random, {at}", "points")
        yield below(0.01, -gap, f"random beyond shifted, {at}", "points")


@CHAPTER.claim(
    "On the same slice, an edit that reads its input is better than a constant",
    where=OURS,
    page="mini",
)
def reading(n: Numbers) -> Iterator[Part]:
    for at in n.settings:
        for kind in ("fixed", "shifted"):
            gain = n.kept(f"noreft, {kind}", at) - n.kept(f"lobireft, {kind}", at)
            yield above(0, gain, f"reading beyond constant, {kind}, {at}", "points")
