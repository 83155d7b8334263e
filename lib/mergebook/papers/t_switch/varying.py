"""Who votes, other backbones, and other codes of the vectors."""

from __future__ import annotations

from collections.abc import Iterator

from mergebook.claims import OURS, Numbers, Part, above, below
from mergebook.papers.t_switch.chapter import ABSTRACT, CHAPTER, CODE, DROP, claim
from mergebook.report.style import title_of as title

# routing -----------------------------------------------------------


@claim(
    "The vote names the right task for more than 95 % of images",
    where="design of Auto-Switch; our margin",
    page="routing",
)
def votes_right(n: Numbers) -> Iterator[Part]:
    for at in n.settings:
        yield above(0.95, n.right("base", n.exemplars, 10, at), f"right votes, {at}")


@claim(
    "Voting in batches of one task, as released, is better than voting image by image",
    where=OURS,
    page="routing",
)
def batches_flatter(n: Numbers) -> Iterator[Part]:
    for at in n.settings:
        gain = n.kept("batches of one task", at) - n.kept("each image", at)
        yield above(0, gain, f"batches beyond single images, {at}", "points")


@claim(
    "In mixed batches the vote fails: worse than image by image by more than 10 points",
    where=OURS,
    page="routing",
)
def mixed_fail(n: Numbers) -> Iterator[Part]:
    for at in n.settings:
        loss = n.kept("each image", at) - n.kept("mixed batches", at)
        yield above(0.1, loss, f"single images beyond mixed batches, {at}", "points")


@claim(
    "Features of the base route as well as those of the average: less than 1 point apart",
    where=f"{CODE} has the base, the text at second hand the average; our margin",
    page="routing",
)
def extractors(n: Numbers) -> Iterator[Part]:
    for at in n.settings:
        gap = n.right("average", n.exemplars, 10, at) - n.right("base", n.exemplars, 10, at)
        yield below(0.01, gap, f"average beyond base, {at}", "points")
        yield below(0.01, -gap, f"base beyond average, {at}", "points")


@claim(
    "Ten stored images of each task are enough for one neighbour: less than 1 point behind all",
    where=OURS,
    page="routing",
    needs="10 exemplars among those tried",
)
def few_exemplars(n: Numbers) -> Iterator[Part]:
    for at in n.settings if 10 in n.tried else ():
        loss = n.right("base", n.exemplars, 1, at) - n.right("base", 10, 1, at)
        yield below(0.01, loss, f"all stored images beyond ten, {at}", "points")


@claim(
    "One neighbour names the right task as often as the released ten: less than 1 point behind",
    where=OURS,
    page="routing",
)
def one_neighbour(n: Numbers) -> Iterator[Part]:
    for at in n.settings:
        loss = n.right("base", n.exemplars, 10, at) - n.right("base", n.exemplars, 1, at)
        yield below(0.01, loss, f"ten neighbours beyond one, {at}", "points")


# other_backbones ---------------------------------------------------


@claim(
    "Signs of LoRA's factors keep LoRA's accuracy at 40 % discarded: less than 1 point lost",
    where=f"{CODE}; our margin",
    page="other_backbones",
)
def factors_keep(n: Numbers) -> Iterator[Part]:
    for at in n.settings:
        loss = n.kept("nothing, 0", at) - n.kept("factors, 0.4", at)
        yield below(0.01, loss, f"LoRA beyond signs of its factors, {at}", "points")


@claim(
    "At 40 % signs of the product keep more than signs of the factors",
    where=OURS,
    page="other_backbones",
)
def product_keeps_more(n: Numbers) -> Iterator[Part]:
    for at in n.settings:
        gain = n.kept("product, 0.4", at) - n.kept("factors, 0.4", at)
        yield above(0, gain, f"product beyond factors, {at}", "points")


# quantised ---------------------------------------------------------


@claim(
    "T-Switch at 60 % is better than two bits of every entry (TVQ)",
    where=OURS,
    page="quantised",
)
def beats_bits(n: Numbers) -> Iterator[Part]:
    for at in n.settings:
        gain = n.kept("t_switch", at, drop=DROP) - n.kept("tvq", at, bits=2)
        yield above(0, gain, f"T-Switch beyond TVQ, {at}", "points")


@claim(
    "Offsets from a shared vector (RTVQ) are better than TVQ at two bits",
    where="project page",
    by="Kim et al. 2025",
    page="quantised",
)
def shared_offsets(n: Numbers) -> Iterator[Part]:
    for at in n.settings:
        gain = n.kept("rtvq", at, bits=2, base_bits=3) - n.kept("tvq", at, bits=2)
        yield above(0, gain, f"RTVQ beyond TVQ, {at}", "points")


@CHAPTER.claim(
    "RTVQ, 3 bits for the shared vector and 2 for each offset, takes at most 8 % of full precision",
    where=ABSTRACT,
    by="Kim et al. 2025",
    page="quantised",
)
def eight_percent(n: Numbers) -> Iterator[Part]:
    for at in n.settings:
        yield below(0.08, n.share("rtvq", at, bits=2, base_bits=3), f"storage of RTVQ, {at}")


@claim(
    "At these bits RTVQ loses less than 1 point to the experts",
    where=f"{ABSTRACT}: maintains or improves; our margin",
    by="Kim et al. 2025",
    page="quantised",
)
def bits_are_enough(n: Numbers) -> Iterator[Part]:
    for at in n.settings:
        loss = n.kept("experts", at) - n.kept("rtvq", at, bits=2, base_bits=3)
        yield below(0.01, loss, f"experts beyond RTVQ, {at}", "points")


@claim(
    "T-Switch is on the frontier: at 60 % nothing here keeps as much with fewer bits",
    where=OURS,
    page="quantised",
)
def frontier(n: Numbers) -> Iterator[Part]:
    for at in n.settings:
        own = n.kept("t_switch", at, drop=DROP)
        bits = next(b for b, kept in n.points("t_switch", at) if kept.value == own.value)
        for method in ("tvq", "rtvq", "impart", "cart_indexing", "random signs"):
            for cost, kept in n.points(method, at):
                if cost <= bits:
                    yield above(0, own - kept, f"T-Switch beyond {title(method)}, {at}", "points")
