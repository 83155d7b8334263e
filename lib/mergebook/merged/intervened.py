"""One state dict for all tasks, and a few numbers per task that edit what the encoder computes."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from mergebook.merged.base import Group, MergedModel, group
from mergebook.storage import Sizes, Storage, closed_form, parts_of
from mergebook.weights.checkpoint import Checkpoint

if TYPE_CHECKING:
    from torch import nn

Numbers = Mapping[str, Tensor]
Activation = Literal["linear", "relu", "gelu"]
Function = Callable[[Tensor], Tensor]
Tokens = Literal["class", "patches", "all"]
TOKENS = {"class": slice(0, 1), "patches": slice(1, None), "all": slice(None)}


def _linear(x: Tensor) -> Tensor:
    return x


ACTIVATIONS: dict[str, Function] = {"linear": _linear, "relu": F.relu, "gelu": F.gelu}


def _project(h: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``[N, K, m] -> [N, K, r]``: a linear map ``[r, m]`` for all images, or ``[N, r, m]``."""
    y = h @ weight.mT
    return y if bias is None else y + bias.unsqueeze(-2)


def _surgery(h: Tensor, n: Numbers) -> Tensor:
    return h - _project(_project(h, n["down"]).relu(), n["up"])


def _noreft(h: Tensor, n: Numbers, activation: Function = _linear) -> Tensor:
    source = activation(_project(h, n["w1"], n["b1"]))
    return h + _project(source - _project(h, n["w2"], n.get("b2")), n["w2"].mT)


def _nodireft(h: Tensor, n: Numbers, activation: Function = _linear) -> Tensor:
    return h + _project(activation(_project(h, n["w1"], n["b1"])), n["w2"].mT)


def _loreft(h: Tensor, n: Numbers, activation: Function = _linear) -> Tensor:
    source = activation(_project(h, n["w"], n["b"]))
    return h + _project(source - _project(h, n["r"].mT), n["r"])


def _direft(h: Tensor, n: Numbers, activation: Function = _linear) -> Tensor:
    return h + _project(activation(_project(h, n["w"], n["b"])), n["r"])


def _consreft(h: Tensor, n: Numbers) -> Tensor:
    return h + _project(n["b"].unsqueeze(-2) - _project(h, n["r"].mT), n["r"])


def _lobireft(h: Tensor, n: Numbers) -> Tensor:
    return h + _project(n["b"].unsqueeze(-2), n["r"])


# What an intervention computes: representations [N, K, m] and its numbers -> the edited ones. Each
# number is one tensor for all images, or has a leading axis of N. Forms with a map that reads the
# input take an activation of it as well.
FORMS: dict[str, Callable[..., Tensor]] = {
    "surgery": _surgery,
    "noreft": _noreft,
    "nodireft": _nodireft,
    "loreft": _loreft,
    "direft": _direft,
    "consreft": _consreft,
    "lobireft": _lobireft,
}
READING = ("noreft", "nodireft", "loreft", "direft")


@dataclass(frozen=True)
class Site:
    """Where an intervention sits and what it computes.

    Attributes
    ----------
    place : str
        A place of :class:`mergebook.towers.tower.Tower`, such as ``"blocks.3.attention"``.
    form : str
        One of :data:`FORMS`.
    tokens : {"class", "patches", "all"} or int
        Which tokens it edits, in the same way; a number stands for one token, 0 being the class
        token. (Final features have one only.)
    start, stop : int
        The slice of coordinates that it reads and writes; the others pass unchanged.
    activation : {"linear", "relu", "gelu"}, default "linear"
        Of the map that reads the input, in one of the forms :data:`READING`.
    """

    place: str
    form: str
    tokens: Tokens | int
    start: int
    stop: int
    activation: Activation = "linear"

    def edit(self, x: Tensor, numbers: Numbers) -> Tensor:
        """Edited copy of representations ``[N, L, d]`` or features ``[N, D]``."""
        whole = x[:, None] if x.ndim == 2 else x
        number = self.tokens
        tokens = slice(number, number + 1) if isinstance(number, int) else TOKENS[number]
        options = {"activation": ACTIVATIONS[self.activation]} if self.form in READING else {}
        part = whole[:, tokens, self.start : self.stop]
        edited = FORMS[self.form](part, numbers, **options)
        if edited.shape != whole.shape:
            part, edited = edited, whole.clone()
            edited[:, tokens, self.start : self.stop] = part
        return edited[:, 0] if x.ndim == 2 else edited


class Editor:
    """The edits of all sites, as the `edit` hook of a :class:`mergebook.towers.tower.Tower`.

    Parameters
    ----------
    sites : sequence of Site
        Where.
    numbers : sequence of mapping of str to Tensor
        The numbers of each site.
    """

    def __init__(self, sites: Sequence[Site], numbers: Sequence[Numbers]):
        self.sites, self.numbers = tuple(sites), list(numbers)

    def __call__(self, place: str, x: Tensor) -> Tensor:
        """Apply the sites at a place, one after the other."""
        for site, numbers in zip(self.sites, self.numbers, strict=True):
            if site.place == place:
                x = site.edit(x, numbers)
        return x


class IntervenedModel(MergedModel):
    """One state dict for all tasks and, per task, small modules that edit representations.

    Parameters
    ----------
    tasks : tuple of str
        The T tasks.
    sizes : Sizes
        Numbers of trained and frozen entries.
    weights : mapping of str to Tensor
        The state dict.
    sites : sequence of Site
        Where the interventions sit.
    numbers : sequence of mapping of str to Tensor
        The numbers of each site, with a leading axis of T.
    """

    kind = "intervened"

    def __init__(
        self,
        tasks: tuple[str, ...],
        sizes: Sizes,
        weights: Mapping[str, Tensor],
        sites: Sequence[Site],
        numbers: Sequence[Numbers],
    ):
        super().__init__(tasks, sizes)
        self.weights = weights
        self.sites = tuple(sites)
        self.numbers = list(numbers)

    def state_dict(self, task: str | None = None) -> dict[str, Tensor]:
        """Weights for all tasks, without the interventions."""
        self._check_task(task, needed=False)
        return dict(self.weights)

    def encoder(self, task: str | None = None) -> nn.Module:
        """Image encoder with the merged weights and the task's interventions."""
        self._check_task(task)
        if self.backbone is None:  # the complaint of a model without interventions
            return super().encoder(task)
        from mergebook.towers.backbones import build_tower  # only here, and slow to import

        return build_tower(self.backbone, edit=self.editor(task)).encoder(fresh(self.weights))

    def editor(self, task: str) -> Editor:
        """The interventions of a task, as a hook of a :class:`mergebook.towers.tower.Tower`."""
        self._check_task(task)
        row = self.tasks.index(task)
        own = [fresh({k: v[row] for k, v in numbers.items()}) for numbers in self.numbers]
        return Editor(self.sites, own)

    def storage(self) -> Storage:
        """b(P' + F) + 32 T M bits, M the numbers of a task's interventions."""
        return intervened_storage(self.sizes, len(self.tasks), self.numbers)

    def stored(self) -> tuple[dict[str, Tensor], dict[str, str]]:
        """The state dict, and the numbers of each site under its place in the list."""
        tensors = group("weights", self.weights)
        for index, numbers in enumerate(self.numbers):
            tensors |= group(f"site{index}", numbers)
        return tensors, {"sites": json.dumps([astuple(site) for site in self.sites])}

    @classmethod
    def restore(cls, file: Checkpoint, tasks: tuple[str, ...], sizes: Sizes) -> IntervenedModel:
        """Read it back."""
        sites = [Site(*values) for values in file.described("sites")]
        numbers = [dict(Group(file, f"site{index}")) for index in range(len(sites))]
        return cls(tasks, sizes, Group(file, "weights"), sites, numbers)


def fresh(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies as float32, the type of the images; whole numbers as they are.

    Also of float32: tensors of a file lie in memory as the file has them, and the last bit of a
    matrix product can depend on how its operands are aligned.
    """
    return {
        key: value.to(torch.float32, copy=True) if value.is_floating_point() else value.clone()
        for key, value in tensors.items()
    }


def intervened_storage(sizes: Sizes, num_tasks: int, numbers: Sequence[Numbers]) -> Storage:
    """One model for all tasks and M numbers per task: b(P' + F) + 32 T M."""
    parts = parts_of("trained weights", sizes.trained) + parts_of("frozen weights", sizes.frozen)
    widths: Counter[int] = Counter()
    for values in numbers:
        for value in values.values():
            widths[8 * value.dtype.itemsize] += value.numel()
    parts += parts_of("interventions", widths)
    each = sum(widths.values()) // num_tasks
    return closed_form(parts, "{b}(P'+F) + 32TM", sizes, T=num_tasks, M=each)
