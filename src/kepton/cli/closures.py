"""Learned moment closures: closure solve."""

from pathlib import Path
from typing import Annotated

import typer

from kepton.cli.console import FAILED, complain, console, stderr


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
        complain(
            "The solution broke: a density or a temperature is no longer positive. The gas is too "
            "far from what a closure of this order can hold; learn one of a higher [model] order."
        )
        raise typer.Exit(FAILED)
    write_whole(out, table(solution, ensemble.equation.dimensions).encode())
    known = info.get("certificate", {}).get("conditions", {})
    low, high = known.get("knudsen", (0.0, float("inf")))
    if not low <= knudsen <= high or time > max(known.get("times", [time])):
        stderr.print(
            f"Beware: the closure was learnt for Kn from {low:g} to {high:g} and times up to "
            f"{max(known['times']):g}."
        )
    console.print(f"{out}: {case.cells} cells at t = {time:g}; deviation {deviation:.2g}.")
