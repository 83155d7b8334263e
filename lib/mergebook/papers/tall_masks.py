"""Claims of TALL masks and Consensus merging [wang2024localizing], in the order of the chapter.

Numbers of a page answer with estimates: ``normalised(method, at)`` (accuracy over the experts';
with ``same=``, on the tasks of that setting, where the source can tell), ``storage(method, at)``
(share of the experts'), ``language`` (settings of text tasks), ``density(method)`` and
``trained_density(method)`` (mean share of active weights among the stored and the trained ones),
``used_by(method, at, counts)`` (share of the weights that so many masks use),
``votes(method, at, k)``, ``shuffled(at, k)`` and ``accuracy(method, at)``, and
``variant(name, at)`` (accuracy over the experts' of a control of the masks).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial

from mergebook.claims import OURS, Chapter, Numbers, Part, Setting, above, below
from mergebook.report.reported import reported, reported_estimate
from mergebook.report.style import title_of as title
from mergebook.uncertainty import Estimate

CHAPTER = Chapter("tall_masks", paper="wang2024localizing", authors="Wang et al. 2024")
MASKS, MERGES = ("tall_ta", "tall_ties"), ("task_arithmetic", "ties")
CONSENSUS = ("consensus_ta", "consensus_ties")
TEXTS = "text tasks"
ALL = -1  # the last entry of a profile: used by all masks
VOTES = "figure of accuracy against k"
AGREEMENT = "figure of mask agreement"


@CHAPTER.claim(
    "TALL masks keep more than 99 % of the experts' accuracy", where="abstract", page="main_table"
)
def keep(n: Numbers) -> Iterator[Part]:
    for at in n.settings:
        for method in MASKS:
            yield above(0.99, n.normalised(method, at), f"{title(method)}, {at}")


@CHAPTER.claim(
    "TALL masks keep more than 99 % of the experts' accuracy on language tasks, too",
    where="abstract and table of language tasks",
    page="main_table",
    needs=TEXTS,
    printed="language",
)
def keep_language(n: Numbers) -> Iterator[Part]:
    for at in n.language:
        for method in MASKS:
            yield above(0.99, n.normalised(method, at), f"{title(method)}, {at}")


@CHAPTER.claim(
    "TALL masks change by less than 2 points as tasks are added, while TA and TIES fall",
    where="figure of normalised accuracy against the number of tasks",
    page="accuracy_and_storage_vs_tasks",
    needs="two numbers of tasks",
)
def flat(n: Numbers) -> Iterator[Part]:
    for few, many in n.ends:
        span = f"from {few.num_tasks} to {many}"
        fall = {m: n.normalised(m, few) - n.normalised(m, many) for m in n.methods}
        for method in filter(fall.get, MASKS):
            yield below(0.02, fall[method], f"fall of {title(method)} {span}", "points")
            yield below(0.02, -fall[method], f"rise of {title(method)} {span}", "points")
        for method in MERGES:
            yield above(0, fall[method], f"fall of {title(method)} {span}", "points")


@CHAPTER.claim(
    "TALL + TIES keeps 99 % at under a sixth of the experts' storage, 20 tasks",
    where="abstract and main table",
    page="main_table",
    needs="20 tasks",
)
def storage(n: Numbers) -> Iterator[Part]:
    for at in n.settings:
        if at.num_tasks == 20:
            yield above(0.99, n.normalised("tall_ties", at), f"accuracy, {at}")
            yield below(1 / 6, n.storage("tall_ties", at), f"storage, {at}")


@CHAPTER.claim(
    "Magnitude masking loses more with more tasks than TALL masks do",
    where="main table",
    page="main_table",
    needs="two numbers of tasks",
)
def magnitude(n: Numbers) -> Iterator[Part]:
    for few, many in n.ends:
        ours, theirs = (
            n.normalised(m, few) - n.normalised(m, many, same=few)
            for m in ("magnitude_masking", "tall_ta")
        )
        what = f"fall of {title('magnitude_masking')} beyond that of {title('tall_ta')}, to {many}"
        yield above(0, ours - theirs, what, "points")


@CHAPTER.claim(
    "The masks are sparse: a task uses fewer than half of all stored weights",
    where="figure of active entries, 8 tasks",
    page="mask_density",
)
def sparse(n: Numbers) -> Iterator[Part]:
    yield below(0.5, n.density("tall_ta"), "mean share of the stored weights")


@CHAPTER.claim(
    "A task uses fewer than half of the trained weights",
    where=OURS,
    page="mask_density",
    printed="mask_density",
)
def sparse_trained(n: Numbers) -> Iterator[Part]:
    yield below(0.5, n.trained_density("tall_ta"), "mean share of the trained weights")


@CHAPTER.claim(
    "With more tasks, more weights are used by no task, and fewer by one and by all",
    where=AGREEMENT,
    page="mask_agreement",
    needs="two numbers of tasks",
)
def catastrophic(n: Numbers) -> Iterator[Part]:
    for few, many in n.ends:
        for what, count, sign in (("one", 1, -1), ("none", 0, 1), ("all", ALL, -1)):
            change = n.used_by("tall_ta", many, [count]) - n.used_by("tall_ta", few, [count])
            word = "rise" if sign > 0 else "fall"
            yield above(
                0, sign * change, f"{word} of the share used by {what}, to {many}", "points"
            )


@CHAPTER.claim("Consensus TA is better than task arithmetic", where="main table", page="main_table")
def consensus(n: Numbers) -> Iterator[Part]:
    for at in n.settings:
        gain = n.normalised("consensus_ta", at) - n.normalised("task_arithmetic", at)
        yield above(0, gain, f"gain of Consensus TA, {at}", "points")


@CHAPTER.claim(
    "The advantage of Consensus TA over task arithmetic grows with the number of tasks",
    where="project page",
    page="main_table",
    needs="two numbers of tasks",
)
def advantage(n: Numbers) -> Iterator[Part]:
    for few, many in n.ends:
        small, large = (
            n.normalised("consensus_ta", at) - n.normalised("task_arithmetic", at)
            for at in (few, many)
        )
        yield above(0, large - small, f"gain at {many} beyond that at {few.num_tasks}", "points")


@CHAPTER.claim(
    "Plain TIES is better than Consensus TIES on the smaller encoder",
    where="main table, ViT-B/32",
    page="main_table",
    needs="the smaller encoder, for which the paper has it so",
)
def consensus_ties(n: Numbers) -> Iterator[Part]:
    for at in n.settings:
        if at.smaller:
            lead = n.normalised("ties", at) - n.normalised("consensus_ties", at)
            yield above(0, lead, f"TIES beyond Consensus TIES, {at}", "points")


@CHAPTER.claim(
    "Dropping the weights that no task uses (k = 1) helps TA and TIES",
    where=VOTES,
    page="consensus_threshold",
)
def first_vote(n: Numbers) -> Iterator[Part]:
    for at in n.settings:
        for method, plain in zip(CONSENSUS, MERGES, strict=True):
            gain = n.votes(method, at, 1) - n.accuracy(plain, at)
            yield above(0, gain, f"{title(method)}, k = 1, beyond {title(plain)}, {at}", "points")


@CHAPTER.claim(
    "For TA k = 2 beats k = 1, and k = 3 costs less with more tasks; for TIES k = 1 is best",
    where=VOTES,
    page="consensus_threshold",
)
def plateau(n: Numbers) -> Iterator[Part]:
    for at in n.settings:
        step = {m: n.votes(m, at, 2) - n.votes(m, at, 1) for m in CONSENSUS}
        yield above(0, step["consensus_ta"], f"TA, k = 2 beyond k = 1, {at}", "points")
        yield above(0, -step["consensus_ties"], f"TIES, k = 1 beyond k = 2, {at}", "points")
    for ends in n.ends:
        few, many = (n.votes("consensus_ta", e, 3) - n.votes("consensus_ta", e, 2) for e in ends)
        yield above(0, many - few, f"TA, k = 3 beyond k = 2, change to {ends[1]}", "points")


@CHAPTER.claim(
    "With a threshold k of all tasks, Consensus TA falls to the base",
    where=VOTES,
    page="consensus_threshold",
)
def to_base(n: Numbers) -> Iterator[Part]:
    for at in n.settings:
        k = n.last_vote(at)
        rest = n.votes("consensus_ta", at, k) - n.accuracy("zero_shot", at)
        yield below(0.02, rest, f"Consensus TA with k = {k} beyond the base, {at}", "points")


@CHAPTER.claim(
    "Votes choose better than chance (k = 2, Consensus TA)", where=OURS, page="consensus_threshold"
)
def control(n: Numbers) -> Iterator[Part]:
    for at in n.settings:
        gain = n.votes("consensus_ta", at, 2) - n.shuffled(at, 2)
        yield above(0, gain, f"votes beyond as many weights at random, {at}", "points")


@CHAPTER.claim(
    "Votes (k = 2) cost TIES accuracy if both start from the same vector",
    where=OURS,
    page="consensus_threshold",
)
def same_vector(n: Numbers) -> Iterator[Part]:
    for at in n.settings:
        cost = n.votes("consensus_ties", at, 0) - n.votes("consensus_ties", at, 2)
        yield above(0, cost, f"TIES with sums beyond the same with votes, {at}", "points")


@CHAPTER.claim(
    "Merging by TIES moves weights to the ends of the agreement profile, few tasks and all",
    where=AGREEMENT,
    page="mask_agreement",
)
def edges(n: Numbers) -> Iterator[Part]:
    for at in n.profiled:
        few = range(1, min(4, at.num_tasks))
        for what, counts in ((f"one to {few[-1]}", few), ("all", [ALL])):
            shift = n.used_by("tall_ties", at, counts) - n.used_by("tall_ta", at, counts)
            yield above(0, shift, f"share used by {what}, TIES beyond TA, {at}", "points")


@CHAPTER.claim(
    "A task's own mask over the sum is better than a random one, and than another task's",
    where=OURS,
    page="sum_and_mask",
)
def own_mask(n: Numbers) -> Iterator[Part]:
    for at in n.settings:
        for other in ("random mask", "another task's mask"):
            gain = n.variant("own mask", at) - n.variant(other, at)
            yield above(0, gain, f"own mask beyond {other}, {at}", "points")


@CHAPTER.claim(
    "The sum under the mask is better than a random vector of the same norms under it",
    where=OURS,
    page="sum_and_mask",
)
def sum_counts(n: Numbers) -> Iterator[Part]:
    for at in n.settings:
        gain = n.variant("own mask", at) - n.variant("random vector", at)
        yield above(0, gain, f"sum beyond random vector, {at}", "points")


@CHAPTER.claim(
    "Under the mask, the sizes in the sum are worth more than its signs alone",
    where=OURS,
    page="sum_and_mask",
)
def sizes_count(n: Numbers) -> Iterator[Part]:
    for at in n.settings:
        gain = n.variant("own mask", at) - n.variant("signs only", at)
        yield above(0, gain, f"sum beyond its signs, {at}", "points")


@CHAPTER.claim(
    "On language tasks, Consensus TIES is better than TIES",
    where="table of language tasks",
    page="main_table",
    needs=TEXTS,
    printed="language",
)
def language(n: Numbers) -> Iterator[Part]:
    for at in n.language:
        gain = n.accuracy("consensus_ties", at) - n.accuracy("ties", at)
        yield above(0, gain, f"Consensus TIES beyond TIES, {at}", "points")


@CHAPTER.printed
def printed_numbers(
    backbones: Sequence[str] = ("ViT-B-32", "ViT-L-14"),
    num_tasks: Sequence[int] = (8, 14, 20),
    language_tasks: Sequence[int] = (7, 8, 11),
) -> dict[str, Numbers]:
    """Return the paper's own numbers by page, with the error of reading them.

    Parameters
    ----------
    backbones : sequence of str
        Of the main table. The figures are of ViT-B/32.
    num_tasks : sequence of int
        Suite sizes of the main table and the figures.
    language_tasks : sequence of int
        Sets of language tasks.
    """
    sizes = sorted(num_tasks)
    main = [Setting(s, b, smaller=b == "ViT-B-32") for b in backbones for s in sizes]
    language = [Setting(s, "T5-large", tasks="language tasks") for s in sorted(language_tasks)]
    figures = [Setting(s) for s in sizes]

    def cell(metric: str, method: str, at: Setting, **_: object) -> Estimate:
        table = "language" if at in language else "main"
        where = {"method": method, "num_tasks": at.num_tasks, "backbone": at.encoder or "ViT-B-32"}
        return reported_estimate(f"tall_masks_{table}", metric=metric, **where)

    def point(figure: str, method: str, at: Setting, **where: object) -> Estimate:
        where |= {"method": method, "num_tasks": at.num_tasks}
        return reported_estimate(f"tall_masks_{figure}", **where)

    def used_by(method: str, at: Setting, counts: Iterable[int]) -> Estimate:
        counts = [at.num_tasks if count == ALL else count for count in counts]
        return sum(point("mask_agreement", method, at, used_by=count) for count in counts)

    normalised = partial(cell, "normalised_accuracy_percent")
    accuracy = partial(cell, "accuracy_percent")
    return {
        "main_table": Numbers(
            main,
            language=(),
            normalised=normalised,
            storage=lambda method, at: (
                cell("storage_gigabit", method, at) / cell("storage_gigabit", "fine_tuned", at)
            ),
        ),
        "accuracy_and_storage_vs_tasks": Numbers(
            [Setting(2), Setting(20)],
            methods=("tall_ta", *MERGES),
            normalised=partial(point, "normacc_vs_num_tasks"),
        ),
        "mask_density": Numbers(
            [Setting(8)], density=_active, trained_density=lambda m: _active(m) * (1 / _trained())
        ),
        "mask_agreement": Numbers(figures, profiled=figures, used_by=used_by),
        "consensus_threshold": Numbers(
            figures,
            votes=lambda method, at, k: point("consensus_threshold", method, at, k=k),
            accuracy=accuracy,
            last_vote=lambda at: _last_votes()[at.num_tasks],
        ),
        "language": Numbers((), language=language, normalised=normalised, accuracy=accuracy),
    }


def _active(method: str) -> Estimate:
    """Mean share of the stored weights that the eight masks of the figure hold."""
    rows = reported("tall_masks_mask_percentage").query("metric == 'active_entries_percent'")
    where = {"method": method, "num_tasks": 8, "metric": "active_entries_percent"}
    tasks = rows.loc[rows["method"] == method, "task"]
    shares = [reported_estimate("tall_masks_mask_percentage", task=t, **where) for t in tasks]
    return sum(shares) * (1 / len(shares))


def _trained() -> float:
    """Share of the stored weights that are trained: the experts' storage a task, over a model's."""
    bits = reported("tall_masks_main").query(
        "backbone == 'ViT-B-32' and metric == 'storage_gigabit'"
    )
    bits = bits.pivot(index="method", columns="num_tasks", values="value")
    return float(
        (bits.loc["fine_tuned", 20] - bits.loc["fine_tuned", 8]) / 12 / bits.loc["zero_shot", 8]
    )


def _last_votes() -> dict[int, int]:
    """Largest k that the figure shows, for each number of tasks."""
    rows = reported("tall_masks_consensus_threshold").query("method == 'consensus_ta'")
    return rows.groupby("num_tasks")["k"].max().to_dict()
