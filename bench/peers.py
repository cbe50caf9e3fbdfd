"""Programs of peers, run to their end."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

THREADS = (
    *("OMP_NUM_THREADS", "TF_INTRA_OP_PARALLELISM_THREADS", "TF_INTER_OP_PARALLELISM_THREADS"),
    *("DP_INTRA_OP_PARALLELISM_THREADS", "DP_INTER_OP_PARALLELISM_THREADS"),
)


def on_cores(count: int) -> dict[str, str]:
    """The environment in which DeePMD-kit uses so many cores and no accelerator."""
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": ""}
    return os.environ | {name: str(count) for name in THREADS} | quiet


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
