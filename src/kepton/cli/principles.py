"""First principles and the machine: principle converge, doctor."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from kepton.cli.console import console, stderr
from kepton.errors import InputError, did_you_mean


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


def doctor() -> None:
    """What works on this machine, and how to get what does not."""
    import jax

    import kepton
    from kepton.kernels import library
    from kepton.potential.fused import serves
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
    else:
        how = "kernels" if serves() else "XLA alone"
        kind = jax.devices()[0].device_kind
        table.add_row("accelerator", "yes", f"{kind}; neighbours are summed over by {how}")
    console.print(table)
