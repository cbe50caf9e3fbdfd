"""The rung DFT -> potential: its `Problem`, which tells the loop how to climb."""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kepton.atoms.frames import Frames, Label, concatenate, concatenate_labels
from kepton.atoms.units import GIGAPASCAL
from kepton.dynamics import VelocityVerlet, simulate
from kepton.dynamics.state import kinetic_energy
from kepton.elt import Exploration, Failure
from kepton.errors import InputError
from kepton.potential.distil import distil
from kepton.potential.ensemble import Ensemble, component_rms, features, predict
from kepton.potential.explore import ExploreConfig, audit, explore
from kepton.potential.file import from_bytes, to_bytes
from kepton.potential.geometry import Gate, perturbed
from kepton.potential.recipe import Recipe
from kepton.potential.train import Point
from kepton.principles import Program

DRIFT_STEPS = 2000
CALCULATIONS = "calculations"
"""Where a program keeps its calculations in a campaign's directory"""


@dataclass(frozen=True)
class PotentialProblem:
    """Learn the potential energy surface that a principle gives to some structures.

    A sample is `Frames` of one configuration, a label is a `Label` of one, models are an
    `Ensemble`. Error and deviation are root mean squares over the force components of a
    configuration, in eV/Å.

    Args:
        structures: one frame each
        principle: from `kepton.principles`: settings, and Frames -> Label | Failure
        exploration: conditions
        learner: what explores and learns from the labels
        runner: what is distilled from it at the end and handed out; none: the learner is
        progress: hears of training
    """

    structures: tuple[Frames, ...]
    principle: Any
    exploration: ExploreConfig
    learner: Recipe
    runner: Recipe | None = None
    progress: Callable[[Point], None] | None = None

    def __post_init__(self):
        object.__setattr__(self, "exploration", self.exploration.suited(self.structures))

    @property
    def settings(self) -> dict[str, Any]:
        """What tells this campaign from another; `principle` decides the labels."""
        start = [
            {
                "species": np.asarray(s.species)[0].tolist(),
                "positions": np.asarray(s.positions)[0].round(8).tolist(),
                "cell": np.asarray(s.cell)[0].round(8).tolist(),
                "pbc": np.asarray(s.pbc)[0].tolist(),
                "charge": int(s.charge[0]),
                "spin": int(s.spin[0]),
            }
            for s in self.structures
        ]
        return {"principle": self.principle.settings, "system": start}

    def at(self, directory: Path) -> "PotentialProblem":
        """The same; a principle that is a program keeps its calculations in the directory."""
        if not isinstance(self.principle, Program):
            return self
        return replace(self, principle=self.principle.keeping(directory / CALCULATIONS))

    @property
    def gate(self) -> Gate:
        """Refuses broken geometries."""
        return Gate.of(list(self.structures))

    def seed(self, count: int, key: int) -> Sequence[Frames]:
        """The given structures and perturbations of them."""
        starts = list(self.structures)
        return perturbed(starts, count, self.gate, key, self.exploration.strain)

    def explore(
        self, models: Ensemble, data: Sequence[Frames], trust: float, key: int
    ) -> Exploration:
        """Langevin walkers, until their deviation exceeds `trust`."""
        starts = list(self.structures)
        return explore(models, starts, list(data), self.gate, trust, self.exploration, key)

    def audit(self, models: Ensemble, count: int, key: int) -> Sequence[Frames | Failure]:
        """One configuration each of `count` independent walks at the highest temperature."""
        return audit(models, list(self.structures), self.gate, count, self.exploration, key)

    def label(self, sample: Frames) -> Label | Failure:
        """The principle's energy and forces."""
        return self.principle(sample)

    def train(
        self, data: Sequence[tuple[Frames, Label]], models: Ensemble | None, key: int
    ) -> Ensemble:
        """All members, warm-started where there are models.

        Raises:
            InputError: no label to train on
        """
        if not data:
            raise InputError(
                "None of the first samples could be labelled, so there is nothing to train on. "
                "`kepton status` shows why each failed; check the structure, its charge and spin, "
                "and the settings of [principle]."
            )
        frames = concatenate([sample for sample, _ in data])
        label = concatenate_labels([label for _, label in data])
        return self.learner.train([(frames, label)], models, key, self.progress)

    def distil(
        self, models: Ensemble, former: Ensemble | None, data: Sequence[Frames], key: int
    ) -> tuple[Ensemble, dict[str, Any]] | None:
        """The runner, taught by the learner."""
        if self.runner is None:
            return None
        starts = list(self.structures)
        return distil(
            models,
            self.runner,
            starts,
            list(data),
            self.gate,
            self.exploration,
            key,
            former,
            self.progress,
        )

    def error(self, models: Ensemble, data: Sequence[tuple[Frames, Label]]) -> np.ndarray:
        """(len(data),) root mean square error of the force components, eV/Å."""
        frames = concatenate([sample for sample, _ in data])
        label = concatenate_labels([label for _, label in data])
        off = np.asarray(predict(models, frames)[0].forces) - label.forces
        return np.asarray(component_rms(jnp.linalg.norm(off, axis=-1), jnp.asarray(frames.mask)))

    def deviation(self, models: Ensemble, samples: Sequence[Frames]) -> np.ndarray:
        """(len(samples),) root mean square disagreement of the force components, eV/Å."""
        frames = concatenate(samples)
        per_atom = predict(models, frames)[1]
        return np.asarray(component_rms(jnp.asarray(per_atom), jnp.asarray(frames.mask)))

    def features(self, models: Ensemble, samples: Sequence[Frames]) -> np.ndarray:
        """(len(samples), d) coordinates in descriptor space."""
        return np.asarray(features(models, concatenate(samples)), float)

    def validate(self, models: Ensemble, audited: Sequence[tuple[Frames, Label]]) -> dict[str, Any]:
        """Errors that the certificate does not bound, and what dynamics at constant energy keeps.

        Returns: root mean square errors over the audit, `energy_error_meV_per_atom` and, where
            there are virials, `stress_error_GPa`; from the first structure at the top temperature
            `nve_drift_meV_per_atom_ps`, `nve_fluctuation_meV_per_atom`
        """
        return self._unbounded_errors(models, audited) | self._drift(models)

    def _unbounded_errors(
        self, models: Ensemble, audited: Sequence[tuple[Frames, Label]]
    ) -> dict[str, Any]:
        if not audited:
            return {}
        frames = concatenate([sample for sample, _ in audited])
        label = concatenate_labels([label for _, label in audited])
        answer = predict(models, frames)[0]
        atoms = np.asarray(frames.mask).sum(axis=1)
        off = (answer.energy - label.energy) / atoms
        errors = {"energy_error_meV_per_atom": round(1e3 * _rms(off), 6)}
        stressed = np.isfinite(label.virial).all(axis=(1, 2))
        if stressed.any():
            volume = np.abs(np.linalg.det(np.asarray(frames.cell)[stressed]))[:, None, None]
            off = (np.asarray(answer.virial) - label.virial)[stressed] / volume
            errors["stress_error_GPa"] = round(_rms(off) / GIGAPASCAL, 6)
        return errors

    def _drift(self, models: Ensemble) -> dict[str, Any]:
        start = self.structures[0]
        method = VelocityVerlet(self.exploration.timestep_fs)
        top = self.exploration.temperature_K[1]
        key = jax.random.split(jax.random.key(0), 1)
        state = method.init(key, models, start, temperature_K=top)
        atoms = float(np.sum(start.mask))
        energies = []
        for _ in range(DRIFT_STEPS // 20):
            state, _ = simulate(models, method, state, 20)
            energies.append(float((state.energy + kinetic_energy(state))[0]) / atoms)
        time_ps = 20e-3 * method.timestep_fs * np.arange(len(energies))
        slope, offset = np.polyfit(time_ps, energies, 1)
        rest = np.std(np.array(energies) - slope * time_ps - offset)
        return {
            "nve_drift_meV_per_atom_ps": round(float(slope) * 1e3, 6),
            "nve_fluctuation_meV_per_atom": round(float(rest) * 1e3, 6),
        }

    def encode(self, value: Frames | Label) -> bytes:
        """A sample or a label as npz, no pickle."""
        return encode(value)

    def decode(self, data: bytes) -> Any:
        """What `encode` wrote."""
        return decode(data)

    def save(self, models: Ensemble) -> bytes:
        """The bytes of a model file."""
        return to_bytes(models)

    def restore(self, data: bytes) -> Ensemble:
        """The models in such bytes."""
        return from_bytes(data)[0]

    def __getstate__(self) -> dict[str, Any]:
        """What a worker needs: it labels, and hears of no progress."""
        return self.__dict__ | {"progress": None}


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


def encode(value: Frames | Label) -> bytes:
    """Frames or Label as npz, no pickle."""
    fields = ("energy", "forces", "virial") if isinstance(value, Label) else _FRAME_FIELDS
    arrays: dict[str, Any] = {name: np.asarray(getattr(value, name)) for name in fields}
    if isinstance(value, Label):
        arrays["engine"] = np.array(value.engine)
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def decode(data: bytes) -> Any:
    """What `encode` wrote."""
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        if "engine" in arrays:
            return Label(
                arrays["energy"], arrays["forces"], arrays["virial"], str(arrays["engine"])
            )
        return Frames.of(**{name: arrays[name] for name in _FRAME_FIELDS if name != "mask"})


_FRAME_FIELDS = ("positions", "species", "cell", "pbc", "mask", "charge", "spin")
