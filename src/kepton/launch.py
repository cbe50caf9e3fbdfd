"""A campaign file run in a directory: journal, model, data, certificate and report."""

import json
import math
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

import kepton
from kepton.atoms import concatenate, concatenate_labels
from kepton.atoms.files import write_labelled
from kepton.atoms.replacing import write_whole
from kepton.config import Order
from kepton.elt.certificate import certificate
from kepton.elt.journal import JOURNAL, Event, Journal
from kepton.elt.run import Action, Observer, Result, State, process_pool, run
from kepton.errors import InputError
from kepton.potential.file import from_bytes, save
from kepton.potential.rung import decode
from kepton.report import write_report

MODEL, LEARNER = "model.kepton", "learner.kepton"
DATA = "data.extxyz"
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
            problem = replace(order.problem, progress=progress)
            publisher = _Publisher(directory, journal, order, observer or Observer())
            result = run(
                problem,
                order.goal,
                journal,
                lambda: process_pool(order.workers),
                order.workers,
                publisher,
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
        goal, exploration = order.goal, order.problem.exploration
        claims = certificate(
            state.verdicts,
            goal.target,
            "eV/Å",
            goal.confidence,
            goal.coverage,
            result.stop.reason,
        )
        claims |= {
            "conditions": {
                "dynamics": "Langevin (BAOAB) driven by the mean of the ensemble, each walk from "
                "one of the given structures, a moment drawn from the second half of the walk",
                "temperature_K": exploration.temperature_K[1],
                "walk_fs": exploration.audit_fs,
                "timestep_fs": exploration.timestep_fs,
                "friction_per_fs": exploration.friction_per_fs,
                "structures": [
                    atoms.get_chemical_formula()
                    for frames in order.problem.structures
                    for atoms in frames.to_ase()
                ],
            },
            "principle": order.problem.principle.settings,
            "potential": (order.problem.runner or order.problem.learner).architecture,
            "labels": state.labels,
            "rounds": state.round,
            "checks": order.problem.validate(result.models) if state.model else {},
            "kepton": kepton.__version__,
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        if state.model is not None:
            self.write_models(state, claims)
            self.write_data(state)
        text = json.dumps(_strict(claims), indent=2, ensure_ascii=False) + "\n"
        write_whole(self.directory / CERTIFICATE, text.encode())
        write_report(self.directory)

    def write_models(self, state: State, claims: dict[str, Any]) -> None:
        """`model.kepton`, with the certificate where there is one, and `learner.kepton`.

        Before a runner is made, the first is the learner too.
        """
        assert state.model is not None
        goal = {"goal": asdict(self.order.goal)}
        ensemble, _ = from_bytes(self.journal.model(state.runner or state.model))
        save(self.directory / MODEL, ensemble, goal | {"certificate": _strict(claims)})
        if self.order.problem.runner is not None:
            save(self.directory / LEARNER, from_bytes(self.journal.model(state.model))[0], goal)

    def write_data(self, state: State) -> None:
        """`data.extxyz`: every label, with its origin and round."""
        kept = [m for m in state.measured if m.failure is None]
        if not kept:
            return
        write_labelled(
            self.directory / DATA,
            concatenate([decode(self.journal.sample(m.key)) for m in kept]),
            concatenate_labels([decode(self.journal.label(m.key)) for m in kept]),
            [{"origin": m.origin, "round": m.round} for m in kept],
        )


def _strict(value: Any) -> Any:
    """The value with null for numbers that are not finite, which JSON has no words for."""
    if isinstance(value, dict):
        return {name: _strict(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
