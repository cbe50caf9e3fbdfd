"""The closed moment system, and the scheme that carries its moments through a step of time."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from kepton.closure.closure import Closure
from kepton.closure.fields import Case, drift, seen_from
from kepton.closure.moments import (
    LOWEST,
    Hermite,
    in_frame,
    of_gaussian,
    product,
    temperature_of,
)
from kepton.closure.transport import (
    GAMMA,
    Real,
    crossing,
    steps_of,
)

FARTHEST = 1.0 / (1.0 - GAMMA)
"""Cells that the fastest molecules fly in a step: one in the longer part of it"""
CASES = 2
"""The axis of moments along which there are cases"""


class Start(NamedTuple):
    """A case ready for a closed system, in its frame.

    Args:    case: seen from the frame of `drift`;  temperature: T, (b,);  moments: (N + 1, p, b, n)
    """

    case: Case
    temperature: Float[Array, "b"]
    moments: Float[Array, "m p b n"]

    def velocities(self, basis: Hermite) -> Float[Array, "b v"]:
        """Of the molecules that moments stand for."""
        return jnp.sqrt(self.temperature)[:, None] * basis.velocities


@jax.jit
def start(closure: Closure, case: Case) -> Start:
    """Moments of the initial data, of the kind that a closure, or an ensemble, closes."""
    dimensions = closure.equation.dimensions
    moving = seen_from(case, drift(case))
    temperature = jnp.asarray(temperature_of(moving, dimensions))
    fields = in_frame(moving.initial, temperature)
    return Start(moving, temperature, of_gaussian(closure.basis, dimensions, fields))


def steps_for(closure: Closure, begun: Start, durations: Float[Real, "t"]) -> Int[Array, "t b"]:
    """Equal steps that every duration takes."""
    fastest = jnp.sqrt(begun.temperature) * closure.basis.velocities[-1]
    return steps_of(jnp.asarray(durations)[:, None], fastest, begun.case.cells, FARTHEST)


def stepper(closure: Closure, begun: Start, dt: Float[Array, "b"]) -> Callable[[Array], Array]:
    """The moments after a step of a length, of those before, (m, p, b, n).

    c1 = S(gamma dt) c + gamma dt Q(c1)
    c2 = S((1 - gamma) dt) (c1 + (1 - 2 gamma) dt Q(c1)) + gamma dt Q(c2),  c <- D c2

    S is flight, exact in time since each kind of molecules has one velocity, Q are collisions, D is
    damping, exact too. c2 is the implicit scheme of second order of those who fly along.
    D acts on what is 0 at the start and no part of what collisions keep; so it is the same as half
    of it before and half after, which is of second order.

    Source:  as Groppi, Russo, Stracquadanio, Commun. Math. Sci. 12, 389 (2014), but for S in two
             parts, each of which goes as far as a cell
    """
    basis, equation, case = closure.basis, closure.equation, begun.case
    velocities, outside = begun.velocities(basis), beyond(closure, begun)
    waves = Waves(case.boundary, case.cells)
    left = kept(closure, begun, dt)
    collisions = GAMMA * dt / case.knudsen

    def flown(c, part):
        way = part * case.cells * dt[:, None, None, None] * velocities[:, None, :, None]
        parts = crossing(case.boundary, outside, velocities, _molecules(basis, c), jnp.abs(way))
        change = -jnp.diff(way * parts, axis=-1)
        return c + product(basis.of_molecules, jnp.swapaxes(change, 0, 2))

    def damped(h):
        return jnp.concatenate([h[:LOWEST], waves.scaled(h[LOWEST:], left)])

    def step(c):
        before = flown(c, GAMMA)
        target, rest = equation.collided(basis, before, collisions)
        ahead = target + rest + (1.0 / GAMMA - 2.0) * (target + rest - before)
        target, rest = equation.collided(basis, flown(ahead, 1.0 - GAMMA), collisions)
        return target + damped(rest)

    return step


def beyond(closure: Closure, begun: Start) -> Float[Array, "b p v 2"]:
    """Molecules of the gas, or the wall, beyond the ends."""
    fields = in_frame(begun.case.outside, begun.temperature)
    return _molecules(
        closure.basis, of_gaussian(closure.basis, closure.equation.dimensions, fields)
    )


def kept(closure: Closure, begun: Start, dt: Float[Array, "b"]) -> Float[Array, "r p b w"]:
    """D: what damping leaves of every wave after a step of a length."""
    waves = Waves(begun.case.boundary, begun.case.cells).numbers
    density = begun.moments[0, 0].mean(axis=-1)
    frequency = jnp.asarray(closure.equation.frequency(density) / begun.case.knudsen)
    return jnp.exp(-dt[:, None] * closure.damping(waves, begun.temperature, frequency))


class Waves(NamedTuple):
    """Waves in the domain, of which the moments c_n, n >= 3, are made.

    Where the domain is not periodic, they are those of the domain and its mirror image, in which
    reflecting walls turn velocities, c_n becoming (-1)^n c_n.

    Args:    boundary: one of BOUNDARIES;  cells: n
    """

    boundary: str
    cells: int

    @property
    def length(self) -> int:
        """Cells of the domain, and of its image where that counts."""
        return self.cells if self.boundary == "periodic" else 2 * self.cells

    @property
    def numbers(self) -> np.ndarray:
        """(w,) the wavenumbers k >= 0."""
        return 2.0 * np.pi * self.cells / self.length * np.arange(self.length // 2 + 1)

    def scaled(self, moments: Float[Array, "r p b n"], by: Float[Array, "r p b w"]) -> Array:
        """The moments, (r, p, b, n), each wave of them multiplied by a number."""
        whole = moments
        if self.boundary != "periodic":
            image = moments[..., ::-1]
            if self.boundary == "reflecting":
                image = image * (-1.0) ** (LOWEST + np.arange(len(moments)))[:, None, None, None]
            whole = jnp.concatenate([moments, image], axis=-1)
        return jnp.fft.irfft(by * jnp.fft.rfft(whole), self.length)[..., : self.cells]


def _molecules(basis: Hermite, c: Array) -> Array:
    """(b, p, N + 1, n) those that moments stand for."""
    return jnp.swapaxes(product(basis.to_molecules, c), 0, 2)
