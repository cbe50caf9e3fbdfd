"""The nearest minimum of the energy, or of the enthalpy where the cell may change."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import ase
import numpy as np
from ase.calculators.calculator import Calculator
from ase.filters import FrechetCellFilter
from ase.optimize import FIRE

from kepton.atoms.units import GIGAPASCAL
from kepton.dynamics.cell_rescaling import Shape
from kepton.errors import InputError


@dataclass(frozen=True)
class Relaxed:
    """A structure on its way to the minimum.

    Args:
        atoms: with energy and forces
        force: eV/Å, the largest on an atom, or on the cell's strain, an atom
        pressure_GPa: of the cell; nan where there is none
        converged: the largest force is small enough
    """

    atoms: ase.Atoms
    force: float
    pressure_GPa: float
    converged: bool


def relax(
    start: ase.Atoms,
    calculator: Calculator,
    cell: Shape | None,
    pressure_GPa: float,
    force: float,
    steps: int,
) -> Iterator[Relaxed]:
    """Minimise U(x, h) + P V by FIRE, the cell in the logarithm of its strain.

    Args:
        cell: what of it may change; None: nothing
        pressure_GPa: P
        force: eV/Å, on every atom at the end
        steps: how many to make at most
    Raises:
        InputError: a cell to change that is not there, and what the calculator refuses
    Source: Bitzek et al., Phys. Rev. Lett. 97, 170201 (2006), as ASE has it
    """
    if cell is not None and not start.pbc.all():
        raise InputError(
            "A cell can change only where the structure is periodic along all three vectors; leave "
            "out --cell, or give the structure a cell."
        )
    atoms = start.copy()
    atoms.calc = calculator
    moved: Any = atoms
    if cell is not None:
        moved = FrechetCellFilter(
            atoms,
            mask=[1, 1, 1, 0, 0, 0] if cell == Shape.AXES else None,
            hydrostatic_strain=cell == Shape.ISOTROPIC,
            scalar_pressure=pressure_GPa * GIGAPASCAL,
        )
    search = FIRE(moved, logfile=None)  # type: ignore[arg-type]
    for _ in search.irun(fmax=force, steps=steps):
        largest = float(np.linalg.norm(moved.get_forces(), axis=1).max())
        inner = float("nan")
        if start.pbc.all():
            inner = -float(np.trace(atoms.get_stress(voigt=False))) / 3 / GIGAPASCAL
        yield Relaxed(atoms, largest, inner, largest < force)
        if not np.isfinite(largest):
            return
