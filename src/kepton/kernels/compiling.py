"""Compiles the kernels; `hatch_build.py` runs this file before there is a package."""

import platform
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

FLAGS = ["-std=c++17", "-O3", "-fPIC", "-pthread", "-w"]
FLAGS += ["-fno-math-errno", "-fno-trapping-math", "-fno-strict-aliasing", "-ffp-contract=fast"]
LEVELS = ["-march=x86-64", "-march=x86-64-v3", "-march=x86-64-v4"]
"""Of instructions, the lowest first: the linker takes what the files share from the first."""


def compile_library(
    compiler: Sequence[str],
    folder: Path,
    kernels: Sequence[str],
    sources: dict[str, Sequence[str]],
    library: Path,
) -> str | None:
    """One library of sources and of kernels at several levels of instructions.

    Args:
        compiler: its words
        folder: of the sources
        kernels: names without suffix
        sources: flags of each other source by its name without suffix
    Returns: None, or what the compiler complains of
    """
    levels = LEVELS if platform.machine() in ("x86_64", "AMD64") else ["-O3"]
    with tempfile.TemporaryDirectory() as scratch:
        jobs = [*((kernel, [level]) for level in levels for kernel in kernels), *sources.items()]
        objects = [f"{scratch}/{number}.o" for number in range(len(jobs))]
        commands = [
            [*FLAGS, *flags, "-c", str(folder / f"{name}.cpp"), "-o", target]
            for (name, flags), target in zip(jobs, objects)
        ]
        for command in [*commands, ["-shared", "-pthread", *objects, "-o", str(library)]]:
            done = subprocess.run(
                [*compiler, *command], capture_output=True, text=True, check=False
            )
            if done.returncode:
                return done.stderr.strip()
    return None
