"""Crystals from a few words, in supercells that a first principle can afford."""

import ase
import numpy as np
from ase.build import bulk, make_supercell
from ase.build.supercells import find_optimal_cell_shape

from kepton.errors import InputError

FEWEST, MOST = 8, 32
"""Atoms of a supercell where the user does not say how many"""


def crystal(description: str, atoms: int | None = None) -> ase.Atoms:
    """A crystal as a supercell that is nearly a cube.

    Args:
        description: formula, and where ASE does not know the element's own crystal, prototype and
            lattice constant in Å: "Si", "NaCl rocksalt 5.64", "Mg hcp 3.21 5.21"
        atoms: at most so many; none: of all supercells of 8 to 32 atoms the one nearest to a cube,
            the smallest of equals
    Raises:
        InputError: a description that ASE cannot follow
    """
    formula, *rest = description.split() or [""]
    prototype = rest.pop(0) if rest and not _number(rest[0]) else None
    lengths = [_number(word) for word in rest]
    if not formula or len(lengths) > 2 or not all(lengths):
        raise InputError(
            f"crystal = {description!r}: give a formula, then prototype and lattice constants (Å) "
            "where needed, such as 'Si', 'Cu fcc 3.61', 'NaCl rocksalt 5.64' or "
            "'Mg hcp 3.21 5.21'; or a file: structure = 'FILE'."
        )
    sizes = dict(zip(("a", "c"), lengths))
    try:
        primitive = bulk(formula, prototype, **sizes)
    except (
        Exception
    ) as error:  # ASE raises KeyError, ValueError, RuntimeError, ... for a wrong word
        raise InputError(
            f"crystal = {description!r} is not one that ASE can build "
            f"({type(error).__name__}: {error}); give prototype (fcc, bcc, hcp, diamond, "
            "zincblende, rocksalt, cesiumchloride, fluorite, wurtzite) and lattice constants in Å, "
            "such as 'NaCl rocksalt 5.64', or a file: structure = 'FILE'."
        ) from error
    return supercell(primitive, atoms)


def supercell(primitive: ase.Atoms, atoms: int | None = None) -> ase.Atoms:
    """The supercell nearest to a cube.

    Args:    atoms: at most so many, the largest of equals; none: 8 to 32 (one primitive cell where
             that is larger), the smallest of equals
    """
    own = len(primitive)
    counts = range(1, atoms // own + 1) if atoms else range(-(-FEWEST // own), MOST // own + 1)
    best_rank, shape = None, np.eye(3, dtype=int)
    for count in counts:
        found = find_optimal_cell_shape(primitive.cell, count, "sc", -1, 1, verbose=False)
        rank = (round(_deviation(found @ primitive.cell.array), 6), -count if atoms else count)
        if best_rank is None or rank < best_rank:
            best_rank, shape = rank, found
    return make_supercell(primitive, shape)


def _deviation(cell: np.ndarray) -> float:
    """How far a cell is from a cube of its volume: |G / V^(2/3) - 1|, G its metric."""
    metric = cell @ cell.T / abs(np.linalg.det(cell)) ** (2 / 3)
    return float(np.linalg.norm(metric - np.eye(3)))


def _number(word: str) -> float:
    try:
        return float(word)
    except ValueError:
        return 0.0
