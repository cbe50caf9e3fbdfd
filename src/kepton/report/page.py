"""Writing the page."""

import json
import shlex
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import Any

import ase
import jax
import numpy as np
from ase.data import chemical_symbols
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

import kepton
from kepton.atoms import Frames
from kepton.atoms.replacing import write_whole
from kepton.elt.campaign import Audit, Distil, Explore, Label, Measured, Seed, Stop, Train
from kepton.elt.certificate import certificate
from kepton.report import figures
from kepton.report.record import Record

UNIT = "eV/Å"
UNITS = {
    "_meV_per_atom_ps": "meV/atom/ps",
    "_meV_per_atom": "meV/atom",
    "_per_fs": "1/fs",
    "_fs": "fs",
    "_ps": "ps",
    "_K": "K",
    "_A": "Å",
    "_bar": "bar",
}
"""Endings of names that carry a unit."""
STEPS = {
    Seed: "making the first samples",
    Label: "labelling",
    Train: "training",
    Explore: "exploring",
    Distil: "distilling",
    Audit: "an audit",
}


def write_report(directory: Path) -> Path:
    """Write `report.html` into a campaign's folder, from its journal, at any stage.

    The page needs no network and no other file.

    Args:    directory: holds campaign.db, and certificate.json and model.kepton once finished
    Returns: path of the page
    Raises:
        InputError: no journal there, or one that no campaign wrote
    """
    directory = Path(directory)
    record = Record(directory)
    try:
        html = _template().render(_context(record, directory))
    finally:
        record.journal.close()
    path = directory / "report.html"
    write_whole(path, html.encode())
    return path


def _template():
    source = (resources.files("kepton.report") / "template.html").read_text("utf-8")
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(source)


def _context(record: Record, directory: Path) -> dict[str, Any]:
    state, goal = record.state, record.goal
    proof = certificate(
        state.verdicts,
        goal.target,
        UNIT,
        goal.confidence,
        goal.coverage,
        record.next.reason if isinstance(record.next, Stop) else "The campaign has not ended.",
    )
    parity = record.parity
    library = (resources.files("kepton.report") / "3Dmol-min.js").read_text("utf-8")
    target = f"{goal.target:g} {UNIT}"
    return {
        "version": kepton.__version__,
        "written": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "formulas": [_formula(frames) for frames in record.structures],
        "systems": [_system(frames) for frames in record.structures],
        "engine": record.engine,
        "method": record.engine.split()[-1] if record.engine.split() else "unknown",
        "goal": goal,
        "state": state,
        "target": target,
        "banner": _banner(record, proof),
        "numbers": _numbers(record),
        "proof": proof,
        "conditions": _spoken(record.certificate.get("conditions", {})),
        "checks": _spoken(record.certificate.get("checks", {})),
        "certified_on": str(record.certificate.get("date", "")),
        "model": _model(record),
        "learning": figures.learning_curve(state, record.trained_on, goal.target),
        "deviations": figures.deviations(record.watches, goal.target),
        "calibration": figures.calibration(state, goal.target),
        "parity": parity,
        "parity_charts": figures.parity_of(parity) if parity else [],
        "cost": figures.cost(state),
        "seconds": figures.duration(sum(state.seconds.values(), 0.0)),
        "engine_seconds": figures.duration(record.label_seconds),
        "origins": figures.origins(state),
        "failures": record.failures,
        "scenes": _scenes(record),
        "settings": json.dumps(
            {k: v for k, v in record.settings.items() if k != "system"},
            indent=2,
            ensure_ascii=False,
        ),
        "model_file": shlex.quote(str(directory / "model.kepton")),
        "model_literal": repr(str(directory / "model.kepton")),
        "library": Markup(library.replace("</", "<\\/").replace("<!--", "<\\!--")),
    }


def _banner(record: Record, proof: dict[str, Any]) -> dict[str, str]:
    """The outcome: its kind, a title, and one paragraph."""
    if proof["certified"]:
        return {"kind": "certified", "title": "Certified", "words": proof["claim"]}
    if isinstance(record.next, Stop):
        return {
            "kind": "stopped",
            "title": "Not certified",
            "words": proof["missing"].removeprefix("Not certified: "),
        }
    state = record.state
    words = (
        f"Next step: {STEPS[type(record.next)]}. So far {state.round} "
        f"{'training' if state.round == 1 else 'trainings'} and {state.labels} labels of at most "
        f"{record.goal.labels}; nothing is certified. `kepton run` continues where it stopped."
    )
    return {"kind": "running", "title": "Not finished", "words": words}


def _numbers(record: Record) -> list[tuple[str, str, str]]:
    """The few numbers that matter: name, value, unit."""
    state, goal = record.state, record.goal
    shown = [("target error", f"{goal.target:g}", UNIT)]
    if state.verdicts:
        last = state.verdicts[-1]
        quantile = np.quantile(last.errors, [0.5, 0.95], method="higher")
        shown += [
            ("error in the audit, median", _number(quantile[0]), UNIT),
            ("error in the audit, 95%", _number(quantile[1]), UNIT),
            ("failures in the audit", str(last.failures), f"of {len(last.errors)}"),
            ("coverage proved", f"{last.coverage:.1%}", ""),
        ]
    else:
        errors = [m.final for m in record.unseen if m.round > 0 and m.failure is None]
        if errors:
            shown.append(("error on new samples, median", _number(np.median(errors)), UNIT))
        shown.append(("trainings", str(state.round), ""))
    shown.append(("labels", str(state.labels), f"of {goal.labels}"))
    return [*shown, ("wall time", figures.duration(sum(state.seconds.values(), 0.0)), "")]


def _model(record: Record) -> list[tuple[str, str]]:
    """What the present model is."""
    if not record.state.round:
        return []
    learner, ensemble = (get(record.state.round) for get in (record.models, record.runner))
    teacher = type(learner.members).__name__
    same = isinstance(ensemble.members, type(learner.members))
    distilled = [] if same else [("distilled from", teacher)]
    size = sum(leaf.size for leaf in jax.tree.leaves(ensemble.members.weights)) // ensemble.size
    return [
        ("architecture", type(ensemble.members).__name__),
        ("members", str(ensemble.size)),
        ("parameters of each", f"{size:,}"),
        ("elements", ", ".join(chemical_symbols[z] for z in ensemble.species)),
        ("cutoff", f"{ensemble.cutoff:g} Å"),
        *distilled,
        ("trained on", f"{record.trained_on[-1]} labels"),
    ]


def _scenes(record: Record) -> list[dict[str, Any]]:
    """Configurations to look at: the worst and typical ones of the samples not yet seen."""
    known = sorted(record.unseen, key=lambda m: -np.nan_to_num(m.final, nan=-1.0))
    if not known:
        return [_scene(frames, "given structure", "") for frames in record.structures[:3]]
    if known[0].round == 0:
        return [_scene(s, "first sample", "") for s in record.samples(record.unseen[:3])]
    middle = np.unique(np.linspace(0.4, 0.6, 3) * (len(known) - 1)).astype(int)
    chosen = [("worst", m) for m in known[:3]]
    chosen += [("typical", known[i]) for i in np.unique(middle) if i >= 3]
    frames = record.samples([m for _, m in chosen])
    return [_scene(f, f"{name}, {m.origin}", _error(m)) for f, (name, m) in zip(frames, chosen)]


def _error(measured: Measured) -> str:
    return "no label" if measured.failure else f"error {_number(measured.final)} {UNIT}"


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


def _spoken(values: dict[str, Any], above: str = "") -> list[tuple[str, str]]:
    """Names without their units, and values with them; nested names are joined."""
    rows = []
    for name, value in values.items():
        if isinstance(value, dict):
            rows += _spoken(value, f"{above}{name} ")
            continue
        end = next((end for end in UNITS if name.endswith(end)), "")
        words = (above + name.removesuffix(end)).replace("_", " ").replace("nve", "NVE")
        rows.append((words, f"{_value(value)} {UNITS.get(end, '')}".strip()))
    return rows


def _value(value: Any) -> str:
    if isinstance(value, list | tuple):
        span = len(value) == 2 and not any(isinstance(v, str) for v in value)
        return (" to " if span else ", ").join(_value(v) for v in value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _number(value: float) -> str:
    return "∞" if np.isinf(value) else f"{value:.3g}"
