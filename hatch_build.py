"""Compiles the kernels of `kepton.kernels` where there is a C++ compiler."""

import os
import re
import runpy
import shutil
import sysconfig
from pathlib import Path

import jax
from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class Kernels(BuildHookInterface):
    """One library with the heavy parts at several levels of instructions; none if it fails."""

    def initialize(self, version, build_data):  # noqa: ARG002
        """Compile into the sources; a wheel takes the library along."""
        if self.target_name != "wheel":
            return
        folder = Path(self.root, "src", "kepton", "kernels")
        compile_library = runpy.run_path(str(folder / "compiling.py"))["compile_library"]
        library = folder / "libkepton.so"
        library.unlink(missing_ok=True)  # of older sources, and mapped by who runs it
        compiler = os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++")
        kernels = ["deep_potential", "closed_moments"]
        sources = {"neighbors": [], "bindings": [f"-I{jax.ffi.include_dir()}"]}
        if compiler is None or compile_library([compiler], folder, kernels, sources, library):
            self.app.display_info("Kepton goes without compiled kernels: same results, slower.")
            return
        build_data["artifacts"].append("src/kepton/kernels/libkepton.so")
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{re.sub('[.-]', '_', sysconfig.get_platform())}"
