"""Short-range repulsion of screened nuclei, so that no walker collapses where there are no data."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from kepton.atoms.units import COULOMB
from kepton.potential.radial import switch

WEIGHTS = np.array([0.18175, 0.50986, 0.28022, 0.02817])
DECAYS = np.array([3.19980, 0.94229, 0.40290, 0.20162])
"""phi(x) = sum_k WEIGHTS_k exp(-DECAYS_k x)"""
_SCREENING = 0.46850


def zbl(
    r: Float[Array, "..."], z_i: Float[Array, "..."], z_j: Float[Array, "..."], inner, outer
) -> Float[Array, "..."]:
    """The universal repulsion of Ziegler, Biersack and Littmark, switched off beyond outer.

    V = w(r) Z_i Z_j e^2/(4 pi eps_0 r) phi(r / a),   a = 0.46850 / (Z_i^0.23 + Z_j^0.23) Å

    Args:    r: Å;  z_i, z_j: atomic numbers;  inner, outer: Å, w falls from 1 to 0 between them
    Returns: eV a pair
    Source:  Ziegler, Biersack, Littmark, The Stopping and Range of Ions in Solids (1985)
    """
    x = r * (z_i**0.23 + z_j**0.23) / _SCREENING
    terms = zip(WEIGHTS.tolist(), DECAYS.tolist())  # plain numbers leave the precision as it is
    screening = sum(weight * jnp.exp(-decay * x) for weight, decay in terms)
    return switch(r, inner, outer) * COULOMB * z_i * z_j / r * screening


def core_repulsion(
    species: tuple[int, ...], core: Float[Array, "S S"], r: Float[Array, "..."], z_i, z_j
) -> Float[Array, "..."]:
    """ZBL below the shortest distances in data, eV a pair.

    Args:    species: atomic numbers, in order;  core: Å, by elements, where it is zero;  r: Å
    """
    known = jnp.array(species)
    places = (jnp.searchsorted(known, jnp.asarray(z).astype(int)) for z in (z_i, z_j))
    outer = core[tuple(places)].astype(r.dtype)
    return zbl(r, z_i, z_j, 0.7 * outer, outer)


def pair_table(species: tuple[int, ...], core: Float[Array, "S S"]) -> Float[Array, "3 S S"]:
    """What the repulsion of two elements is made of: Z_i Z_j e^2/(4 pi eps_0), 1/a, and core.

    Args:    species: atomic numbers, in order;  core: Å, by elements, where it is zero
    Returns: eV Å, 1/Å, Å
    """
    z = np.array(species, float)
    inverse = (z[:, None] ** 0.23 + z**0.23) / _SCREENING
    return jnp.stack([jnp.asarray(COULOMB * z[:, None] * z), jnp.asarray(inverse), core])
