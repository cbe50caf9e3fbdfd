"""Compiles the kernels of `kepton.kernels` where there is a C++ compiler."""

import os
import platform
import re
import shutil
import subprocess
import sysconfig
import tempfile
from pathlib import Path

import jax
from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FLAGS = ["-std=c++17", "-O3", "-fPIC", "-pthread", "-w"]
FLAGS += ["-fno-math-errno", "-fno-trapping-math", "-fno-strict-aliasing", "-ffp-contract=fast"]
LEVELS = ["-march=x86-64", "-march=x86-64-v3", "-march=x86-64-v4"]
"""Of instructions, the lowest first: the linker takes what the files share from the first."""


class Kernels(BuildHookInterface):
    """One library with the heavy parts at several levels of instructions; none if it fails."""

    def initialize(self, version, build_data):  # noqa: ARG002
        """Compile into the sources; a wheel takes the library along."""
        if self.target_name != "wheel":
            return
        folder = Path(self.root, "src", "kepton", "kernels")
        library = folder / "libkepton.so"
        library.unlink(missing_ok=True)  # of older sources, and mapped by who runs it
        compiler = os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++")
        if compiler is None or not self._compiled(compiler, folder, library):
            self.app.display_info("Kepton goes without compiled kernels: same results, slower.")
            return
        build_data["artifacts"].append("src/kepton/kernels/libkepton.so")
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{re.sub('[.-]', '_', sysconfig.get_platform())}"

    def _compiled(self, compiler: str, folder: Path, library: Path) -> bool:
        levels = LEVELS if platform.machine() in ("x86_64", "AMD64") else ["-O3"]
        with tempfile.TemporaryDirectory() as scratch:
            jobs = [("deep_potential", [level]) for level in levels]
            jobs += [("neighbors", []), ("bindings", [f"-I{jax.ffi.include_dir()}"])]
            objects = []
            for number, (name, flags) in enumerate(jobs):
                objects.append(f"{scratch}/{number}.o")
                source = str(folder / f"{name}.cpp")
                command = [compiler, *FLAGS, *flags, "-c", source, "-o", objects[-1]]
                if not _done(command):
                    return False
            return _done([compiler, "-shared", "-pthread", *objects, "-o", str(library)])


def _done(command: list[str]) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0
