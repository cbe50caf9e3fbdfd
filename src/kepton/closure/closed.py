"""The closed moment system: what a closure makes of a case."""

from collections.abc import Callable
from functools import partial
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
    product,
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


@partial(jax.jit, static_argnums=0)
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


def stepper(closure: Closure, begun: Start) -> Callable[[Array, Array], Array]:
    """The moments after a step, of those before, (m, b, n), and its length, (b,).

    Flight and collisions by `stepped`, then damping, exactly. What is damped is 0 at the start, and
    what collisions keep is no part of it; so this is the same as half of it before and half after,
    which is of second order.
    """
    basis, case, temperature = closure.basis, begun.case, begun.temperature
    velocities = jnp.sqrt(temperature)[:, None] * basis.velocities
    outside = _molecules(basis, basis.gaussian(*in_frame(case.outside, temperature)))
    waves = Waves(case.boundary, case.cells)
    damping = closure.damping(waves.numbers, temperature, 1.0 / jnp.asarray(case.knudsen))

    def flight(c):
        parts = crossing(case.boundary, outside, velocities, _molecules(basis, c))
        change = -case.cells * jnp.diff(velocities[:, None, :, None] * parts, axis=-1)
        return product(basis.of_molecules, jnp.moveaxis(change[:, 0], 1, 0))

    def relaxed(c, away):
        equilibrium = basis.gaussian(*local(c))[LOWEST:]
        return jnp.concatenate([c[:LOWEST], equilibrium + away(c[LOWEST:] - equilibrium)])

    def collided(c, scale):
        return relaxed(c, lambda h: h / (1.0 + scale / case.knudsen[:, None]))

    def step(c, dt):
        c = stepped(flight, collided, c, dt[:, None])
        return relaxed(c, lambda h: waves.scaled(h, jnp.exp(-dt[:, None] * damping)))

    return step


class Waves(NamedTuple):
    """Waves in the domain, of which the moments c_n, n >= 3, are made.

    Where the domain is not periodic, they are those of the domain and its mirror image, in which
    reflecting walls turn velocities, c_n becoming (-1)^n c_n.

    Args:    boundary: one of BOUNDARIES;  cells: n
    """

    boundary: str
    cells: int

    @property
    def numbers(self) -> np.ndarray:
        """(w,) the wavenumbers k >= 0."""
        if self.boundary == "periodic":
            return 2.0 * np.pi * np.arange(self.cells // 2 + 1)
        return np.pi * np.arange(self.cells + 1)

    def scaled(self, moments: Float[Array, "r b n"], by: Float[Array, "r b w"]) -> Array:
        """The moments, (r, b, n), each wave of them multiplied by a number."""
        if self.boundary == "periodic":
            return jnp.fft.irfft(by * jnp.fft.rfft(moments), self.cells)
        image = moments[..., ::-1]
        if self.boundary == "reflecting":
            image = image * (-1.0) ** (LOWEST + np.arange(len(moments)))[:, None, None]
        mirrored = jnp.concatenate([moments, image], axis=-1)
        return jnp.fft.irfft(by * jnp.fft.rfft(mirrored), 2 * self.cells)[..., : self.cells]


def _molecules(basis: Hermite, c: Array) -> Array:
    """(b, 1, N + 1, n) those that moments stand for."""
    return jnp.moveaxis(product(basis.to_molecules, c), 0, 1)[:, None]


@jax.jit
def _advance(closure: Closure, begun: Start, c, duration, steps):
    step = stepper(closure, begun)

    def one(number, c):
        return step(c, step_length(number, duration, steps))

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
