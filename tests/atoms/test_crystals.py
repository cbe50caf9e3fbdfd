"""Crystals from a few words."""

import numpy as np
import pytest

from kepton.atoms.crystals import crystal, crystal_slab, interstitials, vacancies
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


def test_a_vacancy_of_each_element():
    whole = crystal("NaCl rocksalt 5.64")
    found = vacancies(whole)
    assert [less.get_chemical_formula() for less in found] == ["Cl4Na3", "Cl3Na4"]


def test_an_interstitial_atom_is_in_the_largest_hole():
    """The octahedral hole of an fcc crystal, a / 2 from its six neighbours."""
    whole = crystal("Cu")
    (more,) = interstitials(whole)
    assert len(more) == len(whole) + 1
    distances = np.sort(more.get_distances(len(whole), range(len(whole)), mic=True))
    np.testing.assert_allclose(distances[:6], 3.61 / 2, atol=1e-6)
    assert distances[6] == pytest.approx(3.61 * np.sqrt(3) / 2, abs=1e-6)


@pytest.mark.parametrize(
    ("description", "plane", "spacing"),
    [
        ("Cu", "111", 3.61 / np.sqrt(3)),
        ("Cu", "100", 3.61 / 2),
        ("Fe bcc 2.87", "110", 2.87 / np.sqrt(2)),
        ("Mg hcp 3.21 5.21", "0001", 5.21 / 2),
        ("Cu", "1-10", 3.61 / np.sqrt(8)),
    ],
)
def test_a_slab_has_the_planes_of_its_surface(description, plane, spacing):
    found = crystal_slab(description, plane)
    heights = np.unique(found.positions[:, 2].round(4))
    np.testing.assert_allclose(np.diff(heights), spacing, atol=1e-3)
    assert np.ptp(heights) >= 6.0
    assert found.cell.lengths()[:2].min() >= 5.0
    assert found.cell[2, 2] - np.ptp(heights) == pytest.approx(10.0, abs=1e-3)
    assert found.pbc.all()
    assert len(found) <= 64


@pytest.mark.parametrize("plane", ["", "11", "000", "11a", "1111", "1 1 1"])
def test_a_plane_that_is_none(plane):
    with pytest.raises(InputError, match="Miller"):
        crystal_slab("Cu", plane)
