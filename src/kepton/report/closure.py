"""What the page says of a campaign of closures: profiles beside those of the kinetic equation."""

from typing import Any

import numpy as np
from markupsafe import Markup

from kepton.closure import closed
from kepton.closure.fields import drift, in_the_domain
from kepton.closure.file import decode, equation_of, from_bytes
from kepton.elt.campaign import Measured
from kepton.report.charts import Axis, Chart
from kepton.report.figures import number
from kepton.report.record import Record

NAME = "closure"
ERROR = "relative error"
SHOWN = (1.0, 0.95, 0.5)
"""Quantiles of the error whose cases are shown"""
COLOURS = {"density": "#0072b2", "momentum": "#009e73", "energy": "#e69f00"}


def context(record: Record) -> dict[str, Any]:
    """What the template `closure.html` needs."""
    known = sorted((m for m in record.unseen if m.failure is None and m.round > 0), key=_error)
    shown = sorted({min(int(q * len(known)), len(known) - 1) for q in SHOWN}) if known else []
    principle = record.settings["principle"]
    equation = equation_of({k: v for k, v in principle.items() if k != "times"})
    dimensions = equation.dimensions
    return {
        "equation": equation.name,
        "velocity_space": f"{dimensions} dimension{'s' * (dimensions > 1)} of velocity space",
        "initial": record.settings["initial"],
        "model": _model(record),
        "profiles": [_profile(record, known[i]) for i in reversed(shown)],
    }


def _error(measured: Measured) -> float:
    return float(np.nan_to_num(measured.final, nan=np.inf))


def _model(record: Record) -> list[tuple[str, str]]:
    if not record.state.round:
        return []
    ensemble, _ = from_bytes(record.runner(record.state.round))
    return [
        ("moments", str(ensemble.basis.order + 1)),
        ("members", str(ensemble.size)),
        ("parameters of each", str(ensemble.weights[0].size)),
        ("trained on", f"{record.trained_on[-1]} labels"),
    ]


def _profile(record: Record, measured: Measured) -> tuple[str, Markup]:
    """Words, and a chart of density, momentum and energy at the last time, of one case."""
    case, label = decode(record.samples([measured])[0]), decode(record.labels([measured])[0])
    models = record.runner if measured.origin == "audit" else record.learner
    times = record.settings["principle"]["times"]
    found = closed.solve(from_bytes(models(measured.round))[0].mean, case, times)
    both = [in_the_domain(one, times, drift(case), case.cells) for one in (label.conserved, found)]
    known, mine = ([np.asarray(part)[0, -1] for part in one] for one in both)
    x = (np.arange(case.cells) + 0.5) / case.cells
    chart = Chart(
        Axis(0.0, 1.0, "x"),
        Axis.over([*known, *mine], f"at t = {times[-1]:g}"),
        f"Profiles {measured.key}",
    )
    for name, exact, modelled in zip(COLOURS, known, mine):
        chart.points(x, exact, COLOURS[name], f"{name}, kinetic equation", 3.5, 0.5)
        chart.line(x, modelled, COLOURS[name], f"{name}, closure")
    words = (
        f"{measured.origin}, Kn = {case.knudsen[0]:.2g}: error {number(measured.final)}; "
        f"the kinetic solver's own {number(label.error[0])}"
    )
    return words, chart.svg()
