"""The closure that is learned: how fast the moments that a closed system ends with forget."""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from kepton.closure.moments import LOWEST, Hermite, local
from kepton.closure.transport import wrapped

FEATURES = 4
FLOOR = 1e-10
"""Square of the share of molecules out of equilibrium below which nothing is to be told of it"""


@partial(jax.tree_util.register_dataclass, data_fields=["weights"], meta_fields=[])
@dataclass(frozen=True)
class Closure:
    """Damping of the moments that are out of local equilibrium, h_n = c_n - M_n, n >= 3.

    c_t + sqrt(T) J c_x = -(1 / Kn + q s_n) h,  s_n = exp(sum_f W_nf phi_f) > 0
    q^2 = T sum_n (h_n / rho)_x^2 / sum_n (h_n / rho)^2

    J, symmetric, is the multiplication by xi, cut off behind c_N: the system is hyperbolic and
    dissipative whatever W is. What is cut off would carry the memory of finer and finer structure
    in velocity away; q is the rate at which the gas makes it, and q s_n that at which c_n loses it.
    The features phi are 1, q / (q + 1 / Kn), the logarithm of the local temperature, and
    |h| / rho: all numbers without a unit, which no motion of the gas or of its observer changes, no
    choice of units and no mirror.

    Args:    weights: W, (N - 2, FEATURES), or with a leading axis k an ensemble
    Source:  the closures of Hammett, Perkins, Phys. Rev. Lett. 64, 3019 (1990), damp at a rate
             |k| sqrt(T); q is that of a local k
    """

    weights: Float[Array | np.ndarray, "*k m f"]

    @staticmethod
    def fresh(order: int, members: int, key: int) -> "Closure":
        """An ensemble before training: rates that grow with n, and noise."""
        n = np.arange(LOWEST, order + 1)
        rate = 8.0 * ((n - LOWEST + 0.3) / (order - LOWEST + 0.3)) ** 4
        noise = 0.3 * np.random.default_rng(key).standard_normal((members, len(n), FEATURES))
        noise[..., 0] += np.log(rate)
        return Closure(noise)

    @staticmethod
    def none(order: int) -> "Closure":
        """Moments that are cut off and not damped."""
        weights = np.zeros((order + 1 - LOWEST, FEATURES))
        weights[:, 0] = -np.inf
        return Closure(weights)

    @property
    def basis(self) -> Hermite:
        """The moments that it closes."""
        return Hermite(self.weights.shape[-2] + LOWEST - 1)

    @property
    def size(self) -> int:
        """k"""
        return self.weights.shape[0]

    def member(self, index: int) -> "Closure":
        """One of the k closures."""
        return Closure(self.weights[index])

    @property
    def mean(self) -> "Closure":
        """The closure of the rates' geometric mean, which costs what one member costs."""
        return Closure(self.weights.mean(axis=0))

    def rates(
        self,
        c: Float[Array, "m b n"],
        temperature: Float[Array, "b"],
        frequency: Float[Array, "b"],
        periodic: bool,
    ) -> Float[Array, "r b n"]:
        """q s_n of every cell, of the moments c and n >= 3.

        Args:    temperature: T;  frequency: 1 / Kn;  periodic: whether the ends meet
        """
        fields = local(c)
        h = (c - self.basis.gaussian(*fields))[LOWEST:] / c[0]
        padded = wrapped(h)[..., 1:-1] if periodic else jnp.pad(h, ((0, 0), (0, 0), (1, 1)), "edge")
        slope = 0.5 * c.shape[-1] * (padded[..., 2:] - padded[..., :-2])
        squares = (h**2).sum(axis=0) + FLOOR
        q = jnp.sqrt(temperature[:, None] * ((slope**2).sum(axis=0) + FLOOR) / squares)
        features = (
            jnp.ones_like(q),
            q / (q + frequency[:, None]),
            jnp.log(fields.temperature),
            jnp.sqrt(squares),
        )
        return q * jnp.exp(jnp.tensordot(self.weights, jnp.stack(features), 1))
