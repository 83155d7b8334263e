"""Training: mini backbones from the rendered world, experts from a backbone."""

from mergebook.training.experts import (
    default_recipe,
    experts_dir,
    finetune_experts,
    load_experts,
    load_factors,
    lora_experts,
)
from mergebook.training.finetuning import FinetuneRecipe, TextRecipe, finetune
from mergebook.training.lora import LoraRecipe, finetune_factors, with_factors
from mergebook.training.pretraining import RECIPES, PretrainRecipe, pretrain

__all__ = [
    "RECIPES",
    "FinetuneRecipe",
    "LoraRecipe",
    "PretrainRecipe",
    "TextRecipe",
    "default_recipe",
    "experts_dir",
    "finetune",
    "finetune_experts",
    "finetune_factors",
    "load_experts",
    "load_factors",
    "lora_experts",
    "pretrain",
    "with_factors",
]
