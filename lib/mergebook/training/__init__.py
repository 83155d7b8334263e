"""Training: mini backbones from the rendered world, experts from a backbone."""

from mergebook.training.experts import default_recipe, experts_dir, finetune_experts, load_experts
from mergebook.training.finetuning import FinetuneRecipe, finetune
from mergebook.training.pretraining import RECIPES, PretrainRecipe, pretrain

__all__ = [
    "RECIPES",
    "FinetuneRecipe",
    "PretrainRecipe",
    "default_recipe",
    "experts_dir",
    "finetune",
    "finetune_experts",
    "load_experts",
    "pretrain",
]
