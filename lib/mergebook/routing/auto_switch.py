"""Auto-Switch: nearest neighbours among a few images choose the task switches [qi2025tswitch]."""

from __future__ import annotations

from typing import Annotated, Literal

import torch

from mergebook.calibration import Calibration
from mergebook.compression.t_switch import Rule, t_switch
from mergebook.errors import ParameterError
from mergebook.merged import RoutedModel
from mergebook.registry import Range, model_method
from mergebook.registry.types import NumImages
from mergebook.towers.routers import build_encoder, extractor_weights
from mergebook.weights import Experts

CHUNK = 256  # images per forward pass


@model_method(
    "auto_switch",
    title="Auto-Switch",
    paper="qi2025tswitch",
    family="routing",
    needs=("images",),
)
def auto_switch(
    experts: Experts,
    calibration: Calibration,
    *,
    drop: Annotated[float, Range(0, 1)] = 0.6,
    knob: Literal["tensor", "task"] = "tensor",
    rule: Rule = "exact",
    group_size: Annotated[int, Range(1, 64)] = 4,
    neighbours: Annotated[int, Range(1)] = 10,
    num_images: NumImages = 100,
    extractor: Literal["base", "average"] = "base",
    route: Literal["image", "batch"] = "image",
) -> RoutedModel:
    r"""Mix the switched task vectors by the tasks of an image's nearest neighbours.

    A query set holds the features of a few images of each task, labelled with the task only. For
    an image, :math:`w_t(x)` is the share of task t among its k nearest queries (Euclidean distance
    of features that are not normalised), and the image is encoded with
    :math:`\theta_0 + \sum_t w_t(x) \hat\tau_t`; the :math:`\hat\tau_t` are those of
    :data:`mergebook.compression.t_switch.t_switch`.
    Storage that of T-Switch plus 32 R bits, R = Q D numbers of the query set.

    Parameters
    ----------
    drop : float, default 0.6
        Discarded share, see T-Switch.
    knob : {"tensor", "task"}, default "tensor"
        See T-Switch.
    rule : {"exact", "released"}, default "exact"
        See T-Switch.
    group_size : int, default 4
        See T-Switch.
    neighbours : int, default 10
        How many of the nearest queries vote: 10 for images, 5 for RoBERTa as released.
    num_images : int, default 100
        The first so many images of each task are the query set (all, where there are fewer).
    extractor : {"base", "average"}, default "base"
        Model of the features: the pre-trained one, as released; or the average of the switched
        models, :math:`\theta_0 + \frac1T \sum_t \hat\tau_t`.
    route : {"image", "batch"}, default "image"
        Each image has its own weights; or, as released, the mean over the images that are encoded
        together.

    Raises
    ------
    ParameterError
        If the query set has fewer images than there are neighbours.

    Notes
    -----
    Route "batch" depends on which images come together: a batch of one task's images outvotes the
    mistakes on single ones, so that accuracy is higher than the router deserves. Among equally
    distant queries the order of the set decides; scikit-learn, which the released code uses,
    leaves that open. That the paper's text has the weight-averaged model as extractor rests on
    secondary sources; it is here the average of what is stored, which takes no further room.
    """
    base = {"drop": drop, "knob": knob, "rule": rule, "group_size": group_size}
    switched = t_switch(experts, **base)
    few = calibration.first(num_images)
    counts = [len(few.inputs[task]) for task in experts.tasks]
    if neighbours > sum(counts):
        raise ParameterError(
            f"auto_switch: neighbours={neighbours}, but the query set has {sum(counts)} images"
        )
    facts = {"counts": counts, "neighbours": neighbours, "extractor": extractor, "route": route}
    merged = RoutedModel(experts.sizes, switched, "neighbours", facts, {})
    merged.backbone = calibration.backbone
    encoder = build_encoder(merged.router, merged.parts())
    weights = extractor_weights(extractor, len(experts.tasks))
    with torch.no_grad():
        features = [
            encoder.features(chunk, weights)
            for task in experts.tasks
            for chunk in few.inputs[task].split(CHUNK)
        ]
    merged.numbers = {"queries": torch.cat(features)}
    return merged
