"""Boltzmann's equation for Maxwell molecules."""

from dataclasses import dataclass, field, replace
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from kepton.closure.equation import Kinetic
from kepton.closure.fields import fields_of
from kepton.closure.moments import Hermite, about, local, of_gaussian
from kepton.closure.scattering import FREQUENCY, Scattering, forgetting, laguerre, scattering
from kepton.closure.transport import Real
from kepton.closure.velocities import Velocities, gaussian, moments, powers, sampled
from kepton.errors import InputError

HOTTEST = 1.5
"""Temperatures of the frame that a gas may have: the series of Q+ diverges at 2"""


@dataclass(frozen=True)
class Boltzmann(Kinetic):
    """Boltzmann's equation for Maxwell molecules that scatter in all directions alike.

    f_t + v f_x = (3 / Kn) (Q+(f, f) - rho f),        Q+(f, f) = int int f' f'_* ds dv_* / (4 pi)

    f' and f'_* are f at (v + v_* +- |v - v_*| s) / 2, s on the unit sphere. The viscosity is
    (2 / 3) Kn theta and Prandtl's number 2 / 3. About any Maxwellian M of mean velocity u, with
    c = (v - u) / sqrt(T), its part c_w across x, and he_n and L_k of norm 1,

    f = M sum_nk f_nk he_n(c_x) L_k(c_w^2 / 2),  Q+ likewise,
    Q+_a = sum_bc Gamma_abc f_b f_c,        degree n + 2k of a = that of b + that of c

    so that Q+ is exact up to a degree, behind which it is cut off; f itself is not. Of what is cut
    off, collisions with M leave a share that falls to 0 with the degree (`burnett`). What a cut
    leaves below 0 of Q+ is cut off too; mass, momentum, energy and stress stay what they are.

    Args:    degree: odd, at least 3
    Source:  Bobylev, Sov. Sci. Rev. C 7, 111 (1988)
    """

    dimensions: int = field(default=3, init=False)
    prandtl: float = field(default=2.0 / 3.0, init=False)
    degree: int = 9

    def check(self) -> None:
        """Raise InputError where there is no such equation."""
        if self.degree % 2 == 0 or not 3 <= self.degree <= 15:
            raise InputError(
                f"degree = {self.degree}: give an odd number from 3 to 15, of which 9 is usual."
            )

    @property
    def settings(self) -> dict[str, Any]:
        """JSON of it."""
        return {"kind": "boltzmann", "degree": self.degree}

    @property
    def name(self) -> str:
        """In words."""
        return "Boltzmann (Maxwell molecules)"

    @property
    def parts(self) -> int:
        """On a grid of velocities, that stand for f."""
        return self.degree // 2 + 1

    @property
    def coarser(self) -> "Boltzmann":
        """That of a lower degree."""
        return replace(self, degree=max(self.degree - 2, 3))

    def frequency(self, density: Real) -> Real:
        """At which collisions take a flux of heat away, times Kn."""
        return density

    def relaxed(
        self, velocities: Velocities, parts: Float[Array, "b k v n"], a: Float[Array, "b"]
    ) -> Array:
        """The solution f of f = f* + a Kn Q(f), Q the right side of the equation, f* = parts.

        Once what is of lower degree is known, each of Burnett's functions of a degree obeys a
        linear equation of its own.
        """
        state, _ = moments(velocities, parts)
        rho, u, theta = fields_of(state, 3)
        rate = FREQUENCY * a[:, None] * rho
        functions = scattering(self.degree)
        frame = _frame(velocities, parts, theta)
        maxwellian = gaussian(velocities, self.parts, rho, u, theta, theta)
        alone = functions.turned(_of_maxwellian(functions, theta / frame))
        deviation = _moments(functions, velocities, parts - maxwellian, rho, u, frame)
        excess = _gain(functions, alone + functions.turned(deviation), rate) - alone
        beside = _on_grid(functions, velocities, functions.back(excess), u, frame)
        gain = maxwellian + rho[:, None, None] * beside
        target = _positive(velocities, gain, rho, u, theta)
        return parts + (rate / (1.0 + rate))[:, None, None] * (target - parts)

    def collided(
        self, basis: Hermite, c: Float[Array, "m p b n"], a: Float[Array, "b"]
    ) -> tuple[Array, Array]:
        """Moments c = c* + a Kn Q(c), in two parts, of the local Maxwellian and the rest; c* given.

        Q is taken to be linear about the Maxwellian, and to make nothing but the moments that are
        there: products of deviations from the Maxwellian bring nothing here (decision 16).
        """
        fields, _ = local(c)
        target = of_gaussian(basis, 3, fields)
        mean, variance = fields.velocity, fields.temperature
        forgets = forgetting(basis.order)
        g, h = jnp.moveaxis(about(c - target, mean, 1.0 - variance), 1, 0)
        none = jnp.zeros_like(g[:2])
        first, second = jnp.concatenate([g, none]), jnp.concatenate([none, variance * g - h])
        cosine, sine = forgets.cosine[:, None, None], forgets.sine[:, None, None]
        slowed = 1.0 / (1.0 + a[:, None] * fields.density * forgets.rates[..., None, None])
        one = slowed[:, 0] * (cosine * first + sine * second)
        other = slowed[:, 1] * (cosine * second - sine * first)
        g, across = (cosine * one - sine * other)[:-2], (sine * one + cosine * other)[2:]
        rest = jnp.stack([g, variance * g - across], axis=1)
        return target, about(rest, -mean, variance - 1.0)


def _frame(velocities: Velocities, parts: Array, theta: Real) -> Array:
    """(b, n) temperature of the frame in which what Q+ has beside M is a series.

    The hottest place may be HOTTEST times as hot, and molecules too that are seen in the highest
    parts, which for a Gaussian have the ratio of its temperature; the grid has room for it.
    """
    frame = jnp.maximum(theta, theta.max(axis=1, keepdims=True) / HOTTEST)
    below, highest = parts[:, -2].sum(axis=1), parts[:, -1].sum(axis=1)
    return jnp.clip(highest / below, frame, jnp.maximum(frame, velocities.thermal**2))


def _moments(functions: Scattering, velocities: Velocities, parts: Array, rho, u, frame) -> Array:
    """(m, b, n) f_nk / rho: about the middle of the grid by products of matrices, then about u."""
    unit = velocities.thermal
    square = frame / unit**2
    he = [jnp.ones_like(velocities.values), velocities.values / unit]
    for n in range(1, functions.highest):
        he.append((he[1] * he[n] - np.sqrt(n) * he[n - 1]) / np.sqrt(n + 1))
    middle = jnp.einsum("mbv,bkvn->mkbn", jnp.stack(he), parts)
    scale = powers(1.0 / jnp.sqrt(square), len(he))[:, None] / rho
    about_u = scale * about(middle, u / unit, 1.0 - square)
    count = parts.shape[1]
    found = jnp.einsum("kj,njbx->nkbx", laguerre(count), about_u * powers(1.0 / frame, count))
    return found[functions.along, functions.across]


def _of_maxwellian(functions: Scattering, s: Real) -> Array:
    """(m, b, n) those of the Maxwellian, where its temperature is s times that of the frame."""
    along = Hermite(functions.highest).gaussian(jnp.ones_like(s), jnp.zeros_like(s), s)
    across = powers(1.0 - s, functions.highest // 2 + 1)
    return along[functions.along] * across[functions.across]


def _gain(functions: Scattering, before: Float[Array, "m b n"], rate: Array) -> Array:
    """(m, b, n) Q+ of f in Burnett's functions, where f = f* + rate (Q+(f) - f), before = f*."""
    found, gains = [], []
    for degree, (pairs, made) in enumerate(functions.meetings):
        some = functions.of_degree(degree)
        gain = jnp.zeros_like(before[some])
        if made.size:
            lower = jnp.concatenate(found)
            gain = jnp.tensordot(made, lower[pairs[0]] * lower[pairs[1]], 1)
        share = functions.share[some, None, None]
        found.append((before[some] + rate * gain) / (1.0 + rate * (1.0 - share)))
        gains.append(gain + share * found[-1])
    return jnp.concatenate(gains)


def _on_grid(functions: Scattering, velocities: Velocities, q: Array, u, frame) -> Array:
    """(b, k, v, n) parts of sum_nk q_nk he_n L_k times the Maxwellian of the frame."""
    coefficients = jnp.tensordot(functions.powers, q, 1)
    coefficients = coefficients * powers(frame, coefficients.shape[1])
    coefficients = jnp.swapaxes(coefficients, 1, 2)[:, :, :, None]
    c, shape = sampled(velocities, u, frame)
    polynomial = coefficients[-1]
    for coefficient in coefficients[-2::-1]:
        polynomial = polynomial * c[:, None] + coefficient
    return polynomial * shape[:, None]


def _positive(velocities: Velocities, parts: Array, rho, u, theta) -> Array:
    """Without what is negative of them, parts with rho, u, theta to rounding, and their stress.

    g (1 + x_0 + x_1 c + x_2 c^2) takes the place of g,  c = (v - u) / sqrt(theta): x, small, makes
    up for what is lacking of the sums of g c^j, j < 3, by the sums of g c^(j + k).
    """
    whole = jnp.maximum(parts, 0.0)
    across = parts[:, 1].sum(axis=1)
    h = whole[:, 1] * (across / whole[:, 1].sum(axis=1))[:, None]
    g, c = whole[:, 0], (velocities.values[:, :, None] - u[:, None]) / jnp.sqrt(theta)[:, None]
    s0, s1, s2, s3, s4 = ((c**j * g).sum(axis=1) for j in range(5))
    lack0, lack1, lack2 = rho - s0, -s1, 3.0 * rho - 2.0 * across / theta - s2
    a, b, d = s2 * s4 - s3**2, s2 * s3 - s1 * s4, s1 * s3 - s2**2
    e, f, k = s0 * s4 - s2**2, s1 * s2 - s0 * s3, s0 * s2 - s1**2
    x = jnp.stack(
        [
            a * lack0 + b * lack1 + d * lack2,
            b * lack0 + e * lack1 + f * lack2,
            d * lack0 + f * lack1 + k * lack2,
        ]
    )
    x0, x1, x2 = (x / (s0 * a + s1 * b + s2 * d))[:, :, None]
    g = g + g * (x0 + c * (x1 + c * x2))
    return jnp.concatenate([jnp.stack([g, h], axis=1), whole[:, 2:]], axis=1)
