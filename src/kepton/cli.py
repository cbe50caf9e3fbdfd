"""The command line: campaigns, potentials, dynamics, closures, principles."""

import json
import os
import signal
import sqlite3
import sys
import threading
import time
import warnings
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from kepton.errors import InputError, LeftOut, did_you_mean

CERTIFIED, FAILED, WRONG_INPUT, BUDGET_ENDED, INTERRUPTED = 0, 1, 2, 3, 130

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="From a molecule, a first principle and a target error to a certified Deep Potential.",
)
principle_app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)
app.add_typer(principle_app, name="principle", help="First principles: principle converge.")
closure_app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)
app.add_typer(closure_app, name="closure", help="Gases by a learned moment closure: closure solve.")
lammps_app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)
app.add_typer(lammps_app, name="lammps", help="Potentials in LAMMPS: lammps plugin.")
console = Console(highlight=False, soft_wrap=True, markup=False)
stderr = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)


MODEL = "A model file: .kepton, or .dp and .yaml of DeePMD-kit."
EXACT = "Evaluate the nets at every neighbour, in float64."


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


class Cell(StrEnum):
    """What of a cell may change: its volume; lengths along x, y and z; lengths and angles."""

    ISOTROPIC = "isotropic"
    AXES = "axes"
    FULL = "full"


class Engine(StrEnum):
    """What runs the dynamics."""

    KEPTON = "kepton"
    LAMMPS = "lammps"


def main() -> None:
    """Run the command line; a user's mistake is one paragraph and exit status 2."""
    warnings.showwarning = _warn
    sys.unraisablehook = _unraisable
    try:
        app()
    except InputError as error:
        _complain(str(error))
        sys.exit(WRONG_INPUT)
    except (OSError, sqlite3.OperationalError) as error:
        _complain(
            f"A file could not be read or written: {error}. What was finished before is kept; free "
            "some space or correct the permissions, and give the same command again."
        )
        sys.exit(FAILED)


def _unraisable(ignored: "sys.UnraisableHookArgs") -> None:
    """Have a Ctrl-C come again that came while an object was deleted, where Python ignores it."""
    if not issubclass(ignored.exc_type, KeyboardInterrupt):
        return sys.__unraisablehook__(ignored)
    again = threading.Timer(
        0.1, signal.pthread_kill, (threading.main_thread().ident, signal.SIGINT)
    )
    again.daemon = True
    return again.start()


def _warn(message, category, *where, **more) -> None:
    """A line on what was left out of a user's data; other warnings as Python writes them."""
    if issubclass(category, LeftOut):
        stderr.print(str(message))
    else:
        _python_warning(message, category, *where, **more)


_python_warning = warnings.showwarning


def _complain(message: str) -> None:
    stderr.print(message, style="red" if stderr.is_terminal else None)


@app.command()
def run(
    campaign: Annotated[Path, typer.Argument(help="The campaign file (TOML).")],
    out: Annotated[
        Path | None, typer.Option(help="Directory; default: the file's name without .toml.")
    ] = None,
) -> None:
    """Explore, label, train until the error is certified; the same command again resumes."""
    from kepton import config
    from kepton.launch import launch
    from kepton.terminal import Terminal

    order = config.read(campaign)
    directory = out or Path(campaign.stem)
    if directory == campaign:
        raise InputError(f"{campaign} has no suffix; name the directory with --out.")
    try:
        with Terminal(console, order.goal, order.publication.unit) as terminal:
            result = launch(order, directory, terminal, terminal.training)
    except KeyboardInterrupt:
        _complain("Interrupted. What was finished is kept; the same command goes on from there.")
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(INTERRUPTED)  # without waiting for labels in flight; workers end by themselves
    if result.stop.certified:
        console.print(f"Certified. {_claim(directory)}")
    else:
        console.print(_claim(directory))
    console.print(f"Model: {directory}/model.kepton   Report: {directory}/report.html")
    raise typer.Exit(CERTIFIED if result.stop.certified else BUDGET_ENDED)


def _claim(directory: Path) -> str:
    claims = json.loads((directory / "certificate.json").read_text("utf-8"))
    return claims["claim"] or claims["missing"]


@app.command()
def status(directory: Annotated[Path, typer.Argument(help="Directory of a campaign.")]) -> None:
    """Rounds, labels, deviations, cost, certificate, and what runs now."""
    from kepton.config.rungs import rung_of
    from kepton.elt.journal import Journal
    from kepton.elt.run import goal_of, replay
    from kepton.launch import is_running
    from kepton.terminal import next_step, rounds_table

    journal = Journal.of(directory)
    goal = goal_of(journal)
    state = replay(journal, goal)
    console.print(rounds_table(journal.events(), goal, rung_of(journal.settings).unit))
    costs = {
        "exploring": state.seconds.get("explored", 0.0) + state.seconds.get("drawn", 0.0),
        "labelling": state.seconds.get("labelled", 0.0),
        "training": state.seconds.get("trained", 0.0) + state.seconds.get("distilled", 0.0),
    }
    split = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in costs.items())
    console.print(f"Labels: {state.labels} of {goal.labels}.   Cost: {split}.")
    failures = [m for m in state.measured if m.failure]
    if failures:
        console.print(f"Failed labels: {len(failures)}; the last: {failures[-1].failure}")
    path = directory / "certificate.json"
    if path.is_file():
        console.print(_claim(directory))
    running = "Running now" if is_running(directory) else "Not running; next"
    console.print(f"{running}: {next_step(goal, state)}")


@app.command()
def report(directory: Annotated[Path, typer.Argument(help="Directory of a campaign.")]) -> None:
    """Write DIR/report.html, one file that needs no network."""
    from kepton.report import write_report

    console.print(f"{write_report(directory)}")


@app.command()
def train(
    data: Annotated[list[Path], typer.Argument(help="extxyz files and deepmd/npy folders.")],
    out: Annotated[Path, typer.Option(help="The model file to write.")],
    time_limit_min: Annotated[
        float | None,
        typer.Option(min=0.1, help="Wall time of the whole command, minutes; default 10."),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(min=10, help="Optimizer steps; default 40000, or as many as the time allows."),
    ] = None,
    model: Annotated[
        str, typer.Option(help="Architecture: deep_potential, or cluster_expansion for few labels.")
    ] = "deep_potential",
    batch: Annotated[
        int | None,
        typer.Option(min=1, help="Frames a step; default: so many as suit the architecture."),
    ] = None,
    cutoff_A: Annotated[
        float | None, typer.Option("--cutoff-A", min=1.0, max=12.0, help="Cutoff in Å.")
    ] = None,
    ensemble_size: Annotated[int, typer.Option(min=1, max=16, help="Members.")] = 4,
    held_out: Annotated[
        float, typer.Option(min=0.0, max=0.9, help="Share of the frames kept for a test.")
    ] = 0.1,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    mixed: Annotated[
        bool, typer.Option("--mixed-principles", help="Take data of several principles together.")
    ] = False,
) -> None:
    """Train a potential from labelled data alone; the same command again resumes.

    Beside the model stand its learning curve, as CSV and PNG, and, until it is finished, a
    checkpoint.
    """
    begun = time.monotonic()
    from kepton.potential.from_data import Order, train_from_data
    from kepton.terminal import Terminal, errors_table

    if steps is None and time_limit_min is None:
        steps, time_limit_min = 40_000, 10.0
    order = Order(
        data,
        out,
        steps,
        time_limit_min,
        batch,
        cutoff_A,
        model,
        ensemble_size,
        held_out,
        seed,
        mixed,
    )
    try:
        with Terminal(console, None) as terminal:
            result = train_from_data(order, begun, terminal.training)
    except KeyboardInterrupt:
        _complain("Interrupted. The same command goes on from the last checkpoint.")
        sys.exit(INTERRUPTED)
    console.print(result.told)
    if result.errors:
        console.print(errors_table(result.errors))
    if result.failure:
        _complain(result.failure)
        raise typer.Exit(FAILED)


@app.command("test")
def test_(
    model: Annotated[Path, typer.Argument(help=MODEL)],
    data: Annotated[list[Path], typer.Argument(help="extxyz files and deepmd/npy folders.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,  # noqa: PT028
    exact: Annotated[bool, typer.Option("--exact", help=EXACT)] = False,  # noqa: PT028
) -> None:
    """Errors on labelled data: energy per atom, forces, virial; RMSE, MAE, max; per element."""
    from kepton.atoms.files import read_labelled
    from kepton.potential.assess import assess
    from kepton.potential.file import load_ensemble
    from kepton.terminal import errors_table

    ensemble, _ = load_ensemble(model, exact)
    errors = assess(ensemble, *read_labelled(data))
    if as_json:
        print(json.dumps(errors, indent=2))
    else:
        console.print(errors_table(errors))


@app.command()
def md(
    model: Annotated[Path, typer.Argument(help=MODEL)],
    structure: Annotated[Path, typer.Argument(help="Where to start: anything that ASE reads.")],
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
    exact: Annotated[bool, typer.Option("--exact", help=EXACT)] = False,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Molecular dynamics with a potential, watched by its ensemble."""
    from kepton.atoms.files import read_structures
    from kepton.potential.file import load_ensemble
    from kepton.potential.model_deviation import check_members
    from kepton.potential.molecular_dynamics import (
        Output,
        Settings,
        drift,
        remedy,
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
    )
    if max_deviation is not None:
        check_members(potential)
    if engine == Engine.LAMMPS:
        _lammps(out, model, potential, start, settings, steps)
        return
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
        _complain(
            "Interrupted. The same command with --restart goes on."
            if begun
            else "Interrupted before the first step."
        )
        sys.exit(INTERRUPTED)
    except OSError as error:
        _complain(
            f"The run cannot be written: {error}. Its files hold whole frames; free some space, or "
            "correct the permissions, and the same command with --restart goes on."
        )
        raise typer.Exit(FAILED) from error
    told = f"{out}: {walk.told(potential.size)}"
    if walk.frames:
        told += f"; drift {drift(output.table, len(start))}"
    console.print(f"{told}.")
    if walk.step < steps and not walk.exploded:
        _complain(
            f"Stopped: the ensemble disagrees by more than {max_deviation:g} eV/Å. The last frame "
            "is worth a label."
        )
        raise typer.Exit(BUDGET_ENDED)
    if walk.step < steps or walk.exploded:
        _complain(
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


@app.command()
def relax(
    model: Annotated[Path, typer.Argument(help=MODEL)],
    structure: Annotated[Path, typer.Argument(help="Where to start: anything that ASE reads.")],
    out: Annotated[Path, typer.Option(help="The structure to write: anything that ASE writes.")],
    cell: Annotated[
        Cell | None, typer.Option(help="What of the cell to relax too; default: nothing.")
    ] = None,
    pressure_GPa: Annotated[float, typer.Option("--pressure-GPa")] = 0.0,
    force_eV_A: Annotated[
        float, typer.Option("--force-eV-A", min=1e-5, help="On no atom more is left.")
    ] = 0.01,
    steps: Annotated[int, typer.Option(min=1, help="At most.")] = 1000,
    exact: Annotated[bool, typer.Option("--exact", help=EXACT)] = False,
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
        _complain("The forces are no longer finite numbers; give a start whose atoms are apart.")
        raise typer.Exit(FAILED)
    write(out, [now.atoms])
    pressure = f", {now.pressure_GPa:.4g} GPa" if now.pressure_GPa == now.pressure_GPa else ""
    console.print(
        f"{out}: {step} steps, {now.atoms.get_potential_energy():.6f} eV, largest force "
        f"{now.force:.3g} eV/Å{pressure}."
    )
    if not now.converged:
        _complain("More --steps are needed, or a larger --force-eV-A; the structure is written.")
        raise typer.Exit(BUDGET_ENDED)


@app.command()
def validate(
    directory: Annotated[Path, typer.Argument(help="Directory of a campaign.")],
    campaign: Annotated[
        Path | None, typer.Option(help="Its file, where it was moved since.")
    ] = None,
) -> None:
    """Properties of a crystal by the potential and by its principle, side by side."""
    from kepton.terminal import Terminal, properties_table
    from kepton.validation import validate

    with Terminal(console, None) as terminal:
        compared = validate(directory, campaign, terminal)
    console.print(properties_table(compared))
    console.print(f"{directory / 'report.html'}")


@app.command()
def convert(
    source: Annotated[
        Path,
        typer.Argument(help="extxyz, a deepmd/npy folder, what ASE reads; or a model file."),
    ],
    target: Annotated[Path, typer.Argument(help="Its suffix tells the format; none: deepmd/npy.")],
) -> None:
    """Convert labelled data (extxyz, deepmd/npy, ASE) or models (.kepton, .dp, .yaml)."""
    from kepton.atoms.files import convert
    from kepton.potential.conversion import convert_model, is_model

    if is_model(source) or is_model(target):
        converted = convert_model(source, target)
        for line in (*converted.files, *converted.remarks):
            console.print(f"{line}")
        return
    convert(source, target)
    console.print(f"{target}")


@closure_app.command()
def solve(
    model: Annotated[Path, typer.Argument(help="A closure: what `kepton run` made.")],
    initial: Annotated[
        Path, typer.Argument(help="TOML or JSON: density, velocity, temperature of every cell.")
    ],
    knudsen: Annotated[float, typer.Option(help="Mean free time; the domain is 1 long.")],
    time: Annotated[float, typer.Option(min=0.0, help="Until when.")],
    out: Annotated[Path, typer.Option(help="The table to write (CSV).")],
) -> None:
    """Solve the closed moment equations from your initial data, watched by the ensemble."""
    from kepton.atoms.replacing import write_whole
    from kepton.closure.file import load_closure
    from kepton.closure.initial_file import read_case, table
    from kepton.closure.use import solved

    ensemble, info = load_closure(model)
    case = read_case(initial, knudsen)
    solution, deviation = solved(ensemble, case, time)
    if solution is None:
        _complain(
            "The solution broke: a density or a temperature is no longer positive. The gas is too "
            "far from what a closure of this order can hold; learn one of a higher [model] order."
        )
        raise typer.Exit(FAILED)
    write_whole(out, table(solution).encode())
    known = info.get("certificate", {}).get("conditions", {})
    low, high = known.get("knudsen", (0.0, float("inf")))
    if not low <= knudsen <= high or time > max(known.get("times", [time])):
        stderr.print(
            f"Beware: the closure was learnt for Kn from {low:g} to {high:g} and times up to "
            f"{max(known['times']):g}."
        )
    console.print(f"{out}: {case.cells} cells at t = {time:g}; deviation {deviation:.2g}.")


@principle_app.command()
def converge(
    structure: Annotated[Path, typer.Argument(help="A periodic structure: anything ASE reads.")],
    kind: Annotated[str, typer.Option(help="espresso, cp2k, abinit or gpaw.")] = "espresso",
    xc: Annotated[str, typer.Option(help="Functional: pbe, lda, ...")] = "pbe",
    accuracy: Annotated[str, typer.Option(help="What is held while the other varies.")] = "normal",
    pseudopotentials: Annotated[
        Path | None, typer.Option(help="Folder of UPF files, for espresso; default: Debian's.")
    ] = None,
    force: Annotated[float, typer.Option(min=0.0, help="Wanted error of forces, meV/Å.")] = 10.0,
    stress: Annotated[float, typer.Option(min=0.0, help="Wanted error of stress, GPa.")] = 0.2,
) -> None:
    """Errors of a periodic engine against cutoff and k-points, and what to choose."""
    from kepton.atoms import Frames
    from kepton.atoms.files import read_structures
    from kepton.principles import PERIODIC
    from kepton.principles.convergence import converge, recommended
    from kepton.terminal import convergence_table

    if kind not in PERIODIC:
        raise InputError(
            f"--kind {kind} has no cutoff and mesh of k-points{did_you_mean(kind, PERIODIC)}; give "
            f"one of {', '.join(PERIODIC)}."
        )
    settings: dict[str, Any] = {"xc": xc, "accuracy": accuracy}
    if pseudopotentials is not None:
        if kind != "espresso":
            raise InputError(f"--pseudopotentials is for espresso; {kind} has its own.")
        settings["pseudopotentials"] = pseudopotentials
    frames = Frames.from_ase([read_structures(structure)[-1]])
    principle = PERIODIC[kind](**settings)
    principle.check(frames)
    for name, rows in converge(principle, frames, progress=stderr.print):
        console.print(convergence_table(name, rows))
        best = recommended(rows, force, stress)
        told = (
            ", ".join(f"{setting} = {value:g}" for setting, value in best.cutoffs.items())
            if name == "cutoff"
            else f"a mesh of {' x '.join(map(str, best.mesh))}"
        )
        console.print(f"Within {force:g} meV/Å and {stress:g} GPa of the finest: {told}.")


@lammps_app.command()
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


@app.command()
def doctor() -> None:
    """What works on this machine, and how to get what does not."""
    import jax

    import kepton
    from kepton.kernels import library
    from kepton.principles.registry import doctor

    table = Table("", "works", "", title=f"Kepton {kepton.__version__}")
    for name, (works, how) in doctor().items():
        table.add_row(f"principle {name}", "yes" if works else "no", how)
    devices = sorted({device.platform for device in jax.devices()})
    table.add_row("JAX", "yes", f"{jax.__version__} on {', '.join(devices)}")
    if library():
        table.add_row("kernels", "yes", "compiled; Deep Potentials and neighbour lists use them")
    else:
        table.add_row("kernels", "no", "XLA does the same, slower: with a C++ compiler, reinstall")
    if devices == ["cpu"]:
        table.add_row("accelerator", "no", "on a machine with one: pip install 'kepton[gpu]'")
    console.print(table)


if __name__ == "__main__":
    main()
