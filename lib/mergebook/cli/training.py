"""`mergebook experts` and `mergebook pretrain`: make the weights that the book works on."""

from __future__ import annotations

import argparse
from pathlib import Path

from mergebook.cli.arguments import add_jobs, whole
from mergebook.errors import ParameterError, shown

MANY = 10**6
MAX_SEED = 2**63 - 1  # of torch's generator


def add(commands: argparse._SubParsersAction) -> None:
    """Declare the commands."""
    command = commands.add_parser("experts", help="fine-tune the experts that are missing")
    command.add_argument("--suite", default="mini")
    command.add_argument("--backbone", default="mini-small")
    command.add_argument("--seed", type=whole(0, MAX_SEED), default=0)
    command.add_argument(
        "--num-tasks",
        type=whole(1, MANY),
        metavar="N",
        help="the first N tasks of the suite (default: all)",
    )
    steps = whole(1, MANY)
    command.add_argument(
        "--steps",
        type=lambda text: None if text == "default" else steps(text),
        metavar="N",
        help="fine-tuning steps, or 'default' for those of the recipe",
    )
    add_jobs(command)
    command.set_defaults(command=_experts)

    command = commands.add_parser("pretrain", help="pre-train a mini backbone")
    command.add_argument("backbone", help="mini-small or mini-large")
    command.add_argument("--device", default="cpu", help="where to train, e.g. cuda")
    command.set_defaults(command=_pretrain)


def fine_tune(
    suite: str, *, backbone: str, seed: int, num_tasks: int, steps: int | None, jobs: int | None
) -> Path:
    """Fine-tune the experts that are missing; the folder of the set.

    Parameters and errors are those of :func:`mergebook.training.finetune_experts`.
    """
    from mergebook.suites import load_suite
    from mergebook.training import default_recipe, finetune_experts

    tasks = load_suite(suite, num_tasks=num_tasks)
    return finetune_experts(tasks, backbone, seed, jobs, default_recipe(steps, backbone))


def _experts(options: argparse.Namespace) -> str:
    names = ("backbone", "seed", "num_tasks", "steps", "jobs")
    return str(fine_tune(options.suite, **{name: getattr(options, name) for name in names}))


def _pretrain(options: argparse.Namespace) -> str:
    import torch

    from mergebook.training import pretrain

    try:
        torch.ones(1, device=options.device).item()
    except Exception as error:  # before an hour's work; torch raises many kinds
        problem = str(error).splitlines()[0]
        raise ParameterError(f"--device {shown(options.device)}: {problem}") from error
    return str(pretrain(options.backbone, device=options.device))
