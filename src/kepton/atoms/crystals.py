"""Crystals from a few words, in supercells that a first principle can afford."""

import re

import ase
import numpy as np
from ase.build import bulk, make_supercell, surface
from ase.build.supercells import find_optimal_cell_shape
from ase.geometry import get_distances

from kepton.errors import InputError

FEWEST, MOST = 8, 32
"""Atoms of a supercell where the user does not say how many"""
THICK, WIDE, VACUUM = 6.0, 5.0, 10.0
"""Å, of a slab that is explored: thickness and width, at least, and the vacuum above it"""
GRID = 24
"""Places along each cell vector among which the largest hole is looked for"""


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
    return supercell(_unit(description, conventional=False), atoms)


def _unit(description: str, conventional: bool) -> ase.Atoms:
    """The primitive cell, or the conventional one where ASE knows it."""
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
        if conventional and primitive.cell.get_bravais_lattice().name in ("FCC", "BCC"):
            return bulk(formula, prototype, cubic=True, **sizes)
        return primitive
    except (
        Exception
    ) as error:  # ASE raises KeyError, ValueError, RuntimeError, ... for a wrong word
        raise InputError(
            f"crystal = {description!r} is not one that ASE can build "
            f"({type(error).__name__}: {error}); give prototype (fcc, bcc, hcp, diamond, "
            "zincblende, rocksalt, cesiumchloride, fluorite, wurtzite) and lattice constants in Å, "
            "such as 'NaCl rocksalt 5.64', or a file: structure = 'FILE'."
        ) from error


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


def vacancies(cell: ase.Atoms) -> list[ase.Atoms]:
    """The cell without one atom, for each element in it."""
    found = []
    for number in dict.fromkeys(cell.numbers.tolist()):
        less = cell.copy()
        del less[int(np.flatnonzero(cell.numbers == number)[0])]
        found.append(less)
    return found


def interstitials(cell: ase.Atoms) -> list[ase.Atoms]:
    """The cell with one atom more in its largest hole, for each element in it."""
    steps = np.moveaxis(np.indices((GRID,) * 3), 0, -1).reshape(-1, 3) / GRID
    places = steps @ cell.cell.array
    _, distances = get_distances(places, cell.positions, cell=cell.cell, pbc=cell.pbc)
    hole = places[int(np.argmax(distances.min(axis=1).round(6)))]
    found = []
    for number in dict.fromkeys(cell.numbers.tolist()):
        more = cell.copy()
        more.append(ase.Atom(number, hole))
        found.append(more)
    return found


def slab(unit: ase.Atoms, miller: tuple[int, int, int], thick: float, vacuum: float) -> ase.Atoms:
    """A slab of a crystal as it is cut, periodic along all vectors, the third across it.

    Args:    unit: what the indices refer to;  thick: Å, at least;  vacuum: Å
    """
    layers, cut = 1, surface(unit, miller, 1)
    while np.ptp(cut.positions[:, 2]) < thick:
        layers += 1
        cut = surface(unit, miller, layers)
    cut.center(vacuum=vacuum / 2, axis=2)
    cut.pbc = True
    return cut


def crystal_slab(description: str, indices: str) -> ase.Atoms:
    """A slab of a described crystal, thick and wide enough to be explored.

    Args:    description: as of `crystal`;  indices: Miller's, of the conventional cell: "111",
             "1-10", or four of a hexagonal one: "0001"
    Raises:  InputError: as `crystal`; indices that are none
    """
    unit = _unit(description, conventional=True)
    found = [int(index) for index in re.findall(r"-?\d", indices)]
    if len(found) == 4 and sum(found[:3]) == 0:
        del found[2]
    if len(found) != 3 or not any(found) or not re.fullmatch(r"(-?\d){3,4}", indices):
        raise InputError(
            f"surfaces: {indices!r} is not a plane of {description!r}; give Miller's indices, such "
            "as '111', '1-10' or of a hexagonal crystal '0001'."
        )
    h, k, l = found  # noqa: E741
    cut = slab(unit, (h, k, l), THICK, VACUUM)
    repeats = np.ceil(WIDE / cut.cell.lengths()[:2] - 1e-6).astype(int)
    return cut.repeat((*repeats.tolist(), 1))


def _deviation(cell: np.ndarray) -> float:
    """How far a cell is from a cube of its volume: |G / V^(2/3) - 1|, G its metric."""
    metric = cell @ cell.T / abs(np.linalg.det(cell)) ** (2 / 3)
    return float(np.linalg.norm(metric - np.eye(3)))


def _number(word: str) -> float:
    try:
        return float(word)
    except ValueError:
        return 0.0
