"""Training: closures are moved until their closed systems follow the labels."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from kepton.closure.closure import Closure
from kepton.closure.difference import scales
from kepton.closure.fields import Case, Conserved, together
from kepton.closure.label import Label
from kepton.closure.moments import conserved_of
from kepton.closure.scheme import CASES, Start, start, stepper, steps_for
from kepton.closure.transport import repeated, step_length

FIRST, SECOND, EPSILON = 0.9, 0.98, 1e-8
"""Adam's constants"""
NOTICED = 1e-4
"""Errors below which the loss no longer is the error but its square"""
BUCKET = 8
"""Numbers of steps are multiples of it, so that few programs are compiled"""


@dataclass(frozen=True)
class Training:
    """How an ensemble is trained.

    Args:
        steps, warm_steps: of Adam, from a fresh ensemble and from a trained one
        batch: solutions a step
        rate: of learning at the start, from which it falls to 0 in a straight line
    """

    steps: int = 100
    warm_steps: int = 40
    batch: int = 8
    rate: float = 0.05


class Point(NamedTuple):
    """How far a training is: the share that is done, and the loss, a relative error.

    Nothing is held out.
    """

    fraction: float
    error: float
    held_out: str = ""

    @property
    def note(self) -> str:
        """In words."""
        return f"loss {self.error:.4f}"


def train(
    data: Sequence[tuple[Case, Label]],
    times: Sequence[float],
    ensemble: Closure,
    training: Training,
    key: int,
    warm: bool = False,
    progress: Callable[[Point], None] | None = None,
) -> Closure:
    """An ensemble that follows the labels.

    loss = < sqrt(sum_q |q - q'|^2 / |q'|^2 / 3 + NOTICED^2) >,  q the density, momentum, energy
    of a solution at all times, measured as `relative_error` does

    Every member sees batches of its own. The gradient goes through the solver.

    Args:    data: cases one by one, of equal cells and boundary;  times: of the labels
    """
    cases = together([case for case, _ in data])
    known = Conserved(
        *(np.concatenate(parts) for parts in zip(*(lab.conserved for _, lab in data)))
    )
    durations = np.diff(np.asarray(times, float), prepend=0.0)
    counts = np.asarray(steps_for(ensemble, start(ensemble, cases), durations))
    lengths = tuple(int(-(-n // BUCKET) * BUCKET) for n in counts.max(axis=1))
    total = training.warm_steps if warm else training.steps
    devices, done = jax.local_devices(), [0] * ensemble.size

    def trained(number: int) -> Closure:
        rng = np.random.default_rng([key, number])
        member = ensemble.member(number)
        moments = jax.tree.map(jnp.zeros_like, (member, member))
        with jax.default_device(devices[number % len(devices)]):
            for at in range(total):
                rows = rng.choice(len(cases), training.batch, replace=len(cases) < training.batch)
                batch = cases[rows], Conserved(*(part[rows] for part in known)), counts[:, rows]
                rate = training.rate * (1.0 - at / total)
                member, moments, error = _adam(
                    lengths, tuple(durations), member, moments, batch, at + 1.0, rate
                )
                done[number] += 1
                if progress is not None:
                    progress(Point(sum(done) / total / ensemble.size, float(error)))
        return member

    with ThreadPoolExecutor(len(devices)) as pool:  # members share out over the devices
        members = list(pool.map(trained, range(ensemble.size)))
    return jax.tree.map(lambda *leaves: np.stack(leaves), *members)


@partial(jax.jit, static_argnums=(0, 1))
def _adam(lengths, durations, closure, moments, batch, number, rate):
    error, slope = jax.value_and_grad(_loss)(closure, batch, lengths, durations)
    slope = jax.tree.map(lambda g: jnp.where(jnp.isfinite(g), g, 0.0), slope)
    first, second = moments
    first = jax.tree.map(lambda m, g: FIRST * m + (1.0 - FIRST) * g, first, slope)
    second = jax.tree.map(lambda v, g: SECOND * v + (1.0 - SECOND) * g**2, second, slope)

    def moved(weights, m, v):
        spread = jnp.sqrt(v / (1.0 - SECOND**number)) + EPSILON
        return weights - rate * m / (1.0 - FIRST**number) / spread

    return jax.tree.map(moved, closure, first, second), (first, second), error


def _loss(closure: Closure, batch, lengths, durations) -> Float[Array, ""]:
    case, known, counts = batch
    found = _solutions(closure, start(closure, case), counts, lengths, durations)
    squares = jnp.stack(
        [
            ((mine - his) ** 2).sum(axis=(1, 2)) / (scale**2).sum(axis=(1, 2))
            for mine, his, scale in zip(found, known, scales(known))
        ]
    )
    return jnp.sqrt(squares.mean(axis=0) + NOTICED**2).mean()


def _solutions(closure: Closure, begun: Start, counts, lengths, durations) -> Conserved:
    """As `closed.solve`, with numbers of steps that are known to the compiler."""
    c, seen = begun.moments, []
    for duration, steps, length in zip(durations, counts, lengths):
        step = jax.checkpoint(stepper(closure, begun, step_length(duration, steps)))
        c = repeated(step, c, steps, CASES, length)
        seen.append(conserved_of(c, begun.temperature))
    return Conserved(*(jnp.stack(parts, axis=1) for parts in zip(*seen)))
