"""An input file of a merge, read in the type and with the tensors that were asked for."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from fnmatch import fnmatchcase

import torch
from torch import Tensor

from mergebook.errors import CheckpointError, ParameterError, shown
from mergebook.registry.precision import type_named, widest
from mergebook.weights import Checkpoint


class Source(Checkpoint):
    """A checkpoint that can be read in a wider type, and with some tensors of another one.

    Attributes
    ----------
    wide : torch.dtype or None
        A type that holds the values of all floating-point tensors, in which they are read.
    """

    def __init__(self, path: str | os.PathLike[str]):
        super().__init__(path)
        self.wide: torch.dtype | None = None
        self._base: Checkpoint | None = None
        self._kept: frozenset[str] = frozenset()

    def take_from(self, base: Checkpoint, names: Collection[str]) -> None:
        """Give the base's tensors of these names in place of the file's own."""
        self._base, self._kept = base, frozenset(names)

    def shape(self, key: str) -> tuple[int, ...]:
        """Shape of a tensor."""
        return self._base.shape(key) if key in self._kept else super().shape(key)

    def stored_dtype(self, key: str) -> torch.dtype:
        """Element type of a tensor in the file."""
        return self._base.dtype(key) if key in self._kept else super().dtype(key)

    def dtype(self, key: str) -> torch.dtype:
        """Element type of a tensor, as it is read."""
        stored = self.stored_dtype(key)
        return self.wide if self.wide and stored.is_floating_point else stored

    def __getitem__(self, key: str) -> Tensor:
        if key in self._kept:
            return self._base[key]
        return super().__getitem__(key).to(self.dtype(key))

    def __iter__(self) -> Iterator[str]:
        yield from (key for key in super().__iter__() if key not in self._kept)
        yield from self._kept

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __contains__(self, key: object) -> bool:
        return key in self._kept or key in self._header

    def __reduce__(self):
        return _reopened, (self.path, self.wide, self._base, self._kept)


def _reopened(path, wide, base, kept) -> Source:
    source = Source(path)
    source.wide = wide
    source.take_from(base, kept)
    return source


def read_in_a_type_for(dtype: str | None, sources: Sequence[Source]) -> None:
    """Have the sources read in a type in which a result of the type that was asked for can be made.

    Parameters
    ----------
    dtype : str or None
        One of :data:`~mergebook.registry.precision.RESULTS`; None for that of the base, which the
        experts must have as well.
    sources : sequence of Source
        The base and the experts.

    Raises
    ------
    ParameterError
        If there is no such type.
    CheckpointError
        Without a type, if an expert's differs from the base's; names one that holds both.
    """
    if dtype is None:
        _check_same_types(*sources)
        return
    kinds = [source.dtype(key) for source in sources for key in source]
    wide = widest([type_named(dtype), torch.float32, *kinds])
    for source in sources:
        source.wide = wide


def _check_same_types(base: Source, *experts: Source) -> None:
    for expert in experts:
        for key in base.keys() & expert.keys():
            ours, theirs = base.dtype(key), expert.dtype(key)
            if ours != theirs and ours.is_floating_point and theirs.is_floating_point:
                names = [str(each).removeprefix("torch.") for each in (theirs, ours)]
                wide = str(widest([ours, theirs])).removeprefix("torch.")
                raise CheckpointError(
                    f"{expert.path}: tensor {key!r} is {names[0]}, but {names[1]} in the base "
                    f"({base.path}); --dtype {wide} (in Python, dtype={wide!r}) merges them, and "
                    f"makes the result {wide}"
                )


def keep_of_base(patterns: Sequence[str], base: Source, experts: Sequence[Source]) -> list[str]:
    """Have the experts show the base's tensors where a name matches one of the patterns.

    Parameters
    ----------
    patterns : sequence of str
        Names of tensors; ``*`` stands for any characters.
    base : Source
        The base.
    experts : sequence of Source
        The experts.

    Returns
    -------
    list of str
        The names of the tensors, sorted.

    Raises
    ------
    ParameterError
        If a pattern matches no tensor of the base.
    """
    kept: set[str] = set()
    for pattern in patterns:
        found = {key for key in base if fnmatchcase(key, pattern)}
        if not found:
            raise ParameterError(
                f"--from-base: no tensor of {base.path} is called {shown(pattern)}"
            )
        kept |= found
    for expert in experts:
        expert.take_from(base, kept)
    return sorted(kept)
