"""Properties of crystals, by potentials whose properties are published or follow otherwise."""

import importlib.util

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.tersoff import Tersoff, TersoffParameters
from ase.neighborlist import neighbor_list

from kepton.atoms.crystals import crystal
from kepton.errors import InputError
from kepton.potential.properties import (
    STRAIN,
    Answer,
    Symmetry,
    elastic_constants,
    equation_of_state,
    phonons,
    properties,
    relaxed,
    surface_energy,
    vacancy,
)

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("phonopy") is None, reason="phonopy is not installed (kepton[solids])"
)

# Tersoff, Phys. Rev. B 38, 9902 (1988): silicon, T3
SILICON = {
    ("Si", "Si", "Si"): TersoffParameters(
        A=1830.8, B=471.18, lambda1=2.4799, lambda2=1.7322, lambda3=0.0, beta=1.1e-6,
        gamma=1.0, m=3.0, n=0.78734, c=1.0039e5, d=16.217, h=-0.59825, R=2.85, D=0.15,
    )
}  # fmt: skip


def answers_of(calculator):
    def answers(cells):
        told = []
        for cell in cells:
            cell = cell.copy()
            cell.calc = calculator
            stress = cell.get_stress(voigt=False)
            told.append(Answer(cell.get_potential_energy(), cell.get_forces(), stress))
        return told

    return answers


EMT_ANSWERS, TERSOFF = answers_of(EMT()), answers_of(Tersoff(SILICON))


def test_copper_is_the_same_in_any_cell():
    told = [properties(EMT_ANSWERS, cell) for cell in (bulk("Cu", cubic=True), crystal("Cu"))]
    for name in told[0].keys() - {"vacancy_eV"}:  # whose cell differs in size
        assert told[0][name] == pytest.approx(told[1][name], rel=1e-6), name
    one = told[0]
    # B = (C11 + 2 C12) / 3 for cubic crystals; the fit to 5 % and 0.5 % strains are of order e^2
    assert one["B_GPa"] == pytest.approx((one["C11_GPa"] + 2 * one["C12_GPa"]) / 3, rel=5e-3)
    assert one["a_A"] == pytest.approx(3.5898, abs=1e-3)  # ASE's minimum of the same energy
    assert one["phonon_edge_highest_THz"] > one["phonon_edge_lowest_THz"] > 0


def test_silicon_of_tersoff_has_its_published_constants():
    """Tersoff (1988), table II: a 5.432 Å, B 98, C11 143, C12 75, C44 69 GPa, 119 if clamped."""
    start = bulk("Si", cubic=True)
    stretch, bulk_modulus = equation_of_state(TERSOFF, start)
    assert stretch * 5.43 == pytest.approx(5.432, abs=2e-3)
    assert bulk_modulus == pytest.approx(98, abs=1)
    start.set_cell(start.cell * stretch, scale_atoms=True)
    told = elastic_constants(TERSOFF, start, cubic=True)
    assert told["C11_GPa"] == pytest.approx(143, abs=1.5)
    assert told["C12_GPa"] == pytest.approx(75, abs=1.5)
    assert told["C44_GPa"] == pytest.approx(69, abs=1.5)
    nine = elastic_constants(TERSOFF, start, cubic=False)
    for i, j, name in ((1, 1, "C11"), (3, 3, "C11"), (1, 3, "C12"), (5, 5, "C44"), (6, 6, "C44")):
        assert nine[f"C{i}{j}_GPa"] == pytest.approx(told[f"{name}_GPa"], rel=1e-2)


def test_atoms_come_to_rest():
    cell = bulk("Si", cubic=True)
    cell.set_cell(cell.cell @ (np.eye(3) + 4 * STRAIN * (np.eye(3)[::-1])), scale_atoms=True)
    before, after = TERSOFF([cell])[0], relaxed(TERSOFF, [cell])[0]
    assert np.abs(before.forces).max() > 0.1
    assert np.abs(after.forces).max() < 0.005
    assert after.energy < before.energy


def test_frequencies_are_those_of_small_displacements_by_hand():
    """The zone-centre mode of diamond: omega^2 = 2 k / m, k from two atoms moved apart."""
    primitive = bulk("Si")
    told = phonons(TERSOFF, primitive)
    apart = primitive.copy()
    h = 1e-3
    apart.positions[0, 0] += h / 2
    apart.positions[1, 0] -= h / 2
    force = TERSOFF([apart])[0].forces[1, 0]
    stiffness = force / h  # against the distance of the two, whose reduced mass is m / 2
    omega = np.sqrt(stiffness / (primitive.get_masses()[0] / 2))
    thz = omega / (2 * np.pi) * 98.22694788  # sqrt(eV/Å^2/amu) in rad/ps
    assert told["phonon_centre_highest_THz"] == pytest.approx(thz, rel=5e-3)


def test_vacancy_and_surface_are_bonds_cut():
    """A pair within one shell has the energy -1: a vacancy costs z / 2, a face its cut bonds."""

    def answers(cells):
        told = []
        for cell in cells:
            bonds = len(neighbor_list("i", cell, 2.8)) / 2
            told.append(Answer(-float(bonds), np.zeros((len(cell), 3)), np.zeros((3, 3))))
        return told

    copper = bulk("Cu", cubic=True)
    assert vacancy(answers, copper)["vacancy_eV"] == pytest.approx(6.0)
    area = np.sqrt(3) / 4 * 3.61**2  # of an atom; three bonds, shared by two faces
    told = surface_energy(answers, copper, (1, 1, 1))["surface_111_J_per_m2"]
    assert told == pytest.approx(1.5 / area * 16.02176634)


def test_symmetry_names_the_prototype():
    assert Symmetry.of(bulk("Fe", cubic=True)).close_packed == (1, 1, 0)
    assert Symmetry.of(bulk("Mg")).close_packed == (0, 0, 1)
    silicon = Symmetry.of(crystal("Si"))
    assert (len(silicon.primitive), len(silicon.conventional)) == (2, 8)
    shaken = bulk("Si", cubic=True)
    shaken.rattle(0.1)
    assert Symmetry.of(shaken).group == 1


def test_a_structure_far_from_equilibrium_is_told():
    with pytest.raises(InputError, match="no minimum within 5 %"):
        properties(TERSOFF, bulk("Si", a=6.5))
