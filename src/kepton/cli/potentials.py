"""Potentials and their data: train, test, convert."""

import json
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from kepton.cli.console import FAILED, INTERRUPTED, complain, console
from kepton.cli.options import Exact, Model


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
    pretrained: Annotated[
        str | None,
        typer.Option(help="Begin with it: organic, for molecules, or a model file."),
    ] = None,
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
        pretrained,
    )
    try:
        with Terminal(console, None) as terminal:
            result = train_from_data(order, begun, terminal.training)
    except KeyboardInterrupt:
        complain("Interrupted. The same command goes on from the last checkpoint.")
        sys.exit(INTERRUPTED)
    console.print(result.told)
    if result.errors:
        console.print(errors_table(result.errors))
    if result.failure:
        complain(result.failure)
        raise typer.Exit(FAILED)


def test_(
    model: Model,
    data: Annotated[list[Path], typer.Argument(help="extxyz files and deepmd/npy folders.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,  # noqa: PT028
    exact: Exact = False,  # noqa: PT028
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
