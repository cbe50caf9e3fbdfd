"""A complete input of LAMMPS for a molecular dynamics run.

Source: LAMMPS, `read_data`, `fix nvt`, `fix langevin`, `fix temp/csvr`, `fix pair`; DeePMD-kit 3.2,
`pair_style deepmd`
"""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import ase
import ase.io
from ase.data import chemical_symbols

from kepton.atoms.frames import Frames
from kepton.dynamics.cell_rescaling import check_cells
from kepton.errors import InputError
from kepton.potential.compiled import knows
from kepton.potential.conversion import convert_model
from kepton.potential.ensemble import Ensemble, check_elements
from kepton.potential.lammps import conversions, graphs, interactions
from kepton.potential.lammps_plugin import PLUGIN
from kepton.potential.molecular_dynamics import Settings, check_overlap

VACUUM = 10.0
"""Å around an isolated structure, for which LAMMPS wants a box"""


def write_deck(
    folder: Path,
    model: Path,
    ensemble: Ensemble,
    start: ase.Atoms,
    settings: Settings,
    steps: int,
) -> list[str]:
    """Write data file, models and input into a folder, with a README that says how to run it.

    Where `kepton lammps plugin` has compiled the plugin, LAMMPS evaluates the ensemble by Kepton's
    kernel; otherwise one member by DeePMD-kit.

    Returns: the commands that run it there
    Raises:
        InputError: an element that the potential does not know, atoms that overlap, a model that is
            no Deep Potential, constant pressure without a periodic cell
    """
    frames = Frames.from_ase([start])
    check_elements(ensemble, frames)
    check_overlap(frames)
    if settings.ensemble == "npt":
        check_cells(frames)
    folder.mkdir(parents=True, exist_ok=True)
    names = [chemical_symbols[z] for z in ensemble.species]
    several = ensemble.size > 1
    by_plugin = PLUGIN.is_file() and knows(ensemble.members)
    pair = (_by_plugin if by_plugin else _by_deepmd_kit)(folder, model, names, several, settings)
    structure = start.copy()
    if not start.pbc.any():
        structure.center(vacuum=VACUUM)
    ase.io.write(
        folder / "start.data", structure, format="lammps-data", specorder=names, masses=True
    )
    still = "" if start.pbc.any() else " rot yes"
    boundary = " ".join("p" if periodic else "m" for periodic in start.pbc)
    lines = [
        *("units metal", "atom_style atomic", f"boundary {boundary}", "read_data start.data"),
        *(["change_box all triclinic"] if _sheared(settings) else []),
        *pair.interaction,
        "neighbor 1.0 bin",
        f"timestep {settings.timestep_fs / 1000:g}",
        f"velocity all create {settings.temperature_K:g} {settings.seed + 1}{still}",
        *_fixes(settings),
        *pair.watching,
        "thermo_style custom step time temp pe ke etotal press vol density",
        f"thermo {settings.every}",
        f"dump 1 all custom {settings.every} md.dump id type xu yu zu vx vy vz{pair.columns}",
        "dump_modify 1 sort id",
        f"run {steps}",
    ]
    (folder / "in.lammps").write_text("\n".join(lines) + "\n")
    commands = [*pair.conversions, "lmp -in in.lammps"]
    needed = "LAMMPS is" if by_plugin else "DeePMD-kit and its LAMMPS are (deepmd-kit[lmp,cpu])"
    told = [f"Run in this folder, where {needed}:", *commands]
    told.append("On several cores, one rank each: mpirun -np 16 lmp -in in.lammps")
    if settings.ensemble == "npt":
        told.append("LAMMPS keeps the pressure by Nose-Hoover chains (fix npt).")
    (folder / "README.txt").write_text("\n".join(told) + "\n")
    return commands


@dataclass(frozen=True)
class _Pair:
    """How LAMMPS evaluates the potential.

    Args:
        interaction: lines of the input that say what acts between atoms
        watching: those that tell the deviation of the members
        columns: of the dump beside positions and velocities
        conversions: commands that make the files which LAMMPS reads
    """

    interaction: list[str]
    watching: list[str]
    columns: str
    conversions: list[str]


def _by_plugin(
    folder: Path, model: Path, names: list[str], several: bool, settings: Settings
) -> _Pair:
    convert_model(model, folder / "model.kepton")
    interaction = [
        *(f"plugin load {PLUGIN}", "pair_style kepton model.kepton"),
        f"pair_coeff * * {' '.join(names)}",
    ]
    if not several:
        return _Pair(interaction, [], "", [])
    every = settings.every
    watching = [
        f"fix deviation all pair {every} kepton deviation 1",
        "compute deviation all reduce max f_deviation",
        f"fix 3 all ave/time {every} 1 {every} c_deviation file model_devi.out",
    ]
    return _Pair(interaction, watching, " f_deviation", [])


def _by_deepmd_kit(
    folder: Path, model: Path, names: list[str], several: bool, settings: Settings
) -> _Pair:
    files = convert_model(model, folder / "model.dp").files
    models = [path for path in files if path.suffix == ".dp"]
    table = next((path for path in files if path not in models), None)
    deepmd = graphs(models)
    if several:
        deepmd += f" out_file model_devi.out out_freq {settings.every}"
    return _Pair(interactions(deepmd, names, table), [], "", conversions(models))


def run_deck(folder: Path, commands: list[str]) -> bool:
    """Run the commands in the folder where their programs are there; whether they were.

    Raises:
        InputError: one of them failed
    """
    words = [command.split() for command in commands]
    if not all(shutil.which(first) for first, *_ in words):
        return False
    for command in words:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode:
            told = [line for line in done.stdout.splitlines() if "ERROR" in line]
            raise InputError(
                f"In {folder}, `{' '.join(command)}` failed: "
                f"{' '.join(told) or done.stderr.strip()[-500:]}"
            )
    return True


def _sheared(settings: Settings) -> bool:
    return settings.ensemble == "npt" and settings.cell == "full"


def _fixes(settings: Settings) -> list[str]:
    """The integrator; times in ps, pressures in bar."""
    if settings.ensemble == "nve":
        return ["fix 1 all nve"]
    if not settings.friction_per_fs > 0:
        raise InputError(
            "friction_per_fs = 0; LAMMPS' thermostats need 1/fs above 0, such as 0.01."
        )
    span = f"{settings.temperature_K:g} {settings.temperature_K:g}"
    span += f" {1e-3 / settings.friction_per_fs:g}"
    if settings.ensemble == "npt":
        shape = {"isotropic": "iso", "axes": "aniso", "full": "tri"}[settings.cell]
        bar = f"{1e4 * settings.pressure_GPa:g}"
        time = f"{1e-3 * settings.barostat_time_fs:g}"
        return [f"fix 1 all npt temp {span} {shape} {bar} {bar} {time}"]
    match settings.thermostat:
        case "langevin":
            return ["fix 1 all nve", f"fix 2 all langevin {span} {settings.seed + 1}"]
        case "rescaling":
            return ["fix 1 all nve", f"fix 2 all temp/csvr {span} {settings.seed + 1}"]
    return [f"fix 1 all nvt temp {span}"]
