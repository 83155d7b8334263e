"""What the papers print."""

from __future__ import annotations

from collections.abc import Sequence

from mergebook.claims import Numbers, Setting
from mergebook.papers.t_switch.chapter import CHAPTER
from mergebook.report.reported import reported_estimate
from mergebook.uncertainty import Estimate


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
