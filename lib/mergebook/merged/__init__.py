"""Merged models: what a method returns, one kind of storage a module."""

from mergebook.merged.base import MergedModel, Told, load_merged
from mergebook.merged.factored import FactoredModel
from mergebook.merged.intervened import IntervenedModel
from mergebook.merged.low_rank import LowRankModel
from mergebook.merged.masked import MaskedModel
from mergebook.merged.per_task import TaskModels
from mergebook.merged.quantised import QuantisedModel
from mergebook.merged.rebuilt import rebuilt_experts
from mergebook.merged.rescaled import RescaledModel
from mergebook.merged.routed import RoutedModel
from mergebook.merged.shared import SharedModel
from mergebook.merged.sparse import SparseModel
from mergebook.merged.switched import SwitchedModel
from mergebook.merged.with_heads import HeadedModel

__all__ = [
    "FactoredModel",
    "HeadedModel",
    "IntervenedModel",
    "LowRankModel",
    "MaskedModel",
    "MergedModel",
    "QuantisedModel",
    "RescaledModel",
    "RoutedModel",
    "SharedModel",
    "SparseModel",
    "SwitchedModel",
    "TaskModels",
    "Told",
    "load_merged",
    "rebuilt_experts",
]
