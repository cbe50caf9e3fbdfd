"""Energies and forces in units that do not fit are told; right ones never are."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from labelled_data import error_of

from kepton.atoms import (
    Frames,
    Label,
    concatenate,
    concatenate_labels,
    consistency,
    deepmd,
    read_labelled,
    structures,
    write_labelled,
)
from kepton.atoms.groups import Group
from kepton.atoms.units import BOHR, HARTREE

MOLECULES = ["ethanol_pool", "ethanol_test", "acetyl_chloride_pool", "acetyl_chloride_test"]
WATER = ["data_0", "data_1", "data_2", "data_3", "."]


def read(path):
    if path.is_dir():
        return deepmd.read(path)
    return structures.groups(structures.read(path), path, labelled=True)


def scaled(groups, energy=1.0, forces=1.0):
    """The labels in other units, whose numbers are so many times as large."""
    return [
        replace(g, label=Label(g.label.energy * energy, g.label.forces * forces, g.label.virial))
        for g in groups
    ]


def shaken(atoms, count=60, size=0.05):
    """A group of frames of EMT."""
    frames = []
    for seed in range(count):
        frames.append(atoms.copy())
        frames[-1].rattle(size, seed=seed)
        frames[-1].calc = EMT()
    label = Label(
        energy=np.array([f.get_potential_energy() for f in frames]),
        forces=np.array([f.get_forces() for f in frames]),
        virial=np.full((count, 3, 3), np.nan),
    )
    return Group(Frames.from_ase(frames), label, Path("shaken"), np.arange(count))


def copper():
    return bulk("Cu", cubic=True) * (2, 1, 1)


def with_positions(group, positions):
    return replace(group, frames=group.frames.with_positions(positions))


def random_turns(count):
    """(count, 3, 3) rotations."""
    turn, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(count, 3, 3)))
    return turn * np.sign(np.linalg.det(turn))[:, None, None]


def said(groups):
    """The message, or nothing."""
    try:
        consistency.check(groups)
    except consistency.InputError as error:
        return str(error)
    return ""


GRADIENT = "gradients in place of forces"
MISTAKES = [
    (1 / HARTREE, 1.0, "suggests energies in Hartree beside forces in eV/Å"),
    (1 / HARTREE, BOHR / HARTREE, "suggests forces in Hartree/Bohr beside energies in Hartree"),
    (1.0, BOHR / HARTREE, "suggests forces in Hartree/Bohr beside energies in eV."),
    (2 / HARTREE, 1.0, "suggests energies in Rydberg"),
    (23.06, 1.0, "energies in kcal/mol beside forces in eV/Å"),
    (96.49, 1.0, "suggests energies in kJ/mol"),
    (1.0, -1.0, f"suggests {GRADIENT}."),
    (1 / HARTREE, -BOHR / HARTREE, f"suggests {GRADIENT}, forces in Hartree/Bohr beside energies"),
]


# ---------------------------------------------------------------- real data


@pytest.mark.parametrize("name", WATER + MOLECULES)
def test_right_data_pass(shared_data, name):
    path = shared_data / (f"water/{name}" if name in WATER else f"molecules/{name}.extxyz")
    assert said(read(path)) == ""


@pytest.mark.parametrize("name", [".", *MOLECULES])
def test_right_data_pass_in_any_selection(shared_data, name):
    """Few frames are far apart, and tell nothing rather than something wrong."""
    path = shared_data / (f"water/{name}" if name in WATER else f"molecules/{name}.extxyz")
    (group, *more), rng = read(path), np.random.default_rng(0)
    for size in (1, 2, 9, 15, 30, 60):
        for _ in range(20):
            rows = rng.choice(len(group.frames), min(size, len(group.frames)), replace=False)
            some = Group(group.frames[rows], group.label[rows], group.source, rows)
            assert said([some, *more[:1]]) == ""


@pytest.mark.parametrize(("energy", "forces", "told"), MISTAKES)
@pytest.mark.parametrize("name", [".", "ethanol_pool", "acetyl_chloride_test"])
def test_mistakes_are_told(shared_data, name, energy, forces, told):
    path = shared_data / (f"water/{name}" if name in WATER else f"molecules/{name}.extxyz")
    assert told in said(scaled(read(path), energy, forces))


def test_all_in_other_units_cannot_be_told(shared_data):
    groups = read(shared_data / "molecules/ethanol_pool.extxyz")
    assert said(scaled(groups, 1 / HARTREE, 1 / HARTREE)) == ""


def test_reading_tells(shared_data, tmp_path):
    frames, label = read_labelled(shared_data / "molecules/ethanol_test.extxyz")
    wrong = Label(label.energy / HARTREE, label.forces, label.virial)
    for name in ("a", "a.extxyz"):
        write_labelled(tmp_path / name, frames, wrong)
        error_of(
            lambda name=name: read_labelled(tmp_path / name),
            tmp_path / name,
            "the energy changes 0.03",
            "energies in Hartree",
            "Give energies in eV",
        )


# ---------------------------------------------------------------- which frames are compared


def energies_in_hartree(group):
    return scaled([group], 1 / HARTREE)


@pytest.mark.parametrize(
    "make", [copper, lambda: molecule("C2H6"), lambda: molecule("CO")], ids=["Cu", "C2H6", "CO"]
)
def test_kinds_of_frames(make):
    group = shaken(make())
    assert said([group]) == ""
    assert "energies in Hartree" in said(energies_in_hartree(group))


def test_slab():
    slab = copper()
    slab.pbc = (True, True, False)
    group = shaken(slab)
    assert said([group]) == ""
    assert "energies in Hartree" in said(energies_in_hartree(group))


def test_atoms_may_cross_the_boundary():
    """Wrapped or not, and by the nearest image, a pair is near."""
    group = shaken(copper())
    rng, shape = np.random.default_rng(0), group.frames.positions.shape
    images = rng.integers(-2, 3, size=shape) @ group.frames.cell[0]
    moved = with_positions(group, group.frames.positions + images)
    assert said([moved]) == ""
    assert "energies in Hartree" in said(energies_in_hartree(moved))


def test_molecules_may_turn():
    group = shaken(molecule("C2H6"))
    turn = random_turns(60)
    x, f = group.frames.positions @ turn + turn[:, :1], group.label.forces @ turn
    turned = replace(with_positions(group, x), label=replace(group.label, forces=f))
    assert said([turned]) == ""
    assert "energies in Hartree" in said(energies_in_hartree(turned))


def test_frames_of_all_groups_are_compared():
    group = shaken(copper())
    parts = [
        Group(group.frames[k::12], group.label[k::12], Path(f"part {k}"), group.rows[k::12])
        for k in range(12)
    ]
    assert "part 0: " in said(scaled(parts, 1 / HARTREE))
    assert said(scaled(parts[:1], 1 / HARTREE)) == ""  # five frames are too few


def test_other_cells_and_other_orders_are_not_compared():
    group = shaken(copper())
    stretched = group.frames.cell * (1.0 + 0.01 * np.arange(60))[:, None, None]
    other = replace(group, frames=replace(group.frames, cell=stretched))
    assert said(energies_in_hartree(other)) == ""
    species = group.frames.species.copy()
    species[np.arange(60), np.arange(60) % 8] = 28 + np.arange(60) // 8
    other = replace(group, frames=replace(group.frames, species=species))
    assert said(energies_in_hartree(other)) == ""


def test_near_frames_are_found_among_far_ones():
    """However a molecule is turned and wherever an atom is wrapped, of 30 kinds two are near."""
    rng = np.random.default_rng(0)
    for atoms in (molecule("C2H6"), copper()):
        kinds = [atoms.copy() for _ in range(30)]
        for seed, kind in enumerate(kinds):
            kind.rattle(0.5, seed=seed)
        frames = [shaken(kind, count=2, size=0.02) for kind in kinds]
        group = Group(
            concatenate([g.frames for g in frames]),
            concatenate_labels([g.label for g in frames]),
            Path("pairs"),
            np.arange(60),
        )
        x, f = group.frames.positions.copy(), group.label.forces.copy()
        if atoms.pbc.any():
            x += rng.integers(-2, 3, size=x.shape) @ atoms.cell.array
        else:
            turn = random_turns(60)
            x, f = x @ turn, f @ turn
        moved = replace(with_positions(group, x), label=replace(group.label, forces=f))
        assert said([moved]) == ""
        assert "energies in Hartree" in said(energies_in_hartree(moved))


def test_far_frames_tell_nothing():
    """Not even where they lie on a line, as those of springs do."""
    assert said(energies_in_hartree(shaken(copper(), size=0.6))) == ""
    for size, told in ((0.6, ""), (0.06, "energies in Hartree")):
        group = shaken(copper(), size=size)
        x = group.frames.positions - copper().positions
        label = replace(group.label, energy=0.5 * (x * x).sum(axis=(1, 2)), forces=-x)
        message = said(energies_in_hartree(replace(group, label=label)))
        assert told in message
        assert bool(message) == bool(told)


def test_frames_without_forces_are_passed_over():
    group = shaken(copper())
    forces = group.label.forces.copy()
    forces[::2] = np.nan
    half = replace(group, label=replace(group.label, forces=forces))
    assert said([half]) == ""
    assert "energies in Hartree" in said(energies_in_hartree(half))
    forces[:] = np.nan
    assert said(energies_in_hartree(half)) == ""


def test_one_frame_many_times():
    group = shaken(copper())
    copies = Group(group.frames[[0] * 40], group.label[[0] * 40], group.source, np.arange(40))
    assert said([copies]) == ""
    assert "energies in Hartree" in said(scaled([copies, group], 1 / HARTREE))


def test_random_labels():
    group, rng = shaken(copper()), np.random.default_rng(0)
    for _ in range(20):
        label = replace(group.label, energy=rng.normal(size=60) / HARTREE)
        assert said([replace(group, label=label)]) == ""


def test_many_frames_take_a_share(monkeypatch):
    monkeypatch.setattr(consistency, "POOL", 30)
    group = shaken(copper())
    ((_, pool),) = consistency._pools([group, group])
    assert len(pool) == 30
    assert "energies in Hartree" in said(energies_in_hartree(group))
