"""The contract of every architecture of a potential, with random weights, in float64."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from scipy.spatial.transform import Rotation

from kepton.atoms import Frames, concatenate
from kepton.atoms.frames import Label, concatenate_labels
from kepton.atoms.neighbors import neighbors
from kepton.errors import InputError
from kepton.potential.architectures import ARCHITECTURES
from kepton.potential.ensemble import atom_deviation, predict
from kepton.potential.train import fresh

CUTOFF = 4.0
SMALL = {
    "deep_potential": {"basis": 12, "embedding": (4, 8), "axis": 4, "fitting": (16, 16)},
    "cluster_expansion": {"channels": 6, "basis": 6, "hidden": 8},
}
"""Sizes for a test, by architecture: who adds one adds its sizes here."""

ORDER = {"DeepPotential": 3, "ClusterExpansion": 4}
"""Of the energy in the distance to the cutoff, just within it."""

EXACT = 1e-11
"""eV and eV/Å: energies of 10 eV, rounded to 2e-16, through some thousand operations."""
STEP = 5e-5
"""Å, of central differences: they err by STEP^2 / 6 E''' = 4e-10 E''' and by 1e-14 eV / STEP."""
SMOOTH = 1e-6
"""eV/Å, allows E''' of 2,400 eV/Å^3."""


def ethanol(seed=0, stretch=0.05):
    atoms = molecule("CH3CH2OH")
    atoms.rattle(stretch, seed=seed)
    return atoms


def triclinic():
    """A CHO crystal whose cell is smaller than the cutoff in every direction."""
    cell = [[3.4, 0, 0], [0.8, 3.3, 0], [-0.5, 0.9, 3.6]]
    scaled = [[0.1, 0.2, 0.3], [0.55, 0.6, 0.25], [0.35, 0.75, 0.8]]
    return Atoms("CHO", scaled_positions=scaled, cell=cell, pbc=True)


def large():
    """The same repeated, rattled: larger than the cutoff."""
    atoms = triclinic() * (2, 2, 2)
    atoms.rattle(0.05, seed=1)
    return atoms


def slab():
    """Periodic along two of the vectors only."""
    atoms = ethanol(2)
    atoms.set_cell([[5.0, 0, 0], [1.2, 4.5, 0], [0, 0, 0]])
    atoms.pbc = (True, True, False)
    return atoms


STRUCTURES = {"molecule": ethanol(1), "small cell": triclinic(), "cell": large(), "slab": slab()}
structures = pytest.mark.parametrize("atoms", STRUCTURES.values(), ids=STRUCTURES.keys())


@pytest.fixture(scope="module", params=list(ARCHITECTURES))
def single(request):
    """Three members in float32, random weights, with the statistics of twelve frames."""
    name = request.param
    config = ARCHITECTURES[name][1](species=(1, 6, 8), cutoff_A=CUTOFF, **SMALL[name])
    frames = Frames.from_ase([ethanol(k) for k in range(10)] + [large(), slab()])
    rng = np.random.default_rng(0)
    forces = 10.0 * rng.standard_normal(frames.positions.shape) * frames.mask[..., None]
    label = Label(rng.normal(-100, 1, 12), forces, np.full((12, 3, 3), np.nan))
    return fresh(name, config, 3, [(frames, label)], key=0)


@pytest.fixture(scope="module")
def double(single):
    return single.with_dtype(jnp.float64)


def answer(ensemble, *atoms):
    """What the ensemble says of structures, in batches of one shape: one program serves most tests.

    Each batch holds all of STRUCTURES too, which changes nothing: see the test of batches.
    """
    parts = []
    for first in range(0, len(atoms), 8):
        some = list(atoms[first : first + 8])
        filled = some + [some[-1]] * (8 - len(some)) + list(STRUCTURES.values())
        label = predict(ensemble, Frames.from_ase(filled))[0][: len(some)]
        n = max(len(one) for one in some)
        parts.append(replace(label, forces=label.forces[:, :n]))
    return concatenate_labels(parts)


def moved(atoms, positions):
    atoms = atoms.copy()
    atoms.positions = positions
    return atoms


def test_matrix_products_do_not_round_their_factors(single):
    """As they do by JAX's default on GPUs that have units for it: to 10 bits."""
    model, frames = single.member(0), Frames.from_ase([ethanol()])
    lists = neighbors(frames, CUTOFF)
    program = str(jax.make_jaxpr(lambda: model.answer(model.describe(frames, lists)).forces)())
    whole = program.count("precision=(Precision.HIGHEST, Precision.HIGHEST)")
    assert program.count("dot_general[") == whole > 0


# ---------------------------------------------------------------- symmetry


@structures
def test_energy_is_invariant_and_forces_turn(double, atoms):
    """Under translation and rotation, cell and all."""
    here = answer(double, atoms)
    turn = Rotation.random(random_state=4).as_matrix()
    there = moved(atoms, (atoms.positions + [0.3, -5.0, 11.0]) @ turn.T)
    there.cell = atoms.cell.array @ turn.T
    there = answer(double, there)
    np.testing.assert_allclose(there.energy, here.energy, rtol=0, atol=EXACT)
    np.testing.assert_allclose(there.forces, here.forces @ turn.T, rtol=0, atol=EXACT)
    np.testing.assert_allclose(there.virial, turn @ here.virial @ turn.T, rtol=0, atol=10 * EXACT)
    np.testing.assert_allclose(here.forces.sum(axis=1), 0, atol=EXACT)
    np.testing.assert_allclose(here.virial, here.virial.mT, atol=EXACT)


def test_a_molecule_and_its_mirror_image_have_one_energy(double):
    atoms = ethanol(1)
    here, there = answer(double, atoms), answer(double, moved(atoms, -atoms.positions))
    np.testing.assert_allclose(there.energy, here.energy, rtol=0, atol=EXACT)
    np.testing.assert_allclose(there.forces, -here.forces, rtol=0, atol=EXACT)


@structures
def test_the_order_of_atoms_does_not_matter(double, atoms):
    """Neither of like atoms, nor of all."""
    here = answer(double, atoms)
    order = np.random.default_rng(3).permutation(len(atoms))
    there = answer(double, atoms[order])
    np.testing.assert_allclose(there.energy, here.energy, rtol=0, atol=EXACT)
    np.testing.assert_allclose(there.forces[0], here.forces[0][order], rtol=0, atol=EXACT)
    like = np.arange(len(atoms))
    hydrogens = np.flatnonzero(atoms.numbers == 1)
    like[hydrogens] = np.roll(hydrogens, 1)
    swapped = answer(double, moved(atoms, atoms.positions[like]))
    np.testing.assert_allclose(swapped.energy, here.energy, rtol=0, atol=EXACT)


@pytest.mark.parametrize("name", ["small cell", "cell", "slab"])
def test_any_image_of_an_atom_is_the_atom(double, name):
    """Wrapped or not, and in a sheared cell of the same lattice."""
    atoms = STRUCTURES[name]
    here = answer(double, atoms)
    rng = np.random.default_rng(0)
    images = rng.integers(-2, 3, (len(atoms), 3)) * atoms.pbc
    there = answer(double, moved(atoms, atoms.positions + images @ atoms.cell.array))
    np.testing.assert_allclose(there.energy, here.energy, rtol=0, atol=EXACT)
    np.testing.assert_allclose(there.forces, here.forces, rtol=0, atol=EXACT)
    sheared = atoms.copy()
    sheared.cell = atoms.cell.array + np.outer([1, 0, 0], atoms.cell.array[1])
    np.testing.assert_allclose(answer(double, sheared).energy, here.energy, rtol=0, atol=EXACT)


# ---------------------------------------------------------------- derivatives


@structures
def test_forces_and_virial_are_derivatives_of_the_energy(double, atoms):
    here = answer(double, atoms)
    rng = np.random.default_rng(5)
    directions = rng.standard_normal((4, len(atoms), 3))
    shifted = [
        moved(atoms, atoms.positions + sign * STEP * d) for d in directions for sign in (1, -1)
    ]
    strained = []
    for i, j in ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2)):
        for sign in (1, -1):
            strain = np.zeros((3, 3))
            strain[i, j] += 0.5 * sign * STEP
            strain[j, i] += 0.5 * sign * STEP
            bent = moved(atoms, atoms.positions @ (np.eye(3) + strain))
            bent.cell = atoms.cell.array @ (np.eye(3) + strain)
            strained.append(bent)
    energy = np.asarray(answer(double, *shifted, *strained).energy).reshape(-1, 2)
    slope = (energy[:, 0] - energy[:, 1]) / (2 * STEP)
    expected = -np.einsum("dnc,nc->d", directions, here.forces[0])
    # a direction is sqrt(3n) long, and its third derivative grows accordingly
    tolerance = SMOOTH * (3 * len(atoms)) ** 0.5
    np.testing.assert_allclose(slope[:4], expected, rtol=0, atol=tolerance)
    w = -here.virial[0]
    voigt = [w[0, 0], w[1, 1], w[2, 2], w[0, 1], w[0, 2], w[1, 2]]
    # strain moves atoms by |r| = 10 Å a unit, so the third derivative is larger again
    np.testing.assert_allclose(slope[4:], voigt, rtol=0, atol=10 * tolerance)
    assert np.abs(here.forces).max() > 1e-2  # there is something to derive


def crossing(ensemble, distance):
    """Energies and forces of ethanol while a far hydrogen crosses its cutoffs along x."""
    atoms = ethanol(1)
    right = atoms.positions[:, 0].argmax()
    base = atoms.positions[right]
    frames = [atoms + Atoms("H", [base + [float(d), 0.0, 0.0]]) for d in np.atleast_1d(distance)]
    found = answer(ensemble, *frames)
    return np.asarray(found.energy), np.asarray(found.forces)[:, -1, 0]


def test_crossing_the_cutoff_is_smooth(double):
    """Energy, force and its slope are continuous: jumps vanish with the distance to the cutoff.

    w is C2, its third derivative jumps: beyond the cutoff all is constant, and just within it
    E ~ h^3, F ~ h^2, F' ~ h for h = cutoff - r, or of higher order where the radial functions
    vanish there too. A model with a jump of F' had F ~ h.
    """
    far, nothing = crossing(double, [CUTOFF, CUTOFF + 0.5])
    np.testing.assert_allclose(far, far[0], rtol=0, atol=EXACT)
    np.testing.assert_allclose(nothing, 0, atol=EXACT)
    h = np.array([0.08, 0.04, 0.02])
    energy, force = crossing(double, CUTOFF - h)
    energy = np.abs(energy - far[0])
    orders = np.log2(energy[:-1] / energy[1:]), np.log2(np.abs(force[:-1] / force[1:]))
    # the next term of the series is h / 3 Å times as large, or some times that
    order = ORDER[type(double.members).__name__]
    np.testing.assert_allclose(orders[0], order, atol=0.3)
    np.testing.assert_allclose(orders[1], order - 1, atol=0.3)


def test_crossing_the_cutoff_in_a_periodic_cell_is_smooth(double):
    """The list changes as a pair comes and goes, but not the force, whose slope is continuous."""
    cell = np.diag([12.0, 12.0, 12.0])
    r = CUTOFF + np.arange(-8, 9) * 1e-3
    frames = [Atoms("OHO", [[6, 6, 6], [6.9, 6, 6], [6 + d, 6, 6]], cell=cell, pbc=True) for d in r]
    found = answer(double, *frames)
    force = np.asarray(found.forces)[:, 2, 0]
    slopes = np.diff(force) / 1e-3
    # a step of F' would stand out of the other changes of F', each 1e-3 Å times F''
    assert np.abs(np.diff(slopes)).max() < 1e-3 * 50


# ---------------------------------------------------------------- size


def test_two_molecules_far_apart_are_their_sum(double):
    a, b = ethanol(1), ethanol(2)
    both = a + moved(b, b.positions + [0.0, 0.0, 30.0])
    here, sum_a, sum_b = answer(double, both), answer(double, a), answer(double, b)
    np.testing.assert_allclose(here.energy, sum_a.energy + sum_b.energy, rtol=0, atol=EXACT)
    np.testing.assert_allclose(
        here.forces[0], np.concatenate([sum_a.forces[0], sum_b.forces[0]]), rtol=0, atol=EXACT
    )
    np.testing.assert_allclose(here.virial, sum_a.virial + sum_b.virial, rtol=0, atol=10 * EXACT)


def test_a_supercell_is_a_multiple(double):
    cell, supercell = answer(double, triclinic()), answer(double, triclinic() * (3, 2, 1))
    np.testing.assert_allclose(supercell.energy, 6 * cell.energy, rtol=0, atol=10 * EXACT)
    np.testing.assert_allclose(
        supercell.forces[0], np.tile(cell.forces[0], (6, 1)), rtol=0, atol=EXACT
    )
    np.testing.assert_allclose(supercell.virial, 6 * cell.virial, rtol=0, atol=10 * EXACT)


def test_a_frame_does_not_feel_its_batch_nor_padding(double):
    atoms = [ethanol(1), triclinic(), molecule("H2O")]
    together, deviation = predict(double, Frames.from_ase(atoms))
    for k, one in enumerate(atoms):
        alone, own = predict(double, Frames.from_ase([one]))
        n = len(one)
        np.testing.assert_allclose(together.energy[k], alone.energy[0], rtol=0, atol=EXACT)
        np.testing.assert_allclose(together.forces[k, :n], alone.forces[0], rtol=0, atol=EXACT)
        np.testing.assert_allclose(together.virial[k], alone.virial[0], rtol=0, atol=10 * EXACT)
        np.testing.assert_allclose(deviation[k, :n], own[0], rtol=0, atol=EXACT)
        assert (together.forces[k, n:] == 0).all()
        assert (deviation[k, n:] == 0).all()


def test_batches_of_any_size_give_the_same(double):
    frames = Frames.from_ase([ethanol(k) for k in range(5)])
    whole, parts = predict(double, frames), predict(double, frames, batch=2)
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(parts)):
        np.testing.assert_allclose(a, b, rtol=0, atol=EXACT)


# ---------------------------------------------------------------- the ensemble


def test_the_ensemble_is_the_mean_of_its_members(double):
    frames = Frames.from_ase([ethanol(k) for k in range(3)])
    lists = neighbors(frames, double.cutoff)
    label, deviation = predict(double, frames)

    alone = [predict(double.alone(k), frames) for k in range(3)]
    for name in ("energy", "forces", "virial"):
        mean = np.mean([getattr(one, name) for one, _ in alone], axis=0)
        np.testing.assert_allclose(getattr(label, name), mean, rtol=0, atol=EXACT)
    forces = np.array([one.forces for one, _ in alone])
    spread = np.sqrt(((forces - forces.mean(axis=0)) ** 2).sum(axis=-1).mean(axis=0))
    np.testing.assert_allclose(deviation, spread, rtol=0, atol=EXACT)
    assert all(np.all(own == 0) for _, own in alone)
    assert deviation.min() > 0
    answers = jax.jit(type(double).answers)(double, frames, lists)
    np.testing.assert_allclose(answers.energy[1], alone[1][0].energy, rtol=0, atol=EXACT)
    np.testing.assert_allclose(atom_deviation(jnp.asarray(forces)), spread, atol=EXACT)


def test_float32_agrees_with_float64(single, double):
    """Nets are rounded to 6e-8; forces of 1 eV/Å are sums of some hundred such terms."""
    frames = Frames.from_ase([ethanol(1), large()])
    coarse, fine = predict(single, frames)[0], predict(double, frames)[0]
    assert coarse.energy.dtype == np.float64
    scale = np.abs(fine.forces).max()
    assert np.abs(coarse.forces - fine.forces).max() < 100 * 6e-8 * 10 * scale
    assert np.abs(coarse.energy - fine.energy).max() < 100 * 6e-8 * len(large()) * scale


# ---------------------------------------------------------------- where there are no data


def test_an_atom_alone_has_an_energy_and_no_force(double):
    found, deviation = predict(double, Frames.from_ase([Atoms("O")]))
    assert np.isfinite(found.energy).all()
    assert (found.forces == 0).all()
    assert (found.virial == 0).all()
    assert np.isfinite(deviation).all()


def test_atoms_almost_upon_each_other_have_finite_forces(single):
    for r in (1e-3, 1e-2, 0.1):
        found, deviation = predict(single, Frames.from_ase([Atoms("CO", [[0, 0, 0], [r, 0, 0]])]))
        for value in (found.energy, found.forces, found.virial, deviation):
            assert np.isfinite(value).all()


@pytest.mark.parametrize("pair", ["HH", "CH", "HO", "CC", "CO", "OO"])
def test_atoms_nearer_than_in_the_data_repel_each_other_steeply(double, pair):
    """Below 0.6 Å, where no data are, the force drives apart; at 0.1 Å with Z Z' e^2 / r^2 phi."""
    r = np.array([0.6, 0.5, 0.4, 0.3, 0.2, 0.1])
    found = answer(double, *[Atoms(pair, [[0, 0, 0], [d, 0, 0]]) for d in r])
    force = np.asarray(found.forces)[:, 1, 0]
    assert (np.diff(found.energy) > 0).all()
    assert (force[1:] > 0).all()
    # H-H: 14.4 eV Å / r^2 = 1440 eV/Å, screened by phi(0.43) and its slope to more than a half
    assert force[-1] > 500


def test_an_element_it_does_not_know_is_refused(double):
    with pytest.raises(InputError, match="Ar"):
        predict(double, Frames.from_ase([Atoms("OAr", [[0, 0, 0], [2.0, 0, 0]])]))


def test_features_depend_on_no_weight_and_on_no_pose(double):
    atoms = ethanol(1)
    turned = moved(atoms, atoms.positions @ Rotation.random(random_state=1).as_matrix().T)
    frames = Frames.from_ase([atoms, turned, ethanol(2)])
    frames = concatenate([frames, Frames.from_ase([large()])])  # padded
    rows = np.asarray(double.members.features(frames, neighbors(frames, double.cutoff)))
    other = replace(double.members, weights=jax.tree.map(lambda w: w + 1, double.members.weights))
    again = np.asarray(other.features(frames, neighbors(frames, double.cutoff)))
    np.testing.assert_array_equal(rows, again)
    assert rows.ndim == 2
    assert np.isfinite(rows).all()
    size = np.abs(rows).max()
    np.testing.assert_allclose(rows[0], rows[1], rtol=0, atol=1e-4 * size)
    assert np.linalg.norm(rows[0] - rows[2]) > 10 * np.linalg.norm(rows[0] - rows[1])


def test_roughness_is_one_number_a_member(double):
    rough = jax.vmap(lambda w: replace(double.members, weights=w).roughness())(
        double.members.weights
    )
    assert rough.shape == (3,)
    assert ((rough >= 0) & np.isfinite(rough)).all()
