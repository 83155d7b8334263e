"""Claims of T-Switch [qi2025tswitch] and its relatives, in the order of the chapter.

Numbers of a page answer with estimates: ``kept(variant, at)`` (normalised accuracy of one of the
page's variants), ``merged(vectors, drop, at, scale)`` (of task arithmetic), ``normalised(method,
at)``, ``accuracy(method, at)`` and ``storage(method, at)`` (share of the experts'), ``bits(code,
drop, at)`` or ``bits(variant, at)`` (per trained weight and task), ``share(method, at)`` (of full
precision), ``beyond_formula(at)``, ``right(extractor, exemplars, neighbours, at)`` (share of right
votes), and ``points(method, at)`` (bits and accuracy of a method's settings).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from mergebook.claims import OURS, Chapter, Numbers, Part, Setting, above, below
from mergebook.report.reported import reported_estimate
from mergebook.report.style import title_of as title
from mergebook.uncertainty import Estimate

CHAPTER = Chapter("t_switch", paper="qi2025tswitch", authors="Qi et al. 2025")
CODE, ABSTRACT = "released code", "abstract"
STUDY = "study of task vectors, at second hand"
DROP = 0.6  # discarded by the released commands
STATIC = ("task_arithmetic", "ties", "adamerging_layer_pp")
FULL, ROW, TENSOR, TASK = "full values", "one a row", "one a tensor", "one a task"
RANDOM = "random ones"
claim = partial(CHAPTER.claim, printed="")  # the paper's own tables could not be read


# ------------------------------------------------------------------ pulse


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


# ------------------------------------------------------------------ binarise


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


# ------------------------------------------------------------------ merge_after_discard


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


# ------------------------------------------------------------------ main_table


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


# ------------------------------------------------------------------ storage


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


# ------------------------------------------------------------------ routing


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


# ------------------------------------------------------------------ other_backbones


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


# ------------------------------------------------------------------ quantised


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


# ------------------------------------------------------------------ printed numbers


@CHAPTER.printed
def printed_numbers(backbones: Sequence[str] = ("ViT-B-32", "ViT-L-14")) -> dict[str, Numbers]:
    """Return what the papers on EMR-Merging and WEMoE print; T-Switch's own we could not read.

    Parameters
    ----------
    backbones : sequence of str
    """

    def accuracy(method: str, at: Setting) -> Estimate:
        table = "wemoe_main" if method in ("wemoe", "fine_tuned") else "emr_main"
        where = {"backbone": at.encoder, "method": method, "num_tasks": at.num_tasks}
        return reported_estimate(table, metric="accuracy_percent", **where)

    def share(method: str, at: Setting, bits: int, base_bits: int) -> Estimate:
        """Storage over that of full precision; the page has `base_bits` 3 alone."""
        own, full = (
            reported_estimate(
                "tvq_storage", metric="storage_gigabyte", num_tasks=at.num_tasks, **where
            )
            for where in ({"method": method, "bits": bits}, {"method": "fine_tuned"})
        )
        return own / full

    main = [Setting(8, backbone, smaller=backbone != "ViT-L-14") for backbone in backbones]
    sizes = [Setting(size, "ViT-L-14", smaller=False) for size in (8, 14, 20)]
    return {
        "relatives": Numbers(main, accuracy=accuracy),
        "quantised": Numbers(sizes, share=share),
    }
