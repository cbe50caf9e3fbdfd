"""What a campaign hands out of closures: a model file, labelled data, and words."""

import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kepton.atoms.replacing import write_whole
from kepton.closure.file import decode, from_bytes, to_bytes
from kepton.closure.rung import ClosureProblem
from kepton.elt.campaign import Measured

MODEL = "model.kepton"
DATA = "data.npz"
UNIT = "(relative)"
ABOUT = "gases of the class below have an error of density, momentum and energy"


@dataclass(frozen=True)
class ClosurePublication:
    """A `Publication`, of the closures of a problem."""

    problem: ClosureProblem
    unit: str = UNIT
    about: str = ABOUT

    @property
    def claims(self) -> dict[str, Any]:
        """JSON for the certificate: the class of initial data, principle, moments."""
        problem = self.problem
        return {
            "conditions": {
                "compared": "the closed system with the kinetic equation on the same cells, over "
                "all times, relative L2 error, the largest of density, momentum (relative to the "
                "molecules' own) and energy",
                "times": list(problem.times),
            }
            | asdict(problem.initial),
            "principle": problem.settings["principle"],
            "closure": problem.settings["model"],
        }

    def write_models(
        self,
        directory: Path,
        learner: bytes,  # noqa: ARG002
        runner: bytes,
        goal: dict[str, Any],
        certificate: dict[str, Any],
    ) -> None:
        """`model.kepton`, with the certificate where there is one."""
        info = {"goal": goal, "certificate": certificate}
        write_whole(directory / MODEL, to_bytes(from_bytes(runner)[0], info))

    def write_data(
        self,
        directory: Path,
        measured: Sequence[Measured],
        samples: Sequence[bytes],
        labels: Sequence[bytes],
    ) -> None:
        """`data.npz`: every label, with its origin and round.

        Arrays of a row a label: initial (., 3, n), knudsen, conserved (., 3, t, n), error, origin,
        round, and the times.
        """
        cases, known = [decode(s) for s in samples], [decode(lab) for lab in labels]
        stream = io.BytesIO()
        np.savez_compressed(
            stream,
            times=np.array(self.problem.times),
            initial=np.stack([np.concatenate(case.initial) for case in cases]),
            knudsen=np.array([case.knudsen[0] for case in cases]),
            conserved=np.stack([np.concatenate(label.conserved) for label in known]),
            error=np.array([label.error[0] for label in known]),
            origin=np.array([m.origin for m in measured]),
            round=np.array([m.round for m in measured]),
        )
        write_whole(directory / DATA, stream.getvalue())
