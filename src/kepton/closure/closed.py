"""The closed moment system: what a closure makes of a case."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from kepton.closure.closure import Closure
from kepton.closure.fields import Case, Conserved, drift, seen_from
from kepton.closure.moments import (
    LOWEST,
    Hermite,
    conserved_of,
    in_frame,
    local,
    temperature_of,
)
from kepton.closure.transport import crossing, step_length, stepped, steps_of


class Start(NamedTuple):
    """A case ready for a closed system, in its frame.

    Args:    case: seen from the frame of `drift`;  temperature: T, (b,);  moments: (N + 1, b, n)
    """

    case: Case
    temperature: Float[Array, "b"]
    moments: Float[Array, "m b n"]


def start(basis: Hermite, case: Case) -> Start:
    """Moments of the initial data."""
    moving = seen_from(case, drift(case))
    temperature = jnp.asarray(temperature_of(moving))
    return Start(moving, temperature, basis.gaussian(*in_frame(moving.initial, temperature)))


def steps_for(basis: Hermite, begun: Start, times) -> np.ndarray:
    """(t, b) equal steps from each time to the next, the first from 0."""
    fastest = np.sqrt(np.asarray(begun.temperature)) * basis.velocities[-1]
    durations = np.diff(np.asarray(times, float), prepend=0.0)
    return np.stack([steps_of(d, fastest, begun.case.cells) for d in durations])


def step(closure: Closure, begun: Start, c: Float[Array, "m b n"], dt: Float[Array, "b"]) -> Array:
    """The moments after a step; the rates of damping are those at its start."""
    basis, case, temperature = closure.basis, begun.case, begun.temperature
    frequency = 1.0 / jnp.asarray(case.knudsen)
    velocities = jnp.sqrt(temperature)[:, None] * basis.velocities
    outside = _molecules(basis, basis.gaussian(*in_frame(case.outside, temperature)))
    damping = closure.rates(c, temperature, frequency, case.boundary == "periodic")
    rates = frequency[:, None] + damping

    def flight(c):
        parts = crossing(case.boundary, outside, velocities, _molecules(basis, c))
        change = -case.cells * jnp.diff(velocities[:, None, :, None] * parts, axis=-1)
        return jnp.tensordot(basis.of_molecules, jnp.moveaxis(change[:, 0], 1, 0), 1)

    def collided(c, scale):
        s = scale * rates
        away = (basis.gaussian(*local(c)) - c)[LOWEST:]
        return jnp.concatenate([c[:LOWEST], c[LOWEST:] + s / (1.0 + s) * away])

    return stepped(flight, collided, c, dt[:, None])


def _molecules(basis: Hermite, c: Array) -> Array:
    """(b, 1, N + 1, n) those that moments stand for."""
    return jnp.moveaxis(jnp.tensordot(basis.to_molecules, c, 1), 0, 1)[:, None]


@jax.jit
def _advance(closure: Closure, begun: Start, c, duration, steps):
    def one(number, c):
        return step(closure, begun, c, step_length(number, duration, steps))

    return jax.lax.fori_loop(0, steps.max(), one, c)


def solve(closure: Closure, case: Case, times) -> Conserved:
    """Density, momentum and energy at increasing times, (b, t, n), in the frame of `drift`.

    Mass, momentum and energy are kept to rounding.

    Args:    closure: one, not an ensemble
    Returns: values that are not finite, or densities or temperatures that are not positive, where
             the solution broke (`difference.broken`)
    """
    begun = start(closure.basis, case)
    c, seen = begun.moments, []
    durations = np.diff(np.asarray(times, float), prepend=0.0)
    for duration, steps in zip(durations, steps_for(closure.basis, begun, times)):
        c = _advance(closure, begun, c, duration, steps)
        seen.append(conserved_of(c, begun.temperature))
    return Conserved(*(jnp.stack(parts, axis=1) for parts in zip(*seen)))
