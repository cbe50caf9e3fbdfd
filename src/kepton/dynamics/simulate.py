"""Many steps in one compiled program, with neighbour lists renewed in between."""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Int

from kepton.atoms.neighbors import neighbors
from kepton.devices import ALL, EACH, jitted, mesh, placed, shared_out
from kepton.dynamics.forcefield import ForceField
from kepton.dynamics.integrate import LEAP, Integrator
from kepton.dynamics.state import SKIN, State
from kepton.errors import InputError


@dataclass(frozen=True)
class Info:
    """What happened while a simulation ran.

    Args:
        steps: how many each walker completed
        broken: walkers that exploded or whose forces were not finite, now frozen where they were
        rebuilds: how often the neighbour lists were made anew
    """

    steps: Int[np.ndarray, "b"]
    broken: Bool[np.ndarray, "b"]
    rebuilds: int


def simulate(
    field: ForceField, integrator: Integrator, state: State, steps: int, skin: float = SKIN
) -> tuple[State, Info]:
    """Advance every living walker by `steps` time steps.

    Call it again with the state it returned to go on: the trajectory is the same as that of one
    longer call. In between, look at `state.frames`, and `state.freeze` what shall stop.

    The program stops by itself before an atom has moved by skin/2 since the neighbour lists were
    made, and goes on with new lists, so no force ever lacks a pair.

    Args:
        field: the force field
        integrator: the method
        state: from the integrator's `init`, or from an earlier call
        steps: number of time steps
        skin: Å by which the lists reach beyond the cutoff: larger lists are made less often
    Raises:
        InputError: a skin that an atom may cross in one step
    """
    if not skin > 2 * LEAP:
        raise InputError(f"skin = {skin} Å; give more than {2 * LEAP} Å, such as {SKIN}.")
    completed, broken = np.zeros(len(state), int), np.zeros(len(state), bool)
    systems = len(state) // integrator.together
    left, rebuilds = np.full(mesh(systems).size, steps), 0
    while True:
        state = placed(state, systems)
        after, left, now_completed, now_broken = _run(field, integrator, state, left)
        state = replace(after, neighbors=state.neighbors)
        completed, broken = completed + np.asarray(now_completed), broken | np.asarray(now_broken)
        if not np.any(left):
            return state, Info(completed, broken, rebuilds)
        renewed = neighbors(state.frames, field.cutoff, skin, state.neighbors.segments)
        state = replace(state, neighbors=renewed)
        rebuilds += 1


@jitted
def _run(field: ForceField, integrator: Integrator, state: State, steps):
    """As many of the steps as the neighbour lists allow, and how many each device has left.

    The state that it returns has no lists: they are those that came in.
    """
    leaves, tree = jax.tree.flatten(integrator)

    def share(field, leaves, state, steps):
        return _advance(field, jax.tree.unflatten(tree, leaves), state, steps[0])

    by_walker = [EACH if jnp.ndim(leaf) else ALL for leaf in leaves]
    share = shared_out(share, len(state) // integrator.together, ALL, by_walker, EACH, EACH)
    after, *rest = share(field, leaves, state, steps)
    # a copy of the lists would be most of the memory
    return replace(after, neighbors=after.neighbors[:0]), *rest


def _advance(field: ForceField, integrator: Integrator, state: State, steps):
    """The walkers of one device; a list that is late stops all of them."""

    def more(carry):
        state, left, late, *_ = carry
        return (left > 0) & ~late & state.alive.any()

    def body(carry):
        before, left, _, completed, broken = carry
        state, info = integrator.step(field, before)
        late = info.late.any()
        completed = completed + jnp.where(late, False, state.alive)
        return state, left - jnp.where(late, 0, 1), late, completed, broken | info.broken

    b = len(state)
    start = (
        state,
        steps,
        jnp.asarray(False),
        jnp.zeros(b, int),
        jnp.zeros(b, bool),
    )
    state, left, _, completed, broken = jax.lax.while_loop(more, body, start)
    return state, jnp.where(state.alive.any(), left, 0)[None], completed, broken
