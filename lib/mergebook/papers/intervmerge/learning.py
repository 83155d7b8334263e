"""What interventions learn from, and how fast."""

from __future__ import annotations

from collections.abc import Iterator

from mergebook.claims import OURS, Numbers, Part, above, below
from mergebook.papers.intervmerge.chapter import CHAPTER, LOGS, SURGERY, SURGERY_V2, beyond_half
from mergebook.report.style import title_of as title

# data --------------------------------------------------------------


@CHAPTER.claim(
    "IntervMerge works with 1 % of the images: more than half of the gain with all",
    where="scripts of the released code; the share of the gain is ours",
    page="data",
    printed="",
)
def few_images(n: Numbers) -> Iterator[Part]:
    for at in n.settings:
        few, many = (n.kept(f"intervmerge, {share}", at) for share in ("1 %", "100 %"))
        more = beyond_half(n.kept("none", at), few, many)
        yield above(0, more, f"gain with 1 % beyond half of that with all, {at}", "points")


@CHAPTER.claim(
    "SurgeryV2 needs fewer images than Surgery: with 10 % it is better than Surgery with all",
    where="abstract; the shares are ours",
    by=SURGERY_V2,
    page="data",
    printed="",
)
def deeper_needs_less(n: Numbers) -> Iterator[Part]:
    for at in n.settings:
        gain = n.kept("surgery_v2, 10 %", at) - n.kept("surgery, 100 %", at)
        yield above(0, gain, f"SurgeryV2 with 10 % beyond Surgery with all, {at}", "points")


@CHAPTER.claim(
    "Images of a held-out split do as well as the test images: less than 1 point apart",
    where=OURS,
    page="data",
)
def held_out(n: Numbers) -> Iterator[Part]:
    for at in n.settings:
        for method in ("surgery", "surgery_v2", "intervmerge"):
            gap = n.kept(f"{method}, test images", at) - n.kept(f"{method}, 100 %", at)
            yield below(0.01, gap, f"{title(method)}: test beyond held-out images, {at}", "points")


@CHAPTER.claim(
    "Surgery works online: one image at a time, each once, gains more than half",
    where="online log; the share of the gain is ours",
    by=SURGERY,
    page="data",
)
def online(n: Numbers) -> Iterator[Part]:
    for at in n.settings:
        found = (n.kept(variant, at) for variant in ("none", "surgery, online", "surgery, 100 %"))
        more = beyond_half(*found)
        yield above(0, more, f"online gain beyond half of the usual one, {at}", "points")


# coefficients ------------------------------------------------------


@CHAPTER.claim(
    "Merging coefficients that learn as well help: on AdaMerging, with interventions",
    where="choice of the released scripts",
    page="coefficients",
    printed="",
)
def jointly(n: Numbers) -> Iterator[Part]:
    for at in n.settings:
        for merge in n.merges:
            gain = n.kept(f"{merge}, both", at) - n.kept(f"{merge}, interventions", at)
            yield above(0, gain, f"both beyond interventions alone, {title(merge)}, {at}", "points")


@CHAPTER.claim(
    "The gain is that of the interventions: alone they gain more than coefficients alone",
    where=OURS,
    page="coefficients",
)
def whose_gain(n: Numbers) -> Iterator[Part]:
    for at in n.settings:
        for merge in n.merges:
            more = n.kept(f"{merge}, interventions", at) - n.kept(f"{merge}, coefficients", at)
            yield above(
                0, more, f"interventions beyond coefficients, {title(merge)}, {at}", "points"
            )


@CHAPTER.claim(
    "Three updates of Adam for each gradient are no better than one: less than 1 point",
    where=OURS,
    page="coefficients",
)
def threefold(n: Numbers) -> Iterator[Part]:
    for at in n.settings:
        gain = n.kept("three updates", at) - n.kept("one update", at)
        yield below(0.01, gain, f"three updates beyond one, {at}", "points")


# convergence -------------------------------------------------------


@CHAPTER.claim(
    "More than half of IntervMerge's gain is there after 20 steps, as many as in the first "
    "10 iterations of the released run",
    where=f"{LOGS}; the share is ours",
    page="convergence",
)
def fast(n: Numbers) -> Iterator[Part]:
    for at in n.settings:
        more = beyond_half(*(n.kept(f"intervmerge, {w}", at) for w in ("start", "20", "end")))
        yield above(0, more, f"early gain beyond half of the last, {at}", "points")


@CHAPTER.claim(
    "More than half of Surgery's gain is there after a fifth of its steps",
    where=f"{LOGS}; the share is ours",
    by=SURGERY,
    page="convergence",
)
def first_fifth(n: Numbers) -> Iterator[Part]:
    for at in n.settings:
        more = beyond_half(*(n.kept(f"surgery, {w}", at) for w in ("start", "fifth", "end")))
        yield above(0, more, f"early gain beyond half of the last, {at}", "points")


@CHAPTER.claim(
    "SurgeryV2 converges faster than Surgery: after 20 steps it is ahead",
    where="abstract; the number of steps is ours",
    by=SURGERY_V2,
    page="convergence",
    printed="",
)
def deeper_is_faster(n: Numbers) -> Iterator[Part]:
    for at in n.settings:
        gain = n.kept("surgery_v2, 20", at) - n.kept("surgery, 20", at)
        yield above(0, gain, f"SurgeryV2 beyond Surgery after 20 steps, {at}", "points")
