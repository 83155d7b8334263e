"""`mergebook merge`: checkpoint files in, one file out."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mergebook.cli.arguments import add_settings, pairs, whole
from mergebook.errors import ParameterError, shown

if TYPE_CHECKING:
    from mergebook.registry import Method

MOST_IMAGES = 10_000  # of each task; the drawn tasks have no end
MOST_FROZEN = 10**15  # entries: no model has as many


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
        type=whole(0, MOST_FROZEN),
        default=0,
        metavar="N",
        help="frozen entries that are not in the files, such as a text tower",
    )
    option("--dtype", help="type of the result's weights (default: the base's)")
    option(
        "--from-base",
        action="append",
        default=[],
        metavar="TENSOR",
        help="a tensor that is taken from the base, whatever the experts have; * stands for any "
        "characters; repeat for more",
    )
    option("--backbone", metavar="NAME", help="architecture (default: the base's own)")
    option("--suite", help="where the tasks' images are, for a method that needs some")
    option(
        "--images",
        type=whole(1, MOST_IMAGES),
        default=256,
        metavar="N",
        help="images per task of that suite (default: 256)",
    )
    option(
        "--resume",
        type=Path,
        metavar="FOLDER",
        help="where the state of a method that learns is kept, and what it goes on from",
    )
    command.set_defaults(command=_merge)


def _merge(options: argparse.Namespace) -> str:
    texts = pairs("--set", "NAME=VALUE", options.set)
    experts = pairs("--expert", "TASK=FILE", options.expert)
    if options.backbone is not None and not options.backbone.isprintable():
        raise ParameterError(f"--backbone: the name {shown(options.backbone)} cannot be printed")

    from tqdm import tqdm

    import mergebook as mb
    from mergebook.cli.files import give_memory_back, merge_files, suite_calibration
    from mergebook.learning import resumable
    from mergebook.weights import Checkpoint

    method = mb.get_method(options.method)
    params = method.check(**_values(method, texts))
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
    with resumable(options.resume) if options.resume else nullcontext():
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
            from_base=options.from_base,
            calibration=calibration,
            overwrite=options.force,
            progress=partial(tqdm, desc=method.name, unit="tensor", leave=False, disable=None),
        )
    lines = [
        f"{options.out}: {method.title} of {', '.join(merged.tasks)}",
        f"storage: {merged.storage().formula()}",
    ]
    if kept := merged.recipe.get("from_base"):
        lines.append(f"as in the base: {len(kept)} tensors, {kept[0]}{' ...' * (len(kept) > 1)}")
    return "\n".join(lines)


def _values(method: Method, texts: Mapping[str, str]) -> dict[str, Any]:
    """What the texts stand for; those of unknown parameters as they are."""
    known = {parameter.name: parameter for parameter in method.parameters}
    values: dict[str, Any] = dict(texts)
    for name in texts.keys() & known.keys():
        try:
            values[name] = known[name].values.parse(texts[name])
        except ValueError as problem:
            raise ParameterError(
                f"{method.name}: {name}={problem}; parameters of {method.name}: {', '.join(known)}"
            ) from None
    return values
