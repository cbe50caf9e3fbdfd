"""`Frames` and `Label`: a batch of configurations, and what a principle says of them."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import ase
import jax
import numpy as np
from ase.data import atomic_masses, chemical_symbols
from jaxtyping import Array, Bool, Float, Int

from kepton.errors import InputError

if TYPE_CHECKING:
    Real = Any  # checkers see through no union of array types; the tests check it at run time
else:
    Real = Array | np.ndarray


GAP = 6.0
"""Å without atoms along a direction, across which nothing is taken to be periodic"""


def _composition(species: np.ndarray) -> tuple[tuple[int, int], ...]:
    """((atomic number, largest count in any frame), ...)."""
    present = sorted(int(z) for z in np.unique(species) if z > 0)
    return tuple((z, int((species == z).sum(axis=1).max())) for z in present)


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["positions", "species", "cell", "pbc", "mask", "charge", "spin"],
    meta_fields=["composition"],
)
@dataclass(frozen=True)
class Frames:
    """A batch of b configurations of at most n atoms, padded: the one data type for atoms.

    Args:
        positions: Å
        species: atomic numbers, 0 where padded
        cell: rows are the cell vectors, Å; zero when not periodic
        pbc: periodic along each cell vector
        mask: true for atoms, false for padding
        charge: net charge of each frame, in e
        spin: number of unpaired electrons of each frame
        composition: (atomic number, largest count in a frame) for each element, in order; static
    """

    positions: Float[Real, "b n 3"]
    species: Int[Real, "b n"]
    cell: Float[Real, "b 3 3"]
    pbc: Bool[Real, "b 3"]
    mask: Bool[Real, "b n"]
    charge: Int[Real, "b"]
    spin: Int[Real, "b"]
    composition: tuple[tuple[int, int], ...] = field(default=())

    def __len__(self) -> int:
        return self.positions.shape[0]

    def __getitem__(self, index) -> "Frames":
        """The frames that a slice, an array of indices or of booleans selects (not an integer)."""
        return jax.tree.map(lambda leaf: leaf[index], self)

    def with_positions(self, positions) -> "Frames":
        """The same atoms elsewhere."""
        return replace(self, positions=positions)

    def tile(self, count: int) -> "Frames":
        """Each frame `count` times, all copies of a frame together."""
        return jax.tree.map(lambda leaf: np.repeat(np.asarray(leaf), count, axis=0), self)

    @staticmethod
    def of(positions: Real, species: Real, cell: Real, pbc: Real, charge: Real, spin: Real):
        """Frames from arrays; mask and composition follow from the species.

        Where `species` is one row seen b times (`np.broadcast_to`), so is the mask.
        """
        rows = np.asarray(species)
        rows = rows[:1] if rows.strides[0] == 0 else rows
        mask = np.broadcast_to(rows > 0, species.shape) if len(rows) < len(species) else rows > 0
        return Frames(positions, species, cell, pbc, mask, charge, spin, _composition(rows))

    @staticmethod
    def from_ase(structures: Sequence[ase.Atoms]) -> "Frames":
        """Frames from ASE's atoms; charge and spin from `info` or from initial values.

        `info["charge"]`, `info["spin"]` (unpaired electrons) or `info["multiplicity"]` are read
        where present, else the sums of initial charges and of initial magnetic moments.

        Raises:
            InputError: no structure, or a structure without atoms
        """
        if not structures or any(len(atoms) == 0 for atoms in structures):
            raise InputError("A structure has no atoms; give at least one atom.")
        b, n = len(structures), max(len(atoms) for atoms in structures)
        positions, species = np.zeros((b, n, 3)), np.zeros((b, n), int)
        cell, pbc = np.zeros((b, 3, 3)), np.zeros((b, 3), bool)
        charge, spin = np.zeros(b, int), np.zeros(b, int)
        for i, atoms in enumerate(structures):
            positions[i, : len(atoms)] = atoms.positions
            species[i, : len(atoms)] = atoms.numbers
            pbc[i] = atoms.pbc
            cell[i] = atoms.cell.array if atoms.pbc.any() else 0.0
            charge[i], spin[i] = _charge_and_spin(atoms)
        return Frames.of(positions, species, cell, pbc, charge, spin)

    def to_ase(self) -> list[ase.Atoms]:
        """ASE's atoms, charge and spin in `info` where they are not zero."""
        structures = []
        for i in range(len(self)):
            real = np.asarray(self.mask[i])
            info = {
                name: int(value)
                for name, value in (("charge", self.charge[i]), ("spin", self.spin[i]))
                if value
            }
            structures.append(
                ase.Atoms(
                    np.asarray(self.species[i])[real],
                    np.asarray(self.positions[i])[real],
                    cell=np.asarray(self.cell[i]),
                    pbc=np.asarray(self.pbc[i]),
                    info=info,
                )
            )
        return structures

    @property
    def masses(self) -> Float[np.ndarray, "b n"]:
        """Standard atomic masses in amu, 1 where padded."""
        return np.where(np.asarray(self.mask), atomic_masses[np.asarray(self.species)], 1.0)

    @property
    def symbols(self) -> tuple[str, ...]:
        """Chemical symbols of the elements present, by atomic number."""
        return tuple(chemical_symbols[z] for z, _ in self.composition)


def _charge_and_spin(atoms: ase.Atoms) -> tuple[int, int]:
    charge = round(float(atoms.info.get("charge", atoms.get_initial_charges().sum())))
    if "spin" in atoms.info:
        return charge, int(atoms.info["spin"])
    if "multiplicity" in atoms.info:
        return charge, int(atoms.info["multiplicity"]) - 1
    return charge, round(abs(float(atoms.get_initial_magnetic_moments().sum())))


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["energy", "forces", "virial"],
    meta_fields=["engine"],
)
@dataclass(frozen=True)
class Label:
    """What a principle answers for Frames: the energy, and its own negative derivatives.

    F_i = -dE/dx_i        W = -dE/d strain        (under smearing, E is the free energy)

    Where each member of an ensemble answers, or learns from an answer of its own, all have one more
    axis at the end.

    Args:
        energy: eV
        forces: eV/Å, zero where padded; nan in a frame without forces
        virial: eV, positive under compression; nan where the principle gives none
        engine: name and version of the engine that answered
    """

    energy: Float[Real, "b *k"]
    forces: Float[Real, "b n 3 *k"]
    virial: Float[Real, "b 3 3 *k"]
    engine: str = ""

    def of_cells(self, frames: Frames) -> "Label":
        """The same with virials of frames that are periodic along all vectors, nan for others."""
        periodic = np.asarray(frames.pbc).all(axis=1)
        periodic = periodic.reshape(-1, *[1] * (np.ndim(self.virial) - 1))
        return replace(self, virial=np.where(periodic, self.virial, np.nan))

    @property
    def mean(self) -> "Label":
        """The mean of the members, or itself where there are none."""
        if np.ndim(self.energy) == 1:
            return self
        return jax.tree.map(lambda leaf: leaf.mean(axis=-1), self)

    def __len__(self) -> int:
        return self.energy.shape[0]

    def __getitem__(self, index) -> "Label":
        """The labels that a slice, an array of indices or of booleans selects (not an integer)."""
        return jax.tree.map(lambda leaf: leaf[index], self)


def gaps(frames: Frames) -> Float[np.ndarray, "3"]:
    """Widest layer without atoms across each cell vector of one periodic frame, Å."""
    (cell,) = np.asarray(frames.cell, float)
    inverse = np.linalg.inv(cell)
    scaled = np.sort(np.asarray(frames.positions[0]) @ inverse % 1.0, axis=0)
    widest = np.diff(scaled, axis=0, append=scaled[:1] + 1.0).max(axis=0)
    return widest / np.linalg.norm(inverse, axis=0)


def concatenate(batches: Sequence[Frames], atoms: int = 0) -> Frames:
    """One batch of all frames, padded to the largest, and to so many atoms at least."""
    n = max(atoms, *(frames.positions.shape[1] for frames in batches))
    joined = {
        name: np.concatenate([np.asarray(getattr(frames, name)) for frames in batches])
        for name in ("cell", "pbc", "charge", "spin")
    }
    return Frames.of(
        positions=np.concatenate([_pad_atoms(frames.positions, n) for frames in batches]),
        species=np.concatenate([_pad_atoms(frames.species, n) for frames in batches]),
        **joined,
    )


def split(frames: Frames) -> list[Frames]:
    """Every frame alone, its padding removed: the inverse of `concatenate`."""
    parts = []
    for f in range(len(frames)):
        atoms = int(np.sum(frames.mask[f]))
        one = jax.tree.map(np.asarray, frames[f : f + 1])
        parts.append(
            Frames.of(
                one.positions[:, :atoms],
                one.species[:, :atoms],
                one.cell,
                one.pbc,
                one.charge,
                one.spin,
            )
        )
    return parts


def concatenate_labels(labels: Sequence[Label], atoms: int = 0) -> Label:
    """One batch of all labels, padded like their frames; `engine` is the first one's."""
    n = max(atoms, *(label.forces.shape[1] for label in labels))
    return Label(
        energy=np.concatenate([np.asarray(label.energy) for label in labels]),
        forces=np.concatenate([_pad_atoms(label.forces, n) for label in labels]),
        virial=np.concatenate([np.asarray(label.virial) for label in labels]),
        engine=labels[0].engine,
    )


def _pad_atoms(values: Real, n: int) -> np.ndarray:
    """(b, m, ...) values of m atoms with zeros added for n - m more."""
    values = np.asarray(values)
    padded = np.zeros((len(values), n, *values.shape[2:]), values.dtype)
    padded[:, : values.shape[1]] = values
    return padded
