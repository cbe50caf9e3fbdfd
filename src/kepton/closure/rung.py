"""The rung kinetic equation -> moment closure: its `Problem`, which tells the loop how to climb."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from kepton.closure import closed
from kepton.closure.checks import kept_laws
from kepton.closure.closure import Closure
from kepton.closure.difference import broken, disagreement, relative_error
from kepton.closure.equation import Kinetic
from kepton.closure.fields import Case, Conserved, together
from kepton.closure.file import decode, encode, from_bytes, to_bytes
from kepton.closure.initial import InitialData
from kepton.closure.label import Label, label
from kepton.closure.moments import Hermite
from kepton.closure.train import Point, Training, train
from kepton.elt import Exploration, Failure
from kepton.elt.select import diverse
from kepton.errors import InputError

EXPLORED = 96
"""Cases that one exploration solves"""
TOGETHER = 16
"""Cases that are solved at a time"""
CHECKED = 8
"""Cases on which a finished model is checked"""


@dataclass(frozen=True)
class ClosureProblem:
    """Learn the closure of moment equations from solutions of the kinetic equation.

    A sample is a `Case` of one gas, a label is a `Label` of one, models are an ensemble `Closure`.
    The error of a sample is that of `relative_error`, of the closed system against the kinetic
    equation on the same cells, over all times.

    Args:
        equation: the principle
        initial: what the closure is to hold for
        times: increasing, at which solutions are compared
        order: of the moments, `Hermite`
        members: of the ensemble
        training: of every round
        progress: hears of training
    """

    equation: Kinetic
    initial: InitialData
    times: tuple[float, ...] = (0.05, 0.1, 0.2, 0.3)
    order: int = 10
    members: int = 4
    training: Training = field(default_factory=Training)
    progress: Callable[[Point], None] | None = None

    def check(self) -> None:
        """Raise InputError where the problem cannot be set."""
        self.equation.check()
        self.initial.check()
        Hermite(self.order).check()
        if not self.times or min(np.diff(self.times, prepend=0.0)) <= 0.0:
            raise InputError(
                f"times = {list(self.times)}: give at least one, increasing from above 0."
            )

    @property
    def settings(self) -> dict[str, Any]:
        """What tells this campaign from another; `principle` decides the labels."""
        return {
            "principle": self.equation.settings | {"times": list(self.times)},
            "initial": asdict(self.initial),
            "model": {"order": self.order, "members": self.members},
            "training": asdict(self.training),
        }

    def seed(self, count: int, key: int) -> Sequence[Case]:
        """Draws of the class on which untrained members disagree, unlike each other."""
        models = Closure.fresh(self.order, self.members, key, self.equation)
        cases = self.initial.draw(max(count, EXPLORED), key)
        deviation = self.deviation(models, cases)
        doubt = np.where(np.isfinite(deviation), deviation, 0.0)
        features = self.features(models, cases)
        return [cases[i] for i in diverse(features, doubt, features[:0], count)]

    def explore(
        self,
        models: Closure,
        data: Sequence[Case],  # noqa: ARG002
        trust: float,
        key: int,
    ) -> Exploration:
        """The closed system solved from new draws of the class, by every member."""
        cases = self.initial.draw(EXPLORED, key)
        deviation = self.deviation(models, cases)
        whole = np.isfinite(deviation)
        return Exploration(
            samples=cases,
            deviation=deviation,
            typical=cases,
            visited=deviation,
            info={"broken": float((~whole).mean()), "stayed": float((deviation <= trust).mean())},
        )

    def distil(
        self, models: Closure, former: Closure | None, data: Sequence[Case], key: int
    ) -> None:
        """Nothing: the ensemble's mean closure is what is used, and costs what a member costs."""

    def audit(self, models: Closure, count: int, key: int) -> Sequence[Case | Failure]:
        """Draws of the class; a Failure where the closed system breaks."""
        cases = self.initial.draw(count, key)
        lost = broken(self._solved(models.mean, cases))
        reason = "The closed system lost a positive density or temperature."
        return [Failure(reason) if gone else case for case, gone in zip(cases, lost)]

    def label(self, sample: Case) -> Label | Failure:
        """The kinetic solution."""
        begun = time.monotonic()
        found = label(self.equation, sample, self.times)
        if not np.isfinite(found.error).all():
            return Failure("The kinetic solution is not finite.", time.monotonic() - begun)
        return found

    def train(
        self, data: Sequence[tuple[Case, Label]], models: Closure | None, key: int
    ) -> Closure:
        """All members, warm-started where there are models.

        Raises:
            InputError: no label to train on
        """
        if not data:
            raise InputError("None of the first samples could be labelled; see `kepton status`.")
        ensemble = models or Closure.fresh(self.order, self.members, key, self.equation)
        warm = models is not None
        return train(data, self.times, ensemble, self.training, key, warm, self.progress)

    def error(self, models: Closure, data: Sequence[tuple[Case, Label]]) -> np.ndarray:
        """(len(data),) of the mean closure; inf where its solution broke."""
        known = [lab.conserved for _, lab in data]
        found = self._solved(models.mean, [case for case, _ in data])
        error = relative_error(found, Conserved(*(np.concatenate(p) for p in zip(*known))))
        return np.where(broken(found) | ~np.isfinite(error), np.inf, error)

    def deviation(self, models: Closure, samples: Sequence[Case]) -> np.ndarray:
        """(len(samples),) root mean square of the members' errors against the mean closure.

        It is inf where a solution broke.
        """
        mean = self._solved(models.mean, samples)
        each = [self._solved(models.member(k), samples) for k in range(models.size)]
        return disagreement(mean, each)

    def features(self, models: Closure, samples: Sequence[Case]) -> np.ndarray:  # noqa: ARG002
        """(len(samples), d) Knudsen number, and spectra, which a shift of the gas leaves alone."""
        rows = []
        for case in samples:
            spectra = np.abs(np.fft.rfft(np.concatenate(case.initial), axis=-1)) / case.cells
            rows.append([0.1 * float(np.log(case.knudsen[0])), *spectra[:, :6].ravel()])
        return np.array(rows)

    def at(self, directory: Path) -> "ClosureProblem":  # noqa: ARG002
        """The same: its principle keeps no files."""
        return self

    def validate(
        self,
        models: Closure,
        audited: Sequence[tuple[Case, Label]],  # noqa: ARG002
    ) -> dict[str, Any]:
        """What must hold of any closure, and the kinetic solver's own error, measured on draws."""
        cases = self.initial.draw(CHECKED, 0)
        own = [label(self.equation, case, self.times).error for case in cases]
        return kept_laws(models.mean, together(cases), self.times[-1]) | {
            "error_of_the_kinetic_solver": np.quantile(own, [0.5, 1.0]).tolist()
        }

    def _solved(self, closure: Closure, samples: Sequence[Case]) -> Conserved:
        """Solutions of any number of cases, some at a time, all batches of one size."""
        parts = []
        for first in range(0, len(samples), TOGETHER):
            some = list(samples[first : first + TOGETHER])
            filled = some + [some[-1]] * (TOGETHER - len(some))
            found = closed.solve(closure, together(filled), self.times)
            parts.append([np.asarray(part)[: len(some)] for part in found])
        return Conserved(*(np.concatenate(part) for part in zip(*parts)))

    def encode(self, value: Case | Label) -> bytes:
        """A sample or label as bytes."""
        return encode(value)

    def decode(self, data: bytes) -> Case | Label:
        """The sample or label that `encode` wrote."""
        return decode(data)

    def save(self, models: Closure) -> bytes:
        """A model file's bytes."""
        return to_bytes(models, {})

    def restore(self, data: bytes) -> Closure:
        """The ensemble, bit for bit."""
        return from_bytes(data)[0]

    def __getstate__(self) -> dict[str, Any]:
        """What a worker needs: it labels, and hears of no progress."""
        return self.__dict__ | {"progress": None}
