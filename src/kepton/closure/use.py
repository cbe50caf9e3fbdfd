"""A learned closure put to use on one gas."""

from kepton.closure import closed
from kepton.closure.closure import Closure
from kepton.closure.difference import broken, disagreement
from kepton.closure.fields import Case, Conserved, drift, in_the_domain


def solved(ensemble: Closure, case: Case, time: float) -> tuple[Conserved | None, float]:
    """Density, momentum and energy in the domain, (1, 1, n), and by how much the members differ.

    Returns: the solution of the mean closure, None where it broke; the `disagreement`
    """
    mean = closed.solve(ensemble.mean, case, [time])
    if broken(mean).any():
        return None, float("inf")
    each = [closed.solve(ensemble.member(k), case, [time]) for k in range(ensemble.size)]
    seen = in_the_domain(mean, [time], drift(case), case.cells)
    return seen, float(disagreement(mean, each)[0])
