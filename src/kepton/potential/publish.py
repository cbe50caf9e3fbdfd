"""What a campaign hands out of potentials: model files, labelled data, and words."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kepton.atoms import concatenate, concatenate_labels
from kepton.atoms.files import write_labelled
from kepton.elt.campaign import Measured
from kepton.potential.file import from_bytes, save
from kepton.potential.rung import PotentialProblem, decode

MODEL, LEARNER = "model.kepton", "learner.kepton"
DATA = "data.extxyz"
UNIT = "eV/Å"
ABOUT = (
    "configurations that this model's dynamics visits under the conditions below have a force error"
)


@dataclass(frozen=True)
class PotentialPublication:
    """A `Publication`, of the potentials of a problem."""

    problem: PotentialProblem
    unit: str = UNIT
    about: str = ABOUT

    @property
    def claims(self) -> dict[str, Any]:
        """JSON for the certificate: conditions, principle, architecture."""
        problem = self.problem
        exploration = problem.exploration
        return {
            "conditions": {
                "dynamics": "Langevin (BAOAB) driven by the mean of the ensemble, each walk from "
                "one of the given structures, a moment drawn from the second half of the walk",
                "temperature_K": exploration.temperature_K[1],
                "walk_fs": exploration.audit_fs,
                "timestep_fs": exploration.timestep_fs,
                "friction_per_fs": exploration.friction_per_fs,
                "volume_change": list(exploration.strain.volume_change),
                "shear": exploration.strain.shear,
                "pressure_GPa": exploration.pressure_GPa,
                "structures": [
                    atoms.get_chemical_formula()
                    for frames in problem.structures
                    for atoms in frames.to_ase()
                ],
            },
            "principle": problem.principle.settings,
            "potential": (problem.runner or problem.learner).architecture,
        }

    def write_models(
        self,
        directory: Path,
        learner: bytes,
        runner: bytes,
        goal: dict[str, Any],
        certificate: dict[str, Any],
    ) -> None:
        """`model.kepton`, with the certificate where there is one, and `learner.kepton`.

        Before a runner is made, the first is the learner too.
        """
        info = {"goal": goal}
        save(directory / MODEL, from_bytes(runner)[0], info | {"certificate": certificate})
        if self.problem.runner is not None:
            save(directory / LEARNER, from_bytes(learner)[0], info)

    def write_data(
        self,
        directory: Path,
        measured: Sequence[Measured],
        samples: Sequence[bytes],
        labels: Sequence[bytes],
    ) -> None:
        """`data.extxyz`: every label, with its origin and round."""
        write_labelled(
            directory / DATA,
            concatenate([decode(sample) for sample in samples]),
            concatenate_labels([decode(label) for label in labels]),
            [{"origin": m.origin, "round": m.round} for m in measured],
        )
