"""The solver of kinetic equations in one dimension of space, on a grid of velocities."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from kepton.closure.equation import Kinetic
from kepton.closure.fields import Case, Conserved, Fields, drift, seen_from
from kepton.closure.transport import crossing, repeated, step_length, stepped, steps_of
from kepton.closure.velocities import REACH, Velocities, equally_spaced, gaussian, moments

COARSEST = 0.7
"""Widest spacing of velocities, in thermal speeds: sums are integrals to exp(-2 (pi / 0.7)^2)"""
MEMORY = 5.0
"""Collision times after which what molecules remember of the start is gone"""
UNSEEN = 2e-3
"""Part of the initial data, in the root mean square, that free flight need not resolve"""
COURANT = 0.45
"""Cells that the fastest molecules fly in a step"""
COUNTS = (32, 40, 48, 64, 80, 96, 128, 160, 192, 256, 320, 384, 512, 640, 768, 1024)
"""Numbers of velocities, few so that few programs are compiled"""


class Distribution(NamedTuple):
    """Solutions at some times, seen from the frame of `drift`, which moves with the cells.

    Args:    parts: (b, t, k, v, n), of the distribution, times dv
    """

    parts: Array
    velocities: Velocities

    @property
    def conserved(self) -> Conserved:
        """(b, t, n) each."""
        return _conserved(self.velocities, self.parts)


def velocities_for(equation: Kinetic, case: Case, time: float) -> Velocities:
    """A grid of velocities that resolves the solutions up to a time.

    It reaches REACH thermal speeds beyond all velocities, the temperature being the highest plus
    what meeting streams can add, the square of half the velocities' range. A wave exp(ikx) of the
    initial data is seen again, falsely, when k t = 2 pi / dv; so dv is such that what the initial
    data hold of waves for which this is within REACH / sqrt(theta) of k t is at most UNSEEN, or
    that these are shorter than two cells.
    """
    _, u, theta = (np.concatenate(pair, axis=-1) for pair in zip(case.initial, case.outside))
    half_range = 0.5 * (u.max(axis=1) - u.min(axis=1))
    hottest = theta.max(axis=1) + half_range**2
    coldest = np.sqrt(theta.min(axis=1))
    reach = np.abs(u).max(axis=1) + REACH * np.sqrt(hottest)
    thinnest = np.asarray(case.initial.density).min(axis=1)
    memory = MEMORY * np.asarray(case.knudsen) / equation.frequency(thinnest)
    flight = np.minimum(time, memory) + 1e-300
    spacing = np.minimum(
        COARSEST * coldest, 2.0 * np.pi / (_finest_wave(case) * flight + REACH / coldest)
    )
    needed = int(np.ceil(2.0 * reach / spacing).max())
    count = next((count for count in COUNTS if count >= needed), COUNTS[-1])
    return equally_spaced(reach, count)


def _finest_wave(case: Case) -> np.ndarray:
    """(b,) the wavenumber beyond which the initial data hold less than UNSEEN."""
    fields = np.stack(case.initial, axis=1)
    scale = np.stack([fields[:, 0], np.sqrt(fields[:, 2]), fields[:, 2]], axis=1).mean(axis=-1)
    if case.boundary != "periodic":  # a periodic continuation without a jump
        fields = np.concatenate([fields, fields[..., ::-1]], axis=-1)
    cells = fields.shape[-1]
    power = np.abs(np.fft.rfft(fields / scale[..., None], axis=-1) / cells) ** 2
    power[..., 1:] *= 2.0
    beyond = np.sqrt(power[..., ::-1].cumsum(axis=-1)[..., ::-1].max(axis=1))
    first = (beyond > UNSEEN).sum(axis=-1)
    length = cells / case.cells
    return 2.0 * np.pi / length * np.minimum(first, cells // 2)


@jax.jit
def _conserved(velocities: Velocities, parts: Float[Array, "b t k v n"]) -> Conserved:
    found, _ = jax.vmap(moments, (None, 1), 1)(velocities, parts)
    return found


def _equilibrium(equation: Kinetic, velocities: Velocities, fields: Fields) -> Array:
    """(b, k, v, n) Maxwellians."""
    rho, u, theta = fields
    return gaussian(velocities, equation.parts, rho, u, theta, theta)


def solve(equation: Kinetic, case: Case, times, velocities: Velocities | None = None):
    """Distributions at increasing times, in the frame of `drift`.

    Second order in time and, where smooth, fifth in space and more than any in velocity; mass,
    momentum and energy are kept to rounding; as Kn -> 0 the scheme becomes one for Euler's
    equations.

    Args:    velocities: by default `velocities_for`
    Raises:  InputError: no such equation
    """
    equation.check()
    moving = seen_from(case, drift(case))
    grid = velocities or velocities_for(equation, moving, float(times[-1]))
    durations = np.diff(np.asarray(times, float), prepend=0.0)
    return Distribution(_solved(equation, moving, grid, durations), grid)


@partial(jax.jit, static_argnums=0)
def _solved(equation: Kinetic, case: Case, grid: Velocities, durations: Float[Array, "t"]) -> Array:
    """(b, t, k, v, n) distributions after each of the durations, one after the other."""
    outside = _equilibrium(equation, grid, case.outside)
    fastest, v = grid.values[:, -1], grid.values[:, None, :, None]

    def flight(parts):
        flow = v * crossing(case.boundary, outside, grid.values, parts)
        return -case.cells * jnp.diff(flow, axis=-1)

    def collided(parts, scale):
        return equation.relaxed(grid, parts, scale[:, 0, 0, 0] / case.knudsen)

    def until(parts, duration):
        steps = steps_of(duration, fastest, case.cells, COURANT)
        dt = step_length(duration, steps)[:, None, None, None]
        parts = repeated(lambda parts: stepped(flight, collided, parts, dt), parts, steps, 0)
        return parts, parts

    begun = _equilibrium(equation, grid, case.initial)
    _, found = jax.lax.scan(until, begun, durations)
    return jnp.moveaxis(found, 0, 1)
