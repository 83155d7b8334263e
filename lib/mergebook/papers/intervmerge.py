"""Claims of IntervMerge [osial2024intervmerge] and its predecessors, in the order of the chapter.

Numbers of a page answer with estimates: ``accuracy(merge, correction, at)`` (mean over tasks, plain
accuracy; the correction "none" is the merge itself) with the tuple ``merges``; ``bias(merge,
correction, at)`` and ``block_bias(merge, block, at)`` (distance to the experts' features and class
tokens, over that of the base) with ``merges``, ``corrections`` and ``blocks``; and elsewhere
``kept(variant, at)`` (normalised accuracy of one of the page's variants).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mergebook.claims import OURS, Chapter, Numbers, Part, Setting, above, below
from mergebook.report.reported import reported_estimate
from mergebook.report.style import title_of as title
from mergebook.uncertainty import Estimate

CHAPTER = Chapter("intervmerge", paper="osial2024intervmerge", authors="Osial et al. 2024")
SURGERY, SURGERY_V2 = "Yang et al. 2024 (Surgery)", "Yang et al. 2024 (SurgeryV2)"
ADAMERGING = "Yang et al. 2024 (AdaMerging)"
MINI = {"mini": "mini-interventions", "mini_best_efficient": "shifting constants"}
CORRECTED = ("averaging", "task_arithmetic", "ties", "adamerging_layer")  # in Surgery's logs
LOGS = "released run logs"


def beyond_half(start: Estimate, early: Estimate, late: Estimate) -> Estimate:
    """How far the early gain is beyond half of the late one."""
    return (early - start) - (late - start) * 0.5


# ------------------------------------------------------------------ main_table


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


# ------------------------------------------------------------------ representation_bias


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


# ------------------------------------------------------------------ parameter_budget


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


# ------------------------------------------------------------------ placement


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


# ------------------------------------------------------------------ rank_and_form


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


# ------------------------------------------------------------------ mini


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


# ------------------------------------------------------------------ data


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


# ------------------------------------------------------------------ coefficients


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


# ------------------------------------------------------------------ convergence


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


# ------------------------------------------------------------------ printed numbers

# Runs of the released logs, after 0, 10 and 500 iterations.
RUNS = {0: ("b3vc7o9b",), 10: ("ac4ztjs5", "vymjyn7p"), 500: ("b3alo8m3", "01q2pa4q")}
LAST = 500


@CHAPTER.printed
def printed_numbers(backbones: Sequence[str] = ("ViT-B-32", "ViT-L-14")) -> dict[str, Numbers]:
    """Return the papers' own numbers by page: of released logs, and of tables at second hand.

    Parameters
    ----------
    backbones : sequence of str
        Of the numbers on Surgery and AdaMerging.
    """

    def surgery(merge: str, at: Setting, iteration: int = LAST) -> Estimate:
        where = {"merge": merge, "iteration": iteration, "task": "average", "backbone": at.encoder}
        return reported_estimate("surgery_logs", metric="accuracy_percent", **where)

    def intervmerge(iteration: int) -> Estimate:
        runs = [
            reported_estimate(
                "intervmerge_logs", metric="accuracy_percent", run=run, task="average"
            )
            for run in RUNS[iteration]
        ]
        return sum(runs[1:], runs[0]) * (1 / len(runs))

    def accuracy(merge: str, correction: str, at: Setting) -> Estimate:
        if correction == "surgery":
            return surgery(merge, at)
        if correction == "intervmerge":
            return intervmerge(LAST)
        where = {"method": merge, "backbone": at.encoder}
        return reported_estimate("adamerging_main", metric="accuracy_percent", **where)

    base = Setting(8, "ViT-B-32")

    def kept(variant: str, at: Setting) -> Estimate:
        """Accuracy on ViT-B/32 with AdaMerging per layer beneath."""
        method, _, when = variant.partition(", ")
        if method == "intervmerge":
            return intervmerge({"start": 0, "20": 10, "end": LAST}[when])
        if when == "online":
            where = {"share_percent": 100, "task": "average"}
            return reported_estimate("surgery_online", metric="accuracy_percent", **where)
        if method == "none" or when == "start":
            return accuracy("adamerging_layer", "none", at)
        return surgery("adamerging_layer", at, 100 if when == "fifth" else LAST)

    main = [Setting(8, each, smaller=each != "ViT-L-14") for each in backbones]
    return {
        "main_table": Numbers(main, accuracy=accuracy, merges=CORRECTED),
        "released": Numbers([base], accuracy=accuracy, edited=("adamerging_layer",)),
        "data": Numbers([base], kept=kept),
        "convergence": Numbers([base], kept=kept),
    }
