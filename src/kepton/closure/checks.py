"""What must hold of any closure, whatever it has learnt: measured."""

import jax
import numpy as np

from kepton.closure import closed
from kepton.closure.closure import Closure
from kepton.closure.difference import scales
from kepton.closure.fields import Case, Conserved, drift, in_the_domain

CELLS = 3
"""By which a boosted gas is shifted"""


def kept_laws(closure: Closure, case: Case, time: float) -> dict[str, float]:
    """What a closed system loses, and by how much it depends on the observer.

    Args:    case: periodic;  time: of the comparison
    Returns: the relative loss of mass, momentum and energy; the largest differences of density,
             momentum and energy where the gas moves by CELLS within the time, and where it is seen
             in a mirror
    """

    times = [0.0, time]

    def seen_at_last(case: Case, found: Conserved) -> Conserved:
        found = in_the_domain(found, times, drift(case), case.cells)
        return Conserved(*(np.asarray(part)[:, -1] for part in found))

    def at(case: Case) -> Conserved:
        return seen_at_last(case, closed.solve(closure, case, times))

    both = closed.solve(closure, case, times)
    lost = [
        np.diff(np.asarray(part).sum(axis=-1), axis=1)[:, 0] / np.asarray(scale)[:, 0].sum(axis=-1)
        for part, scale in zip(both, scales(both))
    ]
    rho, momentum, energy = seen_at_last(case, both)
    v = CELLS / (case.cells * time)
    u = case.initial.velocity
    moving = Case.of(case.initial._replace(velocity=u + v), case.knudsen)
    turned = jax.tree.map(lambda part: part[:, ::-1], case.initial._replace(velocity=-u))
    mirrored = at(Case.of(turned, case.knudsen))
    boosted = (rho, momentum + v * rho, energy + v * momentum + 0.5 * v**2 * rho)
    return {
        "mass_momentum_energy_lost": float(np.abs(lost).max()),
        "boosts_differ_by": max(
            float(np.abs(seen - np.roll(known, CELLS, axis=-1)).max())
            for seen, known in zip(at(moving), boosted)
        ),
        "reflections_differ_by": max(
            float(np.abs(seen[:, ::-1] - known).max())
            for seen, known in zip(mirrored, (rho, -momentum, energy))
        ),
    }
