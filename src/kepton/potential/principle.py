"""A trained potential as a principle, so that another model can learn from it."""

import hashlib
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import kepton
from kepton.atoms.frames import Frames, Label
from kepton.elt import Failure
from kepton.errors import InputError
from kepton.potential.ensemble import Ensemble, check_elements, predict
from kepton.potential.file import load_ensemble, read_model


@dataclass(frozen=True)
class TrainedPotential:
    """Energy, forces and virial of a potential in a file: the mean of its members, in float64.

    A model learnt from it is a distillation: labels cost milliseconds.

    Args:    model: a `.kepton`, `.dp` or `.yaml` file
    Raises:  InputError: no such file, or not a model file
    """

    model: Path
    sha256: str = field(init=False)
    """Of the file when the principle was made"""

    def __post_init__(self):
        read_model(self.model)
        object.__setattr__(self, "sha256", _digest(self.model))

    @property
    def settings(self) -> dict[str, Any]:
        """JSON of everything that decides a label: the content of the file, not its name."""
        return {"kind": "kepton", "sha256": self.sha256}

    def check(self, frames: Frames) -> None:
        """Raise InputError where the potential does not know the elements."""
        check_elements(_load(self.model, self.sha256), frames)

    def __call__(self, frames: Frames) -> Label | Failure:
        """Energy, forces and, of a periodic frame, virial of one configuration.

        Raises:
            InputError: the file is another one than when the principle was made
        """
        answer, _ = predict(_load(self.model, self.sha256), frames)
        if not (np.isfinite(answer.energy).all() and np.isfinite(answer.forces).all()):
            return Failure(f"{self.model} gave an energy or forces that are not finite numbers.")
        return Label(
            np.asarray(answer.energy),
            np.asarray(answer.forces),
            np.asarray(answer.virial),
            engine=f"kepton {kepton.__version__} {self.model.name}",
        ).of_cells(frames)

    @staticmethod
    def availability() -> tuple[bool, str]:
        """Whether it works on this machine, and its version."""
        return True, f"kepton {kepton.__version__}"


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@cache
def _load(path: Path, digest: str) -> Ensemble:
    if _digest(path) != digest:
        raise InputError(f"{path} has changed since the campaign began to learn from it.")
    return load_ensemble(path, exact=True)[0]
