"""Trajectory files that grow by whole frames, and can be cut back to an earlier one."""

import io
from abc import ABC, abstractmethod
from pathlib import Path

import ase
import ase.io
import numpy as np
from ase.units import fs
from scipy.io import netcdf_file

from kepton.errors import InputError


class Stream:
    """A file that only grows, by whole pieces.

    Args:
        path: the file
        size: bytes of it to keep, from an earlier run; none: begin anew
    Raises:
        InputError: fewer bytes than that are there
        OSError: it cannot be written
    """

    def __init__(self, path: Path, size: int | None = None):
        self.path, self.size = path, size or 0
        there = path.stat().st_size if path.is_file() else 0
        if self.size > there:
            raise InputError(
                f"{path} has {there} bytes, and the run that is to go on had written {size}; bring "
                "the file back, or begin anew without --restart."
            )
        self.file = path.open("r+b" if path.is_file() else "w+b")
        self.file.truncate(self.size)

    def append(self, piece: bytes) -> None:
        """Add a piece, whole or not at all.

        Raises:
            OSError: it cannot be written; what was there before stays
        """
        try:
            self.put(self.size, piece)
        except OSError:
            self.file = self.path.open("r+b")  # what a full disk left in the buffer is dropped
            self.file.truncate(self.size)
            raise
        self.size += len(piece)

    def put(self, place: int, piece: bytes) -> None:
        """Write at a place, down to the operating system."""
        self.file.seek(place)
        self.file.write(piece)
        self.file.flush()


class Trajectory(ABC):
    """Frames in a file, each whole or not there, whenever the process is killed.

    Args:
        path: the file
        first: the first frame, from which the file knows what all frames have in common
        size: bytes of it to keep, from an earlier run; none: begin anew
    """

    def __init__(self, path: Path, first: ase.Atoms, size: int | None = None):  # noqa: ARG002
        self.stream = Stream(path, size)

    @abstractmethod
    def append(self, atoms: ase.Atoms) -> None:
        """Add a frame; `atoms.info["time_fs"]` is its time."""


class Extxyz(Trajectory):
    """Text that nearly everything reads: all that the atoms hold, 8 decimals."""

    def append(self, atoms: ase.Atoms) -> None:
        """Add a frame."""
        text = io.StringIO()
        ase.io.write(text, atoms, format="extxyz")
        self.stream.append(text.getvalue().encode())


class AmberNetcdf(Trajectory):
    """Amber's NetCDF convention, single precision: time, positions, velocities and cell.

    MDAnalysis, OVITO, VMD, MDTraj and cpptraj read it. A record is added behind the others, and
    then the number of records raised, so that readers see whole records only. The cell's first
    vector is turned to x and its second to the xy plane, and positions with it: the format knows
    lengths and angles alone.

    Source: AMBER NetCDF Trajectory/Restart Convention, version 1.0B
    """

    def __init__(self, path: Path, first: ase.Atoms, size: int | None = None):
        super().__init__(path, first, size)
        n, cell = len(first), bool(first.pbc.any())
        fields = [("time", ">f4"), ("coordinates", ">f4", (n, 3)), ("velocities", ">f4", (n, 3))]
        if cell:
            fields += [("cell_lengths", ">f8", 3), ("cell_angles", ">f8", 3)]
        self.record = np.dtype(fields)
        header = _amber_header(n, cell)[: -self.record.itemsize]
        self.start = len(header)
        if size is None:
            self.stream.append(header)
        self._count()

    def append(self, atoms: ase.Atoms) -> None:
        """Add a frame."""
        lower, turn = atoms.cell.standard_form() if atoms.pbc.any() else (atoms.cell, np.eye(3))
        record = np.zeros((), self.record)
        record["time"] = atoms.info["time_fs"] / 1000
        record["coordinates"] = atoms.positions @ turn.T
        record["velocities"] = atoms.get_velocities() @ turn.T * AMBER_VELOCITY
        if atoms.pbc.any():
            record["cell_lengths"], record["cell_angles"] = lower.lengths(), lower.angles()
        self.stream.append(record.tobytes())
        self._count()

    def _count(self) -> None:
        records = (self.stream.size - self.start) // self.record.itemsize
        self.stream.put(4, records.to_bytes(4, "big"))


AMBER_VELOCITY = 1000 * fs / 20.455
"""From ASE's unit of velocity to the file's, whose scale factor 20.455 makes Å/ps of it"""


def _amber_header(atoms: int, cell: bool) -> bytes:
    """A file of one record of zeros, by which scipy knows the sizes; its fields stand in order."""
    buffer = io.BytesIO()
    file = netcdf_file(buffer, "w", version=2)
    for name, value in (
        ("Conventions", "AMBER"),
        ("ConventionVersion", "1.0"),
        ("program", "Kepton"),
        ("programVersion", "1"),
    ):
        setattr(file, name, value)
    sizes = {"frame": None, "atom": atoms, "spatial": 3, "cell_spatial": 3, "cell_angular": 3}
    for name, size in sizes.items():
        file.createDimension(name, size)
    of_atoms = ("frame", "atom", "spatial")
    variables = [
        ("time", "f", ("frame",), "picosecond"),
        ("coordinates", "f", of_atoms, "angstrom"),
    ]
    variables += [("velocities", "f", of_atoms, "angstrom/picosecond")]
    if cell:
        variables += [("cell_lengths", "d", ("frame", "cell_spatial"), "angstrom")]
        variables += [("cell_angles", "d", ("frame", "cell_angular"), "degree")]
    for name, kind, dimensions, units in variables:
        variable = file.createVariable(name, kind, dimensions)
        variable.units = units
        if name == "velocities":
            variable.scale_factor = 20.455
        variable[0] = 0.0
    file.flush()
    return buffer.getvalue()


FORMATS: dict[str, type[Trajectory]] = {".extxyz": Extxyz, ".xyz": Extxyz, ".nc": AmberNetcdf}


def trajectory_format(path: Path) -> type[Trajectory]:
    """The format that a path's suffix tells.

    Raises:
        InputError: a suffix of no such format
    """
    if path.suffix.lower() not in FORMATS:
        raise InputError(
            f"{path}: a trajectory is written as {', '.join(FORMATS)} (extxyz, or Amber's NetCDF); "
            "give a name that ends so."
        )
    return FORMATS[path.suffix.lower()]
