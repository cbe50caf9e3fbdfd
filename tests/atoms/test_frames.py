"""Frames and Label: batches keep their atoms through ASE, padding, selection and joining."""

import jax
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111, molecule

from kepton.atoms import Frames, Label, concatenate, concatenate_labels, gaps
from kepton.errors import InputError


def structures():
    cation = molecule("H2O")
    cation.info |= {"charge": 1, "spin": 1}
    copper = bulk("Cu", cubic=True)
    return [molecule("CH3CH2OH"), cation, copper]


def same(a: Frames, b: Frames):
    return a.composition == b.composition and all(
        np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b))
    )


def test_ase_round_trip():
    for before, after in zip(structures(), Frames.from_ase(structures()).to_ase()):
        assert np.array_equal(before.positions, after.positions)
        assert np.array_equal(before.numbers, after.numbers)
        assert np.array_equal(before.cell.array, after.cell.array)
        assert np.array_equal(before.pbc, after.pbc)
        assert before.info == after.info


def test_padding():
    frames = Frames.from_ase(structures())
    assert frames.positions.shape == (3, 9, 3)
    assert frames.mask.sum(axis=1).tolist() == [9, 3, 4]
    assert not frames.species[~frames.mask].any()
    assert not frames.positions[~frames.mask].any()
    assert frames.composition == ((1, 6), (6, 2), (8, 1), (29, 4))
    assert frames.symbols == ("H", "C", "O", "Cu")
    assert frames.masses[1].tolist() == pytest.approx([15.999, 1.008, 1.008] + [1.0] * 6)


@pytest.mark.parametrize(
    ("info", "charge", "spin"),
    [({}, 0, 0), ({"charge": -1}, -1, 0), ({"spin": 2}, 0, 2), ({"multiplicity": 3}, 0, 2)],
)
def test_charge_and_spin_from_info(info, charge, spin):
    frames = Frames.from_ase([Atoms("O2", [[0, 0, 0], [0, 0, 1.2]], info=info)])
    assert (frames.charge[0], frames.spin[0]) == (charge, spin)


def test_charge_and_spin_from_initial_values():
    atoms = Atoms("O2", [[0, 0, 0], [0, 0, 1.2]], magmoms=[1.0, 1.0], charges=[0.4, 0.6])
    frames = Frames.from_ase([atoms])
    assert (frames.charge[0], frames.spin[0]) == (1, 2)


@pytest.mark.parametrize("empty", [[], [Atoms()]])
def test_no_atoms(empty):
    with pytest.raises(InputError, match="at least one atom"):
        Frames.from_ase(empty)


def test_cell_without_periodicity_is_zero():
    atoms = molecule("H2O")
    atoms.cell = [9.0, 9.0, 9.0]
    assert not Frames.from_ase([atoms]).cell.any()


@pytest.mark.parametrize(
    "index", [slice(1, 3), np.array([1, 2]), np.array([False, True, True])], ids=str
)
def test_selection(index):
    chosen = Frames.from_ase(structures())[index]
    assert len(chosen) == 2
    assert chosen.mask.sum(axis=1).tolist() == [3, 4]
    assert chosen.charge.tolist() == [1, 0]


def test_tile_keeps_copies_together():
    frames = Frames.from_ase(structures()).tile(2)
    assert frames.mask.sum(axis=1).tolist() == [9, 9, 3, 3, 4, 4]
    assert frames.composition == Frames.from_ase(structures()).composition


def test_concatenate_equals_one_batch():
    parts = [Frames.from_ase([atoms]) for atoms in structures()]
    assert same(concatenate(parts), Frames.from_ase(structures()))


def test_with_positions_changes_nothing_else():
    frames = Frames.from_ase(structures())
    moved = frames.with_positions(frames.positions + 1.0)
    assert same(moved.with_positions(frames.positions), frames)


def test_concatenate_labels():
    small = Label(np.array([1.0]), np.ones((1, 2, 3)), np.zeros((1, 3, 3)), "engine 1")
    large = Label(np.array([2.0]), np.ones((1, 4, 3)), np.full((1, 3, 3), np.nan), "engine 1")
    label = concatenate_labels([small, large])
    assert label.energy.tolist() == [1.0, 2.0]
    assert label.forces.sum(axis=(1, 2)).tolist() == [6.0, 12.0]
    assert not label.forces[0, 2:].any()
    assert np.isnan(label.virial).any(axis=(1, 2)).tolist() == [False, True]
    assert label.engine == "engine 1"
    assert len(label[1:]) == 1


def test_gaps_are_layers_without_atoms():
    slab = fcc111("Cu", (2, 2, 3), a=3.6, vacuum=7.0)
    slab.pbc = True
    slab.rotate(30.0, (1.0, 2.0, 3.0), rotate_cell=True)
    rows = 3.6 * np.sqrt(3 / 8) / 3.0  # of atoms, whose three layers are staggered
    np.testing.assert_allclose(gaps(Frames.from_ase([slab])), (rows, rows, 14.0), atol=1e-9)
