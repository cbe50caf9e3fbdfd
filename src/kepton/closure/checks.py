"""What must hold of any closure, whatever it has learnt: measured."""

import jax
import numpy as np

from kepton.closure import closed
from kepton.closure.closure import Closure
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

    def at(case: Case) -> Conserved:
        found = in_the_domain(closed.solve(closure, case, [time]), [time], drift(case), case.cells)
        return Conserved(*(np.asarray(part)[:, 0] for part in found))

    rho, momentum, energy = at(case)
    both = Conserved(*(np.asarray(part) for part in closed.solve(closure, case, [0.0, time])))
    thermal = np.sqrt(2.0 * both.density * both.energy)
    lost = [
        np.diff(part.sum(axis=-1), axis=1)[:, 0] / scale[:, 0].sum(axis=-1)
        for part, scale in zip(both, (both.density, thermal, both.energy))
    ]
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
