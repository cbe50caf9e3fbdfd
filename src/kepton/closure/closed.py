"""The closed moment system: what a closure makes of a case."""

import jax
import numpy as np
from jaxtyping import Array, Float, Int

from kepton.closure import compiled
from kepton.closure.closure import Closure
from kepton.closure.fields import Case, Conserved
from kepton.closure.moments import conserved_of
from kepton.closure.scheme import CASES, Start, start, stepper, steps_for
from kepton.closure.transport import repeated, step_length
from kepton.kernels import serves


def solve(closure: Closure, case: Case, times) -> Conserved:
    """Density, momentum and energy at increasing times, (b, t, n), in the frame of `drift`.

    Mass, momentum and energy are kept to rounding.

    Args:    closure: one, not an ensemble
    Returns: values that are not finite, or densities or temperatures that are not positive, where
             the solution broke (`difference.broken`)
    """
    return _solved(closure, case, np.diff(np.asarray(times, float), prepend=0.0))


@jax.jit
def _solved(closure: Closure, case: Case, durations: Float[Array, "t"]) -> Conserved:
    begun = start(closure, case)
    steps = steps_for(closure, begun, durations)
    advanced = compiled.moments if serves() else moments
    found = advanced(closure, begun, durations, steps)
    return jax.vmap(conserved_of, (0, None), 1)(found, begun.temperature)


def moments(
    closure: Closure, begun: Start, durations: Float[Array, "t"], steps: Int[Array, "t b"]
) -> Float[Array, "t m p b n"]:
    """Moments after each of the durations, one after the other, in so many steps."""

    def until(c, span):
        duration, count = span
        step = stepper(closure, begun, step_length(duration, count))
        c = repeated(step, c, count, CASES)
        return c, c

    return jax.lax.scan(until, begun.moments, (durations, steps))[1]
