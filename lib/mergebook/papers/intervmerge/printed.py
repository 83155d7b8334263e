"""What the papers print, and their released logs."""

from __future__ import annotations

from collections.abc import Sequence

from mergebook.claims import Numbers, Setting
from mergebook.papers.intervmerge.chapter import CHAPTER, CORRECTED
from mergebook.report.reported import reported_estimate
from mergebook.uncertainty import Estimate

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
