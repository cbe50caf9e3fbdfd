"""The compiled kernel against what XLA makes of the same model."""

import sys
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase import Atoms
from deep_potentials import PLAIN, ensemble_of, random_potential

from kepton.atoms import Frames
from kepton.atoms.neighbors import neighbors
from kepton.kernels import library
from kepton.potential import compiled, predict
from kepton.potential.architecture import Architecture

pytestmark = pytest.mark.skipif(library() is None, reason="no kernels: no C++ compiler at install")

TRICLINIC = np.array([[7.0, 0.0, 0.0], [1.5, 6.0, 0.0], [-1.0, 0.8, 6.5]])
DOUBLE, SINGLE = 1e-12, 2e-5
"""Largest difference over the largest value: some thousand operations, rounded to 1e-16 and 6e-8;
in float32 both sides err"""


def strewn(count, cell, pbc=True, seed=0):
    """Atoms of three elements, none nearer to another than 0.7 Å."""
    rng, chosen = np.random.default_rng(seed), []
    offsets = np.array(list(np.ndindex(3, 3, 3))) - 1
    while len(chosen) < count:
        x = rng.uniform(size=3) @ cell
        images = x + offsets @ cell
        if all(np.linalg.norm(images - y, axis=1).min() > 0.7 for y in chosen):
            chosen.append(x)
    return Atoms(rng.choice(["H", "C", "O"], count), chosen, cell=cell, pbc=pbc)


STRUCTURES = [
    strewn(24, TRICLINIC),
    strewn(9, TRICLINIC, (True, False, True), seed=1),
    strewn(2, 0.3 * TRICLINIC, seed=2),  # many images
    Atoms("H"),
]
FRAMES = Frames.from_ase(STRUCTURES)
MODELS = {
    "plain": [random_potential(seed) for seed in range(3)],
    "core, time steps": [random_potential(1, core=True, steps=True)],
    "shift of the mean": [random_potential(2, environment=True)],
    "two-sided, 7 functions, excluded": [
        random_potential(
            3,
            environment=True,
            config=replace(PLAIN, one_sided=False, basis=7, excluded=((1, 6), (8, 8))),
        )
    ],
    "wide": [random_potential(4, config=replace(PLAIN, axis=5, fitting=(30, 30, 60)))],
}


@jax.jit
def by_kernel(ensemble, frames, lists):
    return compiled.answers(ensemble.members, frames, lists, True)


@jax.jit
def by_xla(ensemble, frames, lists):
    return Architecture.answers(ensemble.members, frames, lists, True)


@pytest.mark.parametrize(
    ("kind", "dtype", "share"),
    [*((kind, jnp.float64, DOUBLE) for kind in MODELS), ("plain", jnp.float32, SINGLE)],
)
def test_the_kernel_and_xla_agree(kind, dtype, share):
    """All members, in one batch of cells, slabs, atoms without neighbours and padding."""
    ensemble = ensemble_of(*MODELS[kind]).with_dtype(dtype)
    assert compiled.serves(ensemble.members)
    lists = neighbors(FRAMES, ensemble.cutoff, skin=1.0)
    found = by_kernel(ensemble, FRAMES, lists)
    for a, b in zip(found, by_xla(ensemble, FRAMES, lists)):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=0, atol=share * np.abs(b).max())
    assert not np.asarray(found.forces)[:, ~FRAMES.mask].any()


def test_frames_in_single_precision():
    """As data on disk may be."""
    ensemble = ensemble_of(*MODELS["plain"])
    single = replace(
        FRAMES, positions=FRAMES.positions.astype(np.float32), cell=FRAMES.cell.astype(np.float32)
    )
    here, there = (predict(ensemble, frames)[0] for frames in (FRAMES, single))
    np.testing.assert_allclose(here.energy, there.energy, rtol=1e-5)


def test_threads_change_no_bit(monkeypatch):
    """Shares of the atoms are added in their order, whoever computed them."""
    frames = Frames.from_ase([STRUCTURES[0].repeat((3, 3, 3))])
    ensemble = ensemble_of(*MODELS["plain"]).with_dtype(jnp.float32)
    lists = neighbors(frames, ensemble.cutoff)
    found = []
    for count in (1, 3):
        monkeypatch.setattr(compiled, "threads", lambda count=count: count)
        answers = jax.jit(lambda *given: compiled.answers(*given, True))
        found.append(answers(ensemble.members, frames, lists))
    for a, b in zip(*found):
        np.testing.assert_array_equal(a, b)


def test_forces_and_virial_are_slopes_of_the_energy():
    """Central differences of 1e-5 Å.

    They err by 1e-12 eV / 1e-5 Å and a sixth of 1e-10 Å^2 times the third slope, 4e5 eV/Å^3 here.
    """
    ensemble, atoms, step = ensemble_of(*MODELS["core, time steps"]), STRUCTURES[0], 1e-5
    label, _ = predict(ensemble, Frames.from_ase([atoms]))
    direction = np.random.default_rng(0).standard_normal((len(atoms), 3))
    strain = np.random.default_rng(1).standard_normal((3, 3))
    strain = 0.5 * (strain + strain.T)
    energies = []
    for sign in (-1, 1):
        moved, bent = atoms.copy(), atoms.copy()
        moved.positions += sign * step * direction
        bent.set_cell(atoms.cell @ (np.eye(3) + sign * step * strain), scale_atoms=True)
        energies.append(predict(ensemble, Frames.from_ase([moved, bent]))[0].energy)
    slope = (energies[1] - energies[0]) / (2 * step)
    expected = -np.array([(label.forces[0] * direction).sum(), (label.virial[0] * strain).sum()])
    np.testing.assert_allclose(slope, expected, rtol=0, atol=2e-5)


def test_without_the_library_xla_answers(monkeypatch):
    ensemble = ensemble_of(*MODELS["plain"])
    here, _ = predict(ensemble, FRAMES)
    monkeypatch.setattr(sys.modules[library.__module__], "library", lambda: None)
    jax.clear_caches()
    assert not compiled.serves(ensemble.members)
    there, _ = predict(ensemble, FRAMES)
    jax.clear_caches()
    np.testing.assert_allclose(here.energy, there.energy, rtol=DOUBLE, atol=0)
    np.testing.assert_allclose(here.forces, there.forces, rtol=0, atol=1e-9)


def test_other_activations_are_left_to_xla():
    potential = random_potential(config=replace(PLAIN, activation=("tanh", "gelu")))
    assert not compiled.serves(ensemble_of(potential).members)
