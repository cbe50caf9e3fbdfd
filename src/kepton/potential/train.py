"""Training: every member of the ensemble in one program, by SOAP on force and energy errors."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kepton.atoms.frames import Frames, Label
from kepton.atoms.neighbors import neighbors
from kepton.errors import InputError
from kepton.potential.architectures import ARCHITECTURES
from kepton.potential.ensemble import Ensemble, derive, forces
from kepton.potential.soap import SOAP

REFRESH = 10
"""Steps between two refreshes of the optimizer's bases"""


@dataclass(frozen=True)
class TrainConfig:
    """How long and how fast to train.

    Args:
        steps: optimizer steps of a training from random weights
        warm_steps: optimizer steps of a training from the last round's weights
        batch: frames a step
        rate: peak learning rate, reached after a twentieth of the steps, then a cosine to zero
        energy_weight: Å^2; loss = <dF^2> + energy_weight <(dE / atoms)^2> + virial_weight
            <(dW / atoms)^2> + smoothness * roughness
        virial_weight: 1/Å^2, of frames whose label has a virial
        smoothness: eV^2/Å^2, weight of the architecture's roughness
    """

    steps: int = 2000
    warm_steps: int = 1000
    batch: int = 16
    rate: float = 8e-3
    energy_weight: float = 10.0
    virial_weight: float = 1.0
    smoothness: float = 1e-3


def default_batch(atoms: int) -> int:
    """Frames a step for frames of so many atoms: about 160 atoms, within 1 and 16 frames."""
    return int(np.clip(160 // atoms, 1, 16))


def train(
    frames: Frames,
    label: Label,
    config: TrainConfig,
    start: Ensemble,
    key: int,
    warm: bool = False,
    progress: Callable[[int, int, float], None] | None = None,
) -> Ensemble:
    """Members fitted to labelled frames.

    Args:
        frames, label: the data; nan forces or energies are refused, nan virials weigh nothing
        start: from `fresh`, or trained before
        warm: `start` was trained before
        progress: called with (steps done, steps in all, force error of the last batches in eV/Å)
    Raises:
        InputError: labels that are not finite; training that diverged
    """
    if not (np.isfinite(label.energy).all() and np.isfinite(label.forces).all()):
        raise InputError("Training data has energies or forces that are not finite numbers.")
    steps = config.warm_steps if warm else config.steps
    members = start.members.fitted_to(frames)
    data = jax.tree.map(jnp.asarray, (frames, label, neighbors(frames, start.cutoff)))
    virials = bool(np.isfinite(label.virial).any())
    optimizer = SOAP()
    # one shuffled stream of rows, so that every frame is seen equally often
    rows = _stream(np.random.default_rng(key), len(frames), config.batch * steps)
    rows = jnp.asarray(rows.reshape(steps, config.batch))
    gradient = _gradient(members, members.weights, data, rows[0], config, virials)[1]
    state = optimizer.init(gradient)
    for step in range(0, steps, REFRESH):
        end = min(step + REFRESH, steps)
        rate = jnp.asarray(_rate(config, np.arange(step, end) / steps), jnp.float32)
        members, state, losses = _steps(
            members, state, data, rows[step:end], rate, config, optimizer, virials
        )
        state = optimizer.refresh(state)
        if not np.isfinite(losses).all():
            raise InputError(
                f"Training diverged at step {step} of {steps}: the loss is not finite. Give a "
                f"smaller [train] rate than {config.rate:g}, and check the data for outliers."
            )
        if progress:
            progress(end, steps, float(np.sqrt(np.mean(losses))))
    return Ensemble(members)


def fresh(
    architecture: str, config: Any, size: int, frames: Frames, label: Label, key: int
) -> Ensemble:
    """`size` members with random weights and the statistics of the data."""
    kind, _ = ARCHITECTURES[architecture]
    statistics = kind.prepare(config, frames, label.energy, label.forces)
    members = [
        kind.init(k, config, statistics) for k in jax.random.split(jax.random.key(key), size)
    ]
    weights = jax.tree.map(lambda *leaves: jnp.stack(leaves), *[m.weights for m in members])
    return Ensemble(replace(members[0], weights=weights))


def _stream(rng: np.random.Generator, count: int, length: int) -> np.ndarray:
    rounds = -(-length // count)
    return np.concatenate([rng.permutation(count) for _ in range(rounds)])[:length]


def _rate(config: TrainConfig, progress: np.ndarray) -> np.ndarray:
    warmup = 0.05
    cosine = 0.5 + 0.5 * np.cos(np.pi * (progress - warmup) / (1.0 - warmup))
    return config.rate * np.where(progress < warmup, progress / warmup, cosine)


def _loss(weights, members, data, rows, config: TrainConfig, virials: bool):
    frames, label, lists = jax.tree.map(lambda leaf: leaf[rows], data)
    model = replace(members, weights=weights)
    atoms = frames.mask.sum(axis=1)
    if virials:
        answer = derive(model.energies, frames, lists)
        energy, force = answer.energy, answer.forces
        known = jnp.isfinite(label.virial)
        off = jnp.where(known, answer.virial - jnp.where(known, label.virial, 0.0), 0.0)
        virial_error = ((off / atoms[:, None, None]) ** 2).sum(axis=(1, 2)).mean() / 9.0
    else:
        energy, force = forces(model.energies, frames, lists)
        virial_error = 0.0
    force_error = (((force - label.forces) ** 2).sum(axis=(1, 2)) / (3 * atoms)).mean()
    energy_error = (((energy - label.energy) / atoms) ** 2).mean()
    total = force_error + config.energy_weight * energy_error + config.virial_weight * virial_error
    return total + config.smoothness * model.roughness()


@partial(jax.jit, static_argnames=("config", "virials"))
def _gradient(members, weights, data, rows, config: TrainConfig, virials: bool):
    one = jax.value_and_grad(partial(_loss, config=config, virials=virials))
    return jax.vmap(one, in_axes=(0, None, None, None))(weights, members, data, rows)


@partial(jax.jit, static_argnames=("config", "optimizer", "virials"))
def _steps(members, state, data, rows, rates, config, optimizer: SOAP, virials: bool):
    def body(carry, step):
        weights, state = carry
        rows, rate = step
        loss, gradient = _gradient(members, weights, data, rows, config, virials)
        weights, state = optimizer.step(weights, state, gradient, rate)
        return (weights, state), loss

    (weights, state), losses = jax.lax.scan(body, (members.weights, state), (rows, rates))
    return replace(members, weights=weights), state, losses
