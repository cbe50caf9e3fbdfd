"""The command line: its commands, and how a mistake ends."""

import signal
import sqlite3
import sys
import threading
import warnings

import typer

from kepton.cli import campaigns, closures, dynamics, potentials, principles
from kepton.cli.console import FAILED, WRONG_INPUT, complain, stderr
from kepton.errors import InputError, LeftOut

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="From a molecule, a first principle and a target error to a certified Deep Potential.",
)
for command in (campaigns.run, campaigns.status, campaigns.report, potentials.train):
    app.command()(command)
app.command("test")(potentials.test_)
for command in (
    dynamics.md,
    dynamics.relax,
    campaigns.validate,
    potentials.convert,
    principles.doctor,
):
    app.command()(command)
for name, command, told in (
    ("principle", principles.converge, "First principles: principle converge."),
    ("closure", closures.solve, "Gases by a learned moment closure: closure solve."),
    ("lammps", dynamics.plugin, "Potentials in LAMMPS: lammps plugin."),
):
    group = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)
    app.add_typer(group, name=name, help=told)
    group.command()(command)


def main() -> None:
    """Run the command line; a user's mistake is one paragraph and exit status 2."""
    warnings.showwarning = _warn
    sys.unraisablehook = _unraisable
    try:
        app()
    except InputError as error:
        complain(str(error))
        sys.exit(WRONG_INPUT)
    except (OSError, sqlite3.OperationalError) as error:
        complain(
            f"A file could not be read or written: {error}. What was finished before is kept; free "
            "some space or correct the permissions, and give the same command again."
        )
        sys.exit(FAILED)


def _unraisable(ignored: "sys.UnraisableHookArgs") -> None:
    """Have a Ctrl-C come again that came while an object was deleted, where Python ignores it."""
    if not issubclass(ignored.exc_type, KeyboardInterrupt):
        return sys.__unraisablehook__(ignored)
    again = threading.Timer(
        0.1, signal.pthread_kill, (threading.main_thread().ident, signal.SIGINT)
    )
    again.daemon = True
    return again.start()


def _warn(message, category, *where, **more) -> None:
    """A line on what was left out of a user's data; other warnings as Python writes them."""
    if issubclass(category, LeftOut):
        stderr.print(str(message))
    else:
        _python_warning(message, category, *where, **more)


_python_warning = warnings.showwarning
