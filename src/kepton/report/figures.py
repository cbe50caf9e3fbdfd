"""The figures of the page."""

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from kepton.elt.campaign import State
from kepton.report.charts import Axis, Chart, bars
from kepton.report.record import Watch

ORIGINS = {
    "seed": "#8a8a8a",
    "explored": "#e69f00",
    "typical": "#009e73",
    "audit": "#0072b2",
}
"""Colours of where samples come from (Okabe and Ito, safe for colour-blind readers)."""
TARGET = "#c0392b"
STAGES = {
    "trained": ("training", "#cc79a7"),
    "explored": ("exploring", "#e69f00"),
    "labelled": ("labelling", "#56b4e9"),
    "distilled": ("distilling", "#009e73"),
    "drawn": ("drawing the audit", "#0072b2"),
    "seeded": ("first samples", "#8a8a8a"),
}
MOST_ROWS = 8


def learning_curve(
    state: State, trained_on: Sequence[int], target: float, error: str
) -> Markup | None:
    """Error on samples that the models had not seen, against the labels they were trained on."""
    new = [m for m in state.measured if m.round > 0 and np.isfinite(m.final)]
    if not new:
        return None
    labels = np.array([trained_on[m.round - 1] for m in new], float)
    errors = np.array([m.final for m in new])
    audit = np.array([m.origin == "audit" for m in new])
    chart = Chart(
        Axis.over([0, *labels], "labels that the model was trained on"),
        Axis.over([*errors, target], error, log=True),
        "Learning curve",
    )
    for origin in ("explored", "typical", "audit"):
        chosen = np.array([m.origin == origin for m in new])
        if chosen.any():
            chart.points(labels[chosen], errors[chosen], ORIGINS[origin], origin, 4.5, 0.5)
    for kind, colour in ((~audit, "#8f5f00"), (audit, ORIGINS["audit"])):
        places = np.unique(labels[kind])
        for share, name, dash in ((0.5, "median", ""), (0.95, "95%", "2 3")):
            if not len(places):
                continue
            level = [np.quantile(errors[kind & (labels == x)], share) for x in places]
            if colour == ORIGINS["audit"]:
                chart.diamonds(places, level, colour, f"audit, {name}", filled=share == 0.5)
            else:
                chart.line(places, level, colour, f"new samples, {name}", dash)
    chart.across(target, TARGET, "target")
    return chart.svg()


def deviations(watches: Sequence[Watch], target: float, unit: str) -> Markup | None:
    """Histograms of the deviation that explorations visited, a row a round."""
    if not watches:
        return None
    rows = np.unique(np.linspace(0, len(watches) - 1, min(len(watches), MOST_ROWS)).astype(int))
    chosen = [watches[i] for i in rows]
    seen = np.concatenate([w.visited for w in chosen])
    near = [x for w in chosen for x in (w.suspect, w.trust) if 1e-2 < x / target < 1e2]
    x = Axis.over([*seen, *near], _of_ensemble(unit), log=True, pad=0.12)
    chart = Chart(x, Axis(-0.15, float(len(chosen)), ""), "Deviation by round", height=420)
    edges = np.geomspace(x.low, x.high, 61)
    chart.marks.append(Markup('<g class="ridges">'))
    for row, watch in enumerate(chosen):
        base = len(chosen) - 1 - row
        count = np.histogram(watch.visited[x.holds(watch.visited)], edges)[0]
        height = 0.72 * count / max(count.max(), 1)
        steps, tops = np.repeat(edges, 2)[1:-1], base + np.repeat(height, 2)
        chart.band(steps, np.full(len(steps), base), tops, "#56b4e9")
        for level, colour, name in (
            (watch.suspect, "#b06f00", "suspect"),
            (watch.trust, TARGET, "trust"),
        ):
            chart.line([level] * 2, [base, base + 0.8], colour, "" if row else name, "", 2.2)
        left = float(np.mean(~np.isfinite(watch.visited)))
        words = f"round {watch.round}" + (f", {left:.0%} left" if left else "")
        chart.text(x.low * (x.high / x.low) ** 0.015, base + 0.8, words)
    chart.marks.append(Markup("</g>"))
    return chart.svg(values=False)


def _of_ensemble(unit: str) -> str:
    return f"deviation of the ensemble, {unit}"


def calibration(state: State, target: float, error_name: str, unit: str) -> Markup | None:
    """The ensemble's deviation against the true error, and the fitted prediction."""
    pairs = [
        (m.deviation, m.error, m.origin)
        for m in state.measured
        if m.origin != "seed" and m.deviation > 0 and 0 < m.error < np.inf
    ]
    if not pairs:
        return None
    deviation = np.array([p[0] for p in pairs])
    error = np.array([p[1] for p in pairs])
    origins = np.array([p[2] for p in pairs])
    chart = Chart(
        Axis.over(deviation, _of_ensemble(unit), log=True),
        Axis.over([*error, target], f"true {error_name}", log=True),
        "Calibration",
    )
    for origin, colour in ORIGINS.items():
        if (origins == origin).any():
            mine = origins == origin
            chart.points(deviation[mine], error[mine], colour, origin, 5.0, 0.65)
    levels = np.geomspace(chart.y.low / 3, chart.y.high * 3, 40)
    for share, name, dash in ((0.5, "fit, median", ""), (0.05, "fit, 95%", "2 3")):
        # the deviation at which an error is exceeded with probability `share`, level by level
        at = [state.calibration.threshold(level, share) for level in levels]
        chart.line(at, levels, "#1f2937", name, dash)
    chart.across(target, TARGET, "target")
    return chart.svg()


def cost(state: State) -> Markup | None:
    """Wall time by stage."""
    spent = [
        (name, state.seconds[kind], duration(state.seconds[kind]), colour)
        for kind, (name, colour) in STAGES.items()
        if state.seconds.get(kind, 0.0) > 0
    ]
    return bars(spent) if spent else None


def origins(state: State) -> Markup | None:
    """Labels by origin."""
    counts = [
        (name, float(sum(m.origin == name for m in state.measured)), colour)
        for name, colour in ORIGINS.items()
    ]
    parts = [(name, count, f"{count:.0f}", colour) for name, count, colour in counts if count]
    return bars(parts) if parts else None


def duration(seconds: float) -> str:
    """A time in words."""
    if seconds < 60:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes = round(seconds / 60) if seconds >= 600 else int(seconds // 60)
    if minutes < 60:
        rest = f" {seconds % 60:.0f} s" if seconds < 600 else ""
        return f"{minutes} min{rest}"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def number(value: float) -> str:
    """Three digits."""
    return "∞" if np.isinf(value) else f"{value:.3g}"
