"""Relaxed structures are minima of the energy, or of the enthalpy."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT

from kepton.atoms.units import GIGAPASCAL
from kepton.dynamics import Shape
from kepton.dynamics.relax import relax
from kepton.errors import InputError


def test_atoms_find_a_minimum():
    pair = Atoms("Cu2", [[0, 0, 0], [0, 0, 2.0]])
    *_, found = relax(pair, EMT(), None, 0.0, 1e-3, 200)
    assert found.converged
    assert found.force < 1e-3
    assert np.isnan(found.pressure_GPa)
    energies = []
    length = found.atoms.get_distance(0, 1)
    for r in length + np.array([-0.01, 0.0, 0.01]):
        pair = Atoms("Cu2", [[0, 0, 0], [0, 0, r]], calculator=EMT())
        energies.append(pair.get_potential_energy())
    assert np.argmin(energies) == 1


@pytest.mark.parametrize("shape", [*Shape])
def test_a_cell_finds_its_pressure(shape):
    start = bulk("Cu", "fcc", a=3.6, cubic=True)
    start.rattle(0.02, seed=1)
    start.set_cell(start.cell.array @ (np.eye(3) + [[0, 0.01, 0], [0, 0.02, 0], [0, 0, 0]]), True)
    *_, found = relax(start, EMT(), shape, 5.0, 2e-3, 400)
    assert found.converged
    # 2e-3 eV an atom on every row of the strain
    off = 4 * 2e-3 / found.atoms.get_volume() / GIGAPASCAL
    assert found.pressure_GPa == pytest.approx(5.0, abs=off)
    stress = found.atoms.get_stress(voigt=False) / GIGAPASCAL
    strain = np.linalg.solve(start.cell.array, found.atoms.cell.array) - np.eye(3)
    apart = strain - np.trace(strain) / 3 * np.eye(3)
    match shape:
        case Shape.ISOTROPIC:
            assert np.abs(apart).max() < 1e-8
        case Shape.AXES:
            assert np.abs(apart - np.diag(np.diag(apart))).max() < 1e-8
            np.testing.assert_allclose(np.diag(stress), -5.0, atol=off)
        case Shape.FULL:
            np.testing.assert_allclose(stress, -5.0 * np.eye(3), atol=off)


def test_a_cell_must_be_there():
    with pytest.raises(InputError, match="all three vectors"):
        next(relax(Atoms("Cu2", [[0, 0, 0], [0, 0, 2.0]]), EMT(), Shape.FULL, 0.0, 0.01, 5))
