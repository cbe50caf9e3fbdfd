"""One molecular dynamics run with an ensemble, streamed to files, and what it needs to go on."""

import hashlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import ase
import jax
import numpy as np
from ase.calculators.singlepoint import SinglePointCalculator
from ase.data import chemical_symbols, covalent_radii
from ase.units import _amu, fs
from scipy.stats import linregress

from kepton.atoms.frames import Frames
from kepton.atoms.neighbors import neighbors
from kepton.atoms.units import BOLTZMANN, GIGAPASCAL
from kepton.dynamics import (
    Integrator,
    Langevin,
    NoseHooverChain,
    Shape,
    State,
    StochasticCellRescaling,
    Thermostat,
    VelocityRescaling,
    VelocityVerlet,
    kinetic_energy,
    kinetic_temperature,
    rigid_motions,
    simulate,
)
from kepton.dynamics.cell_rescaling import WATER, volume
from kepton.dynamics.state import SKIN, kinetic_tensor
from kepton.dynamics.stored import from_arrays, to_arrays
from kepton.dynamics.trajectory import Stream, trajectory_format
from kepton.errors import InputError
from kepton.potential.checkpoint import Checkpoint
from kepton.potential.ensemble import Ensemble, check_elements, component_rms, evaluate
from kepton.potential.geometry import CLASH
from kepton.potential.model_deviation import HEADER, check_members, line, model_deviation


@dataclass(frozen=True)
class Settings:
    """How to integrate.

    Args:
        temperature_K: of the thermostat, or of the initial velocities
        timestep_fs: of the integrator
        ensemble: nve, nvt or npt
        thermostat: langevin, rescaling or nose-hoover
        friction_per_fs: of a Langevin thermostat; of others, the inverse of their time
        pressure_GPa: at constant pressure
        cell: what of the cell may change then: isotropic, axes or full
        compressibility_per_GPa, barostat_time_fs: how fast it changes
        every: steps between two frames written
        seed: of velocities and noise
        tf32: factors of matrix products rounded to 10 bits (TF32), on the matrix units of a GPU
    """

    temperature_K: float
    timestep_fs: float = 0.5
    ensemble: str = "nvt"
    thermostat: str = "langevin"
    friction_per_fs: float = 0.01
    pressure_GPa: float = 1e-4
    cell: str = "isotropic"
    compressibility_per_GPa: float = WATER
    barostat_time_fs: float = 1000.0
    every: int = 10
    seed: int = 0
    tf32: bool = False

    def products(self) -> AbstractContextManager[None]:
        """Within which matrix products are as wanted."""
        return jax.default_matmul_precision("tensorfloat32") if self.tf32 else nullcontext()

    def start(self, potential: Ensemble, frames: Frames) -> tuple[Integrator, State]:
        """The method, and a new state of it.

        Raises:
            InputError: constant pressure without a periodic cell, a thermostat without friction
        """
        method = self._method()
        key = jax.random.split(jax.random.key(self.seed), 1)
        with self.products():
            if isinstance(method, VelocityVerlet):
                return method, method.init(key, potential, frames, self.temperature_K)
            return method, method.init(key, potential, frames)

    def _method(self) -> VelocityVerlet | Thermostat | StochasticCellRescaling:
        if self.ensemble == "nve":
            return VelocityVerlet(self.timestep_fs)
        method = self._thermostat()
        if self.ensemble == "nvt":
            return method
        return StochasticCellRescaling(
            method,
            self.pressure_GPa,
            Shape(self.cell),
            self.compressibility_per_GPa,
            self.barostat_time_fs,
        )

    def _thermostat(self) -> Thermostat:
        if self.thermostat == "langevin":
            return Langevin(self.timestep_fs, self.friction_per_fs, self.temperature_K)
        if not self.friction_per_fs > 0:
            raise InputError(
                f"friction_per_fs = {self.friction_per_fs}; the thermostat {self.thermostat} acts "
                "in the inverse of it, so give 1/fs above 0, such as 0.01."
            )
        kind = VelocityRescaling if self.thermostat == "rescaling" else NoseHooverChain
        return kind(self.timestep_fs, 1 / self.friction_per_fs, self.temperature_K)

    @property
    def free_momenta(self) -> bool:
        """Whether noise on every atom moves the whole system too."""
        return self.ensemble != "nve" and self.thermostat == "langevin"


COLUMNS = (
    "step",
    "time_fs",
    "potential_energy_eV",
    "kinetic_energy_eV",
    "total_energy_eV",
    "conserved_energy_eV",
    "temperature_K",
    "pressure_GPa",
    "volume_A3",
    "density_g_cm3",
    "force_deviation_eV_A",
)
"""Of the table beside the trajectory; pressure, volume and density of cells, else nan"""


@dataclass(frozen=True)
class Point:
    """What the table says at one frame.

    Args:
        values: by COLUMNS
        broken: the dynamics exploded, and this is the last good frame
    """

    values: dict[str, float]
    broken: bool = False

    @property
    def step(self) -> int:
        """Steps made."""
        return int(self.values["step"])

    @property
    def deviation(self) -> float:
        """eV/Å, root mean square over force components."""
        return self.values["force_deviation_eV_A"]


@dataclass(frozen=True)
class Output:
    """The files of a run.

    Args:
        trajectory: extxyz or Amber's NetCDF, by its suffix; table and checkpoint stand beside it
        model_devi: one line a frame, as LAMMPS writes it for DP-GEN
    """

    trajectory: Path
    model_devi: Path | None = None

    @property
    def table(self) -> Path:
        """CSV, one line a frame."""
        return self.trajectory.with_suffix(".csv")

    @property
    def checkpoint(self) -> Path:
        """What `restart` needs."""
        return self.trajectory.with_name(self.trajectory.name + ".checkpoint")


KEEP_EVERY = 10
"""Frames between two checkpoints"""


def run(
    ensemble: Ensemble,
    start: ase.Atoms,
    settings: Settings,
    steps: int,
    output: Output,
    restart: bool = False,
) -> Iterator[Point]:
    """Run, and write every frame as it is reached; the run ends early where the dynamics breaks.

    A checkpoint holds the state and the sizes of all files. Going on from it cuts them back to
    these sizes, so a process that is killed at any moment loses or doubles no frame, and as noise
    and neighbour lists are the same, all is as if it had not been.

    Args:
        steps: in all, those before a restart too
        restart: go on from the checkpoint
    Raises:
        InputError: an element that the potential does not know, atoms that overlap, one member for
            `model_devi`, a suffix of no trajectory; a checkpoint of another run, or none
        OSError: a file cannot be written; the frames before are whole
    """
    kind = trajectory_format(output.trajectory)
    if not output.trajectory.parent.is_dir():
        raise InputError(
            f"There is no folder {output.trajectory.parent}; make it, or give another."
        )
    if output.model_devi is not None:
        check_members(ensemble)
    frames = Frames.from_ase([start])
    check_elements(ensemble, frames)
    check_overlap(frames)
    method, state = settings.start(ensemble, frames)
    store = Checkpoint(output.checkpoint, _identity(ensemble, start, settings), "a run")
    step, sizes = 0, {}
    if restart:
        arrays, _ = to_arrays(state)
        if (kept := store.read(arrays)) is None:
            raise InputError(
                f"There is no {output.checkpoint} to go on from; give the --out of an earlier run, "
                "or begin one without --restart."
            )
        arrays, numbers = kept
        step, sizes = numbers["step"], numbers["sizes"]
        if step >= steps:
            raise InputError(
                f"The run of {output.checkpoint} has made {step} steps; to go on, give more than "
                f"--steps {steps}."
            )
        state = from_arrays(state, arrays, numbers["widths"], ensemble.cutoff, SKIN)
    trajectory = kind(output.trajectory, start, sizes.get("trajectory"))
    streams = {
        "trajectory": trajectory.stream,
        "table": _lines(output.table, ",".join(COLUMNS), sizes.get("table")),
    }
    if output.model_devi is not None:
        streams["model_devi"] = _lines(output.model_devi, HEADER, sizes.get("model_devi"))

    def keep() -> None:
        arrays, widths = to_arrays(state)
        now = {name: stream.size for name, stream in streams.items()}
        store.write(arrays, {"step": step, "widths": widths, "sizes": now})

    if not restart:
        keep()
    written = 0
    while step < steps:
        with settings.products():
            state, info = simulate(ensemble, method, state, min(settings.every, steps - step))
            broken = bool(info.broken[0])
            if broken and not info.steps[0]:
                return
            step += int(info.steps[0])
            point = _measured(ensemble, state, settings, step, broken)
        trajectory.append(_atoms(start, state, point))
        row = ",".join(f"{value:.10g}" for value in point.values.values())
        streams["table"].append((row + "\n").encode())
        if output.model_devi is not None:
            values = model_deviation(ensemble, state.frames, state.neighbors)[0]
            streams["model_devi"].append((line(step, values) + "\n").encode())
        written += 1
        if not broken and (written % KEEP_EVERY == 0 or step >= steps):
            keep()
        yield point
        if broken:
            return


def _identity(ensemble: Ensemble, start: ase.Atoms, settings: Settings) -> dict[str, Any]:
    """What tells one run from another: all but how long it is."""

    def digest(*arrays: Any) -> str:
        return hashlib.sha256(b"".join(np.asarray(a).tobytes() for a in arrays)).hexdigest()

    structure = digest(start.numbers, start.positions, start.cell.array, start.pbc)
    return {"model": digest(*jax.tree.leaves(ensemble)), "structure": structure} | asdict(settings)


def _lines(path: Path, header: str, size: int | None) -> Stream:
    stream = Stream(path, size)
    if not size:
        stream.append((header + "\n").encode())
    return stream


def _measured(
    ensemble: Ensemble, state: State, settings: Settings, step: int, broken: bool
) -> Point:
    label, per_atom = evaluate(ensemble, state.frames, state.neighbors)
    deviation = component_rms(per_atom, state.frames.mask)
    fixed = 0 if settings.free_momenta else rigid_motions(state.frames)
    kinetic, potential = float(kinetic_energy(state)[0]), float(state.energy[0])
    box, pressure = float("nan"), float("nan")
    if np.all(state.frames.pbc):
        box = float(volume(state.frames)[0])
        inner = np.trace(np.asarray(kinetic_tensor(state)[0] + label.virial[0])) / 3
        pressure = inner / (box * GIGAPASCAL)
    values = (
        step,
        step * settings.timestep_fs,
        potential,
        kinetic,
        potential + kinetic,
        potential + kinetic - float(state.heat[0]),
        float(kinetic_temperature(state, fixed)[0]),
        pressure,
        box,
        float(np.sum(state.masses)) / box * GRAMS_PER_CM3,
        float(deviation[0]),
    )
    return Point(dict(zip(COLUMNS, map(float, values))), broken)


GRAMS_PER_CM3 = _amu * 1e27
"""Of 1 amu/Å^3"""


def _atoms(start: ase.Atoms, state: State, point: Point) -> ase.Atoms:
    """A frame with energy, forces and velocities, and in `info` step, time and deviation."""
    atoms = start.copy()
    atoms.info = {
        "step": point.step,
        "time_fs": point.values["time_fs"],
        "force_deviation": point.deviation,
    }
    atoms.positions = np.asarray(state.frames.positions[0])
    if start.pbc.any():
        atoms.cell = np.asarray(state.frames.cell[0])
    atoms.set_velocities(np.asarray(state.velocities[0]) / fs)
    energy, forces = float(state.energy[0]), np.asarray(state.forces[0])
    atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces)
    return atoms


def check_overlap(frames: Frames) -> None:
    """Raise InputError where atoms of the first frame overlap, all images included."""
    species = np.asarray(frames.species[0])
    radii = covalent_radii[species]
    listed = neighbors(frames, max(1.0, 2 * CLASH * float(radii.max())))
    share = listed.distances(frames)[0] / (radii[:, None] + radii[np.asarray(listed.index[0])])
    if not share.size or share.min() >= CLASH:
        return
    i, slot = np.unravel_index(np.argmin(share), share.shape)
    j = int(listed.index[0, i, slot])
    length = float(listed.distances(frames)[0][i, slot])
    names = [f"{chemical_symbols[species[k]]} (number {k})" for k in (i, j)]
    raise InputError(
        f"The atoms {names[0]} and {names[1]}, counted from 0, are {length:.2f} Å apart, which is "
        "less than any bond, and would explode; relax the structure (kepton relax), or give the "
        "right cell."
    )


def check_tf32(engine: str) -> None:
    """Raise InputError where no product of matrices would be rounded."""
    if engine != "kepton":
        raise InputError("--tf32 is of Kepton's own dynamics; leave out --tf32 or --engine.")
    if jax.default_backend() != "gpu":
        raise InputError(
            "--tf32 needs a GPU, and there is none that JAX sees; leave it out, or install "
            "'kepton[gpu]' where there is one."
        )


def rounding(ensemble: Ensemble, start: ase.Atoms, settings: Settings) -> tuple[float, float]:
    """How products of matrices as wanted change the forces of a structure, eV/Å.

    Returns: root mean square over components, and the most of any atom
    """
    frames = Frames.from_ase([start])
    check_elements(ensemble, frames)
    lists = neighbors(frames, ensemble.cutoff)
    whole = evaluate(ensemble, frames, lists)[0].forces
    with settings.products():
        change = evaluate(ensemble, frames, lists)[0].forces - whole
    return float(np.sqrt(np.mean(change**2))), float(np.linalg.norm(change, axis=-1).max())


def drift(table: Path, atoms: int) -> str:
    """The trend of the conserved energy in a table, with its standard error: slope / (n k_B)."""
    rows = np.genfromtxt(table, delimiter=",", names=True)
    if rows.size < 3:
        return "not known from so few frames"
    trend: Any = linregress(rows["time_fs"], rows["conserved_energy_eV"])
    slope, error = (1e6 * value / (atoms * BOLTZMANN) for value in (trend.slope, trend.stderr))
    return f"{slope:.3g} ± {error:.2g} K per atom and ns"


def trust(info: dict[str, Any]) -> float | None:
    """The target error of the campaign that made a model, eV/Å, if one did."""
    return info.get("goal", {}).get("target")


def remedy(start: ase.Atoms, timestep_fs: float) -> str:
    """What to do where the dynamics broke.

    Half a femtosecond serves hydrogen; others bear more, as the root of the mass, 2 fs at most.
    """
    sensible = round(min(2.0, 0.5 * float(np.sqrt(start.get_masses().min()))), 1)
    if timestep_fs > sensible:
        return f"give --timestep-fs {sensible:g}"
    return (
        "the start may be strained (relax it first), or the potential not made for this structure, "
        "temperature and pressure (look at force_deviation in the table)"
    )
