"""Interventions against the merges that they correct, and against each other."""

from __future__ import annotations

from collections.abc import Iterator

from mergebook.claims import Numbers, Part, above, below
from mergebook.papers.intervmerge.chapter import (
    ADAMERGING,
    CHAPTER,
    LOGS,
    MINI,
    SURGERY,
    SURGERY_V2,
)
from mergebook.report.style import title_of as title

# main_table --------------------------------------------------------


@CHAPTER.claim("Surgery makes every merge better", where="abstract", by=SURGERY, page="main_table")
def surgery_helps(n: Numbers) -> Iterator[Part]:
    for at in n.settings:
        for merge in n.merges:
            gain = n.accuracy(merge, "surgery", at) - n.accuracy(merge, "none", at)
            yield above(0, gain, f"Surgery on {title(merge)}, {at}", "points")


@CHAPTER.claim(
    "Surgery gains more on the weakest merge than on the strongest",
    where=LOGS,
    by=SURGERY,
    page="main_table",
)
def weak_gains_more(n: Numbers) -> Iterator[Part]:
    for at in n.settings:
        order = sorted(n.merges, key=lambda merge: n.accuracy(merge, "none", at).value)
        weak, strong = (
            n.accuracy(merge, "surgery", at) - n.accuracy(merge, "none", at)
            for merge in (order[0], order[-1])
        )
        what = f"gain on {title(order[0])} beyond that on {title(order[-1])}, {at}"
        yield above(0, weak - strong, what, "points")


@CHAPTER.claim(
    "SurgeryV2 is better than Surgery on every merge",
    where="abstract",
    by=SURGERY_V2,
    page="main_table",
    printed="",
)
def deeper(n: Numbers) -> Iterator[Part]:
    for at in n.settings:
        for merge in n.merges:
            gain = n.accuracy(merge, "surgery_v2", at) - n.accuracy(merge, "surgery", at)
            yield above(0, gain, f"SurgeryV2 beyond Surgery on {title(merge)}, {at}", "points")


@CHAPTER.claim(
    "SurgeryV2 comes almost to the experts: within 5 points on every merge",
    where="abstract; the margin is ours",
    by=SURGERY_V2,
    page="main_table",
    printed="",
)
def near_experts(n: Numbers) -> Iterator[Part]:
    for at in n.settings:
        for merge in n.merges:
            gap = n.accuracy("fine_tuned", "none", at) - n.accuracy(merge, "surgery_v2", at)
            yield below(0.05, gap, f"experts beyond SurgeryV2 on {title(merge)}, {at}", "points")


@CHAPTER.claim(
    "IntervMerge is better than Surgery, each at its released rank, on every merge",
    where=f"abstract, {LOGS}",
    page="main_table",
    printed="released",
)
def beats_surgery(n: Numbers) -> Iterator[Part]:
    for at in n.settings:
        for merge in n.edited:
            gain = n.accuracy(merge, "intervmerge", at) - n.accuracy(merge, "surgery", at)
            yield above(0, gain, f"IntervMerge beyond Surgery on {title(merge)}, {at}", "points")


@CHAPTER.claim(
    "Mini-interventions lose less than 1 point to IntervMerge, on every merge",
    where="abstract; the margin is ours",
    page="main_table",
    printed="",
)
def mini_keep(n: Numbers) -> Iterator[Part]:
    for at in n.settings:
        for merge in n.merges:
            for form, name in MINI.items():
                loss = n.accuracy(merge, "intervmerge", at) - n.accuracy(merge, form, at)
                what = f"IntervMerge beyond {name} on {title(merge)}, {at}"
                yield below(0.01, loss, what, "points")


@CHAPTER.claim(
    "AdaMerging per layer is more than 5 points better than task arithmetic",
    where="abstract; the margin is ours",
    by=ADAMERGING,
    page="main_table",
)
def per_layer(n: Numbers) -> Iterator[Part]:
    for at in n.settings:
        gain = n.accuracy("adamerging_layer", "none", at) - n.accuracy(
            "task_arithmetic", "none", at
        )
        yield above(0.05, gain, f"AdaMerging beyond task arithmetic, {at}", "points")


@CHAPTER.claim(
    "AdaMerging per task is worse than per layer, and worse than TIES",
    where="main table",
    by=ADAMERGING,
    page="main_table",
    printed="released",
)
def per_task(n: Numbers) -> Iterator[Part]:
    for at in n.settings:
        for merge in ("adamerging_layer", "ties"):
            gain = n.accuracy(merge, "none", at) - n.accuracy("adamerging_task", "none", at)
            yield above(0, gain, f"{title(merge)} beyond AdaMerging per task, {at}", "points")


# representation_bias -----------------------------------------------


@CHAPTER.claim(
    "Better merges compute features closer to the experts': the best closer than the worst",
    where="section on representation bias",
    by=SURGERY,
    page="representation_bias",
    printed="",
)
def closer(n: Numbers) -> Iterator[Part]:
    for at in n.settings:
        order = sorted(n.merges, key=lambda merge: n.accuracy(merge, "none", at).value)
        less = n.bias(order[0], "none", at) - n.bias(order[-1], "none", at)
        what = f"{title(order[-1])} closer than {title(order[0])}, {at}"
        yield above(0, less, what, "points")


@CHAPTER.claim(
    "Every correction brings the features of every merge closer to the experts'",
    where="section on representation bias",
    by=SURGERY,
    page="representation_bias",
    printed="",
)
def lowers_bias(n: Numbers) -> Iterator[Part]:
    for at in n.settings:
        for merge in n.merges:
            for correction in n.corrections:
                less = n.bias(merge, "none", at) - n.bias(merge, correction, at)
                yield above(0, less, f"{title(correction)} on {title(merge)}, {at}", "points")


@CHAPTER.claim(
    "The bias grows from the first block to the last",
    where="section on layers",
    by=SURGERY_V2,
    page="representation_bias",
    printed="",
)
def grows(n: Numbers) -> Iterator[Part]:
    for at in n.settings:
        for merge in n.merges:
            more = n.block_bias(merge, n.blocks - 1, at) - n.block_bias(merge, 0, at)
            yield above(0, more, f"last block beyond first, {title(merge)}, {at}", ".3f")
