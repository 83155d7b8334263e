"""Looking into task vectors and merged models."""

from mergebook.analysis.basin import dips, line_scan
from mergebook.analysis.controls import (
    exchange_masks,
    random_vector,
    scale_vector,
    shuffle_masks,
    signs_only,
)
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
    "exchange_masks",
    "line_scan",
    "mask_use",
    "overlap",
    "random_vector",
    "scale_vector",
    "shuffle_masks",
    "signs_only",
]
