"""What collisions of Maxwell molecules make of functions about a Maxwellian, in numbers.

The functions are he_n(c_x) L_k(c_w^2 / 2) M, of norm 1, M = exp(-c^2 / 2) / sqrt(2 pi)^3, c_w the
part of c across x; n + 2k is their degree. Q+ is what `boltzmann` says.
"""

from fractions import Fraction
from functools import lru_cache
from math import comb, factorial
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy.polynomial import hermite_e
from scipy.linalg import block_diag

from kepton.closure.transport import Real

FREQUENCY = 3.0
"""Of collisions, times Kn / rho: a flux of heat is then taken away with rho / Kn"""


class Forgetting(NamedTuple):
    """What collisions with M do to he_n and he_n L_1, n = 0 ... N, no others being there.

    Of a degree d = 0 ... N + 2 there are he_d and he_(d - 2) L_1, of which a rotation makes two
    that collisions forget each at a rate of its own, times rho / Kn.

    Args:    cosine, sine: of the rotation, (d,);  rates: (d, 2)
    """

    cosine: np.ndarray
    sine: np.ndarray
    rates: np.ndarray


@lru_cache
def forgetting(order: int) -> Forgetting:
    """The `Forgetting` of moments up to N."""
    turns, rates = [], []
    for degree in range(order + 3):
        share, functions = burnett(degree)
        left = np.eye(2)  # nothing is forgotten of what is not there
        there = [k for k in (0, 1) if 0 <= degree - 2 * k <= order]
        left[np.ix_(there, there)] = (share[:, None] * functions[:, there]).T @ functions[:, there]
        values, vectors = np.linalg.eigh(left)
        turns.append(vectors[:, 0])
        rates.append(FREQUENCY * (1.0 - values))
    cosine, sine = np.array(turns).T
    return Forgetting(cosine, sine, np.array(rates))


class Scattering(NamedTuple):
    """Q+ in functions of a degree up to the highest, in the order of their degrees.

    Args:
        along, across: n and k of he_n L_k, (m,) each
        burnett: a row for each of Burnett's functions, (m, m), orthogonal
        share: what Q+ leaves of these, (m,), see `burnett`
        meetings: for each degree, which of Burnett's functions make something of it as partners
            that are both not M, (2, p), and what, (m', p)
        powers: of he_n L_k, coefficients of c_x^p in its parts int (c_w^2 / 2)^j / j! dc_w,
            (p, j, m)
    """

    along: np.ndarray
    across: np.ndarray
    burnett: np.ndarray
    share: np.ndarray
    meetings: list[tuple[np.ndarray, np.ndarray]]
    powers: np.ndarray

    @property
    def highest(self) -> int:
        """The highest degree."""
        return len(self.meetings) - 1

    def turned(self, moments: Float[Real, "m b n"]) -> Array:
        """Coefficients of Burnett's functions, of those of he_n L_k."""
        return jnp.tensordot(self.burnett, moments, 1)

    def back(self, moments: Float[Real, "m b n"]) -> Array:
        """The inverse of `turned`."""
        return jnp.tensordot(self.burnett.T, moments, 1)

    def of_degree(self, degree: int) -> slice:
        """The places of functions of a degree."""
        return slice(*np.searchsorted(self.along + 2 * self.across, [degree, degree + 1]))


def burnett(degree: int) -> tuple[np.ndarray, np.ndarray]:
    """Burnett's functions of a degree d, and the share that Q+ leaves of each beside M.

    |z|^d P_l(z_x / |z|),  l = d, d - 2, ...,        as a combination of the Z_nk of `scattering`
    share = 4 int_0^1 x^(d + 1) P_l(x) dx,        for M itself 1

    Returns: (r,), and (r, k), orthogonal, k -> that of he_(d - 2k) L_k
    Source:  Wang Chang, Uhlenbeck (1952), in Studies in Statistical Mechanics V (1970)
    """
    share, functions = [], []
    for r in range(degree // 2 + 1):
        order = degree - 2 * r
        powers = order - 2 * np.arange(order // 2 + 1)
        legendre = [  # of x to the powers, times 2^l
            (-1) ** j * comb(order, j) * comb(2 * (order - j), order) for j in range(len(powers))
        ]
        left = sum(
            Fraction(4 * p, 2**order * (degree + int(m) + 2)) for p, m in zip(legendre, powers)
        )
        share.append(float(left) if degree else 1.0)
        row = []
        for k in range(degree // 2 + 1):
            whole = sum(p * comb(r + j, k) for j, p in enumerate(legendre))
            row.append((-2.0) ** k * factorial(k) * factorial(degree - 2 * k) ** 0.5 * whole)
        functions.append(np.array(row) / np.linalg.norm(row))
    return np.array(share), np.array(functions)


@lru_cache
def scattering(highest: int) -> Scattering:
    """Q+ up to a degree.

    The Fourier transforms of he_n L_k M are Z_nk(z) exp(-z^2 / 2), with homogeneous polynomials

    Z_nk = (-i z_x)^n (z_w^2 / 2)^k / (sqrt(n!) k!)

    and that of Q+ of two such functions is the mean of Z_b(z+) Z_c(z-), z+- = (z +- |z| s) / 2,
    over s on the unit sphere, again homogeneous and so a combination of the Z_a of one degree.
    """
    each = [burnett(d) for d in range(highest + 1)]
    turn = np.asarray(block_diag(*(functions for _, functions in each)))
    along, across = np.array(
        [(d - 2 * k, k) for d in range(highest + 1) for k in range(d // 2 + 1)]
    ).T
    degree = along + 2 * across
    norm = [factorial(n) ** 0.5 * 2.0**k * factorial(k) for n, k in zip(along, across)]

    def transforms(z: np.ndarray) -> np.ndarray:
        """(..., m) Z_nk at points (..., 3)."""
        squared = (z[..., 1:] ** 2).sum(axis=-1, keepdims=True)
        return (-1j * z[..., :1]) ** along * squared**across / norm

    cosine, weight = np.polynomial.legendre.leggauss(highest // 2 + 1)
    angle = 2.0 * np.pi * np.arange(highest + 1) / (highest + 1)
    sine = np.sqrt(1.0 - cosine**2)
    aside = [np.outer(sine, f(angle)).ravel() for f in (np.cos, np.sin)]
    sphere = np.stack([np.repeat(cosine, len(angle)), *aside], axis=-1)
    weight = np.repeat(0.5 * weight / len(angle), len(angle))
    tilt = 0.5 * np.pi * (np.arange(highest // 2 + 1) + 0.5) / (highest // 2 + 1)
    z = np.stack([np.cos(tilt), np.sin(tilt), 0.0 * tilt], axis=-1)[:, None]
    ahead, behind = (transforms(0.5 * (z + sign * sphere)) @ turn.T for sign in (1, -1))
    there = transforms(z[:, 0]) @ turn.T
    i, j = np.triu_indices(len(degree))
    meetings = []
    for d in range(highest + 1):
        pairs = np.stack([i, j])[:, (degree[i] + degree[j] == d) & (degree[i] > 1)]
        pairs = pairs[:, degree[pairs[1]] > 1]
        met = weight @ (ahead[..., pairs[0]] * behind[..., pairs[1]])
        made = (np.linalg.pinv(there[:, degree == d]) @ met).real
        meetings.append((pairs, np.where(pairs[0] == pairs[1], 1.0, 2.0) * made))
    share = np.concatenate([left for left, _ in each])
    hermite = np.zeros(2 * (highest + 1,))
    for n, row in enumerate(np.eye(highest + 1)):
        hermite[: n + 1, n] = hermite_e.herme2poly(row[: n + 1]) / factorial(n) ** 0.5
    powers = hermite[:, None, along] * laguerre(highest // 2 + 1)[:, across]
    return Scattering(along, across, turn, share, meetings, powers)


def laguerre(count: int) -> np.ndarray:
    """(k, j) of L_k(y) = sum_j l_kj y^j / j!, its own inverse."""
    return np.array([[(-1.0) ** j * comb(k, j) for j in range(count)] for k in range(count)])
