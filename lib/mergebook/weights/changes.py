"""Which tensors some expert changed: found out once, for all arrangements of the same experts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from mergebook.weights.qkv import Arranged, Piece


class Changes:
    """What is known so far, piece by piece, so that arrangements of the same experts share it.

    To compare experts with their base is to read them whole. So that no pass over them is spent
    on it alone, they are compared while they are read for something else.
    """

    def __init__(self) -> None:
        self._found: dict[Piece, bool] = {}

    def of(self, base: Mapping[str, Tensor], key: str) -> bool | None:
        """Whether an expert changed a tensor of a base; None if that is not known yet."""
        return _any(self._known(*piece) for piece in pieces(base, key))

    def _known(self, name: str, third: int | None) -> bool | None:
        whole = self._found.get((name, None))
        if third is not None:
            return False if whole is False else self._found.get((name, third))
        if whole is not None:
            return whole
        return _any(self._found.get((name, number)) for number in range(3))

    def note(self, base: Mapping[str, Tensor], key: str, changed: Iterable[Piece]) -> None:
        """Keep which pieces of a tensor were changed, after all experts were compared."""
        self._found |= dict.fromkeys(pieces(base, key), False) | dict.fromkeys(changed, True)


def pieces(base: Mapping[str, Tensor], key: str) -> tuple[Piece, ...]:
    """What a tensor of a base is made of, in order."""
    return base.pieces(key) if isinstance(base, Arranged) else ((key, None),)


def differing(base: Mapping[str, Tensor], key: str, own: Tensor, other: Tensor) -> set[Piece]:
    """The pieces of a tensor in which an expert's differs from the base's."""
    rows = base.rows(key) if isinstance(base, Arranged) else None
    if rows is None:
        return set() if torch.equal(own, other) else set(pieces(base, key))
    parts = zip(pieces(base, key), own.split(rows), other.split(rows), strict=True)
    return {piece for piece, mine, theirs in parts if not torch.equal(mine, theirs)}


def _any(known: Iterable[bool | None]) -> bool | None:
    """Whether one is true, as far as that is known."""
    known = set(known)
    return True if True in known else None if None in known else False
