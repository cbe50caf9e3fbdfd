"""Properties of a crystal, by whoever answers with energies, forces and stresses.

A potential and its principle go through the same programs, so that what differs is theirs. Cells
and meshes are those of the structure given: this compares two answers, it converges neither.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import ase
import numpy as np
from ase.eos import EquationOfState
from ase.stress import (
    full_3x3_to_voigt_6_stress,
)
from jaxtyping import Float

from kepton.atoms.crystals import slab
from kepton.atoms.units import GIGAPASCAL
from kepton.errors import InputError


@dataclass(frozen=True)
class Answer:
    """What is said of one configuration: energy in eV, forces in eV/Å, stress in eV/Å^3."""

    energy: float
    forces: Float[np.ndarray, "n 3"]
    stress: Float[np.ndarray, "3 3"]


Answers = Callable[[Sequence[ase.Atoms]], list[Answer]]
"""Answers to some configurations, in order"""

STRETCHES = np.linspace(-0.018, 0.018, 7)
"""Of lengths, along the equation of state: about -5 to +5 % in volume"""
STRAIN = 0.005
"""Of the elastic constants, both ways"""
AT_REST = 0.005
"""eV/Å, below which atoms in a strained cell have found their places"""
RELAXATIONS = 8
STIFF = 15.0
"""eV/Å^2, a first guess of how bonds resist"""
DISPLACED = 0.01
"""Å, of phonons"""
REPEAT = 2
"""Primitive cells of phonons' supercell along each vector"""
POINTS = {"edge": (0.5, 0.5, 0.0), "face": (0.5, 0.0, 0.0), "corner": (0.5, 0.5, 0.5)}
"""What such a supercell holds beside the zone centre, in primitive reciprocal vectors"""
FEWEST = 16
"""Atoms around a vacancy, at least"""
THICK, VACUUM = 10.0, 10.0
"""Å, of slabs: at least, and between them"""
CUBIC, BCC, HCP = 195, 229, 194
"""Space groups: the first of the cubic system, and those of two prototypes"""
JOULE_PER_M2 = 16.02176634
"""J/m^2 of one eV/Å^2"""


def properties(answers: Answers, crystal: ase.Atoms) -> dict[str, float]:
    """All of them, each at the equilibrium that these answers have; names end in their units.

    Vacancy and surface are those of elements. Angles and internal places are as in the structure
    given, but for the elastic constants.

    Raises:
        InputError: phonopy is not installed, or the structure is not near to equilibrium
    """
    symmetry = Symmetry.of(crystal)
    stretch, bulk = equation_of_state(answers, crystal)
    told = {"a_A": stretch * float(symmetry.conventional.cell.lengths()[0]), "B_GPa": bulk}
    here = _deformed(crystal, stretch * np.eye(3))
    told |= elastic_constants(answers, here, symmetry.group >= CUBIC)
    told |= phonons(answers, _deformed(symmetry.primitive, stretch * np.eye(3)))
    if len(set(crystal.numbers)) == 1:
        told |= vacancy(answers, here)
        conventional = _deformed(symmetry.conventional, stretch * np.eye(3))
        told |= surface_energy(answers, conventional, symmetry.close_packed)
    return told


@dataclass(frozen=True)
class Symmetry:
    """What spglib finds of a crystal: number of its space group, primitive, conventional cell."""

    group: int
    primitive: ase.Atoms
    conventional: ase.Atoms

    @staticmethod
    def of(crystal: ase.Atoms) -> "Symmetry":
        """The symmetry of a structure.

        Raises:
            InputError: phonopy, which brings spglib, is not installed
        """
        _phonopy()
        import spglib

        cell: Any = (crystal.cell.array, crystal.get_scaled_positions(), crystal.numbers)
        found = spglib.get_symmetry_dataset(cell, symprec=TOLERANCE)
        if found is None:
            return Symmetry(1, crystal, crystal)

        def standard(to_primitive: bool) -> ase.Atoms:
            made = spglib.standardize_cell(cell, to_primitive=to_primitive, symprec=TOLERANCE)
            assert made is not None
            vectors, places, numbers = made
            return ase.Atoms(numbers, cell=vectors, scaled_positions=places, pbc=True)

        return Symmetry(int(found.number), standard(True), standard(False))

    @property
    def close_packed(self) -> tuple[int, int, int]:
        """The closest packed face of the prototype, as of fcc and diamond where it is another."""
        return {BCC: (1, 1, 0), HCP: (0, 0, 1)}.get(self.group, (1, 1, 1))


TOLERANCE = 1e-3
"""Å, of symmetry"""


def equation_of_state(answers: Answers, crystal: ase.Atoms) -> tuple[float, float]:
    """Equilibrium at 0 K by the equation of Birch and Murnaghan, atoms moving with the cell.

    Returns: its lengths in units of those given, and the bulk modulus in GPa

    Raises:
        InputError: energies without a minimum in the range
    """
    cells = [_deformed(crystal, (1.0 + s) * np.eye(3)) for s in STRETCHES]
    energies = [answer.energy for answer in answers(cells)]
    try:
        v0, _, bulk = EquationOfState(
            [cell.get_volume() for cell in cells], energies, "birchmurnaghan"
        ).fit()
    except (ValueError, RuntimeError) as error:
        raise InputError(
            f"The energy has no minimum within 5 % of the crystal's volume ({error}); give a "
            "structure nearer to equilibrium."
        ) from error
    return float(np.cbrt(v0 / crystal.get_volume())), float(bulk / GIGAPASCAL)


def elastic_constants(answers: Answers, crystal: ase.Atoms, cubic: bool) -> dict[str, float]:
    """Elastic constants at 0 K, atoms relaxed in each strained cell.

    C_ij = (sigma_i(+e_j) - sigma_i(-e_j)) / 2 e        Voigt's notation, shears e_j = 2 e_yz

    Args:
        crystal: at its equilibrium, so that stresses vanish
        cubic: of a cubic crystal C11, C12 and C44 alone; of others nine
    """
    directions = (0, 3) if cubic else tuple(range(6))
    cells = [
        _deformed(crystal, np.eye(3) + sign * STRAIN * _voigt(j))
        for j in directions
        for sign in (1.0, -1.0)
    ]
    stresses = [full_3x3_to_voigt_6_stress(answer.stress) for answer in relaxed(answers, cells)]
    columns = {
        j: (stresses[2 * k] - stresses[2 * k + 1]) / (2 * STRAIN * GIGAPASCAL)
        for k, j in enumerate(directions)
    }
    if cubic:
        return {
            "C11_GPa": float(columns[0][0]),
            "C12_GPa": float(columns[0][[1, 2]].mean()),
            "C44_GPa": float(columns[3][3]),
        }
    matrix = np.column_stack([columns[j] for j in range(6)])
    matrix = 0.5 * (matrix + matrix.T)
    pairs = ((1, 1), (2, 2), (3, 3), (4, 4), (5, 5), (6, 6), (1, 2), (1, 3), (2, 3))
    return {f"C{i}{j}_GPa": float(matrix[i - 1, j - 1]) for i, j in pairs}


def relaxed(answers: Answers, cells: Sequence[ase.Atoms]) -> list[Answer]:
    """Answers when all atoms have found their places, cells held: Broyden's method.

    x <- x + H F;   H <- H + (s - H y) s H / (s H y)      s, y -> what x and -F changed by

    Raises:
        InputError: forces that do not vanish in RELAXATIONS steps
    """
    cells = [cell.copy() for cell in cells]
    found = answers(cells)
    softness = [np.eye(3 * len(cell)) / STIFF for cell in cells]
    for _ in range(RELAXATIONS):
        moving = [i for i, a in enumerate(found) if np.abs(_centred(a.forces)).max() > AT_REST]
        if not moving:
            return found
        steps = {i: softness[i] @ _centred(found[i].forces).ravel() for i in moving}
        for i, step in steps.items():
            cells[i].positions += step.reshape(-1, 3)
        for i, answer in zip(moving, answers([cells[i] for i in moving])):
            change = (_centred(found[i].forces) - _centred(answer.forces)).ravel()
            back = steps[i] @ softness[i]
            softness[i] += np.outer(steps[i] - softness[i] @ change, back) / (back @ change)
            found[i] = answer
    raise InputError(
        f"Atoms in a strained cell did not come to rest within {RELAXATIONS} steps; give a "
        "structure nearer to equilibrium."
    )


def phonons(answers: Answers, primitive: ase.Atoms) -> dict[str, float]:
    """Highest and lowest frequencies at points of the reciprocal cell that a supercell holds.

    At the zone centre, in the middle of a face and an edge, and at a corner, by finite
    displacements, of which phonopy finds the fewest; negative where imaginary.

    Source:  Togo, J. Phys. Soc. Jpn. 92, 012001 (2023)
    """
    phonopy, atoms_of = _phonopy()
    cell = atoms_of(
        numbers=primitive.numbers,
        scaled_positions=primitive.get_scaled_positions(),
        cell=primitive.cell.array,
    )
    springs = phonopy(cell, REPEAT * np.eye(3, dtype=int), log_level=0)
    springs.generate_displacements(distance=DISPLACED)
    displaced = [
        ase.Atoms(s.numbers, cell=s.cell, scaled_positions=s.scaled_positions, pbc=True)
        for s in springs.supercells_with_displacements
    ]
    springs.forces = [answer.forces for answer in answers(displaced)]
    springs.produce_force_constants()
    springs.symmetrize_force_constants()
    centre, *others = springs.run_qpoints([(0.0, 0.0, 0.0), *POINTS.values()]).frequencies
    told = {}
    if len(primitive) > 1:
        told["phonon_centre_highest_THz"] = float(centre.max())
    for name, bands in zip(POINTS, others):
        told[f"phonon_{name}_lowest_THz"] = float(bands.min())
        told[f"phonon_{name}_highest_THz"] = float(bands.max())
    return told


def vacancy(answers: Answers, crystal: ase.Atoms) -> dict[str, float]:
    """Energy to take one atom out of a supercell and put it into the crystal, atoms held.

    E = E(N - 1) - (N - 1) / N E(N)        of an element
    """
    whole = crystal.copy()
    while len(whole) < FEWEST:
        shortest = int(np.argmin(whole.cell.lengths()))
        whole = whole.repeat(np.where(np.arange(3) == shortest, 2, 1))
    hollow = whole.copy()
    del hollow[0]
    full, less = answers([whole, hollow])
    return {"vacancy_eV": float(less.energy - (len(whole) - 1) / len(whole) * full.energy)}


def surface_energy(
    answers: Answers, conventional: ase.Atoms, miller: tuple[int, int, int]
) -> dict[str, float]:
    """Energy of a surface as it is cut.

    gamma = (E_slab - N E_crystal) / 2 A        of an element; E_crystal of an atom
    """
    cut = slab(conventional, miller, THICK, VACUUM)
    smallest = Symmetry.of(cut).primitive
    of_slab, of_crystal = answers([smallest, conventional])
    area = np.linalg.norm(np.cross(*cut.cell.array[:2])) * len(smallest) / len(cut)
    excess = of_slab.energy - len(smallest) / len(conventional) * of_crystal.energy
    name = "surface_" + "".join(map(str, miller)) + "_J_per_m2"
    return {name: float(excess / (2 * area) * JOULE_PER_M2)}


def _phonopy() -> tuple[Any, Any]:
    try:
        from phonopy import Phonopy
        from phonopy.structure.atoms import PhonopyAtoms
    except ImportError as error:
        raise InputError(
            f"Phonons and symmetry need phonopy ({error}); run: pip install 'kepton[solids]'"
        ) from error
    return Phonopy, PhonopyAtoms


def _deformed(atoms: ase.Atoms, by: np.ndarray) -> ase.Atoms:
    atoms = atoms.copy()
    atoms.set_cell(atoms.cell.array @ by, scale_atoms=True)
    return atoms


def _voigt(j: int) -> np.ndarray:
    """The strain tensor of one component in Voigt's notation."""
    strain = np.zeros((3, 3))
    a, b = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))[j]
    strain[a, b] += 0.5
    strain[b, a] += 0.5
    return strain


def _centred(forces: np.ndarray) -> np.ndarray:
    return forces - forces.mean(axis=0)
