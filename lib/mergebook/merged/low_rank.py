"""A few singular directions per task and matrix."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from mergebook.errors import CheckpointError
from mergebook.merged.base import Group, MergedModel, group
from mergebook.storage import Sizes, Storage, closed_form, parts_of
from mergebook.weights import qkv
from mergebook.weights.checkpoint import Checkpoint
from mergebook.weights.experts import Experts
from mergebook.weights.layer import Layer
from mergebook.weights.spectral import triplets

SIDES = ("left", "values", "right")


@dataclass(frozen=True)
class Factors:
    """A matrix of every task: one origin, plus k singular triplets of the task's own.

    Attributes
    ----------
    origin : Tensor, shape [m, n]
        What the tasks share.
    left, values, right : Tensor, shapes [T, m, k], [T, k], [T, n, k]
        Singular vectors and values, task by task.
    """

    origin: Tensor
    left: Tensor
    values: Tensor
    right: Tensor

    def weights(self, row: int) -> Tensor:
        """The matrix ``[m, n]`` of one task, in the type of the origin; summed in float32."""
        wide = torch.promote_types(self.origin.dtype, torch.float32)
        left, values, right = (side[row].to(wide) for side in (self.left, self.values, self.right))
        return (self.origin.to(wide) + (left * values) @ right.mT).to(self.origin.dtype)

    def cast(self, dtype: torch.dtype, name: str) -> Factors:
        """The same rounded to an element type; CheckpointError if a value is beyond it."""
        parts = [part.to(dtype) for part in (self.origin, self.left, self.values, self.right)]
        if not all(part.isfinite().all() for part in parts):
            raise CheckpointError(f"tensor {name!r}: a singular value is beyond {dtype}")
        return Factors(*parts)


Compressed = Factors | Tensor | None


def factorise(origin: Tensor, vectors: Tensor, k: int) -> Factors | Tensor:
    r"""Keep k singular triplets of each task's vector, in the form that takes less room.

    Parameters
    ----------
    origin : Tensor, shape [m, n]
        What the vectors are added to.
    vectors : Tensor, shape [T, m, n]
        One matrix per task.
    k : int
        Rank, 0 to min(m, n).

    Returns
    -------
    Factors or Tensor of shape [T, m, n]
        Factors; or, where their k (m + n + 1) numbers would be as many as the matrix has, the
        weights ``origin + vectors`` themselves, with the vectors at rank k.
    """
    rows, columns = origin.shape
    if k == min(rows, columns):
        return origin + vectors
    kept = [triplets(vector, k) for vector in vectors]
    left, values, right = (torch.stack(parts).to(origin.dtype) for parts in zip(*kept, strict=True))
    if k * (rows + columns + 1) < rows * columns:
        return Factors(origin, left, values, right)
    return origin + (left * values[:, None]) @ right.mT


class LowRankModel(MergedModel):
    """For each task, some singular directions of each matrix, and the other tensors whole.

    Parameters
    ----------
    tasks : tuple of str
        The tasks.
    sizes : Sizes
        Numbers of trained and frozen entries.
    frozen : mapping of str to Tensor
        Tensors that no expert changed.
    own : mapping of task to mapping of str to Tensor
        Each task's own tensors, kept whole.
    factors : mapping of str to Factors
        All other tensors.
    shapes : mapping of str to tuple of int
        Names and shapes of the base, in its order: those of the tensors here may differ in how
        they arrange query, key and value.
    """

    kind = "low-rank"

    def __init__(
        self,
        tasks: tuple[str, ...],
        sizes: Sizes,
        frozen: Mapping[str, Tensor],
        own: Mapping[str, Mapping[str, Tensor]],
        factors: Mapping[str, Factors],
        shapes: Mapping[str, tuple[int, ...]],
    ):
        super().__init__(tasks, sizes)
        self.frozen = frozen
        self.own = own
        self.factors = factors
        self.shapes = shapes

    @classmethod
    def build(
        cls,
        experts: Experts,
        function: Callable[[Layer], Compressed],
        view: Experts | None = None,
    ) -> LowRankModel:
        """Compress layer by layer.

        Parameters
        ----------
        experts : Experts
            Base and experts.
        function : callable
            Maps a layer to its :class:`Factors`, or to the weights ``[T, *s]`` of all tasks, or to
            None if every task keeps its expert's.
        view : Experts, optional
            The same experts with query, key and value arranged otherwise: the layers to compress.

        Raises
        ------
        CheckpointError
            If a number is too large for the element type of the base's tensor.
        """
        view = view or experts
        own: dict[str, dict[str, Tensor]] = {task: {} for task in view.tasks}
        factors = {}
        for layer in view:
            compressed = function(layer)
            if isinstance(compressed, Factors):
                factors[layer.name] = compressed.cast(view.base[layer.name].dtype, layer.name)
                continue
            for row, task in enumerate(view.tasks):
                own[task][layer.name] = (
                    view.expert(task)[layer.name]
                    if compressed is None
                    else view.to_base(layer.name, compressed[row])
                )
        trained = set(view.trained)
        frozen = {key: view.base[key] for key in view.base if key not in trained}
        shapes = {key: tuple(experts.base[key].shape) for key in experts.base}
        return cls(view.tasks, view.sizes, frozen, own, factors, shapes)

    def state_dict(self, task: str | None = None) -> dict[str, Tensor]:
        r"""The task's own tensors, and :math:`origin + U \Sigma V^\top` of its factors."""
        self._check_task(task)
        row = self.tasks.index(task)
        weights = {**self.frozen, **self.own[task]}
        weights |= {key: factors.weights(row) for key, factors in self.factors.items()}
        like = {key: torch.empty(shape, device="meta") for key, shape in self.shapes.items()}
        return qkv.named_like(weights, like)

    def storage(self) -> Storage:
        """b(L + F + T (P' - L) + K) bits: origins, frozen, whole and factors, see below."""
        return low_rank_storage(self.sizes, len(self.tasks), self.factors)

    def stored(self) -> tuple[dict[str, Tensor], dict[str, str]]:
        """Frozen tensors, origins and factors, and each task's own tensors under its number."""
        tensors = group("frozen", self.frozen)
        for side in ("origin", *SIDES):
            tensors |= group(side, {key: getattr(f, side) for key, f in self.factors.items()})
        for row, own in enumerate(self.own.values()):
            tensors |= group(f"task{row}", own)
        return tensors, {"shapes": json.dumps(self.shapes)}

    @classmethod
    def restore(cls, file: Checkpoint, tasks: tuple[str, ...], sizes: Sizes) -> LowRankModel:
        """Read it back."""
        own = {task: Group(file, f"task{row}") for row, task in enumerate(tasks)}
        sides = [Group(file, side) for side in ("origin", *SIDES)]
        factors = {key: Factors(*(side[key] for side in sides)) for key in sides[0]}
        shapes = {key: tuple(shape) for key, shape in file.described("shapes").items()}
        return cls(tasks, sizes, Group(file, "frozen"), own, factors, shapes)


def low_rank_storage(sizes: Sizes, num_tasks: int, factors: Mapping[str, Factors]) -> Storage:
    """Origins once, factors and all other trained tensors per task: b(L + F + T(P'-L) + K).

    L counts the entries of the matrices that are kept as factors, K those of all tasks' factors:
    T k (m + n + 1) for a matrix ``[m, n]`` at rank k.
    """
    origins: Counter[int] = Counter()
    kept: Counter[int] = Counter()
    for part in factors.values():
        bits = 8 * part.origin.dtype.itemsize
        origins[bits] += part.origin.numel()
        kept[bits] += sum(getattr(part, side).numel() for side in SIDES)
    whole = {bits: count - origins[bits] for bits, count in sizes.trained.items()}
    parts = parts_of("origins of the factored matrices", origins)
    parts += parts_of("frozen weights", sizes.frozen) + parts_of("factors", kept)
    parts += parts_of("weights kept whole", whole, num_tasks)
    numbers = {"T": num_tasks, "L": sum(origins.values()), "K": sum(kept.values())}
    return closed_form(parts, "{b}(L+F+T(P'-L)+K)", sizes, **numbers)
