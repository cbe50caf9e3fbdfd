"""Programs of peers, run to their end."""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path


def call(program: Path, arguments: Sequence[str], log: Path, environment: Mapping[str, str]):
    """Run a program in the folder of its log, to which its output is added; exit where it fails."""
    with log.open("a") as file:
        done = subprocess.run(
            [program, *arguments],
            cwd=log.parent,
            env=environment,
            stdout=file,
            stderr=file,
            check=False,
        )
    if done.returncode:
        sys.exit(f"`{' '.join([program.name, *arguments])}` failed; its output is in {log}.")
