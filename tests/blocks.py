"""Experts with a few small tensors whose names are those of a transformer's blocks."""

import torch

from mergebook.weights import Experts

SHAPES = {
    "transformer.resblocks.0.attn.out_proj.weight": (5, 5),
    "transformer.resblocks.1.mlp.c_fc.weight": (7, 4),
    "transformer.resblocks.1.mlp.c_proj.weight": (3, 6),
    "transformer.resblocks.1.ln_1.weight": (5,),
    "proj": (5, 4),
}
BLOCKS = [key for key in SHAPES if "resblocks" in key and len(SHAPES[key]) == 2]


def state(seed: int) -> dict[str, torch.Tensor]:
    """Normal random weights."""
    generator = torch.Generator().manual_seed(seed)
    return {
        key: torch.randn(shape, generator=generator, dtype=torch.float64)
        for key, shape in SHAPES.items()
    }


def block_experts(num_tasks: int = 3) -> Experts:
    """Experts ``task1``, ``task2``, ... of a random base."""
    return Experts(state(0), {f"task{t}": state(t) for t in range(1, num_tasks + 1)})
