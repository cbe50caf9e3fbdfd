"""What people see in the terminal: progress, one line a round, tables."""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from kepton.elt.campaign import (
    Action,
    Audit,
    Campaign,
    Distil,
    Explore,
    Goal,
    Label,
    Seed,
    State,
    Stop,
    Train,
)
from kepton.elt.journal import Event
from kepton.elt.run import Observer
from kepton.report.page import named


class Terminal(Observer):
    """Bars while something runs, and a line when it is done; lines alone where output is a file.

    Args:
        console: where to print
        goal: of the campaign, None outside of one
        unit: of errors
    """

    def __init__(self, console: Console, goal: Goal | None, unit: str = ""):
        self.console, self.goal, self.unit = console, goal, unit
        self.held_out = ""
        self.bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self.task = self.bars.add_task("", total=None, note="", visible=False)

    def __enter__(self) -> "Terminal":
        self.bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bars.stop()

    def progress(self, what: str, done: int, total: int | None, note: str = "") -> None:
        """Show how far something is."""
        self.bars.update(
            self.task, description=what, completed=done, total=total, note=note, visible=True
        )

    def begun(self, action: Action, state: State) -> None:  # noqa: ARG002
        """An action begins."""
        assert self.goal is not None
        self.bars.reset(self.task)
        self.progress(next_step(self.goal, state), 0, None)

    def labelled(self, done: int, total: int) -> None:
        """One more label."""
        self.progress("labelling", done, total, f"{done}/{total}")

    def training(self, point: Any) -> None:
        """Some more steps of training, of either rung: a `Point`."""
        if point.held_out:
            self.held_out = f", {point.held_out}"
            if not self.console.is_terminal:
                self.console.print(f"{point.seconds:.0f} s, {point.note}{self.held_out}")
        self.progress("training", round(1000 * point.fraction), 1000, point.note + self.held_out)

    def happened(self, event: Event, state: State) -> None:
        """Print the event's line."""
        assert self.goal is not None
        self.bars.update(self.task, visible=False)
        if told := line(event, state, self.goal, self.unit):
            self.console.print(told)


class Walk:
    """What is seen of a molecular dynamics run, and a warning when the ensemble first doubts it.

    The first frame, for which programs are compiled, does not count for the pace.

    Args:
        limit: eV/Å, above which the deviation is worth a warning; None for no warning
        stderr: where warnings go
    """

    def __init__(self, timestep_fs: float, atoms: int, limit: float | None, stderr: Console):
        self.timestep_fs, self.atoms, self.limit, self.stderr = timestep_fs, atoms, limit, stderr
        self.first = self.last = None
        self.frames, self.above = 0, 0
        self.temperatures, self.doubts, self.largest = 0.0, 0.0, 0.0

    def happened(self, point: Any) -> None:
        """A frame is written: a `Point`."""
        self.last = (time.monotonic(), point)
        self.first = self.first or self.last
        self.frames += 1
        self.temperatures += point.values["temperature_K"]
        self.doubts += point.deviation
        self.largest = max(self.largest, point.deviation)
        if self.limit is None or not point.deviation > self.limit:
            return
        self.above += 1
        if self.above == 1:
            self.stderr.print(
                f"Beware: at step {point.step} the ensemble disagrees by {point.deviation:.3g} "
                f"eV/Å, more than the error of {self.limit:g} eV/Å that the potential was made for."
            )

    @property
    def step(self) -> int:
        """Steps made."""
        return self.last[1].step if self.last else 0

    @property
    def exploded(self) -> bool:
        """Whether the dynamics broke."""
        return self.last is None or self.last[1].broken

    @property
    def pace(self) -> str:
        """How fast it is."""
        if self.first is None or self.last is None or self.frames < 2:
            return ""
        (began, first), (now, last) = self.first, self.last
        seconds, steps = now - began, last.step - first.step
        ns_day = steps * self.timestep_fs * 1e-6 / seconds * 86400.0
        each = seconds / steps / self.atoms * 1e6
        return f"{ns_day:.3g} ns/day, {each:.3g} µs/atom/step"

    def told(self, members: int) -> str:
        """All of it, in one line."""
        told = [f"{self.step} steps, {self.frames} frames"]
        if self.pace:
            told.append(self.pace)
        if self.frames:
            told.append(f"mean temperature {self.temperatures / self.frames:.0f} K")
        if self.frames and members > 1:
            told.append(
                f"force deviation of the ensemble, mean {self.doubts / self.frames:.4f} and "
                f"largest {self.largest:.4f} eV/Å"
            )
        if self.above:
            told.append(f"above {self.limit:g} eV/Å in {self.above} frames")
        return "; ".join(told)


def line(event: Event, state: State, goal: Goal, unit: str) -> str:
    """One event in one line; none where nothing was done."""
    data = event.data
    start = f"round {state.round:<2} "
    took = f"{data['seconds']:.0f} s"
    match event.kind:
        case "seeded":
            return f"{start} {len(data['seed'])} first samples"
        case "trained":
            return f"{start} trained on {data['data']} labels ({took})"
        case "explored":
            chosen = len(data["explored"]) + len(data["typical"])
            what = f"{chosen} chosen" if chosen else "none to label: an audit follows"
            walks = f" walks of {data['walk_fs'] / 1000:.2f} ps" if "walk_fs" in data else ""
            return (
                f"{start} explored{walks}: "
                f"{data['failing']:.1%} expected above the target; {what} ({took})"
            )
        case "distilled" if "apart" not in data:
            return ""
        case "distilled":
            return (
                f"{start} distilled: forces within {data['apart']:.3f} eV/Å (rms) of the learner, "
                f"whose deviation is {data['deviation']:.3f}; {data['frames']} frames in "
                f"{data['rounds']} trainings ({took})"
            )
        case "drawn":
            first, *more = data["plan"]["stages"]
            stages = "".join(f", {n} if {failed}" for failed, n in enumerate(more, 1))
            return (
                f"{start} audit {data['plan']['number']}: passes with {first} labels if none fails"
                f"{stages} ({took})"
            )
        case "labelled":
            outcomes = data["outcomes"]
            failed = sum(o["failure"] is not None for o in outcomes)
            errors = [o.get("audited", o["error"]) for o in outcomes]
            errors = [error for error in errors if np.isfinite(error)]
            told = ""
            if errors:
                told = (
                    f": error of models that had not seen them {np.median(errors):.3g} (median), "
                    f"{max(errors):.3g} (largest) {unit}"
                )
            lost = f", {failed} failed" if failed else ""
            lost += f", {len(state.late)} late" if state.late else ""
            return (
                f"{start} labelled {len(outcomes) - failed}{lost}{told}; {state.labels} of "
                f"{goal.labels} labels ({took})"
            )
    return f"{start} {event.kind} ({took})"


def next_step(goal: Goal, state: State) -> str:
    """What a campaign in this state does next, in words."""
    match Campaign(goal).ask(state):
        case Seed(count):
            return f"{count} first samples"
        case Label(keys):
            return f"labelling {len(keys)} samples"
        case Train():
            return f"training on {len(state.data)} labels"
        case Explore():
            return "exploring"
        case Distil():
            return "distilling"
        case Audit(plan):
            return f"audit {plan.number}, up to {plan.draws} labels"
        case Stop(certified, reason):
            return "nothing: certified" if certified else f"nothing: {reason}"


def rounds_table(events: Sequence[Event], goal: Goal, unit: str) -> Table:
    """A row a batch of labels: its errors, the walks' median deviation and share above target."""
    table = Table(
        title=f"Target {goal.target:g} {unit} at {goal.confidence:.0%}, {goal.coverage:.0%}"
    )
    columns = ["round", "labels", "error", "95%", "deviation", "above target", "walk, ps", "s"]
    for column in columns:
        table.add_column(column, justify="right")
    state, campaign = Campaign(goal).init(), Campaign(goal)
    for event in events:
        state = campaign.tell(state, event)
        if event.kind != "labelled":
            continue
        errors = [m.final for m in state.measured if m.round == state.round]
        errors = [e for e in errors if np.isfinite(e)]
        audited = state.audit or (state.verdicts and not state.waiting)
        explored = [e for e in events if e.kind == "explored" and e.id < event.id]
        walked = explored[-1].data.get("walk_fs") if explored else None
        walk = "-" if walked is None else f"{walked / 1000:.2f}"
        doubt = f"{np.median(explored[-1].data['visited']):.3g}" if explored else "-"
        failing = f"{explored[-1].data['failing']:.1%}" if explored else "-"
        table.add_row(
            f"{state.round}{' audit' if audited else ''}",
            f"{state.labels}",
            f"{np.median(errors):.3g}" if errors else "-",
            f"{np.quantile(errors, 0.95):.3g}" if errors else "-",
            doubt,
            failing,
            walk,
            f"{sum(state.seconds.values()):.0f}",
        )
    return table


def errors_table(errors: dict[str, Any]) -> Table:
    """The errors that `assess` found."""
    title = f"{errors['frames']} frames, {errors['atoms']} atoms"
    table = Table("", "RMSE", "MAE", "max", "unit", title=title)

    def row(name: str, error: dict[str, float], factor: float, unit: str) -> None:
        values = [f"{factor * error[kind]:.4g}" for kind in ("rmse", "mae", "max")]
        table.add_row(name, *values, unit)

    row("energy per atom", errors["energy_per_atom"], 1e3, "meV")
    row("forces", errors["forces"], 1.0, "eV/Å")
    for element, error in errors["forces_by_element"].items():
        row(f"forces on {element}", error, 1.0, "eV/Å")
    if errors["virial_per_atom"] is not None:
        row("virial per atom", errors["virial_per_atom"], 1e3, "meV")
    if (known := errors["deviation"]) is not None:
        table.caption = (
            f"Deviation ranks the errors of frames by {known['by_frame']:.2f} and of atoms by "
            f"{known['by_atom']:.2f} (Spearman); errors are {known['ratio']:.1f} times as large."
        )
    return table


def properties_table(compared: Sequence[Any]) -> Table:
    """Properties by the potential and by its principle: `kepton.validation.Compared`."""
    table = Table("", "potential", "principle", "difference")
    for row in compared:
        told = (f"{row.potential:.4g}", f"{row.principle:.4g}", f"{row.difference:+.2%}")
        words, unit = named(row.name)
        table.add_row(f"{words}, {unit}" if unit else words, *told)
    return table


def convergence_table(name: str, rows: Sequence[Any]) -> Table:
    """Errors against cutoff or k-points: `kepton.principles.convergence.Row`."""
    names = " / ".join(rows[0].cutoffs)
    table = Table(names, "mesh", "energy, meV/atom", "forces, meV/Å", "stress, GPa", "s")
    table.title = f"Against the finest {name}"
    for row in rows:
        table.add_row(
            " / ".join(f"{value:.1f}" for value in row.cutoffs.values()),
            " x ".join(map(str, row.mesh)),
            f"{row.energy:.2f}",
            f"{row.force:.2f}",
            f"{row.stress:.3f}",
            f"{row.seconds:.1f}",
        )
    return table
