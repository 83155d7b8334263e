"""`mergebook merge`: checkpoint files in, one file out."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from mergebook.cli.arguments import add_settings, pairs, value_of
from mergebook.errors import ParameterError


def add(commands: argparse._SubParsersAction) -> None:
    """Declare the command."""
    command = commands.add_parser("merge", help="merge checkpoint files into one")
    option = command.add_argument
    option("--method", required=True, help="one of `mergebook methods`")
    option("--base", required=True, type=Path, metavar="FILE", help="pre-trained weights")
    option(
        "--expert",
        required=True,
        action="append",
        metavar="TASK=FILE",
        help="fine-tuned weights; repeat for more",
    )
    option("--out", required=True, type=Path, metavar="FILE", help="the result")
    option("--force", action="store_true", help="replace the result if it exists")
    add_settings(
        command,
        "a parameter of the method, e.g. scale=0.4 or threshold=a:0.3,b:0.5; repeat for more",
    )
    option(
        "--entries",
        default="trained",
        help="of what a density is a share: the entries that an expert changed (trained) or all "
        "(stored)",
    )
    option(
        "--frozen-extra",
        type=int,
        default=0,
        metavar="N",
        help="frozen entries that are not in the files, such as a text tower",
    )
    option("--dtype", help="type of the result's weights (default: the base's)")
    option("--backbone", metavar="NAME", help="architecture (default: the base's own)")
    option("--suite", help="where the tasks' images are, for a method that needs some")
    option("--images", type=int, default=256, metavar="N", help="images per task of that suite")
    command.set_defaults(command=_merge)


def _merge(options: argparse.Namespace) -> None:
    from tqdm import tqdm

    import mergebook as mb
    from mergebook.cli.files import give_memory_back, merge_files, suite_calibration
    from mergebook.weights import Checkpoint

    method = mb.get_method(options.method)
    known = {parameter.name: parameter for parameter in method.parameters}
    texts = pairs("--set", "NAME=VALUE", options.set)
    params = {name: value_of(name, text, known.get(name)) for name, text in texts.items()}
    method.check(**params)
    experts = pairs("--expert", "TASK=FILE", options.expert)
    if options.own_process:
        give_memory_back()
    calibration = None
    if options.suite is not None:
        if not method.needs:
            raise ParameterError(f"--suite: {method.name} needs no images")
        backbone = options.backbone or Checkpoint(options.base).metadata.get("backbone")
        if backbone is None:
            raise ParameterError("--suite needs --backbone: the base does not name it")
        calibration = suite_calibration(options.suite, backbone, tuple(experts), options.images)
    merged = merge_files(
        method.name,
        options.base,
        experts,
        options.out,
        params,
        entries=options.entries,
        frozen_extra=options.frozen_extra,
        backbone=options.backbone,
        dtype=options.dtype,
        calibration=calibration,
        overwrite=options.force,
        progress=partial(tqdm, desc=method.name, unit="tensor", leave=False, disable=None),
    )
    print(f"{options.out}: {method.title} of {', '.join(merged.tasks)}")
    print(f"storage: {merged.storage().formula()}")
