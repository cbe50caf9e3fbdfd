"""Training from labelled data alone: files in, a model with its learning curve out."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kepton.atoms import concatenate, concatenate_labels, read_systems
from kepton.errors import InputError
from kepton.potential.assess import assess
from kepton.potential.dataset import System, hold_out
from kepton.potential.ensemble import Ensemble
from kepton.potential.file import save
from kepton.potential.learning_curve import LearningCurve
from kepton.potential.pretrained import FINE, adapted, named, read_pretrained
from kepton.potential.recipe import default_model, elements
from kepton.potential.train import (
    Diverged,
    Point,
    default_training,
    fresh,
    train,
)

FOREVER = 10**9
"""Steps of a training that time alone ends"""
MOST_HELD_OUT = 1000
"""Frames that are held out at most"""
RESERVE_SECONDS = 8.0
"""Wall time kept for the last test, which compiles anew, and for writing; and a hundredth of all"""


@dataclass(frozen=True)
class Order:
    """What to train, and for how long.

    Args:
        data: extxyz files and deepmd/npy folders
        out: the model file
        steps: None for as many as the time allows
        minutes: wall time, None for as much as the steps take
        batch, cutoff_A: None for a default that follows from the data
        architecture: a name in `kepton.potential.architectures`
        members: of the ensemble
        held_out: share of the frames
        seed: of all random numbers
        mixed: data may be of several principles
        pretrained: "organic" or a model file, whose members the training begins with
    """

    data: Sequence[Path]
    out: Path
    steps: int | None = None
    minutes: float | None = None
    batch: int | None = None
    cutoff_A: float | None = None
    architecture: str = "deep_potential"
    members: int = 4
    held_out: float = 0.1
    seed: int = 0
    mixed: bool = False
    pretrained: str | None = None


@dataclass(frozen=True)
class Trained:
    """What came of it.

    Args:
        told: in one sentence
        errors: on the frames held out, from `assess`; None where there are none
        failure: why the training ended early
    """

    told: str
    errors: dict[str, Any] | None
    failure: str | None


def train_from_data(
    order: Order, begun: float, progress: Callable[[Point], None] | None = None
) -> Trained:
    """Train, and write the model, MODEL.csv and MODEL.png.

    Args:
        begun: when the wall time began, on `time.monotonic`'s clock
        progress: hears of training
    Raises:
        InputError: data that cannot be trained on
    """
    systems = read_systems(order.data, order.mixed)
    rest, held = hold_out(systems, order.held_out, MOST_HELD_OUT, order.seed)
    tested = _joined(held)
    components = sum(3 * int(np.sum(frames.mask)) for frames, _ in rest)
    some = [frames[:1] for frames, _ in systems]
    atoms = components / 3 / sum(len(frames) for frames, _ in rest)
    steps = order.steps or FOREVER
    chosen = {"steps": steps, "warm_steps": steps}
    chosen |= {} if order.batch is None else {"batch": order.batch}
    if order.pretrained is None:
        sizes = {} if order.cutoff_A is None else {"cutoff_A": order.cutoff_A}
        model = default_model(order.architecture, some, components, **sizes)
        start = fresh(order.architecture, model, order.members, rest, order.seed)
    else:
        known = _pretrained_members(order, elements(some))
        start, chosen = adapted(known, rest), chosen | {"rate": FINE}
    config = default_training(order.architecture, atoms, **chosen)
    checkpoint = order.out.with_name(order.out.name + ".checkpoint")
    curve = LearningCurve(order.out.with_suffix(".csv"), resumed=checkpoint.is_file())

    def hear(point: Point) -> None:
        curve.add(point)
        if np.isfinite(point.forces):
            curve.write()
        if progress:
            progress(point)

    seconds = None
    if order.minutes is not None:
        spent = time.monotonic() - begun
        seconds = max(1.0, 59.4 * order.minutes - RESERVE_SECONDS - spent)
    failure = None
    try:
        ensemble = train(
            rest,
            config,
            start,
            order.seed,
            warm=order.pretrained is not None,
            progress=hear,
            held_out=tested,
            seconds=seconds,
            checkpoint=checkpoint,
        )
    except Diverged as error:
        if error.best is None:
            raise
        ensemble, failure = error.best, f"{error} What was learnt before is kept."
    save(order.out, ensemble, {"data": [str(path) for path in order.data]})
    curve.write()
    curve.draw()
    count = sum(len(frames) for frames, _ in rest)
    last = curve.points[-1]
    told = (
        f"{order.out}: {ensemble.size} members trained on {count} frames, {last.step} steps in "
        f"{last.seconds:.0f} s."
    )
    if tested is None:
        return Trained(told, None, failure)
    told += f" Errors on the {len(tested[0])} frames held out:"
    return Trained(told, assess(ensemble, *tested), failure)


def _pretrained_members(order: Order, species: tuple[int, ...]) -> Ensemble:
    assert order.pretrained is not None
    if order.cutoff_A is not None:
        raise InputError(
            f"--cutoff-A beside --pretrained {order.pretrained}: that model has a cutoff of its "
            "own; leave one of the two out."
        )
    path = named(order.pretrained, Path())
    return read_pretrained(path, order.architecture, species, order.members)


def _joined(systems: Sequence[System]) -> System | None:
    """All frames in one batch, in random order."""
    if not systems:
        return None
    frames = concatenate([frames for frames, _ in systems])
    label = concatenate_labels([label for _, label in systems])
    order = np.random.default_rng(0).permutation(len(frames))
    return frames[order], label[order]
