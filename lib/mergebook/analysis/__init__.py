"""Looking into task vectors and merged models."""

from mergebook.analysis.basin import dips, line_scan
from mergebook.analysis.controls import (
    exchange_masks,
    random_vector,
    scale_vector,
    shuffle_masks,
    signs_only,
)
from mergebook.analysis.discarding import binarise, discard
from mergebook.analysis.masks import (
    agreement,
    categories,
    distance_to_experts,
    mask_use,
    overlap,
)
from mergebook.analysis.origins import cart_around, graft
from mergebook.analysis.representations import representation_distances, representations
from mergebook.analysis.subspaces import (
    alignment,
    row_interference,
    spectrum,
    subspace_profile,
)

__all__ = [
    "agreement",
    "alignment",
    "binarise",
    "cart_around",
    "categories",
    "dips",
    "discard",
    "distance_to_experts",
    "exchange_masks",
    "graft",
    "line_scan",
    "mask_use",
    "overlap",
    "random_vector",
    "representation_distances",
    "representations",
    "row_interference",
    "scale_vector",
    "shuffle_masks",
    "signs_only",
    "spectrum",
    "subspace_profile",
]
