"""Training: every member of the ensemble in one program, by SOAP on force and energy errors."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kepton.atoms.frames import Frames, Label
from kepton.atoms.neighbors import Neighbors
from kepton.potential.ensemble import Ensemble, forces
from kepton.potential.soap import SOAP


@dataclass(frozen=True)
class TrainConfig:
    """How long and how fast to train.

    Args:
        steps: optimizer steps
        batch: frames a step
        rate: peak learning rate, reached after a twentieth of the steps, then a cosine to zero
        energy_weight: Å^2; loss = <dF^2> + energy_weight (dE / atoms)^2 + virial likewise
        smoothness: weight of the relative power in the upper quarter of the radial coefficients
    """

    steps: int = 2000
    batch: int = 16
    rate: float = 5e-3
    energy_weight: float = 10.0
    smoothness: float = 1e-3


def _loss(members, weights, frames: Frames, label: Label, lists: Neighbors, config: TrainConfig):
    model = replace(members, weights=weights)
    energy, force = forces(model.energies, frames, lists)
    atoms = frames.mask.sum(axis=1)
    force_error = ((force - label.forces) ** 2).sum(axis=(1, 2)) / (3 * atoms)
    energy_error = ((energy - label.energy) / atoms) ** 2
    coefficients = model.radial_coefficients()
    tail = coefficients[:, -(coefficients.shape[1] // 4) :]
    rough = (tail**2).sum() / (coefficients**2).sum()
    error = force_error.mean() + config.energy_weight * energy_error.mean()
    return error + config.smoothness * rough


@partial(jax.jit, static_argnames=("config", "optimizer", "count"))
def _steps(members, state, data, key, start, config: TrainConfig, optimizer: SOAP, count: int):
    frames, label, lists = data
    gradient = jax.vmap(
        jax.value_and_grad(partial(_loss, members, config=config), argnums=0),
        in_axes=(0, None, None, None),
    )

    def body(carry, step):
        weights, state = carry
        rows = jax.random.randint(jax.random.fold_in(key, step), (config.batch,), 0, len(frames))
        loss, g = gradient(weights, frames[rows], label[rows], lists[rows])
        progress = step / config.steps
        rate = config.rate * jnp.where(
            progress < 0.05, progress / 0.05, 0.5 + 0.5 * jnp.cos(jnp.pi * (progress - 0.05) / 0.95)
        )
        weights, state = optimizer.step(weights, state, g, rate.astype(jnp.float32))
        return (weights, state), loss

    (weights, state), losses = jax.lax.scan(
        body, (members.weights, state), start + jnp.arange(count)
    )
    return replace(members, weights=weights), state, losses
