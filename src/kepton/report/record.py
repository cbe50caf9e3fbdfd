"""What a journal tells of a campaign, as plain values for the page."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kepton.atoms import Frames, Label, concatenate, concatenate_labels
from kepton.elt.campaign import Action, Campaign, Goal, Measured, State
from kepton.elt.journal import Event, Journal
from kepton.elt.run import goal_of, replay
from kepton.errors import InputError
from kepton.potential.ensemble import Ensemble, predict
from kepton.potential.file import from_bytes
from kepton.potential.rung import decode


@dataclass(frozen=True)
class Watch:
    """What one exploration saw: deviations at moments of its walks, and the two thresholds."""

    round: int
    visited: np.ndarray
    suspect: float
    trust: float


@dataclass(frozen=True)
class Parity:
    """A model against its principle on samples that it had not seen.

    Args:
        round: of the model
        audit: the samples are those of an audit, else the last that were explored
        energy: (2, m) meV an atom, principle and model, from the principle's mean
        forces: (2, p) eV/Å, components, principle and model
    """

    round: int
    audit: bool
    energy: np.ndarray
    forces: np.ndarray


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
        self.certificate: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {}

    def _of(self, kind: str) -> list[Event]:
        return [event for event in self.events if event.kind == kind]

    def _label(self, key: str) -> Label:
        return decode(self.journal.label(key))

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
        """(origin, reason, how often), labels that failed and audit walks that broke."""
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

    @property
    def engine(self) -> str:
        """Name and version of the engine that answered, or its kind before the first answer."""
        if self.state.data:
            return self._label(self.state.data[0]).engine
        return str(self.settings.get("principle", {}).get("kind", "unknown"))

    def models(self, of_round: int) -> Ensemble:
        """The ensemble that a round trained, counted from 1."""
        return from_bytes(self.journal.model(self._models[of_round - 1]))[0]

    def runner(self, of_round: int) -> Ensemble:
        """What was handed out after a round: distilled from what it trained, or that itself."""
        id = self._runners.get(of_round, self._models[of_round - 1])
        return from_bytes(self.journal.model(id))[0]

    def samples(self, measured: Sequence[Measured]) -> list[Frames]:
        """Their configurations."""
        return [decode(self.journal.sample(m.key)) for m in measured]

    @property
    def structures(self) -> list[Frames]:
        """What the campaign was started with."""
        return [
            Frames.of(
                positions=np.array([s["positions"]], float),
                species=np.array([s["species"]]),
                cell=np.array([s["cell"]], float),
                pbc=np.array([s["pbc"]]),
                charge=np.array([s["charge"]]),
                spin=np.array([s["spin"]]),
            )
            for s in self.settings.get("system", [])
        ]

    @property
    def parity(self) -> Parity | None:
        """The models of the last audit on its samples, or the last models on what was explored."""
        known = [m for m in self.unseen if m.failure is None and m.round > 0]
        if not known:
            return None
        frames = concatenate(self.samples(known))
        label = concatenate_labels([self._label(m.key) for m in known])
        audit = known[0].origin == "audit"
        models = (self.runner if audit else self.models)(known[0].round)
        predicted, _ = predict(models, frames)
        mask = np.asarray(frames.mask)
        energies = np.stack([label.energy, np.asarray(predicted.energy)])
        kinds = [np.sort(s).tobytes() for s in np.asarray(frames.species)]
        for kind in set(kinds):
            same = np.array([k == kind for k in kinds])
            energies[:, same] -= energies[0, same].mean()
        forces = np.stack([label.forces[mask].ravel(), np.asarray(predicted.forces)[mask].ravel()])
        return Parity(known[0].round, audit, 1e3 * energies / mask.sum(axis=1), forces)
