"""Radial functions: the smooth cutoff, and the polynomials in it on which nets are evaluated."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from kepton.atoms.frames import Real


def switch(r: Float[Array, "..."], inner, outer) -> Float[Array, "..."]:
    """1 below inner, 0 above outer, twice continuously differentiable between.

    w(u) = 1 - 10 u^3 + 15 u^4 - 6 u^5,   u = (r - inner) / (outer - inner)

    Args:    r, inner, outer: Å
    Source:  DeePMD-kit's smooth cutoff; Wang et al., Comput. Phys. Commun. 228, 178 (2018)
    """
    u = jnp.clip((r - inner) / (outer - inner), 0.0, 1.0)
    return 1.0 - u**3 * (10.0 + u * (6.0 * u - 15.0))


def clamp(r: Float[Array, "..."], lowest, width) -> Float[Array, "..."]:
    """r itself above lowest + width, a constant below lowest, three times differentiable.

    c(r) = lowest + width/2 + width (t^6 - 3 t^5 + 5/2 t^4),   t = (r - lowest) / width in [0, 1]

    Args:    r, lowest, width: Å
    Returns: Å, never below lowest + width/2
    """
    t = jnp.clip((r - lowest) / width, 0.0, 1.0)
    bent = lowest + width * (0.5 + t**4 * (2.5 + t * (t - 3.0)))
    return jnp.where(r < lowest + width, bent, r)


def bessel(r: Float[Array, "..."], cutoff: float, count: int) -> list[Float[Array, "..."]]:
    """B_k(r) = w(r) sin(k pi r / r_c) / r,  k = 1 ... count, with two derivatives zero at r_c.

    w(u) = 1 - 28 u^6 + 48 u^7 - 21 u^8,   u = r / r_c

    Args:    r, cutoff: Å
    Returns: 1/Å
    Source:  Gasteiger et al., ICLR 2020, arXiv:2003.03123, eqs. 7 and 8
    """
    u = jnp.minimum(r / cutoff, 1.0)
    envelope = (1.0 - u**6 * (28.0 - u * (48.0 - 21.0 * u))) / r
    return [envelope * jnp.sin((k * np.pi / cutoff) * r) for k in range(1, count + 1)]


def chebyshev(x: Float[Array, "..."], count: int) -> list[Float[Array, "..."]]:
    """T_0 ... T_{count-1} at x in [-1, 1], by recurrence."""
    values = [jnp.ones_like(x), x]
    for _ in range(2, count):
        values.append(2.0 * x * values[-1] - values[-2])
    return values[:count]


def chebyshev_nodes(count: int) -> Float[Real, "count"]:
    """Zeros of T_count."""
    return np.cos(np.pi * (np.arange(count) + 0.5) / count)


def chebyshev_transform(count: int) -> np.ndarray:
    """(count, count) matrix from values at the nodes to coefficients: f = sum_k c_k T_k.

    c_k = (2 - [k = 0]) / count * sum_m f(x_m) cos(k angle_m)
    """
    angle = np.pi * (np.arange(count) + 0.5) / count
    matrix = 2.0 / count * np.cos(np.outer(np.arange(count), angle))
    matrix[0] *= 0.5
    return matrix
