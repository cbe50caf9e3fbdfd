"""The globally hyperbolic moment system, a baseline: moments cut off in the frame of each place.

Cai, Fan, Li, Commun. Math. Sci. 11, 547 (2013), in one dimension of velocity space. A closed
system of Hermite's moments says that c_{N+1} is 0; here it is so in the frame of the mean velocity
and the temperature of a place, in which the first derivatives of moments are taken.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from kepton.closure.closure import Closure
from kepton.closure.fields import Case, Conserved
from kepton.closure.kinetic import COURANT
from kepton.closure.moments import LOWEST, Hermite, about, conserved_of, local
from kepton.closure.scheme import start
from kepton.closure.transport import GHOSTS, at_faces, repeated, step_length, stepped, steps_of
from kepton.closure.velocities import powers

MARGIN = 1.5
"""Temperatures of the hottest place at the start that one may come to have"""


def in_another_frame(c, mean, scale):
    """Moments, (m, b, n), of (xi - mean) / scale, of those of xi."""
    return powers(1.0 / scale, len(c)) * about(c[:, None], mean, 1.0 - scale**2)[:, 0]


def fields_of(c):
    """Density, mean and variance of xi, of moments (m, b, n)."""
    return local(c[:, None])[0]


@partial(jax.jit, static_argnums=0)
def _advance(basis, begun, c, duration, steps):
    case, temperature, _ = begun
    thermal = jnp.sqrt(temperature)[:, None]

    def flight(c):
        _, mean, variance = fields_of(c)
        scale = jnp.sqrt(variance)
        around = [jnp.roll(c, -k, axis=-1) for k in range(-GHOSTS, GHOSTS + 1)]
        seen = jnp.stack([in_another_frame(one, mean, scale) for one in around], axis=-1)
        parts = jnp.tensordot(basis.to_molecules, seen, 1)  # (m, b, n, 7)
        speed = thermal * (mean + scale * basis.velocities[:, None, None])
        rightwards = jnp.diff(at_faces(parts))[..., 0]
        leftwards = -jnp.diff(at_faces(parts[..., ::-1]))[..., 0]
        change = -case.cells * speed * jnp.where(speed > 0.0, rightwards, leftwards)
        change = jnp.tensordot(basis.of_molecules, change, 1)
        return in_another_frame(change, -mean / scale, 1.0 / scale)

    def collided(c, scale):
        equilibrium = basis.gaussian(*fields_of(c))[LOWEST:]
        away = (c[LOWEST:] - equilibrium) / (1.0 + scale / case.knudsen[:, None])
        return jnp.concatenate([c[:LOWEST], equilibrium + away])

    dt = step_length(duration, steps)[:, None]
    return repeated(lambda c: stepped(flight, collided, c, dt), c, steps, 1)


def solve(order: int, case: Case, times) -> Conserved:
    """Density, momentum and energy at increasing times, (b, t, n), of a periodic domain."""
    basis = Hermite(order)
    begun = start(Closure.none(order), case)
    hottest = np.asarray(begun.case.initial.temperature).max(axis=1)
    fastest = np.abs(begun.case.initial.velocity).max(axis=1)
    fastest = fastest + np.sqrt(MARGIN * hottest) * basis.velocities[-1]
    c, seen = begun.moments[:, 0], []
    for duration in np.diff(np.asarray(times, float), prepend=0.0):
        steps = steps_of(duration, fastest, case.cells, COURANT)
        c = _advance(basis, begun, c, duration, steps)
        seen.append(conserved_of(c[:, None], begun.temperature))
    return Conserved(*(jnp.stack(parts, axis=1) for parts in zip(*seen)))
