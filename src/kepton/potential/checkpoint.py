"""A checkpoint: one safetensors file from which a training or a walk goes on bit for bit."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from kepton.atoms.replacing import write_whole
from kepton.errors import InputError
from kepton.model_file import metadata


@dataclass(frozen=True)
class Checkpoint:
    """Where something long keeps what it needs to go on.

    Args:
        path: the file, None to keep nothing
        settings: by name, whatever tells it from another of its kind
        kind: "a training", "a run"
    """

    path: Path | None
    settings: dict[str, Any]
    kind: str = "a training"

    @property
    def _marks(self) -> dict[str, str]:
        return {
            name: hashlib.blake2b(repr(value).encode(), digest_size=16).hexdigest()
            for name, value in self.settings.items()
        }

    def write(self, arrays: Any, numbers: dict[str, Any]) -> None:
        """Keep a pytree of arrays, and plain numbers."""
        if self.path is None:
            return
        leaves = jax.tree.leaves(arrays)
        tensors = {f"{i}": np.array(leaf, order="C") for i, leaf in enumerate(leaves)}
        header = {"settings": json.dumps(self._marks), "numbers": json.dumps(numbers)}
        write_whole(self.path, save(tensors, header))

    def read(self, like: Any) -> tuple[Any, dict[str, Any]] | None:
        """What was kept, in a pytree of this shape; None where nothing was.

        Raises:
            InputError: the file is no checkpoint, or another's
        """
        if self.path is None or not self.path.is_file():
            return None
        try:
            data = self.path.read_bytes()
            header = metadata(data)
            tensors = load(data)
            marks = json.loads(header["settings"])
            if other := [name for name, mark in self._marks.items() if marks[name] != mark]:
                raise InputError(
                    f"{self.path} is the checkpoint of {self.kind} that differs in "
                    f"{', '.join(other)}; give the same again to go on with it, or remove the file "
                    "to begin anew."
                )
            leaves, structure = jax.tree.flatten(like)
            kept = [tensors[f"{i}"] for i in range(len(leaves))]
            return structure.unflatten(kept), json.loads(header["numbers"])
        except (SafetensorError, KeyError, ValueError, TypeError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(
                f"{self.path} is no checkpoint of {self.kind} ({error}); remove it to begin anew."
            ) from error

    def remove(self) -> None:
        """It is over."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)
