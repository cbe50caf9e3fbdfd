"""One molecular dynamics run with an ensemble, streamed to a trajectory file."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import ase
import ase.io
import jax
import numpy as np
from ase.calculators.singlepoint import SinglePointCalculator
from ase.units import fs

from kepton.atoms.frames import Frames
from kepton.dynamics import Langevin, VelocityVerlet, kinetic_energy, kinetic_temperature, simulate
from kepton.potential.ensemble import Ensemble, check_elements
from kepton.potential.explore import deviation
from kepton.potential.model_deviation import HEADER, check_members, line, model_deviation


@dataclass(frozen=True)
class Settings:
    """How to integrate.

    Args:
        temperature_K: of the thermostat, or of the initial velocities
        timestep_fs: of the integrator
        constant_energy: velocity Verlet; else Langevin
        friction_per_fs: of the Langevin thermostat
    """

    temperature_K: float
    timestep_fs: float = 0.5
    constant_energy: bool = False
    friction_per_fs: float = 0.01


@dataclass(frozen=True)
class Point:
    """What one written frame says: step, total energy (eV), temperature (K), deviation (eV/Å)."""

    step: int
    total_energy: float
    temperature_K: float
    deviation: float


def trajectory(
    ensemble: Ensemble,
    start: ase.Atoms,
    settings: Settings,
    steps: int,
    every: int,
    seed: int,
    out: str | Path,
    model_devi: str | Path | None = None,
) -> Iterator[Point]:
    """Run, and append every `every`-th frame to an extxyz file as it is reached.

    Each frame carries energy, forces, velocities, and in `info` the step, the time and the
    ensemble's force deviation. The run ends early where the dynamics breaks.

    Args:
        model_devi: file for one line a frame, as LAMMPS writes it for DP-GEN
    Raises:
        InputError: an element that the potential does not know; one member, for `model_devi`
    """
    if model_devi is not None:
        check_members(ensemble)
        Path(model_devi).write_text(HEADER + "\n")
    frames = Frames.from_ase([start])
    check_elements(ensemble, frames)
    key = jax.random.split(jax.random.key(seed), 1)
    if settings.constant_energy:
        method = VelocityVerlet(settings.timestep_fs)
        state = method.init(key, ensemble, frames, settings.temperature_K)
    else:
        method = Langevin(settings.timestep_fs, settings.friction_per_fs, settings.temperature_K)
        state = method.init(key, ensemble, frames)
    constraints = (3 if frames.pbc.any() else 6) if settings.constant_energy else 0
    if constraints >= 3 * len(start):
        constraints = 0
    Path(out).unlink(missing_ok=True)
    step = 0
    while step < steps:
        chunk = min(every, steps - step)
        state, info = simulate(ensemble, method, state, chunk)
        if info.broken[0]:
            return
        step += chunk
        doubt = float(deviation(ensemble, state.frames, state.neighbors)[0][0])
        atoms = start.copy()
        atoms.info = {
            "step": step,
            "time_fs": step * settings.timestep_fs,
            "force_deviation": doubt,
        }
        atoms.positions = np.asarray(state.frames.positions[0])
        atoms.set_velocities(np.asarray(state.velocities[0]) / fs)
        energy = float(state.energy[0])
        atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=np.asarray(state.forces[0]))
        ase.io.write(out, atoms, format="extxyz", append=True)
        if model_devi is not None:
            values = model_deviation(ensemble, state.frames, state.neighbors)[0]
            with Path(model_devi).open("a") as file:
                file.write(line(step, values) + "\n")
        yield Point(
            step,
            energy + float(kinetic_energy(state)[0]),
            float(kinetic_temperature(state, constraints)[0]),
            doubt,
        )
