"""Weights: lazy checkpoints, experts streamed layer by layer, bit-packed masks, exact selection."""

from mergebook.weights.checkpoint import Checkpoint, save_checkpoint
from mergebook.weights.experts import Experts
from mergebook.weights.layer import Layer, sum_tasks
from mergebook.weights.masks import Masks, pack_mask, unpack_mask
from mergebook.weights.select import TopEntries, kth_largest, ranked, top_entries
from mergebook.weights.views import ChangedLayers, SomeLayers

__all__ = [
    "ChangedLayers",
    "Checkpoint",
    "Experts",
    "Layer",
    "Masks",
    "SomeLayers",
    "TopEntries",
    "kth_largest",
    "pack_mask",
    "ranked",
    "save_checkpoint",
    "sum_tasks",
    "top_entries",
    "unpack_mask",
]
