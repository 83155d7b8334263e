"""Storage: how many bits a solution needs to serve all its tasks.

The closed formulas reproduce the storage columns of the TALL-masks paper [wang2024localizing]:
with T tasks, P' trained and F frozen entries of b bits (32 in the paper, in general the width of
the base's own entries), and masks of one bit per trained entry and task.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

Widths = Mapping[int, int]


@dataclass(frozen=True)
class Part:
    """A group of stored numbers of equal width.

    Attributes
    ----------
    name : str
        What they are.
    count : int
        How many there are.
    bits : int
        Bits of each.
    """

    name: str
    count: int
    bits: int


@dataclass(frozen=True)
class Sizes:
    """Numbers of trained and frozen entries of a model.

    Attributes
    ----------
    trained, frozen : mapping of int to int
        Width in bits -> number of entries.
    """

    trained: Widths
    frozen: Widths

    @property
    def num_trained(self) -> int:
        """P', the trained entries."""
        return sum(self.trained.values())

    @property
    def num_frozen(self) -> int:
        """F, the frozen entries."""
        return sum(self.frozen.values())

    @property
    def symbol(self) -> str:
        """The width if all entries share one, else the letter b."""
        widths = {*self.trained, *self.frozen}
        return str(*widths) if len(widths) == 1 else "b"


@dataclass(frozen=True)
class Storage:
    """Bits needed to serve all tasks, part by part.

    Attributes
    ----------
    parts : tuple of Part
        What is stored.
    expression : str
        The closed formula in T, P', F (and K, the kept entries of all sparse vectors).
    symbols : mapping of str to int
        Values of the letters in the expression.
    """

    parts: tuple[Part, ...]
    expression: str
    symbols: Mapping[str, int]

    @property
    def bits(self) -> int:
        """Total, in bits."""
        return sum(part.count * part.bits for part in self.parts)

    @property
    def gigabits(self) -> float:
        """Total, in units of 1e9 bits."""
        return self.bits / 1e9

    def formula(self) -> str:
        """The closed formula, its value in bits, and the numbers that went in."""
        numbers = ", ".join(f"{letter} = {value:,}" for letter, value in self.symbols.items())
        return f"{self.expression} = {self.bits:,} bits with {numbers}"


def parts_of(name: str, widths: Widths, times: int = 1) -> list[Part]:
    """Parts of a group of numbers of several widths, each stored `times` times."""
    return [Part(name, times * count, bits) for bits, count in sorted(widths.items()) if count]


def closed_form(parts: list[Part], expression: str, sizes: Sizes, **symbols: int) -> Storage:
    """Storage with its formula: ``{b}`` in the expression becomes the width of the entries."""
    letters = {"P'": sizes.num_trained, "F": sizes.num_frozen, **symbols}
    return Storage(tuple(parts), expression.format(b=sizes.symbol), letters)


def shared_storage(sizes: Sizes) -> Storage:
    """One model for all tasks: b(P' + F)."""
    parts = parts_of("trained weights", sizes.trained) + parts_of("frozen weights", sizes.frozen)
    return closed_form(parts, "{b}(P'+F)", sizes)


def experts_storage(sizes: Sizes, num_tasks: int) -> Storage:
    """One model per task, frozen entries once: b(T P' + F)."""
    parts = parts_of("weights of the experts", sizes.trained, num_tasks)
    parts += parts_of("frozen weights", sizes.frozen)
    return closed_form(parts, "{b}(TP'+F)", sizes, T=num_tasks)


def masked_storage(sizes: Sizes, num_tasks: int) -> Storage:
    """Base, one merged vector, and a mask per task: b(2P' + F) + T P'."""
    parts = parts_of("trained weights of the base", sizes.trained)
    parts += parts_of("frozen weights", sizes.frozen) + parts_of("merged vector", sizes.trained)
    parts += [Part("masks", num_tasks * sizes.num_trained, 1)]
    return closed_form(parts, "{b}(2P'+F) + TP'", sizes, T=num_tasks)


def sparse_storage(sizes: Sizes, num_tasks: int, kept: Widths) -> Storage:
    """Base and a sparse vector per task, its places as a bitmap: b(P' + F + K) + T P'.

    A bitmap is smaller than a list of 32-bit positions as soon as 1 entry in 32 is kept.
    """
    parts = parts_of("trained weights of the base", sizes.trained)
    parts += parts_of("frozen weights", sizes.frozen) + parts_of("kept entries", kept)
    parts += [Part("masks", num_tasks * sizes.num_trained, 1)]
    total = sum(kept.values())
    return closed_form(parts, "{b}(P'+F+K) + TP'", sizes, T=num_tasks, K=total)
