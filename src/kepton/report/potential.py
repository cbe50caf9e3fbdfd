"""What the page says of a campaign of potentials: structures, parity of energies and forces."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import ase
import jax
import numpy as np
from ase.data import chemical_symbols
from markupsafe import Markup

from kepton.atoms import Frames, concatenate, concatenate_labels
from kepton.elt.campaign import Measured
from kepton.potential.ensemble import predict
from kepton.potential.file import from_bytes
from kepton.potential.publish import UNIT
from kepton.potential.rung import decode
from kepton.report.charts import Axis, Chart
from kepton.report.figures import ORIGINS, number
from kepton.report.record import Record

NAME = "potential"
ERROR = f"force error, {UNIT}"
MOST_DOTS = 2400


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


def context(record: Record) -> dict[str, Any]:
    """What the template `potential.html` needs."""
    structures, engine, parity = _structures(record), _engine(record), _parity(record)
    library = (resources.files("kepton.report") / "3Dmol-min.js").read_text("utf-8")
    return {
        "formulas": [_formula(frames) for frames in structures],
        "systems": [_system(frames) for frames in structures],
        "engine": engine,
        "method": engine.split()[-1] if engine.split() else "unknown",
        "model": _model(record),
        "parity": parity,
        "parity_charts": _charts(parity) if parity else [],
        "scenes": _scenes(record),
        "library": Markup(library.replace("</", "<\\/").replace("<!--", "<\\!--")),
    }


def _frames(record: Record, measured: Sequence[Measured]) -> list[Frames]:
    return [decode(sample) for sample in record.samples(measured)]


def _structures(record: Record) -> list[Frames]:
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
        for s in record.settings.get("system", [])
    ]


def _engine(record: Record) -> str:
    """Name and version of the engine that answered, or its kind before the first answer."""
    if record.state.data:
        return decode(record.journal.label(record.state.data[0])).engine
    return str(record.settings.get("principle", {}).get("kind", "unknown"))


def _parity(record: Record) -> Parity | None:
    """The models of the last audit on its samples, or the last models on what was explored."""
    known = [m for m in record.unseen if m.failure is None and m.round > 0]
    if not known:
        return None
    frames = concatenate(_frames(record, known))
    label = concatenate_labels([decode(label) for label in record.labels(known)])
    audit = known[0].origin == "audit"
    models = from_bytes((record.runner if audit else record.learner)(known[0].round))[0]
    predicted, _ = predict(models, frames)
    mask = np.asarray(frames.mask)
    energies = np.stack([label.energy, np.asarray(predicted.energy)])
    kinds = [np.sort(s).tobytes() for s in np.asarray(frames.species)]
    for kind in set(kinds):
        same = np.array([k == kind for k in kinds])
        energies[:, same] -= energies[0, same].mean()
    forces = np.stack([label.forces[mask].ravel(), np.asarray(predicted.forces)[mask].ravel()])
    return Parity(known[0].round, audit, 1e3 * energies / mask.sum(axis=1), forces)


def _one(pair: np.ndarray, quantity: str, unit: str) -> Markup:
    """The model against the principle: (2, m) values on the diagonal where they agree."""
    every = pair[:, :: -(-pair.shape[1] // MOST_DOTS)]
    both = Axis.over(pair, "")
    chart = Chart(
        Axis(both.low, both.high, f"{quantity} of the principle, {unit}"),
        Axis(both.low, both.high, f"{quantity} of the model, {unit}"),
        f"Parity of {quantity}",
        520,
        420,
    )
    chart.line([both.low, both.high], [both.low, both.high], "#9ca3af", "agreement", "", 1.2)
    chart.points(every[0], every[1], ORIGINS["audit"], "", 4.0, 0.5)
    return chart.svg()


def _charts(pair: Parity) -> list[tuple[Markup, str]]:
    """Charts of energies and of forces, each with its errors in words."""
    off_energy, off_forces = (
        pair.energy[1] - pair.energy[0],
        1e3 * (pair.forces[1] - pair.forces[0]),
    )
    return [
        (_one(pair.energy, "energy", "meV/atom"), _errors(off_energy, "meV/atom")),
        (_one(pair.forces, "force", "eV/Å"), _errors(off_forces, "meV/Å")),
    ]


def _errors(off: np.ndarray, unit: str) -> str:
    return f"RMSE {np.sqrt(np.mean(off**2)):.3g}, MAE {np.mean(np.abs(off)):.3g} {unit}"


def _model(record: Record) -> list[tuple[str, str]]:
    """What the present model is."""
    if not record.state.round:
        return []
    learner, ensemble = (
        from_bytes(get(record.state.round))[0] for get in (record.learner, record.runner)
    )
    teacher = type(learner.members).__name__
    same = isinstance(ensemble.members, type(learner.members))
    distilled = [] if same else [("distilled from", teacher)]
    pretrained = "pretrained" in record.settings.get("learner", {})
    size = sum(leaf.size for leaf in jax.tree.leaves(ensemble.members.weights)) // ensemble.size
    return [
        ("architecture", type(ensemble.members).__name__),
        ("members", str(ensemble.size)),
        ("parameters of each", f"{size:,}"),
        ("elements", ", ".join(chemical_symbols[z] for z in ensemble.species)),
        ("cutoff", f"{ensemble.cutoff:g} Å"),
        *distilled,
        ("learning began", "pretrained" if pretrained else "with random weights"),
        ("trained on", f"{record.trained_on[-1]} labels"),
    ]


def _scenes(record: Record) -> list[dict[str, Any]]:
    """Configurations to look at: the worst and typical ones of the samples not yet seen."""
    known = sorted(record.unseen, key=lambda m: -np.nan_to_num(m.final, nan=-1.0))
    if not known:
        return [_scene(frames, "given structure", "") for frames in _structures(record)[:3]]
    if known[0].round == 0:
        return [_scene(s, "first sample", "") for s in _frames(record, record.unseen[:3])]
    middle = np.unique(np.linspace(0.4, 0.6, 3) * (len(known) - 1)).astype(int)
    chosen = [("worst", m) for m in known[:3]]
    chosen += [("typical", known[i]) for i in np.unique(middle) if i >= 3]
    frames = _frames(record, [m for _, m in chosen])
    return [_scene(f, f"{name}, {m.origin}", _error(m)) for f, (name, m) in zip(frames, chosen)]


def _error(measured: Measured) -> str:
    return "no label" if measured.failure else f"error {number(measured.final)} {UNIT}"


def _scene(frames: Frames, title: str, error: str) -> dict[str, Any]:
    """Text in XYZ format and the cell, for the viewer."""
    (atoms,) = frames.to_ase()
    if atoms.pbc.any():
        atoms.wrap()
    lines = [f"{s} {x:.4f} {y:.4f} {z:.4f}" for s, (x, y, z) in zip(atoms.symbols, atoms.positions)]
    return {
        "xyz": "\n".join([str(len(atoms)), "", *lines, ""]),
        "cell": atoms.cell.array.round(4).tolist() if atoms.pbc.any() else None,
        "title": title,
        "error": error,
    }


def _formula(frames: Frames) -> list[tuple[str, int]]:
    """(symbol, count) in Hill's order."""
    numbers = np.asarray(frames.species)[np.asarray(frames.mask)]
    return list(ase.Atoms(numbers).symbols.formula.convert("hill").count().items())


def _system(frames: Frames) -> str:
    words = "periodic" if np.any(frames.pbc) else "molecule"
    atoms = int(np.sum(frames.mask))
    charge, spin = int(frames.charge[0]), int(frames.spin[0])
    return f"{words}, {atoms} atoms, charge {charge}, {spin} unpaired electrons"
