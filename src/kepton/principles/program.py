"""Engines that are programs: run in a folder of their own, under a time limit."""

import ctypes
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from kepton.errors import InputError
from kepton.principles.principle import Refusal


def executable(command: str) -> str | None:
    """Where the program of a command line is; None: nowhere."""
    words = shlex.split(command)
    return shutil.which(words[0]) if words else None


def check_program(kind: str, command: str, install: str) -> None:
    """Raise InputError where the program is not there."""
    if executable(command) is None:
        raise InputError(
            f"kind = {kind!r} needs the program {command!r}, which is not on the PATH; install it "
            f"({install}), or name it: [principle] command = 'PATH'."
        )


@contextmanager
def workplace(folder: Path | None, name: str) -> Iterator[Path]:
    """The folder of one task: a lasting one, or where none is given one that goes with it.

    Args:    folder: of all tasks;  name: of this one, by which a rerun finds it
    """
    if folder is None:
        with TemporaryDirectory(prefix="kepton-") as place:
            yield Path(place)
    else:
        place = folder / name
        place.mkdir(parents=True, exist_ok=True)
        yield place


LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
PR_SET_PDEATHSIG = 1


def _die_with_parent() -> None:
    assert LIBC is not None
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def run_program(
    command: str, arguments: list[str], folder: Path, output: str, time_limit_min: float
) -> int:
    """Run a program on one core in a folder; its exit status.

    Output and error stream go to the file `output`. A program that exceeds its time limit is killed
    with all that it started; on Linux it dies with the process that called it, so that a rerun never
    meets it in its folder.

    Raises:
        Refusal: the time limit
    """
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with (folder / output).open("wb") as file:
        process = subprocess.Popen(
            [*shlex.split(command), *arguments],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_die_with_parent if sys.platform == "linux" else None,
        )
        try:
            return process.wait(60.0 * time_limit_min)
        except subprocess.TimeoutExpired as error:
            raise Refusal(
                f"{command} did not end within time_limit_min = {time_limit_min:g}."
            ) from error
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
