"""The Lennard-Jones liquid against published Monte Carlo results.

Source: NIST Standard Reference Simulation Website (SRD 173), Lennard-Jones fluid properties, MC in
NVT, T* = 0.85: potential truncated at 3 sigma with the standard long-range corrections, 500 atoms
"""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from force_fields import crystal, keys

from kepton.atoms import Frames, Label
from kepton.atoms.units import BOLTZMANN, GIGAPASCAL
from kepton.dynamics import (
    Langevin,
    StochasticCellRescaling,
    VelocityRescaling,
    pressure,
    simulate,
    volume,
)
from kepton.dynamics.state import kinetic_energy

DEPTH, WIDTH = 0.0104, 3.4
TEMPERATURE = 0.85 * DEPTH / BOLTZMANN
REDUCED = DEPTH / WIDTH**3 / GIGAPASCAL
"""GPa of the reduced pressure 1"""
DENSITY, ENERGY, PRESSURE = 0.860, -6.0305, 1.2660


@partial(jax.tree_util.register_dataclass, data_fields=[], meta_fields=["cutoff"])
@dataclass(frozen=True)
class Truncated:
    """E = sum_pairs 4 e ((s/r)^12 - (s/r)^6) for r < 3 s."""

    cutoff: float = 3 * WIDTH

    def answer(self, frames, neighbors, virial):  # noqa: ARG002
        r = neighbors.vectors(frames)
        square = (r**2).sum(axis=-1)
        near = neighbors.mask & (square < self.cutoff**2)
        six = jnp.where(near, (WIDTH**2 / square) ** 3, 0.0)
        energy = 2 * DEPTH * (six**2 - six).sum(axis=(1, 2))
        slope = (-24 * DEPTH * (2 * six**2 - six) / square)[..., None] * r
        return Label(energy, slope.sum(axis=2), -0.5 * jnp.einsum("bnmc,bnmd->bcd", r, slope))


def tails(density):
    """What is beyond 3 sigma: energy an atom and pressure, in reduced units."""
    third = 3.0**-3
    energy = 8 / 3 * np.pi * density * (third**3 / 3 - third)
    return energy, 16 / 3 * np.pi * density**2 * (2 / 3 * third**3 - third)


def liquid(walkers, density):
    atoms = crystal(4)
    atoms.set_cell(atoms.cell * (len(atoms) / density) ** (1 / 3) * WIDTH / atoms.cell[0, 0], True)
    return Frames.from_ase([atoms] * walkers)


def error(seen):
    """Of the mean, from five blocks of every walker: each is longer than any correlation."""
    blocks = np.array_split(np.array(seen), 5)
    means = np.array([block.mean(axis=0) for block in blocks])
    return means.std(ddof=1) / np.sqrt(means.size)


@pytest.mark.slow
def test_energy_and_pressure_of_the_liquid():
    field, frames = Truncated(), liquid(2, DENSITY)
    hot = Langevin(5.0, 0.01, 3 * TEMPERATURE)
    state, _ = simulate(field, hot, hot.init(keys(2), field, frames), 1000)  # melts
    integrator = VelocityRescaling(10.0, 500.0, TEMPERATURE)
    state = integrator.init(keys(2, seed=1), field, state.frames)
    state, _ = simulate(field, integrator, state, 1000)
    energies, pressures = [], []
    for _ in range(150):
        state, _ = simulate(field, integrator, state, 20)
        label = field.answer(state.frames, state.neighbors, True)
        inner = np.trace(label.virial, axis1=1, axis2=2) + 2 * np.asarray(kinetic_energy(state))
        energies.append(np.asarray(state.energy) / 256 / DEPTH)
        pressures.append(inner / 3 / np.asarray(volume(state.frames)) / GIGAPASCAL / REDUCED)
    energy, inner = (
        np.mean(seen) + tail for seen, tail in zip((energies, pressures), tails(DENSITY))
    )
    assert error(energies) < 0.01
    assert energy == pytest.approx(ENERGY, abs=4 * error(energies))
    assert inner == pytest.approx(PRESSURE, abs=4 * error(pressures))


@pytest.mark.slow
def test_density_of_the_liquid_at_its_pressure():
    field, frames = Truncated(), liquid(2, 0.80)
    outer = (PRESSURE - tails(DENSITY)[1]) * REDUCED
    integrator = StochasticCellRescaling(
        Langevin(10.0, 0.002, TEMPERATURE), outer, compressibility_per_GPa=1.5, time_fs=2000.0
    )
    hot = Langevin(5.0, 0.01, 3 * TEMPERATURE)
    state, _ = simulate(field, hot, hot.init(keys(2), field, frames), 1000)
    state = integrator.init(keys(2, seed=1), field, state.frames)
    state, _ = simulate(field, integrator, state, 1500)
    densities = []
    for _ in range(200):
        state, _ = simulate(field, integrator, state, 20)
        densities.append(256 * WIDTH**3 / np.asarray(volume(state.frames)))
        assert np.isfinite(pressure(state)).all()
    assert error(densities) < 0.004
    assert np.mean(densities) == pytest.approx(DENSITY, abs=4 * error(densities))
