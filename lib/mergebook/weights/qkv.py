"""Query, key and value as one stacked matrix or as three: the same weights, other matrices.

A method that decomposes matrices gives another result on open_clip's stacked `in_proj_weight`
``[3d, d]`` than on Hugging Face's separate `q_proj`, `k_proj` and `v_proj` ``[d, d]``. Here either
sort of checkpoint is read either way. A part of a stacked tensor is called
``<name>[q]``, ``<name>[k]``, ``<name>[v]``; three stacked tensors are called
``<prefix>[qkv]_proj.weight``, those of BERT ``<prefix>[qkv].weight``. Biases stay as they are: no
method decomposes them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor

Qkv = Literal["fused", "split"]
STACKED = "in_proj_weight"
# Names of three separate tensors: what comes before, which of the three, what comes after.
SEPARATE = re.compile(r"(.*?)(?:([qkv])(_proj\.weight)|(query|key|value)(\.weight))")
Piece = tuple[str, int | None]  # a tensor as it is stored, or one third of the rows of one


class Arranged(Mapping[str, Tensor]):
    """A state dict or checkpoint with query, key and value arranged as asked.

    Parameters
    ----------
    source : mapping of str to Tensor
        The weights as they are stored. Read only when a tensor is.
    qkv : {"fused", "split"}
        The arrangement to show.
    """

    def __init__(self, source: Mapping[str, Tensor], qkv: Qkv):
        self.source, self.qkv = source, qkv
        self.path = getattr(source, "path", None)
        self.metadata: Mapping[str, Any] = getattr(source, "metadata", {})

    @cached_property
    def _parts(self) -> dict[str, tuple[tuple[str, ...], int | None]]:
        """Name here -> names in the source and, for a part, which third of the rows it is."""
        parts: dict[str, tuple[tuple[str, ...], int | None]] = {}
        for key in self.source:
            trio, stack, _ = _separate(key) or ((), "", 0)
            if self.qkv == "split" and key.endswith(STACKED) and self._is_stack(key):
                parts |= {f"{key}[{x}]": ((key,), number) for number, x in enumerate("qkv")}
            elif self.qkv == "fused" and trio and self._are_alike(trio):
                parts[stack] = (trio, None)
            else:
                parts[key] = ((key,), None)
        return parts

    def _is_stack(self, key: str) -> bool:
        shape = shape_of(self.source, key)
        return len(shape) == 2 and shape[0] % 3 == 0

    def _are_alike(self, trio: tuple[str, ...]) -> bool:
        """All three are there, matrices of one width and type."""
        if not all(key in self.source for key in trio):
            return False
        facts = {
            (len(shape := shape_of(self.source, key)), shape[-1:], _dtype(self.source, key))
            for key in trio
        }
        return len(facts) == 1 and facts.pop()[0] == 2

    def __getitem__(self, key: str) -> Tensor:
        names, third = self._parts[key]
        tensors = [self.source[name] for name in names]
        if third is not None:
            return tensors[0].tensor_split(3)[third]
        return tensors[0] if len(tensors) == 1 else torch.cat(tensors)

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)

    def pieces(self, key: str) -> tuple[Piece, ...]:
        """What a tensor is made of: three stored ones, one, or a third of one."""
        names, third = self._parts[key]
        return tuple((name, third) for name in names)

    def rows(self, key: str) -> list[int] | None:
        """Rows of each of the three stored tensors that a tensor is made of; None for others."""
        names, _ = self._parts[key]
        return [shape_of(self.source, name)[0] for name in names] if len(names) > 1 else None

    def shape(self, key: str) -> tuple[int, ...]:
        """Shape of a tensor."""
        names, third = self._parts[key]
        first = shape_of(self.source, names[0])
        if third is not None:
            return (first[0] // 3, *first[1:])
        if len(names) == 1:
            return first
        return (sum(self.rows(key)), *first[1:])

    def dtype(self, key: str) -> torch.dtype:
        """Element type of a tensor."""
        return _dtype(self.source, self._parts[key][0][0])


def named_like(weights: Mapping[str, Tensor], like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Undo an arrangement: the same weights under the names that `like` has.

    Parameters
    ----------
    weights : mapping of str to Tensor
        State dict with the names of an :class:`Arranged` view of `like` (or of `like` itself).
    like : mapping of str to Tensor
        State dict or checkpoint with the names wanted.
    """
    named = {}
    for key in like:
        if key in weights:
            named[key] = weights[key]
        elif f"{key}[q]" in weights:
            named[key] = torch.cat([weights[f"{key}[{x}]"] for x in "qkv"])
        else:
            trio, stack, number = _separate(key)
            rows = [shape_of(like, name)[0] for name in trio]
            named[key] = weights[stack].split(rows)[number]
    return named


def stack_of_query(key: str) -> str | None:
    """Name of the stack of three separate tensors of which this is the first; None for others."""
    found = _separate(key)
    return found[1] if found and found[2] == 0 else None


def _separate(key: str) -> tuple[tuple[str, ...], str, int] | None:
    """Names of all three, of their stack, and which of them a separate tensor is."""
    match = SEPARATE.fullmatch(key)
    if match is None:
        return None
    prefix, own, end = match[1], match[2] or match[4], match[3] or match[5]
    names = ("q", "k", "v") if match[2] else ("query", "key", "value")
    return tuple(f"{prefix}{x}{end}" for x in names), f"{prefix}[qkv]{end}", names.index(own)


def shape_of(source: Mapping[str, Tensor], key: str) -> tuple[int, ...]:
    """Shape of a tensor; of a file, without reading it."""
    return tuple(source.shape(key) if hasattr(source, "shape") else source[key].shape)


def _dtype(source: Mapping[str, Tensor], key: str) -> torch.dtype:
    return source.dtype(key) if hasattr(source, "dtype") else source[key].dtype
