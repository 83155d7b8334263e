"""The manifest of a folder of experts: what they are, and the hash by which each is known."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tqdm import tqdm

from mergebook.errors import CheckpointError
from mergebook.weights import Checkpoint
from mergebook.writing import whole

MANIFEST = "manifest.json"


class Manifest:
    """The hashes of a folder's checkpoints, and which of them still have theirs.

    A checkpoint that the manifest does not list, because whoever trained it was interrupted before
    it was written, is taken as it is.

    Parameters
    ----------
    folder : Path
        The folder; it need not exist yet.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._found: dict[str, str] = {}  # the hashes of files as they are

    def path(self, name: str) -> Path:
        """File of a checkpoint."""
        return self.folder / f"{name}.safetensors"

    def holds(self, name: str, identity: Mapping[str, str]) -> bool:
        """Whether a checkpoint is there and is what it should be.

        One that is not what the manifest says was damaged or replaced; that is said on standard
        error.

        Parameters
        ----------
        name : str
            Of the checkpoint.
        identity : mapping of str to str
            Metadata that it must carry.
        """
        path = self.path(name)
        if not path.is_file():
            return False
        try:
            file = Checkpoint(path)
            found = file.sha256()
            known = all(file.metadata.get(key) == value for key, value in identity.items())
        except CheckpointError:
            found, known = "unreadable", False
        if self._listed().get(name, found) != found or found == "unreadable":
            text = f"{path} is not the file that {MANIFEST} lists: damaged, or replaced; made anew"
            tqdm.write(text, file=sys.stderr)
            return False
        self._found[name] = found
        return known

    def write(self, facts: Mapping[str, Any], made: Iterable[str]) -> None:
        """List all checkpoints of the folder, those that were made just now with new hashes.

        Parameters
        ----------
        facts : mapping
            What the experts have in common.
        made : iterable of str
            Names of the checkpoints that are new.
        """
        listed = self._listed() | self._found
        for name in made:
            listed.pop(name, None)
        names = sorted(path.stem for path in self.folder.glob("*.safetensors"))
        hashes = {name: listed.get(name) or Checkpoint(self.path(name)).sha256() for name in names}
        text = json.dumps({**facts, "sha256": hashes}, indent=2) + "\n"
        path = self.folder / MANIFEST
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            with whole(path) as partial:
                partial.write_text(text, encoding="utf-8")

    def _listed(self) -> dict[str, str]:
        """Name -> hash, as the manifest has it; nothing if it cannot be read."""
        try:
            hashes = json.loads((self.folder / MANIFEST).read_text(encoding="utf-8"))["sha256"]
            return {str(name): str(digest) for name, digest in hashes.items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return {}
