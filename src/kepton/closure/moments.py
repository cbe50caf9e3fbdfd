"""Moments of a distribution: its Hermite coefficients in a frame, and the molecules they stand for.

f(v) = sum_n c_n he_n(xi) exp(-xi^2 / 2) / sqrt(2 pi T),  xi = (v - U) / sqrt(T),
he_n = He_n / sqrt(n!),  so c_n = int he_n(xi) f dv

The frame (U, T) is that of `drift` and the temperature of the gas as a whole: what the gas would
come to if it were left alone. All is therefore the same for a gas that moves, is hotter, or is
seen in a mirror. With three dimensions of velocity space there are such moments of g and of h / 2T,
as in `kinetic`.
"""

from dataclasses import dataclass
from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.special import factorial

from kepton.closure.fields import Case, Conserved, Fields
from kepton.closure.transport import Real
from kepton.errors import InputError

HOTTEST = 1.5
"""Temperatures of the frame that the gas may have anywhere: the series diverges at 2"""
LOWEST = 3
"""The first moment that collisions change"""


@dataclass(frozen=True)
class Hermite:
    """The moments c_0 ... c_N of one dimension of velocity space.

    N + 1 moments are those of molecules that fly with N + 1 velocities, the zeros of He_{N+1}:
    c_n = sum_j he_n(xi_j) g_j.

    Args:    order: N, at least LOWEST
    """

    order: int

    def check(self) -> None:
        """Raise InputError where there is no flux of heat among the moments, or too many."""
        if not LOWEST <= self.order <= 40:
            raise InputError(
                f"A closure of order {self.order} is out of range; give an order from {LOWEST} to "
                "40, of which 10 is usual."
            )

    @cached_property
    def velocities(self) -> np.ndarray:
        """(N + 1,) the zeros xi_j, increasing and symmetric about 0."""
        return self._eigen[0]

    @cached_property
    def of_molecules(self) -> np.ndarray:
        """(N + 1, N + 1) he_n(xi_j): from g to c."""
        _, vectors = self._eigen
        return vectors / vectors[0]

    @cached_property
    def to_molecules(self) -> np.ndarray:
        """(N + 1, N + 1) its inverse, by Gauss's weights: from c to g."""
        _, vectors = self._eigen
        return (vectors * vectors[0]).T

    @cached_property
    def _eigen(self) -> tuple[np.ndarray, np.ndarray]:
        """Of the tridiagonal matrix that multiplies he_n by xi; Golub and Welsch (1969)."""
        beside = np.sqrt(np.arange(1, self.order + 1))
        values, vectors = np.linalg.eigh(np.diag(beside, 1) + np.diag(beside, -1))
        parity = (-1.0) ** np.arange(self.order + 1)[:, None]
        vectors = vectors * np.sign(vectors[0])
        return 0.5 * (values - values[::-1]), 0.5 * (vectors + parity * vectors[:, ::-1])

    def gaussian(self, density, mean, variance) -> Array:
        """(N + 1, b, n) the coefficients of a Gaussian in xi.

        c_{n+1} = (u c_n + (s - 1) sqrt(n) c_{n-1}) / sqrt(n + 1),  c_0 = rho

        Args:    density, mean, variance: rho, u, s, (b, n) each
        """
        c = [density, density * mean]
        for n in range(1, self.order):
            c.append((mean * c[n] + (variance - 1.0) * np.sqrt(n) * c[n - 1]) / np.sqrt(n + 1))
        return jnp.stack(c)


def product(
    matrix: Float[Real, "r m"], moments: Float[Array, "m p b n"]
) -> Float[Array, "r p b n"]:
    """A matrix times the moments of every cell, as a sum.

    So small a product takes longer by the library of matrices, and without the barrier the compiler
    repeats the sum for each that reads it.
    """
    return jax.lax.optimization_barrier((matrix[:, :, None, None, None] * moments).sum(axis=1))


def about(c: Float[Real, "m p b n"], w: Real, e: Real) -> Array:
    """Moments of s^n he_n((xi - w) / s), e = 1 - s^2, of those of he_n(xi).

    sqrt(n!) sum_m p_(n - m) c_m / sqrt(m!),  sum_j p_j t^j = exp(-w t + e t^2 / 2)

    Args:    w, e: (b, n) each; -w and -e give the inverse
    """
    n = np.arange(len(c))
    p = [jnp.ones_like(w), -w]
    for j in range(1, len(c) - 1):
        p.append((e * p[j - 1] - w * p[j]) / (j + 1))
    root = np.sqrt(factorial(n))
    factor = np.where(n[:, None] >= n, root[:, None] / root, 0.0)[..., None, None]
    matrix = factor * jax.lax.optimization_barrier(jnp.stack(p))[np.maximum(n[:, None] - n, 0)]
    return (matrix[:, :, None] * c).sum(axis=1)


def temperature_of(case: Case, dimensions: int) -> Float[Real, "b"]:
    """(b,) temperature T of the frame of a case, seen from the frame of `drift`.

    sum rho (u^2 / D + theta) / sum rho, that of the gas once it is at rest; or more, so that the
    hottest place is at most HOTTEST times as hot
    """
    rho, u, theta = case.initial
    settled = (rho * (u**2 / dimensions + theta)).sum(axis=1) / rho.sum(axis=1)
    hottest = jnp.maximum(theta.max(axis=1), case.outside.temperature.max(axis=1))
    return jnp.maximum(settled, hottest / HOTTEST)


def in_frame(fields: Fields, temperature: Float[Real, "b"]) -> Fields:
    """Density, mean of xi and variance of xi of a gas in local equilibrium."""
    rho, u, theta = fields
    return Fields(
        rho, u / jnp.sqrt(temperature)[:, None], theta / jnp.asarray(temperature)[:, None]
    )


def of_gaussian(
    basis: Hermite, dimensions: int, fields: Fields, variances: tuple[Real, Real] | None = None
) -> Array:
    """(N + 1, p, b, n) the moments of a gas: c_n of g, and of h / 2T where there is one.

    Args:
        dimensions: of velocity space
        fields: density, mean and variance of xi
        variances: along x and across, by default that of fields
    """
    along, across = variances or (fields.temperature, fields.temperature)
    g = basis.gaussian(fields.density, fields.velocity, along)
    return g[:, None] if dimensions == 1 else jnp.stack([g, across * g], axis=1)


def local(c: Float[Array, "m p b n"]) -> tuple[Fields, Array]:
    """Density, mean of xi and variance of xi that moments have, and the variance along x."""
    rho, first, second = c[:LOWEST, 0]
    mean = first / rho
    along = 1.0 + np.sqrt(2.0) * second / rho - mean**2
    if c.shape[1] == 1:
        return Fields(rho, mean, along), along
    return Fields(rho, mean, (along + 2.0 * c[0, 1] / rho) / 3.0), along


def conserved_of(c: Float[Array, "m p b n"], temperature: Float[Real, "b"]) -> Conserved:
    """Density, momentum and energy of moments, in the frame of `drift`."""
    t = jnp.asarray(temperature)[:, None]
    energy = 0.5 * t * (np.sqrt(2.0) * c[2, 0] + c[0, 0]) + t * c[0, 1:].sum(axis=0)
    return Conserved(c[0, 0], jnp.sqrt(t) * c[1, 0], energy)
