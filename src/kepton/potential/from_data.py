"""Training from labelled data alone: files in, a model with its learning curve out."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kepton.atoms import Frames, concatenate, concatenate_labels, read_systems
from kepton.errors import InputError
from kepton.potential.assess import assess
from kepton.potential.dataset import System, hold_out
from kepton.potential.file import save
from kepton.potential.learning_curve import LearningCurve
from kepton.potential.pretrained import named
from kepton.potential.recipe import Recipe
from kepton.potential.train import Diverged, Point, train

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
    recipe = _recipe(order, [frames[:1] for frames, _ in systems], rest)
    start = recipe.fresh(rest, order.seed)
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
            recipe.training,
            start,
            order.seed,
            warm=recipe.pretrained is not None,
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


def _recipe(order: Order, structures: Sequence[Frames], data: Sequence[System]) -> Recipe:
    steps = order.steps or FOREVER
    training = {"steps": steps, "warm_steps": steps}
    if order.batch is not None:
        training["batch"] = order.batch
    if order.pretrained is None:
        sizes = {} if order.cutoff_A is None else {"cutoff_A": order.cutoff_A}
        return Recipe.of(order.architecture, structures, sizes, training, order.members, data=data)
    if order.cutoff_A is not None:
        raise InputError(
            f"--cutoff-A beside --pretrained {order.pretrained}: that model has a cutoff of its "
            "own; leave one of the two out."
        )
    path = named(order.pretrained, Path())
    return Recipe.of(order.architecture, structures, None, training, order.members, path, data)


def _joined(systems: Sequence[System]) -> System | None:
    """All frames in one batch, in random order."""
    if not systems:
        return None
    frames = concatenate([frames for frames, _ in systems])
    label = concatenate_labels([label for _, label in systems])
    order = np.random.default_rng(0).permutation(len(frames))
    return frames[order], label[order]
