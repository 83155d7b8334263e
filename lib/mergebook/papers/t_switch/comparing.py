"""T-Switch against its relatives: accuracy and storage."""

from __future__ import annotations

from collections.abc import Iterator

from mergebook.claims import OURS, Numbers, Part, above, below
from mergebook.papers.t_switch.chapter import ABSTRACT, CHAPTER, CODE, DROP, STATIC, claim
from mergebook.report.style import title_of as title

# main_table --------------------------------------------------------


@claim(
    "Auto-Switch is better than every merge that gives one model",
    where=f"{ABSTRACT}: significant improvements over existing baselines",
    page="main_table",
)
def beats_static(n: Numbers) -> Iterator[Part]:
    for at in n.settings:
        for method in STATIC:
            gain = n.normalised("auto_switch", at) - n.normalised(method, at)
            yield above(0, gain, f"Auto-Switch beyond {title(method)}, {at}", "points")


@claim(
    "T-Switch, its share searched, keeps more than 99 % of the experts' accuracy",
    where="main table, at second hand; our margin",
    page="main_table",
)
def keeps(n: Numbers) -> Iterator[Part]:
    for at in n.settings:
        yield above(0.99, n.normalised("t_switch", at), f"T-Switch, {at}")


@claim(
    "T-Switch is better than EMR-Merging",
    where="main table, at second hand",
    page="main_table",
)
def beats_emr(n: Numbers) -> Iterator[Part]:
    for at in n.settings:
        gain = n.normalised("t_switch", at) - n.normalised("emr", at)
        yield above(0, gain, f"T-Switch beyond EMR, {at}", "points")


@claim(
    "Auto-Switch, which guesses the task, loses less than 1 point to T-Switch, which is told",
    where="main table, at second hand; our margin",
    page="main_table",
)
def guesses_well(n: Numbers) -> Iterator[Part]:
    for at in n.settings:
        loss = n.normalised("t_switch", at) - n.normalised("auto_switch", at)
        yield below(0.01, loss, f"T-Switch beyond Auto-Switch, {at}", "points")


@claim(
    "Auto-Switch is better than Twin-Merging",
    where="main table, at second hand",
    page="main_table",
)
def beats_twin(n: Numbers) -> Iterator[Part]:
    for at in n.settings:
        gain = n.normalised("auto_switch", at) - n.normalised("twin_merging", at)
        yield above(0, gain, f"Auto-Switch beyond Twin-Merging, {at}", "points")


@claim(
    "Switches that are learned (FlexSwitch) are better than rules (T-Switch)",
    where="summary of its tables",
    by="Gao et al. 2026",
    page="main_table",
)
def learned(n: Numbers) -> Iterator[Part]:
    for at in n.settings:
        gain = n.normalised("flex_switch", at) - n.normalised("t_switch", at)
        yield above(0, gain, f"FlexSwitch beyond T-Switch, {at}", "points")


@claim(
    "T-Switch takes less storage than EMR-Merging, Auto-Switch less than Twin-Merging",
    where="main table, at second hand",
    page="main_table",
)
def takes_less(n: Numbers) -> Iterator[Part]:
    for at in n.settings:
        for own, rival in (("t_switch", "emr"), ("auto_switch", "twin_merging")):
            less = n.storage(rival, at) - n.storage(own, at)
            yield above(0, less, f"{title(rival)} beyond {title(own)}, {at}", "points")


@claim(
    "FlexSwitch takes less storage than T-Switch",
    where="summary of its tables",
    by="Gao et al. 2026",
    page="main_table",
)
def takes_least(n: Numbers) -> Iterator[Part]:
    for at in n.settings:
        less = n.storage("t_switch", at) - n.storage("flex_switch", at)
        yield above(0, less, f"T-Switch beyond FlexSwitch, {at}", "points")


@CHAPTER.claim(
    "EMR-Merging, which needs no images, is better than AdaMerging++, which learns from them",
    where="tables 2 and 3",
    by="Huang et al. 2024",
    page="main_table",
    printed="relatives",
)
def masks_beat_coefficients(n: Numbers) -> Iterator[Part]:
    for at in n.settings:
        gain = n.accuracy("emr", at) - n.accuracy("adamerging_layer_pp", at)
        yield above(0, gain, f"EMR beyond AdaMerging++, {at}", "points")


@CHAPTER.claim(
    "WEMoE, which routes between the experts' MLPs, is better than AdaMerging++",
    where="tables 2 and 3",
    by="Tang et al. 2024",
    page="main_table",
    printed="relatives",
)
def routers_beat_coefficients(n: Numbers) -> Iterator[Part]:
    for at in n.settings:
        gain = n.accuracy("wemoe", at) - n.accuracy("adamerging_layer_pp", at)
        yield above(0, gain, f"WEMoE beyond AdaMerging++, {at}", "points")


@CHAPTER.claim(
    "WEMoE comes within 2 points of the experts",
    where="tables 2 and 3; our margin",
    by="Tang et al. 2024",
    page="main_table",
    printed="relatives",
)
def routers_come_close(n: Numbers) -> Iterator[Part]:
    for at in n.settings:
        gap = n.accuracy("fine_tuned", at) - n.accuracy("wemoe", at)
        yield below(0.02, gap, f"experts beyond WEMoE, {at}", "points")


# storage -----------------------------------------------------------


@claim(
    "The switches take at most 3 % of full-precision task vectors, 60 % discarded as released",
    where=f"{ABSTRACT}, with the released share",
    page="storage",
)
def small(n: Numbers) -> Iterator[Part]:
    for at in n.settings:
        share = n.bits("groups of four", DROP, at) * (1 / 32)
        yield below(0.03, share, f"switches over 32 bits an entry, {at}")


@claim(
    "Groups of four take fewer bits than a mask and signs at 60 % discarded",
    where=CODE,
    page="storage",
)
def groups_pay(n: Numbers) -> Iterator[Part]:
    for at in n.settings:
        less = n.bits("mask and signs", DROP, at) - n.bits("groups of four", DROP, at)
        yield above(0, less, f"mask and signs beyond groups of four, bits, {at}", ".3f")


@claim(
    "Groups of four take at most 10 % more than the entropy, from 60 % discarded on",
    where=OURS,
    page="storage",
)
def near_entropy(n: Numbers) -> Iterator[Part]:
    for at in n.settings:
        for drop in (drop for drop in n.drops if drop >= DROP):
            more = n.bits("groups of four", drop, at) / n.bits("entropy", drop, at)
            yield below(1.1, more, f"groups of four over the entropy, {drop:.0%}, {at}", ".3f")


@claim(
    "A file has the size of the formula, but for its header and under a byte for each stream",
    where=OURS,
    page="storage",
)
def on_disk(n: Numbers) -> Iterator[Part]:
    for at in n.settings:
        yield below(
            1, n.beyond_formula(at), f"bytes beyond the formula for each stream, {at}", ".2f"
        )
