"""What a rung of the ladder tells the loop: the protocol `Problem`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np


@dataclass(frozen=True)
class Failure:
    """A label that nature or an engine refused to give: data, never an exception.

    Args:
        reason: one sentence: what was tried and how it ended
        seconds: wall time that was spent on it
    """

    reason: str
    seconds: float = 0.0


@dataclass(frozen=True)
class Exploration:
    """What one exploration saw.

    Args:
        samples: configurations to choose from, at most a few hundred
        deviation: (len(samples),) the ensemble's disagreement on each, in the target's unit
        typical: configurations drawn uniformly from all visited, whatever their deviation
        visited: (m,) deviation at uniformly drawn moments of the walks, inf after a walk has left
            the trusted region or broken
        info: plain numbers for the journal and the report
    """

    samples: Sequence[Any]
    deviation: np.ndarray
    typical: Sequence[Any]
    visited: np.ndarray
    info: dict[str, Any]


@runtime_checkable
class Problem(Protocol):
    """A rung: how to explore, label, train and measure error. All of it is deterministic in `key`.

    A sample, a label and a set of models are opaque to the loop; `encode` and `decode` turn
    samples and labels into bytes for the journal, `save` and `restore` do so for models. Errors
    and deviations are in the unit of the target.
    """

    @property
    def settings(self) -> dict[str, Any]:
        """JSON that tells this problem from another; under `principle` what decides a label."""
        ...

    def seed(self, count: int, key: int) -> Sequence[Any]:
        """First samples, from no data."""
        ...

    def explore(self, models: Any, data: Sequence[Any], trust: float, key: int) -> Exploration:
        """Visit new configurations, from the labelled `data`, until deviation exceeds `trust`."""
        ...

    def distil(
        self, models: Any, former: Any | None, data: Sequence[Any], key: int
    ) -> tuple[Any, dict[str, Any]] | None:
        """Models to hand out, that answer as `models` do and cost less.

        Args:
            former: what this returned last, for earlier models; none: it was not called yet
            data: labelled samples
        Returns: them, and plain numbers for the journal and the report; None where `models`
            themselves are handed out
        """
        ...

    def audit(self, models: Any, count: int, key: int) -> Sequence[Any | Failure]:
        """`count` independent, identically distributed visits; a broken walk is a Failure."""
        ...

    def label(self, sample: Any) -> Any | Failure:
        """The principle's answer. Pure, and picklable as a bound method."""
        ...

    def train(self, data: Sequence[tuple[Any, Any]], models: Any | None, key: int) -> Any:
        """Models that fit `data`, warm-started from `models`."""
        ...

    def error(self, models: Any, data: Sequence[tuple[Any, Any]]) -> np.ndarray:
        """(len(data),) true error of each sample."""
        ...

    def deviation(self, models: Any, samples: Sequence[Any]) -> np.ndarray:
        """(len(samples),) the ensemble's disagreement."""
        ...

    def features(self, models: Any, samples: Sequence[Any]) -> np.ndarray:
        """(len(samples), d) coordinates in which near means alike."""
        ...

    def validate(self, models: Any, audited: Sequence[tuple[Any, Any]]) -> dict[str, Any]:
        """Checks of the finished model, for the certificate.

        Args:    audited: samples and labels of the last audit
        """
        ...

    def encode(self, value: Any) -> bytes:
        """A sample or label as bytes."""
        ...

    def decode(self, data: bytes) -> Any:
        """The sample or label that `encode` wrote."""
        ...

    def save(self, models: Any) -> bytes:
        """Models as bytes."""
        ...

    def restore(self, data: bytes) -> Any:
        """The models that `save` wrote, bit for bit."""
        ...
