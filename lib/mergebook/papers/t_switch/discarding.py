"""What a task vector loses with its lowest entries or with its sizes, alone and when merged."""

from __future__ import annotations

from collections.abc import Iterator

from mergebook.claims import OURS, Numbers, Part, above, below
from mergebook.papers.t_switch.chapter import (
    ABSTRACT,
    CODE,
    DROP,
    FULL,
    RANDOM,
    ROW,
    STUDY,
    TASK,
    TENSOR,
    claim,
)

# pulse -------------------------------------------------------------


@claim(
    "Discarding the lowest 60 % of a task vector costs less than 1 point",
    where=f"{STUDY}; the released share, our margin",
    page="pulse",
)
def low_is_free(n: Numbers) -> Iterator[Part]:
    for at in n.settings:
        loss = n.kept("experts", at) - n.kept(f"lowest, {DROP:g}", at)
        yield below(0.01, loss, f"experts beyond what is left, {at}", "points")


@claim(
    "Discarding the lowest 60 % makes the experts better",
    where=f"{ABSTRACT}: only entries above a threshold contribute positively",
    page="pulse",
)
def low_helps(n: Numbers) -> Iterator[Part]:
    for at in n.settings:
        gain = n.kept(f"lowest, {DROP:g}", at) - n.kept("experts", at)
        yield above(0, gain, f"what is left beyond the experts, {at}", "points")


@claim(
    "Discarding the highest 60 % takes more than half of what fine-tuning gained",
    where=f"{STUDY}; the shares are ours",
    page="pulse",
)
def high_collapses(n: Numbers) -> Iterator[Part]:
    for at in n.settings:
        top, base = n.kept("experts", at), n.kept("base", at)
        loss = (top - n.kept(f"highest, {DROP:g}", at)) - (top - base) * 0.5
        yield above(0, loss, f"loss beyond half of the gain, {at}", "points")


@claim(
    "It is size that counts: the largest tenth of the entries is worth more than the other nine",
    where=OURS,
    page="pulse",
)
def pulse(n: Numbers) -> Iterator[Part]:
    for at in n.settings:
        gain = n.kept("lowest, 0.9", at) - n.kept("highest, 0.1", at)
        yield above(0, gain, f"largest tenth beyond the rest, {at}", "points")


@claim(
    "Discarding the lowest is better than discarding at random, at every share",
    where=STUDY,
    page="pulse",
)
def random_is_worse(n: Numbers) -> Iterator[Part]:
    for at in n.settings:
        for drop in n.drops:
            gain = n.kept(f"lowest, {drop:g}", at) - n.kept(f"random, {drop:g}", at)
            yield above(0, gain, f"lowest beyond random, {drop:.0%}, {at}", "points")


@claim(
    "It is better, too, than discarding at random and rescaling, as DARE does, at every share",
    where=STUDY,
    page="pulse",
)
def rescaled_is_worse(n: Numbers) -> Iterator[Part]:
    for at in n.settings:
        for drop in n.drops:
            gain = n.kept(f"lowest, {drop:g}", at) - n.kept(f"random, rescaled, {drop:g}", at)
            yield above(0, gain, f"lowest beyond random, rescaled, {drop:.0%}, {at}", "points")


# binarise ----------------------------------------------------------


@claim(
    "After discarding, signs with one number per tensor lose less than 1 point to full values",
    where=f"{ABSTRACT}: almost no decrease; our margin",
    page="binarise",
)
def signs_keep(n: Numbers) -> Iterator[Part]:
    for at in n.settings:
        loss = n.kept(f"{FULL}, {DROP:g}", at) - n.kept(f"{TENSOR}, {DROP:g}", at)
        yield below(0.01, loss, f"full values beyond signs, {at}", "points")


@claim(
    "The more is discarded, the better are signs beside full values: 90 % against 60 %",
    where=f"{ABSTRACT}, as we read it; the shares are ours",
    page="binarise",
)
def signs_gain(n: Numbers) -> Iterator[Part]:
    for at in n.settings:
        few, many = (
            n.kept(f"{TENSOR}, {drop:g}", at) - n.kept(f"{FULL}, {drop:g}", at)
            for drop in (DROP, 0.9)
        )
        yield above(0, many, f"signs beyond full values at 90 %, {at}", "points")
        yield above(0, many - few, f"the same beyond that at 60 %, {at}", "points")


@claim(
    "At 3 % of the full-precision storage, or less, T-Switch keeps more than 99 % of the accuracy",
    where=f"{ABSTRACT}: only 1 to 3 % of the storage; our margin",
    page="binarise",
)
def promised(n: Numbers) -> Iterator[Part]:
    for at in n.settings:
        small = [drop for drop in n.drops if n.bits(f"{TENSOR}, {drop:g}", at).value < 0.96]
        best = max(small, key=lambda drop: n.kept(f"{TENSOR}, {drop:g}", at).value)
        yield above(0.99, n.kept(f"{TENSOR}, {best:g}", at), f"signs, {best:.0%} discarded, {at}")


@claim(
    "One number per tensor is better than one per task",
    where=f"{CODE}, against the text at second hand",
    page="binarise",
)
def number_per_tensor(n: Numbers) -> Iterator[Part]:
    for at in n.settings:
        gain = n.kept(f"{TENSOR}, {DROP:g}", at) - n.kept(f"{TASK}, {DROP:g}", at)
        yield above(0, gain, f"per tensor beyond per task, {at}", "points")


@claim(
    "One number per row gains less than 1 point over one per tensor", where=OURS, page="binarise"
)
def number_per_row(n: Numbers) -> Iterator[Part]:
    for at in n.settings:
        gain = n.kept(f"{ROW}, {DROP:g}", at) - n.kept(f"{TENSOR}, {DROP:g}", at)
        yield below(0.01, gain, f"per row beyond per tensor, {at}", "points")


@claim(
    "Signs alone, nothing discarded, keep as much as T-Switch at 60 %: less than 1 point behind",
    where=OURS,
    page="binarise",
)
def signs_alone(n: Numbers) -> Iterator[Part]:
    for at in n.settings:
        loss = n.kept(f"{TENSOR}, {DROP:g}", at) - n.kept(f"{RANDOM}, 0", at)
        yield below(0.01, loss, f"T-Switch beyond signs alone, {at}", "points")
        more = n.bits(f"{TENSOR}, {DROP:g}", at) - n.bits(f"{RANDOM}, 0", at)
        yield above(0, more, f"bits of T-Switch beyond those of signs alone, {at}", ".3f")


@claim(
    "Signs of the largest tenth keep more than signs of a random tenth, rescaled",
    where=OURS,
    page="binarise",
)
def random_signs(n: Numbers) -> Iterator[Part]:
    for at in n.settings:
        gain = n.kept(f"{TENSOR}, 0.9", at) - n.kept(f"{RANDOM}, 0.9", at)
        yield above(0, gain, f"largest tenth beyond a random one, {at}", "points")


# merge_after_discard -----------------------------------------------


@claim(
    "Discarding at random makes the merge worse: 80 % against nothing, at scale 0.3",
    where=STUDY,
    page="merge_after_discard",
)
def random_hurts(n: Numbers) -> Iterator[Part]:
    for at in n.settings:
        loss = n.merged("DARE", 0.0, at, "0.3") - n.merged("DARE", 0.8, at, "0.3")
        yield above(0, loss, f"nothing discarded beyond 80 % at random, {at}", "points")


@claim(
    "Discarding the lowest makes the merge better: 80 % against nothing, each at its best scale",
    where=f"{STUDY}; the share is ours",
    page="merge_after_discard",
)
def low_helps_merging(n: Numbers) -> Iterator[Part]:
    for at in n.settings:
        gain = n.merged("P-Discard", 0.8, at) - n.merged("P-Discard", 0.0, at)
        yield above(0, gain, f"80 % discarded beyond nothing, {at}", "points")


@claim(
    "Signs merge as well as full values: less than 1 point lost at every share",
    where=f"{ABSTRACT}: almost no decrease; our margin",
    page="merge_after_discard",
)
def signs_merge(n: Numbers) -> Iterator[Part]:
    for at in n.settings:
        for drop in n.drops:
            loss = n.merged("P-Discard", drop, at) - n.merged("Bin-Discard", drop, at)
            yield below(0.01, loss, f"full values beyond signs, {drop:.0%}, {at}", "points")
