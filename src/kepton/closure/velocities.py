"""Distributions on a grid of velocities along x: Gaussians, and the moments that are conserved.

What molecules do across x is in parts, int (w^2 / 2)^k / k! f dw, k = 0, 1, ...; w, the velocity
across, has two components. With one dimension of velocity space there is the part 0 alone, which is
f. Flight leaves each part to itself.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from kepton.closure.fields import Conserved
from kepton.closure.transport import Real

REACH = 6.0
"""Thermal speeds that a grid of velocities reaches beyond the mean velocities"""


class Velocities(NamedTuple):
    """Equally spaced velocities, symmetric about 0, a row a case.

    Args:    values: (b, v);  width: (b,), of the spacing
    """

    values: Float[Real, "b v"]
    width: Float[Real, "b"]

    @property
    def thermal(self) -> Real:
        """(b, 1) the highest thermal speed of a gas at rest for which there is room."""
        return self.values[:, -1:] / REACH


def equally_spaced(reach: np.ndarray, count: int) -> Velocities:
    """So many velocities from -reach to reach, each in the middle of its share."""
    width = 2.0 * reach / count
    return Velocities((np.arange(count) - 0.5 * (count - 1)) * width[:, None], width)


def powers(x: Real, count: int) -> Array:
    """(k, ...) x^k, k < count, by products."""
    found = [jnp.ones_like(x)]
    for _ in range(count - 1):
        found.append(found[-1] * x)
    return jnp.stack(found)


def sampled(velocities: Velocities, mean, temperature) -> tuple[Array, Array]:
    """c = (v - u) / sqrt(T) and exp(-c^2 / 2) dv / sqrt(2 pi T), (b, v, n) both, as they are."""
    root = jnp.sqrt(temperature)[:, None, :]
    c = (velocities.values[:, :, None] - mean[:, None, :]) / root
    return c, jnp.exp(-0.5 * c**2) * (velocities.width[:, None, None] / root / np.sqrt(2.0 * np.pi))


def gaussian(velocities: Velocities, count: int, density, mean, along, across) -> Array:
    """(b, k, v, n) so many parts of the Gaussian with some temperatures along x and across.

    M (a + b c + d c^2) dv,  M = rho exp(-c^2 / 2) / sqrt(2 pi T),  c = (v - u) / sqrt(T)

    T is that along x. a, b, d are 1, 0, 0 but for what the sum over velocities lacks of the
    integral, so that density, mean and variance are right to rounding. They are found in two
    corrections, by the inverse that the integrals would have: what is lacking, r, is then of the
    order r^4.

    Args:    density, mean, along, across: (b, n) each
    Source:  the aim is that of Mieussens, J. Comput. Phys. 162, 429 (2000)
    """
    c, shape = sampled(velocities, mean, along)
    for _ in range(2):
        lack0, lack1, lack2 = (
            whole - (shape * c**k).sum(axis=1, keepdims=True) for k, whole in enumerate((1, 0, 1))
        )
        shape = shape * (
            1.0 + 0.5 * (3.0 * lack0 - lack2) + lack1 * c + 0.5 * (lack2 - lack0) * c**2
        )
    first = (shape * density[:, None, :])[:, None]
    if count == 1:
        return first
    return first * jnp.moveaxis(powers(across, count), 0, 1)[:, :, None]


def moments(velocities: Velocities, parts: Float[Array, "b k v n"]) -> tuple[Conserved, Array]:
    """What collisions keep, and twice the energy of motion along x, int v^2 f, (b, n)."""
    g, v = parts[:, 0], velocities.values[:, :, None]
    along = (v**2 * g).sum(axis=1)
    across = parts[:, 1:2].sum(axis=(1, 2))
    return Conserved(g.sum(axis=1), (v * g).sum(axis=1), 0.5 * along + across), along
