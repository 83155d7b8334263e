"""Claims of CART [choi2024cart] and of its spectral relatives, in the order of the chapter.

Numbers of a page answer with estimates: ``accuracy(method, at)`` and ``normalised(method, at)``
(mean over tasks, plain and over the experts'); ``apart(at)``, ``tails(at)`` and ``moved(at)``
(largest difference between weights, over the largest weight); ``tuned(form, at, rank)`` (normalised
accuracy of the form "centred" or "uncentred" at a rank share, each with its best scale),
``chosen(at)`` (the same of "centred" at the rank that validation images choose) and ``peak(at)``
(the best rank share); ``interference(form, at, rank)`` and ``error(at, rank)`` (means over tensors;
the error as a share of the whole) and ``agreement(at)`` (rank correlation of interference and gain
over groups of layers); ``around(origin, at)`` and ``place(name, at)`` (normalised accuracy of CART
around an origin, in some tensors); ``rebuilt(rank, at)`` (normalised accuracy of CART-Indexing).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mergebook.claims import OURS, Chapter, Numbers, Part, Setting, above, below
from mergebook.report.reported import reported_estimate
from mergebook.report.style import title_of as title
from mergebook.uncertainty import Estimate

CHAPTER = Chapter("cart", paper="choi2024cart", authors="Choi et al. 2024")
MERGES = ("averaging", "task_arithmetic", "ties", "consensus_ta")
RELATIVES = ("tsv_m", "iso_c", "iso_cts")
TABLE = "table of vision tasks"
RANKS = "figure of accuracy against rank"
SUBSPACES = "figure of interference against rank"
TWO_SIZES = "two numbers of tasks"
ROUNDING = 1e-5  # of the largest weight: float32 sums of some twenty task vectors


@CHAPTER.claim(
    "Averaging is task arithmetic around the average, at every scale",
    where="section on centring",
    page="identity",
    printed="",
)
def identity(n: Numbers) -> Iterator[Part]:
    for at in n.settings:
        yield below(ROUNDING, n.apart(at), f"largest difference of a weight, {at}", ".0e")


@CHAPTER.claim(
    "What CART adds to the average is what it cuts off, with the other sign",
    where=OURS,
    page="identity",
)
def tails(n: Numbers) -> Iterator[Part]:
    for at in n.settings:
        yield below(ROUNDING, n.tails(at), f"largest difference of a weight, {at}", ".0e")


@CHAPTER.claim(
    "With two tasks CART is the average, at every rank",
    where=OURS,
    page="identity",
    needs="2 tasks",
)
def two_tasks(n: Numbers) -> Iterator[Part]:
    for at in n.settings:
        if at.num_tasks == 2:
            yield below(
                ROUNDING, n.moved(at), "largest difference of a weight to the average", ".0e"
            )


@CHAPTER.claim(
    "CART is better than averaging, task arithmetic, TIES and Consensus TA",
    where=TABLE,
    page="main_table",
)
def better(n: Numbers) -> Iterator[Part]:
    for at in n.settings:
        for method in MERGES:
            gain = n.accuracy("cart", at) - n.accuracy(method, at)
            yield above(0, gain, f"CART beyond {title(method)}, {at}", "points")


@CHAPTER.claim(
    "CART is more than 10 points better than averaging",
    where=f"{TABLE}; the margin is ours",
    page="main_table",
)
def ten_points(n: Numbers) -> Iterator[Part]:
    for at in n.settings:
        gain = n.accuracy("cart", at) - n.accuracy("averaging", at)
        yield above(0.1, gain, f"CART beyond averaging, {at}", "points")


@CHAPTER.claim(
    "CART, which sees no image, is better than AdaMerging, which adapts to them",
    where=TABLE,
    page="main_table",
)
def without_images(n: Numbers) -> Iterator[Part]:
    for at in n.settings:
        gain = n.accuracy("cart", at) - n.accuracy("adamerging_layer", at)
        yield above(0, gain, f"CART beyond AdaMerging, {at}", "points")


@CHAPTER.claim(
    "Coefficients adapted without labels help CART, most with many tasks",
    where=TABLE,
    page="main_table",
)
def adapted(n: Numbers) -> Iterator[Part]:
    def gain(at: Setting) -> Estimate:
        return n.accuracy("cart_adamerging", at) - n.accuracy("cart", at)

    for at in n.settings:
        yield above(0, gain(at), f"gain of adapting CART, {at}", "points")
    for few, many in n.ends:
        what = f"gain at {many} beyond that at {few.num_tasks}"
        yield above(0, gain(many) - gain(few), what, "points")


@CHAPTER.claim(
    "On eight tasks CART is within 3 points of training on all tasks together",
    where="abstract of the first version",
    page="main_table",
    needs="8 tasks",
)
def multitask(n: Numbers) -> Iterator[Part]:
    for at in n.settings:
        if at.num_tasks == 8:
            gap = n.accuracy("multitask", at) - n.accuracy("cart", at)
            yield below(0.03, gap, f"multi-task training beyond CART, {at}", "points")


@CHAPTER.claim(
    "An intermediate rank is better than the average, which both ends of the ranks give",
    where=RANKS,
    page="rank_sweep",
    printed="",
)
def bell(n: Numbers) -> Iterator[Part]:
    for at in n.settings:
        gain = n.chosen(at) - n.tuned("centred", at, 1.0)
        yield above(0, gain, f"the chosen rank beyond full rank, {at}", "points")


@CHAPTER.claim(
    "The best rank is near 8 % of the full one: from 4 to 16 %",
    where=f"{RANKS}; the margins are ours",
    page="rank_sweep",
    printed="released",
)
def peak(n: Numbers) -> Iterator[Part]:
    for at in n.settings:
        yield above(0.04, n.peak(at), f"best rank share, {at}")
        yield below(0.16, n.peak(at), f"best rank share, {at}")


@CHAPTER.claim(
    "The top is flat: at 8, 16 and 32 % of the rank accuracy differs by less than 2 points",
    where=OURS,
    page="rank_sweep",
)
def flat_top(n: Numbers) -> Iterator[Part]:
    for at in n.settings:
        for rank in (0.08, 0.16, 0.32):
            fall = n.chosen(at) - n.tuned("centred", at, rank)
            yield below(0.02, fall, f"the chosen rank beyond {rank:.0%}, {at}", "points")


@CHAPTER.claim(
    "Truncation after centring is better than truncation without, at every rank",
    where="ablation of centring",
    page="rank_sweep",
    printed="",
)
def centring(n: Numbers) -> Iterator[Part]:
    for at in n.settings:
        for rank in n.ranks:
            if rank < 1:
                gain = n.tuned("centred", at, rank) - n.tuned("uncentred", at, rank)
                yield above(0, gain, f"centring at rank {rank:.0%}, {at}", "points")


@CHAPTER.claim(
    "Truncation alone moves task arithmetic by less than 2 points, at its best rank",
    where=OURS,
    page="rank_sweep",
)
def truncation_alone(n: Numbers) -> Iterator[Part]:
    for at in n.settings:
        plain = n.tuned("uncentred", at, 1.0)
        for rank in n.ranks:
            gain = n.tuned("uncentred", at, rank) - plain
            yield below(0.02, gain, f"rank {rank:.0%} beyond full rank, {at}", "points")


@CHAPTER.claim(
    "Centred task vectors interfere less than original ones, at every rank",
    where=SUBSPACES,
    page="interference",
    printed="",
)
def less_interference(n: Numbers) -> Iterator[Part]:
    for at in n.settings:
        for rank in n.ranks:
            less = n.interference("uncentred", at, rank) - n.interference("centred", at, rank)
            yield above(0, less, f"original beyond centred at rank {rank:.0%}, {at}", ".3f")


@CHAPTER.claim(
    "From 4 to 32 % of the rank the error falls by a larger share than interference grows",
    where=f"{SUBSPACES}; the ranks are ours",
    page="interference",
    printed="",
)
def error_falls(n: Numbers) -> Iterator[Part]:
    for at in n.settings:
        fall = 1 - n.error(at, 0.32) / n.error(at, 0.04)
        growth = n.interference("centred", at, 0.32) / n.interference("centred", at, 0.04) - 1
        yield above(0, fall - growth, f"fall of the error beyond the growth, {at}", "points")


@CHAPTER.claim(
    "Where task vectors interfere less, CART gains more: over groups of layers",
    where=OURS,
    page="interference",
)
def predicts(n: Numbers) -> Iterator[Part]:
    for at in n.settings:
        yield below(0, n.agreement(at), f"rank correlation, {at}", ".2f")


@CHAPTER.claim(
    "The average is the best of the origins", where=OURS, page="origin", needs="several origins"
)
def best_origin(n: Numbers) -> Iterator[Part]:
    for at in n.settings:
        for origin in n.origins:
            if origin != "average":
                gain = n.around("average", at) - n.around(origin, at)
                yield above(0, gain, f"average beyond {origin}, {at}", "points")


@CHAPTER.claim(
    "Query, key and value apart or stacked: less than a point apart",
    where=OURS,
    page="which_tensors",
)
def stacked(n: Numbers) -> Iterator[Part]:
    for at in n.settings:
        more = n.place("blocks", at) - n.place("blocks, split", at)
        yield below(0.01, more, f"stacked beyond apart, {at}", "points")
        yield below(0.01, -more, f"apart beyond stacked, {at}", "points")


@CHAPTER.claim(
    "Attention and MLPs both contribute: either alone gains less than both",
    where=OURS,
    page="which_tensors",
)
def both_kinds(n: Numbers) -> Iterator[Part]:
    for at in n.settings:
        for place in ("attention", "MLP"):
            gain = n.place("blocks", at) - n.place(place, at)
            yield above(0, gain, f"all blocks beyond {place} alone, {at}", "points")


@CHAPTER.claim(
    "On the same experts CART is better than TSV-M, Iso-C and Iso-CTS",
    where=OURS,
    page="spectral_relatives",
)
def beats_relatives(n: Numbers) -> Iterator[Part]:
    for at in n.settings:
        for method in RELATIVES:
            gain = n.normalised("cart", at) - n.normalised(method, at)
            yield above(0, gain, f"CART beyond {title(method)}, {at}", "points")


@CHAPTER.claim(
    "Iso-CTS gains more over Iso-C with more tasks",
    where="table 1",
    by="Marczak et al. 2025",
    page="spectral_relatives",
    needs=TWO_SIZES,
)
def common_and_own(n: Numbers) -> Iterator[Part]:
    for few, many in n.ends:
        small, large = (
            n.normalised("iso_cts", at) - n.normalised("iso_c", at) for at in (few, many)
        )
        yield above(0, large - small, f"gain at {many} beyond that at {few.num_tasks}", "points")


@CHAPTER.claim(
    "A few centred directions rebuild an expert: 8 % of the rank keep more than 98 %",
    where="section on compression; the margin is ours",
    page="indexing",
    printed="",
)
def rebuilt(n: Numbers) -> Iterator[Part]:
    for at in n.settings:
        yield above(0.98, n.rebuilt(0.08, at), f"CART-Indexing at rank 8 %, {at}")


@CHAPTER.claim(
    "The gap between CART and the experts is smaller on the larger encoder",
    where=TABLE,
    page="scaling",
    needs="two encoders",
    printed="main_table",
)
def larger_encoder(n: Numbers) -> Iterator[Part]:
    for small, large in n.encoders:
        gaps = (n.accuracy("fine_tuned", at) - n.accuracy("cart", at) for at in (small, large))
        small_gap, large_gap = gaps
        what = f"gap on the smaller beyond that on the larger, {small.num_tasks} tasks"
        yield above(0, small_gap - large_gap, what, "points")


@CHAPTER.claim(
    "What CART gains over averaging shrinks with the number of tasks",
    where=OURS,
    page="scaling",
    needs=TWO_SIZES,
)
def shrinking_gain(n: Numbers) -> Iterator[Part]:
    for few, many in n.ends:
        small, large = (
            n.normalised("cart", at) - n.normalised("averaging", at) for at in (few, many)
        )
        yield above(0, small - large, f"gain at {few.num_tasks} beyond that at {many}", "points")


@CHAPTER.claim(
    "CART is better than task arithmetic and TIES on language tasks, too",
    where='abstract of the second version, which says "competitive"',
    page="main_table",
    needs="text tasks",
    printed="",
)
def language(n: Numbers) -> Iterator[Part]:
    for at in n.language:
        for other in ("task_arithmetic", "ties"):
            gain = n.accuracy("cart", at) - n.accuracy(other, at)
            yield above(0, gain, f"CART beyond {title(other)}, {at}", "points")


@CHAPTER.printed
def printed_numbers(
    backbones: Sequence[str] = ("ViT-B-32", "ViT-L-14"), num_tasks: Sequence[int] = (8, 14, 20)
) -> dict[str, Numbers]:
    """Return the papers' own numbers by page, with the error of reading them.

    Parameters
    ----------
    backbones : sequence of str
        Of the table of vision tasks.
    num_tasks : sequence of int
        Suite sizes.
    """
    sizes = sorted(num_tasks)
    main = [Setting(s, b, smaller=b == "ViT-B-32") for b in backbones for s in sizes]
    pairs = [(Setting(s, "ViT-B-32"), Setting(s, "ViT-L-14", smaller=False)) for s in sizes]

    def cell(table: str, metric: str, method: str, at: Setting) -> Estimate:
        table = "multitask" if method == "multitask" else table
        where = {"method": method, "num_tasks": at.num_tasks, "backbone": at.encoder}
        return reported_estimate(table, metric=metric, **where)

    def accuracy(method: str, at: Setting) -> Estimate:
        return cell("cart_main", "accuracy_percent", method, at)

    def normalised(method: str, at: Setting) -> Estimate:
        return cell("iso_main", "normalised_accuracy_percent", method, at)

    return {
        "main_table": Numbers(
            main, language=(), accuracy=accuracy, encoders=pairs if len(backbones) > 1 else ()
        ),
        "released": Numbers(
            [Setting(s, "ViT-B-32") for s in sizes],
            peak=lambda at: cell("cart_released", "rank_share", "cart", at),
        ),
        "spectral_relatives": Numbers(main, normalised=normalised),
    }
