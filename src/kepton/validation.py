"""A potential beside its principle: the properties of its crystal by both."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ase
import numpy as np

from kepton import config
from kepton.atoms import Frames, Label
from kepton.atoms.replacing import write_whole
from kepton.elt import Failure
from kepton.elt.journal import JOURNAL, Journal
from kepton.elt.run import Observer, labels
from kepton.errors import InputError
from kepton.potential.ensemble import Ensemble, predict
from kepton.potential.file import load_ensemble
from kepton.potential.properties import Answer, properties
from kepton.potential.publish import MODEL
from kepton.potential.rung import PotentialProblem
from kepton.report import write_report
from kepton.report.record import VALIDATION


@dataclass(frozen=True)
class Compared:
    """One property, its name ending in the unit, by the potential and by the principle."""

    name: str
    potential: float
    principle: float

    @property
    def difference(self) -> float:
        """Relative to the principle."""
        return self.potential / self.principle - 1.0 if self.principle else float("nan")


def validate(
    directory: Path, campaign: Path | None = None, observer: Observer | None = None
) -> list[Compared]:
    """Properties of the campaign's first crystal, which also go to the report.

    The principle's labels are kept in the journal, so that none is ever paid for twice.

    Args:
        directory: of a campaign that has made a model
        campaign: its file, where it was moved since
        observer: hears of labels
    Raises:
        InputError: no such campaign or model, no crystal in it, or a label that failed
    """
    settings = Journal.of(directory).settings
    file = campaign or Path(settings.get("file", ""))
    if not file.is_file():
        raise InputError(
            f"The campaign file {file} is not there any more; give it by --campaign."
            if "file" in settings or campaign
            else f"{directory} does not say where its campaign file is; give it by --campaign."
        )
    order = config.read(file)
    journal = Journal(directory / JOURNAL, order.settings)
    problem = order.problem.at(directory)
    if not isinstance(problem, PotentialProblem):
        raise InputError(f"{directory} holds no potential; only potentials are validated so.")
    crystals = [s for s in problem.structures if np.all(s.pbc)]
    if not crystals:
        raise InputError(
            "None of the campaign's structures is periodic along all three cell vectors, so there "
            "is no crystal to validate."
        )
    (crystal,) = crystals[0].to_ase()
    model = directory / MODEL
    if not model.is_file():
        raise InputError(f"There is no {model} yet; run the campaign first.")
    ensemble, _ = load_ensemble(model)

    def by_principle(cells: Sequence[ase.Atoms]) -> list[Answer]:
        samples = [Frames.from_ase([cell]) for cell in cells]
        found = labels(
            problem, order.goal, journal, samples, order.executors.labels, order.workers, observer
        )
        return [_answer(cell, label) for cell, label in zip(cells, found)]

    known = properties(by_principle, crystal)
    mine = properties(lambda cells: _predicted(ensemble, cells), crystal)
    journal.close()
    table = [Compared(name, mine[name], known[name]) for name in known if name in mine]
    rows = [{"name": c.name, "potential": c.potential, "principle": c.principle} for c in table]
    write_whole(directory / VALIDATION, (json.dumps(rows, indent=2) + "\n").encode())
    write_report(directory)
    return table


def _predicted(ensemble: Ensemble, cells: Sequence[ase.Atoms]) -> list[Answer]:
    label, _ = predict(ensemble, Frames.from_ase(cells))
    return [_answer(cell, label[i : i + 1]) for i, cell in enumerate(cells)]


def _answer(cell: ase.Atoms, label: Any) -> Answer:
    if isinstance(label, Failure):
        raise InputError(
            f"A label of the validation failed: {label.reason} Mend what is wrong and give the "
            "same command again; what succeeded is kept."
        )
    assert isinstance(label, Label)
    stress = -np.asarray(label.virial[0], float) / cell.get_volume()
    return Answer(float(label.energy[0]), np.asarray(label.forces[0, : len(cell)], float), stress)
