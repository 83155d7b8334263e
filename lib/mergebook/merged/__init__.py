"""Merged models: what a method returns, in the four ways it can be stored."""

from mergebook.merged.base import MergedModel, load_merged, sign_off
from mergebook.merged.masked import MaskedModel
from mergebook.merged.per_task import TaskModels
from mergebook.merged.shared import SharedModel
from mergebook.merged.sparse import SparseModel

__all__ = [
    "MaskedModel",
    "MergedModel",
    "SharedModel",
    "SparseModel",
    "TaskModels",
    "load_merged",
    "sign_off",
]
