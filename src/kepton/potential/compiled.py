"""A Deep Potential by the compiled kernel: all of it, all members, in one pass over the atoms."""

from typing import TypeGuard

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from kepton import kernels
from kepton.atoms.frames import Frames
from kepton.atoms.neighbors import Neighbors
from kepton.machine import threads
from kepton.potential.architecture import Architecture
from kepton.potential.deep_potential import BASIS_WIDTH, DeepPotential
from kepton.potential.derive import Answer
from kepton.potential.zbl import DECAYS, WEIGHTS, pair_table

OPERATIONS = {"float32": "kepton_deep_potential_f32", "float64": "kepton_deep_potential_f64"}


def knows(members: Architecture) -> TypeGuard[DeepPotential]:
    """Whether the kernel knows what this model is made of."""
    if not isinstance(members, DeepPotential):
        return False
    config = members.config
    return not members.exact and config.activation[1] == "tanh" and config.basis > 0


def serves(members: DeepPotential) -> bool:
    """Whether the kernel is here, and knows it."""
    return knows(members) and kernels.serves()


def answers(members: DeepPotential, frames: Frames, lists: Neighbors, virial: bool) -> Answer:
    """What k members say of b frames: `describe` and `answer` of each, without what is between.

    Args:    members: weights with a leading axis k
    """
    config, statistics, dtype = members.config, members.statistics, members.dtype
    known = jnp.asarray(config.species)
    places = (jnp.asarray(frames.species)[..., None] == known).argmax(axis=-1)
    types = jnp.where(jnp.asarray(frames.mask), places, -1).astype(jnp.int32)
    names = "descriptor_scale", "neighbors", "scale"
    given = tables(members)
    k, (b, n) = len(given["coefficients"]), types.shape
    shapes = (k, b), (k, b, n, 3), (k, b, 3, 3)
    call = jax.ffi.ffi_call(
        OPERATIONS[str(dtype)], [jax.ShapeDtypeStruct(shape, jnp.float64) for shape in shapes]
    )
    energy, forces, moments = call(
        jnp.asarray(frames.positions, jnp.float64),
        types,
        jnp.asarray(frames.cell, jnp.float64),
        jnp.asarray(lists.home, jnp.int32),
        jnp.asarray(lists.index, jnp.int32),
        jnp.asarray(lists.image, jnp.int16),
        given["radial"],
        given["core"],
        given["screening"],
        statistics["bias"],
        jnp.stack([statistics[name] for name in names]),
        statistics["descriptor_mean"].astype(dtype),
        given["coefficients"],
        given["empty"],
        *members.weights["fitting"],
        segments=np.array([(config.species.index(z), m) for z, m in lists.segments]).ravel(),
        axis=config.axis,
        virial=virial,
        threads=threads(),
    )
    return Answer(energy, forces, moments if virial else jnp.full_like(moments, jnp.nan))


def tables(members: DeepPotential) -> dict[str, Array]:
    """What the kernel is given of k members beside their statistics and fitting nets.

    radial        cutoff, smooth, where distances are clamped and over which width, s_max
    core          (3, S, S) of `pair_table`
    screening     (2, 4) weights and decays of the repulsion
    coefficients  (k, S, 2, S, K, M) C_k of both kinds of rows, zero where elements are not seen
    empty         (k, S, M) T without neighbours
    """
    config, statistics = members.config, members.statistics
    count = len(config.species)
    radial = [
        jnp.asarray(config.cutoff_A, jnp.float64),
        jnp.asarray(config.smooth_A, jnp.float64),
        statistics["basis_start"] - BASIS_WIDTH,
        jnp.asarray(BASIS_WIDTH, jnp.float64),
        members.largest,
    ]
    coefficients, empty = jax.vmap(lambda weights: _rows(members.with_weights(weights)))(
        members.weights
    )
    return {
        "radial": jnp.stack(radial),
        "core": pair_table(config.species, statistics.get("core", jnp.zeros((count, count)))),
        "screening": jnp.stack([jnp.asarray(WEIGHTS), jnp.asarray(DECAYS)]),
        "coefficients": coefficients,
        "empty": empty,
    }


def _rows(
    model: DeepPotential,
) -> tuple[Float[Array, "S 2 S K M"], Float[Array, "S M"]]:
    """C_k of both kinds of rows, zero where elements are not seen; T without neighbours."""
    species, channels = model.config.species, model.config.embedding[-1]
    coefficients, empty = [], []
    for centre in range(len(species)):
        seen = np.zeros((len(species), 1, 1), bool)
        seen[model.seen(centre, species)] = True
        rows = jnp.stack(model.coefficients(centre))
        coefficients.append(jnp.where(seen, rows, 0.0))
        empty.append(jnp.zeros((4, channels), model.dtype) + model.empty_slots(centre))
    return jnp.stack(coefficients), jnp.stack(empty)[:, 0]
