"""The chapter that the claims belong to, and names that they share."""

from __future__ import annotations

from mergebook.claims import Chapter
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
