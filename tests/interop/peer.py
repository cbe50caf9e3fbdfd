"""DeePMD-kit and LAMMPS run as programs; the tests are skipped where they are not installed."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import ase
import numpy as np
import pytest
from deepmd_side import RANDOM

SIDE = Path(__file__).with_name("deepmd_side.py")
QUIET = {
    **{"CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "2", "OMP_NUM_THREADS": "1"},
    **{"TF_INTRA_OP_PARALLELISM_THREADS": "1", "TF_INTER_OP_PARALLELISM_THREADS": "1"},
    **{"DP_INTRA_OP_PARALLELISM_THREADS": "1", "DP_INTER_OP_PARALLELISM_THREADS": "1"},
}
PATH = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
MVV2E = 1.0364269e-4
"""eV of 1 amu (Å/ps)^2, in LAMMPS's units metal (src/update.cpp)"""


Answers = dict[str, dict[str, np.ndarray]]
"""Energy, forces and virial of the structures of a set, by its name"""


def program(name: str) -> str:
    """The path of a program; the test is skipped where it is not there."""
    found = shutil.which(name, path=PATH)
    if found is None:
        pytest.skip(f"there is no program {name}; `make test-interop` installs it")
    return found


def run(*words: object, cwd: Path, status: int = 0) -> str:
    """What a program prints; it must end with this status."""
    name, *rest = map(str, words)
    done = subprocess.run(
        [program(name), *rest],
        cwd=cwd,
        env=os.environ | QUIET | {"PATH": PATH},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == status, f"{words}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def deepmd(*words: object, cwd: Path) -> None:
    """`deepmd_side.py`, run by the Python beside `dp`."""
    run(Path(program("dp")).with_name("python"), SIDE, *words, cwd=cwd)


def answer(model: Path, sets: dict[str, list[ase.Atoms]]) -> Answers:
    """What DeePMD-kit says of sets of structures with the same atoms in order."""
    deepmd("answer", model, _frames(model.parent, sets), "answer.npz", cwd=model.parent)
    return _answers(model.parent)


def random_models(folder: Path, sets: dict[str, list[ase.Atoms]]) -> dict[str, Answers]:
    """The same of DeePMD-kit's own models, which are written to FOLDER/KIND/model.dp and .yaml."""
    deepmd("random", folder, _frames(folder, sets), cwd=folder)
    return {kind: _answers(folder / kind) for kind in RANDOM}


def _frames(folder: Path, sets: dict[str, list[ase.Atoms]]) -> Path:
    frames = {}
    for name, structures in sets.items():
        frames[f"{name}.symbols"] = structures[0].get_chemical_symbols()
        frames[f"{name}.positions"] = [atoms.positions for atoms in structures]
        frames[f"{name}.cells"] = [atoms.cell.array for atoms in structures]
    np.savez(folder / "frames.npz", **frames)
    return folder / "frames.npz"


def _answers(folder: Path) -> Answers:
    told: Answers = {}
    with np.load(folder / "answer.npz") as file:
        for key in file:
            name, _, quantity = key.rpartition(".")
            told.setdefault(name, {})[quantity] = file[key]
    return told


@dataclass(frozen=True)
class Trajectory:
    """t steps and the start: positions (t, n, 3) Å, velocities Å/fs, forces eV/Å, energies eV."""

    positions: np.ndarray
    velocities: np.ndarray
    forces: np.ndarray
    potential: np.ndarray
    kinetic: np.ndarray


@dataclass(frozen=True)
class Start:
    """Where both programs begin.

    Args:
        atoms: in a cell whose matrix is lower triangular
        velocities: Å/fs
        acceleration: Å/fs^2 that 1 eV/Å gives to 1 amu in the other program; LAMMPS's masses are
            scaled so that its atoms are accelerated alike
    """

    atoms: ase.Atoms
    velocities: np.ndarray
    acceleration: float


def lammps(
    start: Start,
    pair: Sequence[str],
    types: Sequence[str],
    steps: int,
    ranks: int,
    cwd: Path,
    every: int = 1,
) -> Trajectory:
    """Velocity Verlet of 0.5 fs a step by LAMMPS.

    Args:
        pair: the lines of the input that begin with pair_
        types: elements of LAMMPS's types in order
        every: so many steps between those that are kept
    """
    (cwd / "start.data").write_text(data_file(start, types))
    lines = [
        *("units metal", "atom_style atomic", "boundary p p p", "box tilt large"),
        *("read_data start.data", *pair, "timestep 0.0005", "fix 1 all nve"),
        *("thermo_style custom step pe ke", f"thermo {every}"),
        "thermo_modify format float %.17g norm no",
        f"dump 1 all custom {every} steps.dump id xu yu zu vx vy vz fx fy fz",
        *("dump_modify 1 sort id format float %.17g", f"run {steps}"),
    ]
    (cwd / "in.lammps").write_text("\n".join(lines) + "\n")
    printed = run("mpirun", "-np", ranks, program("lmp"), "-in", "in.lammps", cwd=cwd)
    grid = re.search(r"(\d+) by (\d+) by (\d+) MPI processor grid", printed)
    assert grid, printed
    assert np.prod([int(count) for count in grid.groups()]) == ranks
    table = printed.splitlines()
    kept = steps // every + 1
    first = next(k for k, line in enumerate(table) if line.split()[:1] == ["Step"]) + 1
    energies = np.array([line.split() for line in table[first : first + kept]], float)
    rows = [line.split() for line in (cwd / "steps.dump").read_text().splitlines()]
    dumped = np.array([row for row in rows if len(row) == 10], float).reshape(kept, -1, 10)
    x, v, f = dumped[..., 1:4], dumped[..., 4:7], dumped[..., 7:]
    return Trajectory(x, 1e-3 * v, f, energies[:, 1], energies[:, 2])


def data_file(start: Start, types: Sequence[str]) -> str:
    """What LAMMPS's `read_data` reads."""
    atoms, a = start.atoms, start.atoms.cell.array
    # m' MVV2E (1e3 v)^2 = m v^2 / acceleration: the same kinetic energy, with v in Å/fs
    scale = 1e-6 / start.acceleration / MVV2E
    lines = ["", "", f"{len(atoms)} atoms", f"{len(types)} atom types"]
    lines += [f"0 {a[k, k]:.17g} {'xyz'[k]}lo {'xyz'[k]}hi" for k in range(3)]
    lines += [f"{a[1, 0]:.17g} {a[2, 0]:.17g} {a[2, 1]:.17g} xy xz yz", "", "Masses", ""]
    masses = dict(zip(atoms.get_chemical_symbols(), scale * atoms.get_masses()))
    lines += [f"{k + 1} {masses[name]:.17g}" for k, name in enumerate(types)]
    lines += ["", "Atoms # atomic", ""]
    for k, (name, x) in enumerate(zip(atoms.get_chemical_symbols(), atoms.positions)):
        lines.append(f"{k + 1} {types.index(name) + 1} {x[0]:.17g} {x[1]:.17g} {x[2]:.17g}")
    lines += ["", "Velocities", ""]
    for k, v in enumerate(1e3 * start.velocities):
        lines.append(f"{k + 1} {v[0]:.17g} {v[1]:.17g} {v[2]:.17g}")
    return "\n".join(lines) + "\n"
