"""Crystals from a few words."""

import numpy as np
import pytest

from kepton.atoms.crystals import crystal
from kepton.errors import InputError


@pytest.mark.parametrize(
    ("description", "atoms", "count", "edge"),
    [
        ("Si", None, 8, 5.43),
        ("Cu", None, 32, 7.22),
        ("Fe bcc 2.87", None, 16, 5.74),
        ("NaCl rocksalt 5.64", None, 8, 5.64),
        ("Cu", 108, 108, 10.83),
        ("Cu", 107, 32, 7.22),
        ("Si", 64, 64, 10.86),
    ],
)
def test_the_supercell_nearest_to_a_cube(description, atoms, count, edge):
    found = crystal(description, atoms)
    assert len(found) == count
    assert found.pbc.all()
    np.testing.assert_allclose(found.cell.cellpar(), [edge] * 3 + [90.0] * 3, atol=1e-6)


def test_a_crystal_without_cubic_cells_is_as_near_as_can_be():
    found = crystal("Mg hcp 3.21 5.21")
    lengths = found.cell.lengths()
    assert 8 <= len(found) <= 32
    assert lengths.max() < 1.3 * lengths.min()
    nearest = found.get_all_distances(mic=True) + 9 * np.eye(len(found))
    assert nearest.min() == pytest.approx(np.sqrt(3.21**2 / 3 + 5.21**2 / 4), abs=1e-6)


def test_at_least_the_primitive_cell():
    assert len(crystal("Si", 1)) == 2


@pytest.mark.parametrize(
    ("description", "told"),
    [
        ("", "give a formula"),
        ("Si diamond 5.43 5.43 5.43", "give a formula"),
        ("NaCl", "not one that ASE can build"),
        ("Xx", "not one that ASE can build"),
        ("Si dimond 5.43", "not one that ASE can build"),
    ],
)
def test_what_cannot_be_built(description, told):
    with pytest.raises(InputError, match=told):
        crystal(description)
