"""What a journal tells of a campaign, as plain values for the page."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kepton.config.rungs import rung_of
from kepton.elt.campaign import Action, Campaign, Goal, Measured, State
from kepton.elt.journal import Event, Journal
from kepton.elt.run import goal_of, replay
from kepton.errors import InputError

VALIDATION = "validation.json"
"""Properties by the potential and by its principle, in a campaign's folder"""


@dataclass(frozen=True)
class Watch:
    """What one exploration saw: deviations at moments of its walks, and the two thresholds."""

    round: int
    visited: np.ndarray
    suspect: float
    trust: float


class Record:
    """The journal in a campaign's folder, replayed.

    Args:
        directory: the campaign's folder
    Raises:
        InputError: no journal there, or one that no campaign wrote
    """

    def __init__(self, directory: Path):
        self.journal = Journal.of(directory)
        self.settings: dict[str, Any] = self.journal.settings or {}
        if "goal" not in self.settings:
            raise InputError(
                f"{self.journal.path} does not say what was asked for; it is from another version."
            )
        self.rung = rung_of(self.settings)
        self.goal: Goal = goal_of(self.journal)
        self.events: list[Event] = self.journal.events()
        self.state: State = replay(self.journal, self.goal)
        self.next: Action = Campaign(self.goal).ask(self.state)
        trained = self._of("trained")
        self.trained_on: list[int] = [event.data["data"] for event in trained]
        self._models: list[int] = [event.data["model"] for event in trained]
        self._runners: dict[int, int] = {}
        for event in self.events:
            if event.kind == "distilled":
                of_round = sum(earlier.id < event.id for earlier in trained)
                self._runners[of_round] = event.data["model"]
        file = Path(directory) / "certificate.json"
        compared = Path(directory) / VALIDATION
        self.validation: list[dict[str, Any]] = (
            json.loads(compared.read_text()) if compared.is_file() else []
        )
        self.certificate: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {}

    def _of(self, kind: str) -> list[Event]:
        return [event for event in self.events if event.kind == kind]

    @property
    def watches(self) -> list[Watch]:
        """The explorations, in order."""
        seen, model_round = [], 0
        for event in self.events:
            model_round += event.kind == "trained"
            if event.kind == "explored":
                visited = np.array(event.data["visited"], float)
                seen.append(Watch(model_round, visited, event.data["suspect"], event.data["trust"]))
        return seen

    @property
    def label_seconds(self) -> float:
        """Time that the principle took, summed over labels."""
        return sum((event.data["label_seconds"] for event in self._of("labelled")), 0.0)

    @property
    def failures(self) -> list[tuple[str, str, int]]:
        """(origin, reason, how often), labels that failed and draws of audits that broke."""
        counts = Counter((m.origin, m.failure) for m in self.state.measured if m.failure)
        for event in self._of("labelled"):
            for outcome in event.data["outcomes"]:
                if not outcome["key"]:
                    counts["audit", outcome["failure"]] += 1
        return [(origin, reason, count) for (origin, reason), count in counts.most_common()]

    @property
    def unseen(self) -> list[Measured]:
        """The last audit's samples; where there was none, the last samples but seeds, else all."""
        measured = self.state.measured
        for origins in (("audit",), ("explored", "typical")):
            if found := [m for m in measured if m.origin in origins]:
                return [m for m in found if m.round == found[-1].round]
        return list(measured)

    def learner(self, of_round: int) -> bytes:
        """What a round trained, counted from 1."""
        return self.journal.model(self._models[of_round - 1])

    def runner(self, of_round: int) -> bytes:
        """What was handed out after a round: distilled from what it trained, or that itself."""
        return self.journal.model(self._runners.get(of_round, self._models[of_round - 1]))

    def samples(self, measured: Sequence[Measured]) -> list[bytes]:
        """Their configurations."""
        return [self.journal.sample(m.key) for m in measured]

    def labels(self, measured: Sequence[Measured]) -> list[bytes]:
        """Their labels, of samples that have one."""
        return [self.journal.label(m.key) for m in measured]
