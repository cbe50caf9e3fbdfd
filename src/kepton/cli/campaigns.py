"""Campaigns: run, status, report, validate."""

import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from kepton.cli.console import BUDGET_ENDED, CERTIFIED, INTERRUPTED, complain, console
from kepton.cli.options import Directory
from kepton.errors import InputError


def run(
    campaign: Annotated[Path, typer.Argument(help="The campaign file (TOML).")],
    out: Annotated[
        Path | None, typer.Option(help="Directory; default: the file's name without .toml.")
    ] = None,
) -> None:
    """Explore, label, train until the error is certified; the same command again resumes."""
    from kepton import config
    from kepton.launch import launch
    from kepton.terminal import Terminal

    order = config.read(campaign)
    directory = out or Path(campaign.stem)
    if directory == campaign:
        raise InputError(f"{campaign} has no suffix; name the directory with --out.")
    try:
        with Terminal(console, order.goal, order.publication.unit) as terminal:
            result = launch(order, directory, terminal, terminal.training)
    except KeyboardInterrupt:
        complain("Interrupted. What was finished is kept; the same command goes on from there.")
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(INTERRUPTED)  # without waiting for labels in flight; workers end by themselves
    if result.stop.certified:
        console.print(f"Certified. {_claim(directory)}")
    else:
        console.print(_claim(directory))
    console.print(f"Model: {directory}/model.kepton   Report: {directory}/report.html")
    raise typer.Exit(CERTIFIED if result.stop.certified else BUDGET_ENDED)


def status(directory: Directory) -> None:
    """Rounds, labels, deviations, cost, certificate, and what runs now."""
    from kepton.config.rungs import rung_of
    from kepton.elt.journal import Journal
    from kepton.elt.run import goal_of, replay
    from kepton.launch import is_running
    from kepton.terminal import next_step, rounds_table

    journal = Journal.of(directory)
    goal = goal_of(journal)
    state = replay(journal, goal)
    console.print(rounds_table(journal.events(), goal, rung_of(journal.settings).unit))
    costs = {
        "exploring": state.seconds.get("explored", 0.0) + state.seconds.get("drawn", 0.0),
        "labelling": state.seconds.get("labelled", 0.0),
        "training": state.seconds.get("trained", 0.0) + state.seconds.get("distilled", 0.0),
    }
    split = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in costs.items())
    console.print(f"Labels: {state.labels} of {goal.labels}.   Cost: {split}.")
    failures = [m for m in state.measured if m.failure]
    if failures:
        console.print(f"Failed labels: {len(failures)}; the last: {failures[-1].failure}")
    path = directory / "certificate.json"
    if path.is_file():
        console.print(_claim(directory))
    running = "Running now" if is_running(directory) else "Not running; next"
    console.print(f"{running}: {next_step(goal, state)}")


def report(directory: Directory) -> None:
    """Write DIR/report.html, one file that needs no network."""
    from kepton.report import write_report

    console.print(f"{write_report(directory)}")


def validate(
    directory: Directory,
    campaign: Annotated[
        Path | None, typer.Option(help="Its file, where it was moved since.")
    ] = None,
) -> None:
    """Properties of a crystal by the potential and by its principle, side by side."""
    from kepton.terminal import Terminal, properties_table
    from kepton.validation import validate

    with Terminal(console, None) as terminal:
        compared = validate(directory, campaign, terminal)
    console.print(properties_table(compared))
    console.print(f"{directory / 'report.html'}")


def _claim(directory: Path) -> str:
    claims = json.loads((directory / "certificate.json").read_text("utf-8"))
    return claims["claim"] or claims["missing"]
