"""Engines that are programs: run in a folder of their own, under a time limit."""

import fcntl
import os
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from kepton.errors import InputError
from kepton.principles.principle import Refusal

LOCK = "lock"
LOOK_S = 0.5
"""How often it is looked whether another process has finished"""


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


@dataclass(frozen=True)
class Place:
    """The folder of one calculation, locked for this process and the program that it calls.

    A program goes on when the process that called it is killed, and holds the lock until it ends:
    a rerun waits for it and reads what it found.
    """

    folder: Path
    lock: int

    def run(self, command: str, arguments: list[str], output: str, time_limit_min: float) -> None:
        """Run a program on one core; what it prints goes to the file `output`.

        Raises:
            Refusal: it exceeded the time limit, and was killed with all that it started
        """
        with (self.folder / output).open("wb") as file:
            process = subprocess.Popen(
                [*shlex.split(command), *arguments],
                cwd=self.folder,
                env=os.environ | {"OMP_NUM_THREADS": "1"},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=(self.lock,),
            )
        try:
            process.wait(60.0 * time_limit_min)
        except subprocess.TimeoutExpired as error:
            raise Refusal(
                f"{command} did not end within time_limit_min = {time_limit_min:g}."
            ) from error
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


@contextmanager
def workplace(folder: Path | None, name: str, time_limit_min: float) -> Iterator[Place]:
    """The place of one calculation: a lasting one, or where no folder is given one that goes.

    Args:    folder: of all calculations;  name: of this one, by which a rerun finds it
    Raises:  Refusal: another process worked on it longer than the time limit
    """
    if folder is None:
        with TemporaryDirectory(prefix="kepton-") as place, _locked(Path(place), 0.0) as lock:
            yield Place(Path(place), lock)
    else:
        place = folder / name
        place.mkdir(parents=True, exist_ok=True)
        with _locked(place, time_limit_min) as lock:
            yield Place(place, lock)


@contextmanager
def _locked(place: Path, time_limit_min: float) -> Iterator[int]:
    lock = os.open(place / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    end = time.monotonic() + 60.0 * time_limit_min
    try:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() > end:
                    raise Refusal(
                        f"Another process worked on {place} for longer than time_limit_min = "
                        f"{time_limit_min:g}."
                    ) from error
                time.sleep(LOOK_S)
        yield lock
    finally:
        os.close(lock)
