"""Training: every member of the ensemble in one program, by SOAP on force and energy errors."""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from kepton.errors import InputError
from kepton.potential.architectures import ARCHITECTURES
from kepton.potential.assess import assess
from kepton.potential.basis import resolved
from kepton.potential.checkpoint import Checkpoint
from kepton.potential.dataset import Bucket, Dataset, System
from kepton.potential.ensemble import Ensemble
from kepton.potential.soap import SOAP
from kepton.potential.steps import Batch, Loss, Steps

BLOCK = 20
"""Steps between two refreshes of the optimizer's bases, and at most in one call of the program"""
SPELL = 2
"""Steps in one call where frames differ in size, since one call takes frames of one size"""
WARMUP = 0.05
"""Share of the training over which the learning rate rises"""
WARMUP_STEPS = 100
"""Fewest steps over which it rises, while the optimizer learns its bases"""
LOOKS, GROWTH = 20, 1.5
"""Frames held out are looked at so often, and whenever the steps have grown by so much"""
PATIENCE, OVERFITTED, SURE = 8, 4.0, 0.3
"""Looks without a better one, times the steps of the best, and share of the training, all passed,
after which a training goes back to the best and cools down from there"""
COOLING, COOLED = 0.75, 200
"""Share of a training at which cooling starts, and its fewest steps; else half those of the best"""
LOOK_ATOMS = 10_000
"""Atoms of the frames held out that are looked at: the first frames with no more"""
DIVERGED, ALARMS = 4.0, 3
"""So many blocks in a row whose errors are so many times those before them are undone; a single one
met rare frames of large errors"""
RETRIES = 5
"""How often the learning rate is halved before a training is given up"""
SNAPSHOT = 20
"""Blocks between two states to which a training can return"""
CHECKPOINT_SECONDS = 30.0
"""Wall time between two writings of the checkpoint"""


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
        smoothness: weight of the architecture's roughness
    """

    steps: int = 2000
    warm_steps: int = 1000
    batch: int = 16
    rate: float = 8e-3
    energy_weight: float = 10.0
    virial_weight: float = 1.0
    smoothness: float = 10.0


def default_training(architecture: str, atoms: int | float, **chosen: Any) -> TrainConfig:
    """The training that suits an architecture and frames of so many atoms.

    A batch has as many frames as have the atoms that suit the architecture, within 1 and 16.
    """
    kind, _ = ARCHITECTURES[architecture]
    batch = int(np.clip(kind.batch_atoms // atoms, 1, 16))
    return TrainConfig(**({"batch": batch} | kind.training | chosen))


class Point(NamedTuple):
    """How a training stands.

    Args:
        step: steps done
        fraction: of the training
        seconds: since it began
        rate: learning rate
        error: square root of the loss in the last block, eV/Å
        forces, energy: of the mean of the members on the frames held out: root mean square errors,
            eV/Å and eV an atom; nan where this was not looked at
    """

    step: int
    fraction: float
    seconds: float
    rate: float
    error: float
    forces: float = np.nan
    energy: float = np.nan

    @property
    def note(self) -> str:
        """In words."""
        return f"step {self.step}, loss {self.error:.3f} eV/Å"

    @property
    def held_out(self) -> str:
        """Errors on the frames held out, in words; empty where this was not looked at."""
        if not np.isfinite(self.forces):
            return ""
        return f"held out {self.forces:.4f} eV/Å {1e3 * self.energy:.2f} meV/atom"


class Diverged(InputError):
    """A training that could not go on.

    Args:    best: what it had learnt by then, None where that is nothing
    """

    def __init__(self, message: str, best: Ensemble | None = None):
        super().__init__(message)
        self.best = best


@dataclass(frozen=True)
class _Standing:
    """All that the next block depends on.

    Args:
        weights, optimizer: pytrees on their devices
        best: weights with the least error on the frames held out, and their optimizer's state
        end: step at which the training ends
        pace: share of the training that a step is, at least
        block: blocks tried
        damping: of the learning rate
        least, best_step: error of `best`, and its step
        looked, waited: step of the last look, and looks since the best
        cooled: whether it is on its way from the best to the end
        usual: errors of the last blocks, by bucket
        alarms: blocks in a row with errors far above those
        step, fraction, seconds, rate, error, forces, energy: as in `Point`
    """

    weights: Any
    optimizer: Any
    best: Any
    end: int
    pace: float
    block: int = 0
    damping: float = 1.0
    least: float = float("inf")
    best_step: int = 0
    looked: int = 0
    waited: int = 0
    cooled: bool = False
    usual: dict[str, float] = field(default_factory=dict)
    alarms: int = 0
    step: int = 0
    fraction: float = 0.0
    seconds: float = 0.0
    rate: float = 0.0
    error: float = float("nan")
    forces: float = float("nan")
    energy: float = float("nan")

    @property
    def arrays(self) -> Any:
        return self.weights, self.optimizer, self.best

    @property
    def numbers(self) -> dict[str, Any]:
        return {n: v for n, v in vars(self).items() if n not in ("weights", "optimizer", "best")}

    @property
    def point(self) -> Point:
        return Point(*(getattr(self, name) for name in Point._fields))


class _Training:
    """What stays the same from block to block."""

    def __init__(self, data, config: TrainConfig, start: Ensemble, warm: bool, held_out, seconds):
        self.config, self.seconds = config, seconds
        self.total = config.warm_steps if warm else config.steps
        self.dataset = Dataset.of(data, start.cutoff)
        self.members = start.members
        for frames, lists, _ in self.dataset.parts():
            self.members = self.members.fitted_to(frames, lists)
        loss = Loss(config.energy_weight, config.virial_weight, config.smoothness)
        self.steps = Steps(self.members, SOAP(), loss, start.size, config.batch)
        self.spell = BLOCK if len(self.dataset.buckets) == 1 else SPELL
        self.held_out = held_out
        if held_out is not None:
            some = slice(max(1, LOOK_ATOMS // held_out[0].positions.shape[1]))
            self.held_out = held_out[0][some], held_out[1][some]

    def init(self, weights: Any) -> _Standing:
        bucket = self.dataset.buckets[0]
        count = min(self.spell, self.total) * self.config.batch
        block = bucket.batch(np.arange(count) % len(bucket))
        weights, optimizer = self.steps.begin(weights, block, bucket.virials)
        best = weights, optimizer
        return _Standing(weights, optimizer, best, self.total, 1.0 / self.total)

    def ensemble(self, weights: Any) -> Ensemble:
        found = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf)), weights)
        return Ensemble(self.members.with_weights(found))

    def advance(self, state: _Standing, name: str, block: Batch, virials: bool) -> _Standing | None:
        """After a block of steps; None where the error has grown too much."""
        count = min(len(block[0]) // self.config.batch, state.end - state.step)
        some = jax.tree.map(lambda leaf: leaf[: count * self.config.batch], block)
        rate = self.config.rate * state.damping * _schedule(state.fraction, state.step)
        refresh = (state.step + count) // BLOCK > state.step // BLOCK
        weights, optimizer, error = self.steps.run(
            state.weights, state.optimizer, some, rate, virials, refresh
        )
        usual = state.usual.get(name, np.inf)
        worst = max(state.usual.values()) if name in state.usual else np.inf
        alarms = state.alarms + 1 if error >= DIVERGED * worst else 0
        if not np.isfinite(error) or alarms == ALARMS:
            return None
        known = error if usual == np.inf else usual if alarms else 0.9 * usual + 0.1 * error
        return replace(
            state,
            weights=weights,
            optimizer=optimizer,
            block=state.block + 1,
            usual=state.usual | {name: known},
            alarms=alarms,
            step=state.step + count,
            rate=rate,
            error=error,
            forces=np.nan,
            energy=np.nan,
        )

    def retreat(self, state: _Standing, good: _Standing) -> _Standing:
        """Back to an earlier standing, at half the learning rate."""
        if state.damping < 0.5**RETRIES:
            raise Diverged(
                f"Training diverged at step {state.step}, and again at rates down to "
                f"{self.config.rate * state.damping:.1g}. Check the data for outliers, such as "
                "labels that did not converge; a campaign file may give a smaller [train] rate "
                f"than {self.config.rate:g}.",
                resolved(self.ensemble(good.best[0])) if good.step else None,
            )
        return replace(good, damping=0.5 * state.damping, block=state.block + 1)

    def clock(self, before: _Standing, after: _Standing, elapsed: float, first: bool) -> _Standing:
        """The time told: the fraction grows with the steps or, if faster, with the time left.

        The first block of a process is not counted, since compiling takes most of it.
        """
        share = (after.step - before.step) * before.pace
        if self.seconds is not None and not first:
            left = max(self.seconds - before.seconds, 1e-9)
            share = max(share, (1.0 - before.fraction) * (elapsed - before.seconds) / left)
        over = after.step == after.end or (self.seconds is not None and elapsed >= self.seconds)
        fraction = 1.0 if over else min(1.0, before.fraction + share)
        return replace(after, fraction=fraction, seconds=elapsed)

    def looks(self, before: _Standing, after: _Standing) -> bool:
        """Whether it is time to look at the frames held out."""
        share = int(after.fraction * LOOKS) > int(before.fraction * LOOKS)
        return share or after.step > max(GROWTH * after.looked, WARMUP_STEPS)

    def look(self, state: _Standing) -> _Standing:
        """The frames held out looked at, the best weights kept, an overfitted training shortened.

        The error is the root of the loss on them.
        """
        here = state.weights, state.optimizer
        if self.held_out is None:
            return replace(state, best=here)
        found = assess(self.ensemble(state.weights), *self.held_out)
        forces, energy = (found[name]["rmse"] for name in ("forces", "energy_per_atom"))
        state = replace(state, forces=forces, energy=energy, looked=state.step)
        known = 0.0 if np.isnan(forces) else forces
        error = float(np.sqrt(known**2 + self.config.energy_weight * energy**2))
        if error < state.least:
            return replace(state, best=here, least=error, best_step=state.step, waited=0)
        state = replace(state, waited=state.waited + 1)
        long = state.step >= OVERFITTED * state.best_step and state.fraction >= SURE
        return self.cool(state) if long and state.waited >= PATIENCE else state

    def cool(self, state: _Standing) -> _Standing:
        """Back to the best weights, and from there to the end at a low learning rate."""
        if state.cooled or state.fraction == 1.0:
            return state
        weights, optimizer = self.steps.place(*state.best)
        left = max(COOLED, state.best_step // 2)
        return replace(
            state,
            weights=weights,
            optimizer=optimizer,
            end=min(state.end, state.step + left),
            pace=(1.0 - COOLING) / left,
            fraction=COOLING,
            cooled=True,
            usual={},
        )


def train(
    data: Sequence[System],
    config: TrainConfig,
    start: Ensemble,
    key: int,
    warm: bool = False,
    progress: Callable[[Point], None] | None = None,
    held_out: System | None = None,
    seconds: float | None = None,
    checkpoint: Path | None = None,
) -> Ensemble:
    """Members fitted to labelled frames; the best on `held_out` of all that were looked at.

    Blocks of steps in which the error has grown fourfold are undone and tried again at half
    the learning rate, so that no rate can kill the nets. Where the error on `held_out` has not
    fallen for long, the training goes back to the best, and from there to its end at once.

    Args:
        data: frames and labels, one for all members or one each; forces and virials that are nan
            weigh nothing
        start: from `fresh`, or trained before
        warm: `start` was trained before
        progress: called after every block of steps
        held_out: frames that are only looked at
        seconds: the training ends after so long a wall time, whatever its steps
        checkpoint: a file; where it exists already, the training that wrote it goes on
    Raises:
        InputError: labels that are not finite; a checkpoint of another training
        Diverged: an error that grows at any learning rate
    """
    _check(data)
    begun = time.monotonic()
    training = _Training(data, config, start, warm, held_out, seconds)
    dataset = training.dataset
    told = {"settings": config, "steps": training.total, "seed": key}
    store = Checkpoint(checkpoint, told | {"data": len(dataset), "ensemble_size": start.size})
    state = training.init(start.members.weights)
    if (kept := store.read(state.arrays)) is not None:
        (weights, optimizer, best), numbers = kept
        weights, optimizer = training.steps.place(weights, optimizer)
        state = _Standing(weights, optimizer, best, **numbers)
        begun -= state.seconds
    good, written, first = state, time.monotonic(), True
    with ThreadPoolExecutor(1) as reader:
        blocks = _blocks(reader, dataset, training.spell * config.batch, key, state.block)
        while state.fraction < 1.0:
            after = training.advance(state, *next(blocks).result())
            if after is None:
                state = training.retreat(state, good)
                continue
            after = training.clock(state, after, time.monotonic() - begun, first)
            looks = first or held_out is None or training.looks(state, after)
            first = False
            state = training.look(after) if looks else after
            if progress:
                progress(state.point)
            if (state.block % SNAPSHOT == 0 and not state.alarms) or state.cooled != good.cooled:
                good = state
            if time.monotonic() - written > CHECKPOINT_SECONDS:
                store.write(state.arrays, state.numbers)
                written = time.monotonic()
    store.remove()
    return resolved(training.ensemble(state.best[0]))


def fresh(architecture: str, config: Any, size: int, data: Sequence[System], key: int) -> Ensemble:
    """`size` members with random weights and the statistics of the data."""
    kind, _ = ARCHITECTURES[architecture]
    parts = Dataset.grouped(data, config.cutoff_A).parts(20_000)
    statistics = kind.prepare(
        config, [(frames, lists, label.mean) for frames, lists, label in parts]
    )
    members = [
        kind.init(k, config, statistics) for k in jax.random.split(jax.random.key(key), size)
    ]
    weights = jax.tree.map(lambda *leaves: jnp.stack(leaves), *[m.weights for m in members])
    return Ensemble(members[0].with_weights(weights))


def _check(data: Sequence[System]) -> None:
    if not all(np.isfinite(label.energy).all() for _, label in data):
        raise InputError("Training data has energies that are not finite numbers.")
    for frames, label in ((frames, label.mean) for frames, label in data):
        missing = np.isnan(label.forces).all(axis=(1, 2))
        real = np.asarray(frames.mask)[..., None] & ~missing[:, None, None]
        if not np.isfinite(np.where(real, label.forces, 0.0)).all():
            raise InputError("Training data has forces that are not finite numbers.")


def _blocks(
    reader: ThreadPoolExecutor, dataset: Dataset, count: int, key: int, start: int
) -> Iterator[Future]:
    """(name of the bucket, its frames, whether it has virials) without end, read one ahead."""

    def read(bucket: Bucket, rows: np.ndarray) -> tuple[str, Batch, bool]:
        return f"{dataset.buckets.index(bucket)}", bucket.batch(rows), bucket.virials

    coming = None
    for bucket, rows in dataset.stream(count, key, start):
        now, coming = coming, reader.submit(read, bucket, rows)
        if now is not None:
            yield now


def _schedule(fraction: float, step: int) -> float:
    """Share of the peak learning rate: a rise, then a cosine."""
    rise = min(1.0, (fraction + 1e-3) / WARMUP, (step + BLOCK) / WARMUP_STEPS)
    late = max(0.0, fraction - WARMUP) / (1.0 - WARMUP)
    return rise * (0.5 + 0.5 * float(np.cos(np.pi * late)))
