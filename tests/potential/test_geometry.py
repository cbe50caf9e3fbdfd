"""The gate refuses broken geometries, and first samples are sound perturbations."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from kepton.atoms import Frames, concatenate, split
from kepton.errors import InputError
from kepton.potential.geometry import CLASH, TORN, Gate, Strain, perturbed


def frames(*atoms):
    return Frames.from_ase(list(atoms))


def stretched(factor):
    """Water with one bond longer by a factor."""
    atoms = molecule("H2O")
    atoms.positions[1] = atoms.positions[0] + factor * (atoms.positions[1] - atoms.positions[0])
    return atoms


def test_a_torn_bond_a_clash_and_what_is_no_number_are_refused():
    gate = Gate.of([frames(molecule("H2O"))])
    nowhere = molecule("H2O")
    nowhere.positions[0, 0] = np.nan
    # O and H have covalent radii of 0.66 and 0.31 Å and a bond of 0.969 Å
    short = CLASH * 0.97 / 0.969
    cases = [(stretched(f), ok) for f, ok in [
        (1.0, True), (TORN - 0.01, True), (TORN + 0.01, False), (short + 0.01, True),
        (short - 0.01, False),
    ]]  # fmt: skip
    cases.append((nowhere, False))
    found = gate.sound(frames(*[atoms for atoms, _ in cases]))
    assert found.tolist() == [ok for _, ok in cases]


def test_padding_changes_nothing():
    gate = Gate.of([frames(molecule("H2O")), frames(molecule("CH4"))])
    both = concatenate([frames(molecule("H2O")), frames(stretched(2.1)), frames(molecule("CH4"))])
    assert gate.sound(both).tolist() == [True, False, True]


def test_isomers_are_each_held_to_their_own_bonds():
    """The same atomic numbers in the same order, bonded otherwise; a wreck of both is refused."""
    chain = Atoms("CCHO", [[0, 0, 0], [1.5, 0, 0], [-1.0, 0.4, 0], [2.7, 0, 0]])
    other = Atoms("CCHO", [[0, 0, 0], [1.5, 0, 0], [2.5, 0.4, 0], [-1.2, 0, 0]])
    wreck = Atoms("CCHO", [[0, 0, 0], [1.5, 0, 0], [0.7, 6.0, 0], [0.7, -6.0, 0]])
    gate = Gate.of([frames(chain), frames(other)])
    assert gate.sound(frames(chain, other, wreck)).tolist() == [True, True, False]


def test_periodic_structures_clash_over_the_border_and_have_no_bonds_to_tear():
    crystal = bulk("Si", cubic=True)
    gate = Gate.of([frames(crystal)])
    across = crystal.copy()
    # 1.0 Å through the border from the atom at the origin; radii add up to 2.22 Å
    across.positions[4] = [5.43 - 1.0, 0, 0]
    opened = crystal.copy()
    opened.positions[1] += 0.9
    assert gate.sound(frames(crystal, across, opened)).tolist() == [True, False, True]


def test_first_samples_are_the_structures_then_perturbations():
    structures = [frames(molecule("H2O")), frames(molecule("CH4"))]
    gate = Gate.of(structures)
    samples = perturbed(structures, 12, gate, seed=3)
    assert len(samples) == 12
    for k, sample in enumerate(samples):
        assert gate.sound(sample).all()
        assert sample.species.tolist() == structures[k % 2].species.tolist()
        moved = np.abs(sample.positions - structures[k % 2].positions).max()
        assert (moved == 0) == (k < 2)
    again, other = perturbed(structures, 12, gate, 3), perturbed(structures, 12, gate, 4)
    assert all((a.positions == b.positions).all() for a, b in zip(samples, again))
    assert not (samples[5].positions == other[5].positions).all()
    assert len(perturbed(structures, 1, gate, 0)) == 1


def test_perturbations_are_measured_in_bonds():
    """Each axis by 1, 2, ... 5 % of the shortest bond: 3.3 % as a root mean square.

    Of 300 samples of 9 numbers; what the gate refuses lowers it a little.
    """
    start = frames(molecule("H2O"))
    samples = perturbed([start], 301, Gate.of([start]), seed=0)[1:]
    off = np.concatenate([s.positions - start.positions for s in samples]) / 0.969
    assert np.sqrt(np.mean(off**2)) == pytest.approx(0.0332, rel=0.05)


def test_a_structure_that_is_broken_itself_is_refused():
    """In bohr by mistake all is too far, in nm too near; the latter can never be perturbed."""
    dense = molecule("H2O")
    dense.positions *= 0.1
    structures = [frames(molecule("H2O")), frames(dense)]
    with pytest.raises(InputError, match="Structure 2 has atoms nearer"):
        perturbed(structures, 5, Gate.of(structures), seed=0)


def test_an_atom_alone_is_perturbed_too():
    start = frames(Atoms("Ar"))
    assert len(perturbed([start], 3, Gate.of([start]), seed=0)) == 3


def test_splitting_undoes_concatenation():
    parts = [frames(molecule("H2O")), frames(bulk("Si")), frames(molecule("CH4"))]
    for a, b in zip(parts, split(concatenate(parts))):
        assert a.composition == b.composition
        for name in ("positions", "species", "cell", "pbc", "mask", "charge", "spin"):
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


def test_strains_fill_the_range_and_move_atoms_with_the_cell():
    silicon, water = (Frames.from_ase([a]) for a in (bulk("Si", cubic=True), molecule("H2O")))
    strain = Strain((-0.05, 0.1), 0.02)
    frames = silicon.tile(500)
    strained = strain.of(frames, np.random.default_rng(0))
    change = np.linalg.det(strained.cell) / np.linalg.det(frames.cell) - 1.0
    assert -0.05 <= change.min() < -0.045
    assert 0.095 < change.max() <= 0.1
    assert change.mean() == pytest.approx(0.025, abs=4 * 0.15 / np.sqrt(12 * 500))
    deform = np.linalg.solve(np.asarray(frames.cell), strained.cell)
    np.testing.assert_allclose(deform, np.swapaxes(deform, 1, 2), atol=1e-12)
    shears = deform[:, [0, 0, 1], [1, 2, 2]]
    assert 0.018 < np.abs(shears).max() < 0.02 * np.cbrt(1.1) * (1 + 0.03)
    np.testing.assert_allclose(strained.positions, frames.positions @ deform, atol=1e-12)
    same = strain.of(water, np.random.default_rng(0))
    np.testing.assert_array_equal(same.positions, water.positions)


def test_first_samples_are_strained_too():
    start = Frames.from_ase([bulk("Si", cubic=True)])
    samples = perturbed([start], 30, Gate.of([start]), 0, Strain((-0.05, 0.05), 0.0))
    change = [np.linalg.det(s.cell[0]) / np.linalg.det(start.cell[0]) - 1.0 for s in samples]
    assert change[0] == 0.0
    assert np.std(change[1:]) == pytest.approx(0.1 / np.sqrt(12), rel=0.4)
