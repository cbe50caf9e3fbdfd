"""A state as plain arrays, from which its trajectory goes on bit for bit."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kepton.atoms.neighbors import neighbors
from kepton.dynamics.state import State

KEPT = ("velocities", "forces", "energy", "virial", "heat", "bath", "alive")


def to_arrays(state: State) -> tuple[dict[str, np.ndarray], list[list[int]]]:
    """All that later steps depend on, and the widths of the neighbour lists.

    Of the lists, what they were made for: so they will be made again, pairs in the same order.
    """
    arrays: dict[str, Any] = {name: getattr(state, name) for name in KEPT} | {
        "positions": state.frames.positions,
        "cell": state.frames.cell,
        "key": jax.random.key_data(state.key),
        "built_at": state.neighbors.built_at,
        "built_in": state.neighbors.built_in,
    }
    widths = [list(segment) for segment in state.neighbors.segments]
    return {name: np.array(value) for name, value in arrays.items()}, widths


def from_arrays(
    state: State, arrays: dict[str, np.ndarray], widths: list[list[int]], cutoff: float, skin: float
) -> State:
    """The state that was stored, of the same atoms as a new one."""
    built = replace(state.frames, positions=arrays["built_at"], cell=arrays["built_in"])
    listed = neighbors(built, cutoff, skin, [(z, width) for z, width in widths])
    positions, cell = jnp.asarray(arrays["positions"]), jnp.asarray(arrays["cell"])
    return replace(
        state,
        frames=replace(state.frames, positions=positions, cell=cell),
        key=jax.random.wrap_key_data(jnp.asarray(arrays["key"])),
        neighbors=listed,
        **{name: jnp.asarray(arrays[name]) for name in KEPT},
    )
