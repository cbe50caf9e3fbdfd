"""The compiled program of training: blocks of steps of all members, shared out over the devices."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from kepton.atoms.frames import Frames, Label
from kepton.atoms.neighbors import Neighbors
from kepton.devices import ALL, EACH, ROWS, jitted, mesh, of_each, placed
from kepton.potential.soap import SOAP

Batch = tuple[Frames, Neighbors, Label]
"""Frames, their neighbours and labels"""


@dataclass(frozen=True)
class Loss:
    """What training minimises: the sum of the errors, weighted.

    <dF^2> + energy <(dE / atoms)^2> + virial <(dW / atoms)^2> + smoothness * roughness

    Args:    energy: Å^2;  virial: 1/Å^2;  smoothness: none
    """

    energy: float
    virial: float
    smoothness: float

    def __call__(self, weights, model, described, label: Label, atoms, virials: bool):
        """The loss of one member, eV^2/Å^2; labels that are nan weigh nothing."""
        model = model.with_weights(weights)
        answer = model.answer(described, virials)
        force = _mean_square(answer.forces, label.forces, 3 * atoms)
        energy = _mean_square(answer.energy / atoms, label.energy / atoms, 1)
        total = force + self.energy * energy + self.smoothness * model.roughness()
        if virials:
            scale = atoms[:, None, None]
            total = total + self.virial * _mean_square(
                answer.virial / scale, label.virial / scale, 9
            )
        return total.astype(jnp.float32)


@dataclass(frozen=True)
class Steps:
    """Blocks of optimizer steps.

    Members are independent of each other, so each device trains its share of them; within a
    device they share the projection of the frames.

    Args:
        members: the ensemble's potential: what training does not change of it
        optimizer: of every matrix
        loss: of every member
        size: number of members
        batch: frames a step
    """

    members: Any
    optimizer: SOAP
    loss: Loss
    size: int
    batch: int

    @property
    def mesh(self) -> Mesh:
        """The devices that share the members out."""
        return mesh(self.size)

    def begin(self, weights: Any, block: Batch, virials: bool) -> tuple[Any, Any]:
        """Weights and the optimizer's state, on their devices.

        The optimizer's first bases are those of a block of gradients that moves nothing, so that
        one program is compiled for this and for the steps.
        """
        nothing = jax.tree.map(np.zeros_like, weights)
        weights, state = self.place(weights, self.optimizer.init(nothing))
        _, state, _ = self.run(weights, state, block, 0.0, virials, refresh=False)
        return self.place(weights, self.optimizer.settled(state))

    def place(self, weights: Any, state: Any) -> tuple[Any, Any]:
        """The same on the devices that train them."""
        return placed((weights, state), self.size)

    def run(
        self, weights: Any, state: Any, block: Batch, rate: float, virials: bool, refresh: bool
    ) -> tuple[Any, Any, float]:
        """Weights, optimizer's state and root mean loss after some steps.

        Args:    block: frames of all steps;  refresh: the optimizer's bases at the end
        """
        shared = self._bare(), block, jnp.asarray(rate, jnp.float32)
        shared = jax.device_put(shared, NamedSharding(self.mesh, ALL))
        static = _Static(self.optimizer, self.loss, self.mesh, self.batch, virials)
        weights, state, losses = _run(static, weights, state, *shared)
        if refresh:
            with ThreadPoolExecutor(len(jax.devices())) as pool:
                state = self.optimizer.refresh(state, pool.map)
            weights, state = self.place(weights, state)
        return weights, state, float(np.sqrt(np.mean(losses)))

    def _bare(self) -> Any:
        """The model without its weights, and without the repulsion, whose core lies below data."""
        known = {n: v for n, v in self.members.statistics.items() if n != "core"}
        nothing = jax.tree.map(lambda w: w[:0], self.members.weights)
        return replace(self.members, weights=nothing, statistics=known)


class _Static(NamedTuple):
    """What decides which program runs."""

    optimizer: SOAP
    loss: Loss
    mesh: Mesh
    batch: int
    virials: bool


@partial(jitted, static_argnums=0)
def _run(static: _Static, weights, state, model, block: Batch, rate):
    count = len(block[0]) // static.batch

    def share(weights, state, model, block, rate):
        frames, lists, label = block
        block = frames, lists, _own(label, weights)

        def step(carry, now):
            weights, state = carry
            frames = jax.tree.map(
                lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, now, static.batch), block
            )
            value, gradient = _gradient(static.loss, model, weights, frames, static.virials)
            return static.optimizer.step(weights, state, gradient, rate), value

        starts = static.batch * jnp.arange(count)
        (weights, state), losses = jax.lax.scan(step, (weights, state), starts)
        return weights, state, losses

    return jax.shard_map(
        share,
        mesh=static.mesh,
        in_specs=(EACH, EACH, ALL, ALL, ALL),
        out_specs=(EACH, EACH, PartitionSpec(None, ROWS)),
        check_vma=False,
    )(weights, state, model, block, rate)


def _own(label: Label, weights) -> Label:
    """The labels of this device's members, where each member has its own."""
    if label.energy.ndim == 1:
        return label
    count = len(jax.tree.leaves(weights)[0])
    first = count * jax.lax.axis_index(ROWS)
    return jax.tree.map(
        lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, first, count, axis=-1), label
    )


def _gradient(loss: Loss, model, weights, batch: Batch, virials: bool):
    """Loss and its slope of every member on one batch."""
    frames, lists, label = batch
    described = model.describe(frames, lists)
    atoms = frames.mask.sum(axis=1)

    def member(weights, label):
        found = jax.value_and_grad(loss)
        return found(weights, model, described, label, atoms, virials)

    if label.energy.ndim == 1:
        return of_each(lambda one: member(one, label), weights)
    parts, tree = jax.tree.flatten(label)
    own = [jnp.moveaxis(part, -1, 0) for part in parts]
    return of_each(lambda both: member(both[0], tree.unflatten(both[1])), (weights, own))


def _mean_square(found, known, count) -> jax.Array:
    """Over the frames that have a label, the mean of the square over `count` components each."""
    has = jnp.isfinite(known)
    square = jnp.where(has, found - jnp.where(has, known, 0.0), 0.0) ** 2
    rest = tuple(range(1, square.ndim))
    labelled = has.all(axis=rest) if rest else has
    return (square.sum(axis=rest) / count).sum() / jnp.maximum(labelled.sum(), 1)
