"""Looking into task vectors and merged models."""

from mergebook.analysis.basin import dips, line_scan
from mergebook.analysis.masks import (
    agreement,
    categories,
    distance_to_experts,
    mask_use,
    overlap,
)

__all__ = [
    "agreement",
    "categories",
    "dips",
    "distance_to_experts",
    "line_scan",
    "mask_use",
    "overlap",
]
