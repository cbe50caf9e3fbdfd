"""The closure that is learned: how fast the moments that a closed system ends with forget."""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from kepton.closure.equation import BGK, Kinetic
from kepton.closure.moments import LOWEST, Hermite

FEATURES = 3


@partial(jax.tree_util.register_dataclass, data_fields=["weights"], meta_fields=["equation"])
@dataclass(frozen=True)
class Closure:
    """Damping of the moments that are out of local equilibrium, h_n = c_n - M_n, n >= 3.

    c_t + sqrt(T) J c_x = -(1 / Kn + q s_n(x)) h,  q = sqrt(T) |d/dx|,  x = q / (q + 1 / Kn)
    s_n(x) = exp(sum_f W_nf x^f) > 0,  f = 0, 1, 2

    J, symmetric, is the multiplication by xi, cut off behind c_N: the system is hyperbolic and
    dissipative whatever W is. What is cut off would carry the memory of finer and finer structure
    in velocity away; q, the same for a wave of k as sqrt(T) k, is the rate at which flight makes
    it, and q s_n that at which c_n loses it. x, between 0 and 1, says how rarefied the gas is for
    that wave; Boltzmann's equation has rho / Kn for 1 / Kn, in x its mean, and collisions of its
    own (`Boltzmann.collided`). These have no unit or that of a rate, so no motion of the gas or of
    its observer changes anything, no choice of units and no mirror.

    Args:
        weights: W, (N - 2, p, FEATURES), or with a leading axis k an ensemble; with three
            dimensions of velocity space p = 2, and c_n are those of g and of h
        equation: whose moments these are; of ES-BGK G[f] takes the place of M
    Source:  with constants for s_n, closures of Hammett, Perkins, Phys. Rev. Lett. 64, 3019 (1990)
    """

    weights: Float[Array | np.ndarray, "*k m p f"]
    equation: Kinetic = BGK

    @staticmethod
    def fresh(order: int, members: int, key: int, equation: Kinetic = BGK) -> "Closure":
        """An ensemble before training: rates that grow with n, and noise."""
        n = np.arange(LOWEST, order + 1)
        rate = 5.0 * ((n - LOWEST + 0.3) / (order - LOWEST + 0.3)) ** 3
        shape = (members, len(n), equation.kinds, FEATURES)
        weights = 0.05 * np.random.default_rng(key).standard_normal(shape)
        weights[..., 0] += np.log(rate)[:, None]
        return Closure(weights, equation)

    @staticmethod
    def none(order: int, equation: Kinetic = BGK) -> "Closure":
        """Moments that are cut off and not damped."""
        weights = np.zeros((order + 1 - LOWEST, equation.kinds, FEATURES))
        weights[..., 0] = -np.inf
        return Closure(weights, equation)

    @property
    def basis(self) -> Hermite:
        """The moments that it closes."""
        return Hermite(self.weights.shape[-3] + LOWEST - 1)

    @property
    def size(self) -> int:
        """k"""
        return self.weights.shape[0]

    def member(self, index: int) -> "Closure":
        """One of the k closures."""
        return Closure(self.weights[index], self.equation)

    @property
    def mean(self) -> "Closure":
        """The closure of the rates' geometric mean, which costs what one member costs."""
        return Closure(self.weights.mean(axis=0), self.equation)

    def damping(
        self, wavenumbers: np.ndarray, temperature: Float[Array, "b"], frequency: Float[Array, "b"]
    ) -> Float[Array, "r p b w"]:
        """q s_n of every wave, n >= 3.

        Args:    wavenumbers: (w,), |k|;  temperature: T;  frequency: 1 / Kn or rho / Kn
        """
        q = jnp.sqrt(temperature)[:, None] * wavenumbers
        x = q / (q + frequency[:, None])
        powers = jnp.stack([x**f for f in range(FEATURES)])
        return q * jnp.exp(jnp.tensordot(self.weights, powers, 1))
