"""A trained potential as a principle, so that another model can learn from it."""

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import kepton
from kepton.atoms.frames import Frames, Label
from kepton.elt import Failure
from kepton.potential.ensemble import Ensemble, check_elements, predict
from kepton.potential.file import load_ensemble, read_model


@dataclass(frozen=True)
class TrainedPotential:
    """Energy, forces and virial of a potential in a file: the mean of its members, in float64.

    A model learnt from it is a distillation: labels cost milliseconds.

    Args:    model: a `.kepton`, `.dp` or `.yaml` file
    """

    model: Path

    @property
    def settings(self) -> dict[str, Any]:
        """JSON of everything that decides a label: the content of the file, not its name.

        Raises:
            InputError: no such file
        """
        read_model(self.model)
        return {"kind": "kepton", "sha256": _digest(self.model)}

    def check(self, frames: Frames) -> None:
        """Raise InputError where there is no such model, or it does not know the elements."""
        check_elements(read_model(self.model)[0], frames)

    def __call__(self, frames: Frames) -> Label | Failure:
        """Energy, forces and, of a periodic frame, virial of one configuration."""
        answer, _ = predict(_load(self.model, _digest(self.model)), frames)
        if not (np.isfinite(answer.energy).all() and np.isfinite(answer.forces).all()):
            return Failure(f"{self.model} gave an energy or forces that are not finite numbers.")
        periodic = np.asarray(frames.pbc)[:, :, None].all(axis=1, keepdims=True)
        return Label(
            np.asarray(answer.energy),
            np.asarray(answer.forces),
            np.where(periodic, answer.virial, np.nan),
            engine=f"kepton {kepton.__version__} {self.model.name}",
        )

    @staticmethod
    def availability() -> tuple[bool, str]:
        """Whether it works on this machine, and its version."""
        return True, f"kepton {kepton.__version__}"


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@cache
def _load(path: Path, digest: str) -> Ensemble:  # noqa: ARG001 - a new content is a new model
    return load_ensemble(path, exact=True)[0]
