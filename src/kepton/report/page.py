"""Writing the page."""

import json
import shlex
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

import kepton
from kepton.atoms.replacing import write_whole
from kepton.config.rungs import RUNGS
from kepton.elt.campaign import Audit, Distil, Explore, Label, Seed, Stop, Train
from kepton.elt.certificate import certificate
from kepton.report import closure, figures, potential
from kepton.report.record import Record

UNITS = {
    "_meV_per_atom_ps": "meV/atom/ps",
    "_meV_per_atom": "meV/atom",
    "_per_fs": "1/fs",
    "_fs": "fs",
    "_ps": "ps",
    "_K": "K",
    "_A": "Å",
    "_bar": "bar",
    "_GPa": "GPa",
    "_THz": "THz",
    "_J_per_m2": "J/m²",
    "_eV": "eV",
}
"""Endings of names that carry a unit."""
VIEWS = {RUNGS["potential"]: potential, RUNGS["closure"]: closure}
"""What the page says of one rung alone"""
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
        view = VIEWS[record.rung]
        content = _context(record, directory, view) | view.context(record)
        html = _template(view.NAME).render(content)
    finally:
        record.journal.close()
    path = directory / "report.html"
    write_whole(path, html.encode())
    return path


def _template(name: str):
    environment = Environment(
        loader=PackageLoader("kepton.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(f"{name}.html")


def _context(record: Record, directory: Path, view: Any) -> dict[str, Any]:
    """What the page says of a campaign of any rung."""
    state, goal = record.state, record.goal
    proof = certificate(
        state.verdicts,
        goal.target,
        record.rung.unit,
        record.rung.about,
        goal.confidence,
        goal.coverage,
        record.next.reason if isinstance(record.next, Stop) else "The campaign has not ended.",
    )
    return {
        "version": kepton.__version__,
        "written": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "goal": goal,
        "state": state,
        "target": f"{goal.target:g} {record.rung.unit}",
        "banner": _banner(record, proof),
        "numbers": _numbers(record),
        "proof": proof,
        "conditions": _spoken(record.certificate.get("conditions", {})),
        "validation": [(*named(row["name"]), row) for row in record.validation],
        "checks": _spoken(record.certificate.get("checks", {})),
        "certified_on": str(record.certificate.get("date", "")),
        "learning": figures.learning_curve(state, record.trained_on, goal.target, view.ERROR),
        "deviations": figures.deviations(record.watches, goal.target, record.rung.unit),
        "calibration": figures.calibration(state, goal.target, view.ERROR, record.rung.unit),
        "cost": figures.cost(state),
        "seconds": figures.duration(sum(state.seconds.values(), 0.0)),
        "engine_seconds": figures.duration(record.label_seconds),
        "origins": figures.origins(state),
        "failures": record.failures,
        "settings": json.dumps(
            {k: v for k, v in record.settings.items() if k != "system"},
            indent=2,
            ensure_ascii=False,
        ),
        "model_file": shlex.quote(str(directory / "model.kepton")),
        "model_literal": repr(str(directory / "model.kepton")),
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
    state, goal, unit = record.state, record.goal, record.rung.unit
    shown = [("target error", f"{goal.target:g}", unit)]
    if state.verdicts:
        last = state.verdicts[-1]
        quantile = np.quantile(last.errors, [0.5, 0.95], method="higher")
        shown += [
            ("error in the audit, median", figures.number(quantile[0]), unit),
            ("error in the audit, 95%", figures.number(quantile[1]), unit),
            ("failures in the audit", str(last.failures), f"of {len(last.errors)}"),
            ("coverage proved", f"{last.coverage:.1%}", ""),
        ]
    else:
        errors = [m.final for m in record.unseen if m.round > 0 and m.failure is None]
        if errors:
            shown.append(("error on new samples, median", figures.number(np.median(errors)), unit))
        shown.append(("trainings", str(state.round), ""))
    shown.append(("labels", str(state.labels), f"of {goal.labels}"))
    return [*shown, ("wall time", figures.duration(sum(state.seconds.values(), 0.0)), "")]


def _spoken(values: dict[str, Any], above: str = "") -> list[tuple[str, str]]:
    """Names without their units, and values with them; nested names are joined."""
    rows = []
    for name, value in values.items():
        if isinstance(value, dict):
            rows += _spoken(value, f"{above}{name} ")
            continue
        words, unit = named(above + name)
        rows.append((words, f"{_value(value)} {unit}".strip()))
    return rows


def named(name: str) -> tuple[str, str]:
    """The words of a name, and the unit that its end stands for."""
    end = next((end for end in UNITS if name.endswith(end)), "")
    return name.removesuffix(end).replace("_", " ").replace("nve", "NVE"), UNITS.get(end, "")


def _value(value: Any) -> str:
    if isinstance(value, list | tuple):
        span = len(value) == 2 and not any(isinstance(v, str) for v in value)
        return (" to " if span else ", ").join(_value(v) for v in value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)
