"""How solutions differ: of a closed system from what is known, of an ensemble's members."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from kepton.closure.fields import Conserved


def scales(known: Conserved) -> Conserved:
    """To what density, momentum and energy are relative: rho, sqrt(2 rho E), E.

    A gas at rest has no momentum, so that it is compared with what its molecules have.
    """
    rho, _, energy = known
    return Conserved(rho, jnp.sqrt(2.0 * rho * energy), energy)


def relative_error(found: Conserved, known: Conserved) -> Float[np.ndarray, "b"]:
    """The largest relative L2 error of density, momentum and energy, over all times and cells.

    |rho - rho'| / |rho'|,  |m - m'| / |sqrt(2 rho' E')|,  |E - E'| / |E'|

    The primed are known.

    Args:    found, known: (b, t, n) each, in the frame of `drift`, so that no observer's motion
             counts
    """
    known = Conserved(*(np.asarray(part, float) for part in known))
    off = [
        np.linalg.norm((np.asarray(mine) - his).reshape(len(his), -1), axis=1)
        / np.linalg.norm(np.asarray(scale).reshape(len(his), -1), axis=1)
        for mine, his, scale in zip(found, known, scales(known))
    ]
    return np.max(off, axis=0)


def broken(found: Conserved) -> Bool[np.ndarray, "..."]:
    """(...,) of solutions (..., t, n): a density or a temperature that is not positive."""
    rho, momentum, energy = (np.asarray(part) for part in found)
    heat = 2.0 * energy * rho - momentum**2
    sound = (rho > 0.0) & (heat > 0.0) & np.isfinite(heat)
    return np.logical_not(sound.all(axis=(-2, -1)))


def disagreement(mean: Conserved, each: Sequence[Conserved]) -> Float[np.ndarray, "b"]:
    """Root mean square of the members' relative errors against the mean closure's solution.

    It is inf where a solution broke.

    Args:    mean, each: (b, t, n) each, in the frame of `drift`
    """
    lost = np.any([broken(found) for found in (mean, *each)], axis=0)
    squares = np.mean([relative_error(found, mean) ** 2 for found in each], axis=0)
    return np.where(lost | ~np.isfinite(squares), np.inf, np.sqrt(squares))
