"""`Order`: what a campaign file asks for, and `Publication`: what its rung makes public."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from kepton.elt.campaign import Goal, Measured
from kepton.execution import Executors


@runtime_checkable
class Publication(Protocol):
    """What a rung hands out of a campaign, and how it speaks of it."""

    @property
    def about(self) -> str:
        """Of what the certificate speaks: "configurations ... have an error"."""
        ...

    @property
    def unit(self) -> str:
        """Of errors: a word that a number goes before."""
        ...

    @property
    def claims(self) -> dict[str, Any]:
        """JSON for the certificate: conditions, principle, what the model is."""
        ...

    def write_models(
        self,
        directory: Path,
        learner: bytes,
        runner: bytes,
        goal: dict[str, Any],
        certificate: dict[str, Any],
    ) -> None:
        """Files of the models that are bytes in the journal."""
        ...

    def write_data(
        self,
        directory: Path,
        measured: Sequence[Measured],
        samples: Sequence[bytes],
        labels: Sequence[bytes],
    ) -> None:
        """Files of labelled data."""
        ...


@dataclass(frozen=True)
class Order:
    """What a campaign file asks for, checked: everything that a run needs.

    Args:
        file: the campaign file
        problem: the rung
        publication: what it hands out
        goal: target, guarantees and budgets
        workers: labels at a time
        executors: make what they are computed on, and what works on models
        choices: JSON of all else that must not change between runs
    """

    file: Path
    problem: Any
    publication: Publication
    goal: Goal
    workers: int
    executors: Executors
    choices: dict[str, Any]

    @property
    def settings(self) -> dict[str, Any]:
        """JSON for the journal: what must not change between runs; file and budget may."""
        goal = asdict(self.goal)
        budget = {name: goal.pop(name) for name in ("labels", "hours", "failures")}
        told = {"file": str(self.file.resolve()), "goal": goal, "budget": budget}
        return self.problem.settings | told | self.choices
