"""A rung without atoms: learn a curve with a sharp feature, explored by reflected random walks.

    f(x) = sin 3x + exp(-((x - 0.6) / 0.04)^2),   x in [-1, 1], visited uniformly

Run as a program it kills campaigns: see `main`.
"""

import io
import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from kepton.elt import Exploration, Failure
from kepton.elt.campaign import Goal, State
from kepton.elt.journal import Journal
from kepton.elt.run import Result, run

LENGTHS = np.array([0.15, 0.25, 0.4, 0.6])
"""Correlation lengths of the members."""
STEP = 0.15
"""A walk forgets its start in (2 / STEP)^2 / pi^2 = 18 steps."""


def curve(x):
    return np.sin(3 * x) + np.exp(-(((x - 0.6) / 0.04) ** 2))


def matern(distance, length):
    """The covariance of functions that are once differentiable."""
    r = np.sqrt(3) * np.abs(distance) / length
    return (1 + r) * np.exp(-r)


@dataclass(frozen=True)
class Analytic:
    """A Problem: a sample and a label are numbers, models are kernel ridge regressions.

    Args:
        log: file to which each label that is begun appends a line
        refused: interval in which the principle gives no label
        deadly: interval in which it kills its process
        wrong: interval in which it raises
        spread: longest time a label takes, s; the time follows from the sample
        coarse: by what share distillation exaggerates, 0 where there is none
    """

    log: Path | None = None
    refused: tuple[float, float] = (2.0, 2.0)
    deadly: tuple[float, float] = (2.0, 2.0)
    wrong: tuple[float, float] = (2.0, 2.0)
    spread: float = 0.0
    coarse: float = 0.0
    offline: Path | None = None
    settings: dict[str, Any] = field(default_factory=lambda: {"principle": {"curve": "bump"}})

    def seed(self, count: int, key: int) -> Sequence[float]:
        return list(np.random.default_rng(key).uniform(-1, 0.3, count))

    def walk(self, start: np.ndarray, steps: int, rng: np.random.Generator) -> np.ndarray:
        """(steps, walkers), reflected at -1 and 1, so uniform in the long run."""
        path = start + STEP * np.cumsum(rng.standard_normal((steps, len(start))), axis=0)
        return np.abs((path - 1) % 4 - 2) - 1

    def explore(self, models: Any, data: Sequence[float], trust: float, key: int) -> Exploration:
        rng = np.random.default_rng(key)
        start = np.where(np.arange(32) < 16, 0.0, rng.choice(data, 32))
        path = self.walk(start, 80, rng)
        deviation = self.deviation(models, path.ravel()).reshape(path.shape)
        gone = np.cumsum(deviation > trust, axis=0) > 0
        before = np.vstack([np.zeros((1, 32), bool), gone[:-1]])
        doubt = np.where(before, np.inf, deviation)
        look, walker = np.nonzero(~before)
        keep = rng.permutation(len(look))[:300]
        second_half = doubt[40:, :16]
        typical = path[40:, :16][np.isfinite(second_half)]
        return Exploration(
            samples=list(path[look, walker][keep]),
            deviation=deviation[look, walker][keep],
            typical=list(rng.permutation(typical)),
            visited=second_half.ravel(),
            info={"stayed": float((~gone[-1]).mean())},
        )

    def distil(self, models: Any, former: Any, data: Sequence[float], key: int):  # noqa: ARG002
        if not self.coarse:
            return None
        return models | {"c": (1.0 + self.coarse) * models["c"]}, {}

    def audit(self, models: Any, count: int, key: int) -> Sequence[float | Failure]:  # noqa: ARG002
        return list(self.walk(np.zeros(count), 80, np.random.default_rng(key))[-1])

    def label(self, sample: float) -> float | Failure:
        if self.log:
            with open(self.log, "a") as log:
                log.write(f"{sample!r}\n")
        time.sleep(self.spread * (sample * 1e4 % 1.0))
        if self.offline is not None and self.offline.exists():
            return Failure("The licence server does not answer.")
        if self.deadly[0] <= sample <= self.deadly[1]:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.wrong[0] <= sample <= self.wrong[1]:
            raise ZeroDivisionError("a mistake in the principle")
        if self.refused[0] <= sample <= self.refused[1]:
            return Failure("The curve is not defined here.")
        return float(curve(sample))

    def train(self, data: Sequence[tuple[float, float]], models: Any, key: int) -> Any:  # noqa: ARG002
        x, y = np.array(data).T
        # the more the members' lengths differ, the more they disagree where the curve is unknown
        length = LENGTHS * np.random.default_rng(key).uniform(0.8, 1.25, len(LENGTHS))
        gram = matern(x[:, None] - x, length[:, None, None]) + 1e-8 * np.eye(len(x))
        return {"x": x, "c": np.linalg.solve(gram, y[None, :, None])[..., 0], "length": length}

    def predictions(self, models: Any, x: np.ndarray) -> np.ndarray:
        """(members, len(x))"""
        kernel = matern(np.asarray(x)[:, None] - models["x"], models["length"][:, None, None])
        return np.einsum("kxn,kn->kx", kernel, models["c"])

    def error(self, models: Any, data: Sequence[tuple[float, float]]) -> np.ndarray:
        x, y = np.array(data).T
        return np.abs(self.predictions(models, x).mean(axis=0) - y)

    def deviation(self, models: Any, samples: Sequence[float]) -> np.ndarray:
        return self.predictions(models, np.asarray(samples)).std(axis=0)

    def features(self, models: Any, samples: Sequence[float]) -> np.ndarray:  # noqa: ARG002
        return np.asarray(samples, float)[:, None]

    def validate(self, models: Any, audited: Any) -> dict[str, Any]:  # noqa: ARG002
        return {}

    def encode(self, value: float) -> bytes:
        return json.dumps(float(value)).encode()

    def decode(self, data: bytes) -> float:
        return json.loads(data)

    def save(self, models: Any) -> bytes:
        stream = io.BytesIO()
        np.savez(stream, **models)
        return stream.getvalue()

    def restore(self, data: bytes) -> Any:
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            return dict(arrays)


GRID = np.linspace(-1, 1, 4001)
"""Stands for the visited density, which is uniform."""


def failing(models: Any, target: float) -> float:
    """The true fraction of visited configurations that are not below the target."""
    return float((Analytic().error(models, np.stack([GRID, curve(GRID)], 1)) >= target).mean())


def climb(
    path: Path, goal: Goal, problem: Analytic | None = None, workers: int = 2, **options: Any
) -> Result:
    """A campaign in this process, continued if it was begun."""
    problem = problem or Analytic()
    journal = Journal(path, problem.settings)
    try:
        return run(problem, goal, journal, lambda: ThreadPoolExecutor(workers), workers, **options)
    finally:
        journal.close()


def essence(state: State) -> str:
    """All of a state but the wall times."""
    return repr({k: v for k, v in vars(state).items() if k != "seconds"})


SMALL = Goal(target=0.15, confidence=0.8, coverage=0.8, labels=60, seed_labels=6, batch_labels=5)


def main(folder: Path, first: int, stride: int) -> None:
    """Kill the small campaign before its SQL statement first, first + stride, ..., and resume it.

    One child process a kill, so that the kill is a real SIGKILL. Prints one line of JSON a kill:
    statement, essence of the state after resuming, and how often each sample was labelled.
    """
    n = first
    while True:
        path, log = folder / f"{n}.db", folder / f"{n}.log"
        problem = Analytic(log=log, spread=2e-3)
        child = os.fork()
        if child == 0:
            journal = Journal(path, problem.settings)
            left = [n]

            def doom(statement, left=left):  # noqa: ARG001
                left[0] -= 1
                if left[0] <= 0:
                    os.kill(os.getpid(), signal.SIGKILL)

            journal._db.set_trace_callback(doom)
            run(problem, SMALL, journal, lambda: ThreadPoolExecutor(2), 2)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        killed = os.WIFSIGNALED(status)
        assert killed or os.waitstatus_to_exitcode(status) == 0
        result = climb(path, SMALL, problem)
        counts = dict.fromkeys(log.read_text().split(), 0)
        for x in log.read_text().split():
            counts[x] += 1
        report = {"n": n, "state": essence(result.state), "counts": sorted(counts.values())}
        print(json.dumps(report | {"killed": killed}), flush=True)
        if not killed:
            return
        n += stride


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
