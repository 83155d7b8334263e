"""Weights that depend on the image: a model per task, and a router that mixes them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mergebook.errors import CheckpointError, MethodError
from mergebook.merged.base import Group, MergedModel, group
from mergebook.merged.intervened import fresh
from mergebook.merged.low_rank import LowRankModel
from mergebook.merged.reading import read_sizes
from mergebook.storage import Sizes, Storage, parts_of
from mergebook.weights.checkpoint import Checkpoint
from mergebook.weights.layer import sum_tasks

if TYPE_CHECKING:
    from torch import nn

    from mergebook.towers.mixed import Parts


class RoutedModel(MergedModel):
    r"""A solution per task, mixed for each image: :math:`\theta(x) = o + \sum_t w_t(x) v_t`.

    Here :math:`v_t = \hat\theta_t - o`, with :math:`\hat\theta_t` what another kind of solution
    stores for task t and o an origin that all tasks share; a router gives the weights w. The task
    of an image is not told: :meth:`encoder` is the same module for every task (a task still
    chooses its head).

    Parameters
    ----------
    sizes : Sizes
        Numbers of trained and frozen entries.
    inner : MergedModel
        The solution per task, of any kind.
    router : str
        Name of the router, one of :data:`mergebook.towers.routers.ROUTERS`.
    settings : mapping of str to plain values
        What the router needs to know.
    numbers : mapping of str to Tensor
        What the router has learned or looks up.
    origin : mapping of str to Tensor, optional
        Tensors of the origin; any that is not here is the one that all tasks share in `inner`.
    static : float, optional
        If given, there is a model for the case that no image has been seen:
        :math:`o + c \sum_t v_t` with this factor c.
    """

    kind = "routed"
    told = "guessed"

    def __init__(
        self,
        sizes: Sizes,
        inner: MergedModel,
        router: str,
        settings: Mapping[str, Any],
        numbers: Mapping[str, Tensor],
        origin: Mapping[str, Tensor] | None = None,
        static: float | None = None,
    ):
        super().__init__(inner.tasks, sizes)
        self.inner = inner
        self.router = router
        self.settings = dict(settings)
        self.numbers = numbers
        self.own_origin = {} if origin is None else origin
        self.static = static
        self._encoder: nn.Module | None = None

    def origin(self) -> dict[str, Tensor]:
        """The weights o."""
        return {**_common(self.inner), **self.own_origin}

    def vectors(self) -> dict[str, Tensor]:
        """The vectors v, ``[T, *s]`` of each tensor in which a task differs from the origin.

        Held for all tasks at once, as float32 (float64 where the tensors are).
        """
        origin, rows = self.origin(), {}
        for row, task in enumerate(self.tasks):
            for key, value in self.inner.state_dict(task).items():
                wide = torch.promote_types(value.dtype, torch.float32)
                if value.is_floating_point() and not torch.equal(value, origin[key]):
                    empty = torch.zeros(len(self.tasks), *value.shape, dtype=wide)
                    rows.setdefault(key, empty)[row] = value.to(wide) - origin[key].to(wide)
        return rows

    def state_dict(self, task: str | None = None) -> dict[str, Tensor]:
        """Weights for the case that no image has been seen, where there are such.

        Raises
        ------
        MethodError
            If the weights only exist together with an image: use :meth:`encoder`.
        """
        self._check_task(task, needed=False)
        if self.static is None:
            raise MethodError("the weights depend on the image: use encoder()")
        weights, vectors = self.origin(), self.vectors()
        for key, rows in vectors.items():
            merged = weights[key].to(rows.dtype) + self.static * sum_tasks(rows)
            weights[key] = merged.to(weights[key].dtype)
        return weights

    def encoder(self, task: str | None = None) -> nn.Module:
        """Image encoder that chooses its weights by itself; the same module for every task.

        It holds the vectors of all tasks, and is made once.
        """
        self._check_task(task, needed=False)
        if self.backbone is None:
            raise MethodError("the backbone is not known: name it in the base's metadata")
        if self._encoder is None:
            from mergebook.towers.routers import build_encoder  # slow to import

            self._encoder = build_encoder(self.router, self.parts())
        return self._encoder

    def parts(self) -> Parts:
        """What its encoder is made of: copies of the weights, for all tasks at once."""
        from mergebook.towers.mixed import Parts  # slow to import

        vectors, numbers = fresh(self.vectors()), fresh(self.numbers)
        return Parts(
            self.backbone, fresh(self.origin()), vectors, self.settings, numbers, len(self.tasks)
        )

    def storage(self) -> Storage:
        """What the solution per task takes, and own tensors of the origin, and the router."""
        return routed_storage(self)

    def stored(self) -> tuple[dict[str, Tensor], dict[str, str]]:
        """What the solution per task stores, with the origin and the router."""
        tensors, header = self.inner.stored()
        tensors |= group("router-origin", self.own_origin) | group("router", self.numbers)
        facts = {
            "router": self.router,
            "settings": self.settings,
            "static": self.static,
            "inner": self.inner.kind,
            "trained": self.inner.sizes.trained,
            "frozen": self.inner.sizes.frozen,
        }
        return tensors, header | {"routed": json.dumps(facts)}

    @classmethod
    def restore(cls, file: Checkpoint, tasks: tuple[str, ...], sizes: Sizes) -> RoutedModel:
        """Read it back."""
        facts = file.described("routed")
        own = read_sizes(file, facts, "routed")
        if facts["inner"] == cls.kind:
            raise CheckpointError(f"{file.path}: metadata field 'routed' names itself")
        return cls(
            sizes,
            MergedModel.kinds[facts["inner"]].restore(file, tasks, own),
            facts["router"],
            facts["settings"],
            Group(file, "router"),
            Group(file, "router-origin"),
            facts["static"],
        )


def _common(inner: MergedModel) -> dict[str, Tensor]:
    """The tensors that all tasks of a solution are built on."""
    if isinstance(inner, LowRankModel):
        return {**inner.frozen, **{key: part.origin for key, part in inner.factors.items()}}
    return dict(inner.base if hasattr(inner, "base") else inner.frozen)


def routed_storage(merged: RoutedModel) -> Storage:
    """Bits of the solution per task, and of O own numbers of the origin and R of the router.

    In the formula P' and F are those of the solution per task.
    """
    inner = merged.inner.storage()
    parts, expression, symbols = list(inner.parts), inner.expression, dict(inner.symbols)
    for letter, name, tensors, width in (
        ("O", "origin", merged.own_origin, merged.sizes.symbol),
        ("R", "router", merged.numbers, "32"),
    ):
        widths: Counter[int] = Counter()
        for tensor in tensors.values():
            widths[8 * tensor.dtype.itemsize] += tensor.numel()
        if widths:
            parts += parts_of(name, widths)
            expression += f" + {width}{letter}"
            symbols[letter] = sum(widths.values())
    return Storage(tuple(parts), expression, symbols)
