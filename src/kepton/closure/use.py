"""A learned closure put to use on one gas."""

import numpy as np

from kepton.closure import closed
from kepton.closure.closure import Closure
from kepton.closure.fields import Case, Conserved, drift, in_the_domain
from kepton.closure.label import relative_error


def solved(ensemble: Closure, case: Case, time: float) -> tuple[Conserved | None, float]:
    """Density, momentum and energy in the domain, (1, 1, n), and by how much the members differ.

    Returns: the solution of the mean closure, None where it broke; the root mean square of the
             members' errors against it, inf where one of theirs broke
    """
    mean = closed.solve(ensemble.mean, case, [time])
    if closed.broken(mean).any():
        return None, float("inf")
    each = [closed.solve(ensemble.member(k), case, [time]) for k in range(ensemble.size)]
    squares = [relative_error(one, mean)[0] ** 2 for one in each]
    deviation = float(np.sqrt(np.mean(squares)))
    whole = not any(closed.broken(one).any() for one in each)
    seen = in_the_domain(mean, [time], drift(case), case.cells)
    return seen, deviation if whole and np.isfinite(deviation) else float("inf")
