"""Closed moment systems by the compiled kernel: all steps of a gas in one core's cache."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from kepton.closure.boltzmann import Boltzmann
from kepton.closure.closure import Closure
from kepton.closure.fields import BOUNDARIES
from kepton.closure.scattering import forgetting
from kepton.closure.scheme import Start, beyond, kept
from kepton.closure.transport import GAMMA, step_length
from kepton.machine import threads


def moments(
    closure: Closure, begun: Start, durations: Float[Array, "t"], steps: Int[Array, "t b"]
) -> Float[Array, "t m p b n"]:
    """As `closed.moments`."""
    case, basis, shape = begun.case, closure.basis, begun.moments.shape
    lengths = jax.vmap(step_length)(durations, steps)
    damping = jax.vmap(lambda dt: kept(closure, begun, dt))(lengths)
    forgets = np.zeros((0, 4))
    if isinstance(closure.equation, Boltzmann):
        forgets = np.column_stack(forgetting(basis.order))
    call = jax.ffi.ffi_call(
        "kepton_closed_moments", jax.ShapeDtypeStruct((len(durations), *shape), jnp.float64)
    )
    return call(
        begun.moments,
        steps.astype(jnp.int32),
        lengths,
        jnp.asarray(case.knudsen, jnp.float64),
        begun.velocities(basis),
        beyond(closure, begun),
        damping,
        jnp.asarray(forgets),
        jnp.asarray(basis.to_molecules),
        jnp.asarray(basis.of_molecules),
        boundary=BOUNDARIES.index(case.boundary),
        gamma=np.float64(GAMMA),
        prandtl=np.float64(closure.equation.prandtl),
        threads=threads(),
    )
