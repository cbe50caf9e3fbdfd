"""A campaign file run in a directory: journal, model, data, certificate and report."""

import json
import math
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

import kepton
from kepton.atoms.replacing import write_whole
from kepton.config import Order
from kepton.elt.certificate import certificate
from kepton.elt.journal import JOURNAL, Event, Journal
from kepton.elt.run import Action, Observer, Result, State, run
from kepton.errors import InputError
from kepton.report import write_report

CERTIFICATE = "certificate.json"
LOCK = "campaign.lock"


def launch(
    order: Order, directory: Path, observer: Observer | None = None, progress=None
) -> Result:
    """Run or continue a campaign in a directory, and leave its products there.

    Args:
        order: from `kepton.config.read`
        directory: made where it does not exist
        observer: hears of events
        progress: hears of training: a `kepton.potential.train.Point`
    Raises:
        InputError: the directory is another campaign's, or in use
    """
    directory = Path(directory)
    if directory.exists() and not directory.is_dir():
        raise InputError(f"{directory} is a file; give a directory with --out.")
    directory.mkdir(parents=True, exist_ok=True)
    lock = FileLock(directory / LOCK)
    try:
        with lock.acquire(timeout=0):
            journal = Journal(directory / JOURNAL, order.settings)
            problem = replace(order.problem.at(directory), progress=progress)
            publisher = _Publisher(directory, journal, order, observer or Observer())
            result = run(
                problem,
                order.goal,
                journal,
                order.executors.labels,
                order.workers,
                publisher,
                order.executors.models,
            )
            publisher.finish(result)
            journal.close()
            return result
    except Timeout as error:
        raise InputError(
            f"Another process runs the campaign in {directory}; wait for it or stop it, or give "
            "another directory with --out."
        ) from error


def is_running(directory: Path) -> bool:
    """Whether a process runs the campaign in this directory now."""
    lock = FileLock(Path(directory) / LOCK)
    try:
        with lock.acquire(timeout=0):
            return False
    except Timeout:
        return True


class _Publisher(Observer):
    """Keeps the files in the directory as new as the journal."""

    def __init__(self, directory: Path, journal: Journal, order: Order, observer: Observer):
        self.directory, self.journal, self.order = directory, journal, order
        self.observer = observer

    def begun(self, action: Action, state: State) -> None:
        self.observer.begun(action, state)

    def labelled(self, done: int, total: int) -> None:
        self.observer.labelled(done, total)

    def happened(self, event: Event, state: State) -> None:
        if event.kind == "labelled":
            self.write_data(state)
        if event.kind in ("trained", "distilled"):
            self.write_models(state, {})
        self.observer.happened(event, state)

    def finish(self, result: Result) -> None:
        """Certificate, model and report of a campaign that has ended."""
        state, order = result.state, self.order
        goal, publication = order.goal, order.publication
        claims = certificate(
            state.verdicts,
            goal.target,
            publication.unit,
            publication.about,
            goal.confidence,
            goal.coverage,
            result.stop.reason,
        )
        claims |= publication.claims | {
            "labels": state.labels,
            "rounds": state.round,
            "checks": self.checks(result) if state.model else {},
            "kepton": kepton.__version__,
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        if state.model is not None:
            self.write_models(state, claims)
            self.write_data(state)
        text = json.dumps(_strict(claims), indent=2, ensure_ascii=False) + "\n"
        write_whole(self.directory / CERTIFICATE, text.encode())
        write_report(self.directory)

    def checks(self, result: Result) -> dict[str, Any]:
        """What the rung measures of the finished model, in the last audit and beside it."""
        state, problem = result.state, self.order.problem
        drawn = [m for m in state.measured if m.origin == "audit" and m.failure is None]
        audited = [
            (problem.decode(self.journal.sample(m.key)), problem.decode(self.journal.label(m.key)))
            for m in drawn
            if m.round == drawn[-1].round
        ]
        return problem.validate(result.models, audited)

    def write_models(self, state: State, claims: dict[str, Any]) -> None:
        """The learner, and what is handed out, with the certificate where there is one."""
        assert state.model is not None
        learner, runner = (
            self.journal.model(id) for id in (state.model, state.runner or state.model)
        )
        goal = asdict(self.order.goal)
        self.order.publication.write_models(self.directory, learner, runner, goal, _strict(claims))

    def write_data(self, state: State) -> None:
        """Every label, with its origin and round."""
        kept = [m for m in state.measured if m.failure is None]
        if kept:
            samples = [self.journal.sample(m.key) for m in kept]
            labels = [self.journal.label(m.key) for m in kept]
            self.order.publication.write_data(self.directory, kept, samples, labels)


def _strict(value: Any) -> Any:
    """The value with null for numbers that are not finite, which JSON has no words for."""
    if isinstance(value, dict):
        return {name: _strict(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
