"""Constant pressure."""

from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from kepton.atoms import Frames
from kepton.atoms.frames import Real
from kepton.atoms.units import BOLTZMANN, GIGAPASCAL
from kepton.dynamics.forcefield import ForceField
from kepton.dynamics.integrate import Integrator
from kepton.dynamics.state import State, kinetic_tensor, normal, split_keys
from kepton.dynamics.thermostats import Thermostat, heated
from kepton.errors import InputError

WATER = 0.45
"""1/GPa, the compressibility of liquid water"""


class Shape(StrEnum):
    """What of a cell may change: its volume; lengths along x, y and z; lengths and angles."""

    ISOTROPIC = "isotropic"
    AXES = "axes"
    FULL = "full"

    def allowed(self, strain: Float[Array, "b 3 3"]) -> Float[Array, "b 3 3"]:
        """The part of a strain that changes no more than that; it never turns the cell."""
        match self:
            case Shape.ISOTROPIC:
                return jnp.trace(strain, axis1=1, axis2=2)[:, None, None] / 3 * jnp.eye(3)
            case Shape.AXES:
                return strain * jnp.eye(3)
            case Shape.FULL:
                return 0.5 * (strain + strain.mT)


def check_cells(frames: Frames) -> None:
    """Raise InputError where there is no cell that constant pressure could change."""
    if not np.all(frames.pbc):
        raise InputError(
            "Constant pressure needs a structure that is periodic along all three cell vectors; "
            "give it a cell, or run at constant volume or energy."
        )


def volume(frames: Frames) -> Float[Array, "b"]:
    """|det h|, in Å^3        h -> cell"""
    return jnp.abs(jnp.linalg.det(jnp.asarray(frames.cell)))


def pressure(state: State) -> Float[Array, "b 3 3"]:
    """The internal pressure, kinetic part and virial.

    P = (sum_i m_i v_i (x) v_i + W) / V        W -> virial

    Returns: GPa, positive under compression; nan where the state has no virial
    """
    tensor = kinetic_tensor(state) + state.virial
    return tensor / (GIGAPASCAL * volume(state.frames)[:, None, None])


def exponential(strain: Float[Array, "b 3 3"]) -> Float[Array, "b 3 3"]:
    """exp(e) of a small e by its series, to |e|^6 / 720."""
    total = term = jnp.broadcast_to(jnp.eye(3), strain.shape)
    for order in range(1, 6):
        term = term @ strain / order
        total = total + term
    return total


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["thermostat", "pressure_GPa"],
    meta_fields=["shape", "compressibility_per_GPa", "time_fs"],
)
@dataclass(frozen=True)
class StochasticCellRescaling(Integrator):
    """Constant pressure: a cell that follows the pressure and its own noise, to first order.

    e = (b / 3 tau) (P - P_0) dt + sqrt(2 b k_B T dt / (3 V tau)) xi,   xi 3 x 3 standard normal
    h <- h exp(e),   x <- x exp(e),   v <- v exp(-e)

    It acts between the first kick and the drift, where P is exact. The part of e that `shape`
    allows is applied; its trace moves the volume with the rate and noise of the isotropic method,
    and its symmetric part all lengths and angles. Volumes have the density V^n exp(-(U + P_0 V) /
    k_B T) at n free atoms, to O(dt / tau).

    Args:
        thermostat: the method that moves the atoms and keeps their temperature
        pressure_GPa: P_0, one for all walkers or (b,); data, so another one compiles nothing
        shape: what of the cell may change
        compressibility_per_GPa: b, of the material; it is b / tau that matters, and that tau is
            then about the time in which the volume finds its mean
        time_fs: tau

    Source: Bernetti and Bussi, J. Chem. Phys. 153, 114107 (2020); Del Tatto et al., Appl. Sci. 12,
            1139 (2022)
    """

    thermostat: Thermostat
    pressure_GPa: float | Float[Real, "..."]
    shape: Shape = Shape.ISOTROPIC
    compressibility_per_GPa: float = WATER
    time_fs: float = 1000.0
    needs_virial: ClassVar[bool] = True

    def __post_init__(self):
        for name in ("compressibility_per_GPa", "time_fs"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name} = {getattr(self, name)}; give a number above 0.")

    @property
    def timestep_fs(self) -> float:
        """Of the thermostat."""
        return self.thermostat.timestep_fs

    def init(self, key: Key[Array, "b"], field: ForceField, frames: Frames) -> State:
        """Walkers with Maxwell-Boltzmann velocities.

        Args:
            key: one random key a walker
            field: the force field
            frames: the configurations
        Raises:
            InputError: a configuration that is not periodic along all three cell vectors
        """
        check_cells(frames)
        return self.thermostat.start(key, field, frames, virial=True)

    def move(self, state: State) -> State:
        """The cell's move, then the thermostat's."""
        key, now = split_keys(state.key)
        softness = self.compressibility_per_GPa / (3 * self.time_fs) * self.timestep_fs
        apart = pressure(state) - _column(self.pressure_GPa) * jnp.eye(3)
        energy = GIGAPASCAL * volume(state.frames)[:, None, None]
        spread = 2 * softness * BOLTZMANN * _column(self.thermostat.temperature_K) / energy
        strain = self.shape.allowed(softness * apart + jnp.sqrt(spread) * normal(now, 3))
        there, back = exponential(strain), exponential(-strain)
        frames = replace(
            state.frames,
            positions=state.frames.positions @ there,
            cell=state.frames.cell @ there,
        )
        velocities = state.velocities @ back
        return self.thermostat.move(replace(heated(state, velocities), frames=frames, key=key))

    def leap(self, state: State, frames: Frames) -> Float[Array, "b"]:
        """How far atoms move beside their cell, and half of what the cell moves a neighbour."""
        before = state.frames
        now = replace(
            state.neighbors,
            built_at=before.positions,
            built_in=before.cell,
            inverse_cell=jnp.linalg.inv(before.cell),
        )
        return now.moved(frames)

    def given(self, old: State, new: State) -> State:
        """With the work of the cell's move on the atoms, -tr(W e) at the mean W, error O(e^3)."""
        there = jnp.linalg.solve(old.frames.cell, new.frames.cell)
        strain = 0.5 * (there - jnp.linalg.inv(there))
        work = -0.5 * ((old.virial + new.virial) * strain).sum(axis=(1, 2))
        return replace(new, heat=new.heat + work)


def _column(value: float | Float[Real, "..."]) -> Float[Array, "..."]:
    return jnp.asarray(value)[..., None, None]
