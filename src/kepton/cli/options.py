"""Arguments and options that several commands take."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

Model = Annotated[
    Path, typer.Argument(help="A model file: .kepton, or .dp and .yaml of DeePMD-kit.")
]
Exact = Annotated[
    bool, typer.Option("--exact", help="Evaluate the nets at every neighbour, in float64.")
]
Directory = Annotated[Path, typer.Argument(help="Directory of a campaign.")]
Start = Annotated[Path, typer.Argument(help="Where to start: anything that ASE reads.")]


class Cell(StrEnum):
    """What of a cell may change: its volume; lengths along x, y and z; lengths and angles."""

    ISOTROPIC = "isotropic"
    AXES = "axes"
    FULL = "full"
