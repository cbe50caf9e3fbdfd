"""Distillation: the loop once more, with a trained ensemble as the principle."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from kepton.atoms.frames import Frames, Label, concatenate
from kepton.potential.ensemble import Ensemble, atom_deviation, committee, predict
from kepton.potential.explore import ExploreConfig, visited
from kepton.potential.geometry import Gate, Strain
from kepton.potential.recipe import Recipe
from kepton.potential.train import Diverged, Point

ATOMS, FEWEST, MOST = 30_000, 256, 4096
"""Frames of a round of distillation have so many atoms, within bounds on their number"""
ROUNDS, AGAIN = 3, 2
"""Trainings, at most, from random weights and from those of a former runner"""
FIRST = 0.25
"""Share of a walk that the learner makes, a step of which costs many times the runner's"""
STRAIN, STILL = Strain((-0.05, 0.05), 0.02), 0.03
"""Strains of crystals near 0 K, and the largest amplitude of their atoms there, Å: of dynamics
alone a runner learns elastic constants that are a tenth or two away from its learner's"""
CLOSE = 1.0
"""A runner is close where it differs from the learner by less than so many times the learner's
deviation. Errors are 1.6 times that or more (measured), and squares add up, so an error grows by
less than a fifth"""


def distil(
    learner: Ensemble,
    recipe: Recipe,
    starts: list[Frames],
    known: list[Frames],
    gate: Gate,
    config: ExploreConfig,
    seed: int,
    former: Ensemble | None = None,
    progress: Callable[[Point], None] | None = None,
) -> tuple[Ensemble, dict[str, Any]]:
    """An ensemble by another recipe that answers, and doubts, as the learner does.

    Each member learns from one of the learner's, so that they differ as those do; from their mean
    where there are not as many.

    It learns from the learner's labelled configurations, from crystals near 0 K, and from the
    learner's dynamics, or that of a former runner; then it walks by itself, and what it
    met is labelled by the learner and learnt too, until it is close or ROUNDS are over.

    Args:
        starts: the given structures
        known: labelled frames
        former: the runner of a learner that had seen fewer labels, from which this one goes on
    Returns: the ensemble, and `rounds`, `frames` labelled by the learner, `apart`, the root mean
        square difference of the forces of the two where the runner's walks lead, and there the
        `deviation` of the learner, eV/Å
    """
    atoms = max(frames.positions.shape[1] for frames in starts)
    count = int(np.clip(ATOMS // atoms, FEWEST, MOST))
    seeds = np.random.SeedSequence(seed).generate_state(ROUNDS + 3).tolist()
    short = config if former else replace(config, walk_fs=FIRST * config.walk_fs)
    walked = visited(former or learner, starts, known, gate, count, short, seeds[0])
    frames = concatenate([*known, *_near_rest(starts, count // 2, seeds[-1]), walked])
    data = [(frames, _lesson(committee(learner, frames).of_cells(frames), recipe.members))]
    runner, rounds, apart, doubt = former, 0, np.inf, 0.0
    while rounds < (AGAIN if former else ROUNDS) and not apart <= CLOSE * doubt:
        try:
            runner = recipe.train(data, runner, seeds[1], progress)
        except Diverged as failure:
            runner = failure.best or runner
            if runner is None:
                raise
        rounds += 1
        met = visited(runner, starts, known, gate, count, config, seeds[1 + rounds])
        answers, real = committee(learner, met).of_cells(met), np.asarray(met.mask)
        off = np.asarray(predict(runner, met)[0].forces) - answers.mean.forces
        deviation = atom_deviation(np.moveaxis(answers.forces, -1, 0))
        apart = float(np.sqrt(np.mean(off[real] ** 2)))
        doubt = float(np.sqrt(np.mean(deviation[real] ** 2) / 3.0))
        data.append((met, _lesson(answers, recipe.members)))
    assert runner is not None
    labelled = sum(len(frames) for frames, _ in data)
    return runner, {"rounds": rounds, "frames": labelled, "apart": apart, "deviation": doubt}


def _near_rest(starts: list[Frames], count: int, seed: int) -> list[Frames]:
    """So many configurations of the crystals among the starts, as STRAIN and STILL say."""
    crystals = [start for start in starts if np.all(start.pbc)]
    if not crystals:
        return []
    rng = np.random.default_rng(seed)
    frames = STRAIN.of(concatenate(crystals)[rng.integers(len(crystals), size=count)], rng)
    noise = rng.standard_normal(frames.positions.shape) * np.asarray(frames.mask)[..., None]
    return [
        frames.with_positions(frames.positions + STILL * rng.uniform(size=(count, 1, 1)) * noise)
    ]


def _lesson(answers: Label, members: int) -> Label:
    """What members learn from: an answer each, or the mean where there are not as many."""
    return answers if answers.energy.shape[1] == members else answers.mean
