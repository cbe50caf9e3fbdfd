"""Frames, the one data type for atoms; units, files, neighbour lists."""

from kepton.atoms.files import (
    convert,
    read_labelled,
    read_structures,
    read_systems,
    write_labelled,
)
from kepton.atoms.frames import (
    GAP,
    Frames,
    Label,
    concatenate,
    concatenate_labels,
    gaps,
    split,
)

__all__ = [
    "GAP",
    "Frames",
    "Label",
    "concatenate",
    "concatenate_labels",
    "convert",
    "gaps",
    "read_labelled",
    "read_structures",
    "read_systems",
    "split",
    "write_labelled",
]
