"""GPAW: plane-wave density functional theory with projector-augmented waves."""

import hashlib
import importlib.metadata
import importlib.util
import json
import os
import shlex
import shutil
import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import ase
import numpy as np

from kepton.atoms import Frames
from kepton.errors import InputError
from kepton.principles import gpaw_calculation
from kepton.principles.periodic import PeriodicProgram, answered, without_result
from kepton.principles.principle import Refusal
from kepton.principles.program import Place


@dataclass(frozen=True)
class Accuracy:
    """Numerical settings that go together.

    Args:
        cutoff_eV: of wave functions
        density: of an electron in the SCF, by its change
        energy_eV: the same
    """

    cutoff_eV: float
    density: float
    energy_eV: float


ACCURACIES = {
    "draft": Accuracy(300.0, 1e-5, 1e-6),
    "normal": Accuracy(450.0, 1e-6, 1e-6),
    "tight": Accuracy(700.0, 1e-7, 1e-7),
}
LADDER: tuple[dict[str, Any], ...] = (
    {},
    {"mixer": {"backend": "pulay", "beta": 0.05, "nmaxold": 5, "weight": 50}},
    {
        "mixer": {"backend": "pulay", "beta": 0.02, "nmaxold": 5, "weight": 100},
        "eigensolver": "davidson",
    },
)
"""Of the SCF, each tried where the one before did not converge"""
FUNCTIONALS = {"pbe": "PBE", "lda": "LDA", "rpbe": "RPBE"}
SCRIPT, INPUT = "calculation.py", "gpaw.json"
SPIN = 1.0
"""Initial moment of every atom where electrons are unpaired, in their number"""


@dataclass(frozen=True, kw_only=True)
class GPAW(PeriodicProgram):
    """Free energy, forces and stress by GPAW in a process of its own: see `PeriodicProgram`.

    Of symmetries only the reversal of time is used. Occupations are smeared by the Fermi function;
    with smearing_eV = 0 the lowest are filled, and a metal is refused. All attempts begin anew.

    Args:
        xc: functional: "pbe", "lda" or "rpbe"
        cutoff_eV: of wave functions
        command: a Python that has GPAW; none: the one that runs

    Source: Mortensen et al., J. Chem. Phys. 160, 092503 (2024)
    """

    command: str = shlex.quote(sys.executable)
    cutoff_eV: float | None = None

    KIND: ClassVar[str] = "gpaw"
    PROGRAM: ClassVar[str] = "GPAW"
    INSTALL: ClassVar[str] = "pip install 'kepton[gpaw]', see docs/how-to/solids.md"
    XC: ClassVar[tuple[str, ...]] = tuple(FUNCTIONALS)
    OUTPUT: ClassVar[str] = "gpaw.out"
    ATTEMPTS: ClassVar[int] = len(LADDER)
    LEAST_MIXING: ClassVar[float] = LADDER[-1]["mixer"]["beta"]

    def _settings(self, symbols: tuple[str, ...]) -> dict[str, Any]:
        accuracy = ACCURACIES[self.accuracy]
        return {
            "setups": {symbol: _digest(self._setup(symbol)) for symbol in symbols},
            "cutoff_eV": self._cutoff,
            "convergence": [accuracy.density, accuracy.energy_eV],
        }

    def cutoffs(self, symbols: tuple[str, ...]) -> dict[str, float]:  # noqa: ARG002
        """Of wave functions."""
        return {"cutoff_eV": self._cutoff}

    @property
    def _cutoff(self) -> float:
        return self.cutoff_eV or ACCURACIES[self.accuracy].cutoff_eV

    def _setup(self, symbol: str) -> Path:
        name = f"{symbol}.{FUNCTIONALS[self.xc]}.gz"
        found = next((folder / name for folder in setups() if (folder / name).is_file()), None)
        if found is None:
            known = available(self.xc)
            raise InputError(
                f"GPAW has no setup of {symbol} for xc = {self.xc!r}, only of "
                f"{', '.join(known) or 'no element'}; give another xc, or put the file {name} into "
                "a folder that the environment names: GPAW_SETUP_PATH."
            )
        return found

    def _check(self, frames: Frames) -> None:
        if self.command == GPAW.command and not GPAW.availability()[0]:
            raise InputError(f"kind = 'gpaw' needs the package gpaw; {self.INSTALL}.")
        self._check_positive("cutoff_eV")
        for symbol in frames.symbols:
            self._setup(symbol)
        self._check_cell(frames)

    def _input(self, frames: Frames, attempt: int, goes_on: bool) -> str:  # noqa: ARG002
        (atoms,) = frames.to_ase()
        accuracy, mesh = ACCURACIES[self.accuracy], self.mesh(frames)
        occupations: dict[str, Any] = {"name": "fermi-dirac", "width": self.smearing_eV}
        structure = {
            "numbers": atoms.numbers.tolist(),
            "positions": atoms.positions.tolist(),
            "cell": atoms.cell.array.tolist(),
            "pbc": True,
        }
        if spin := int(frames.spin[0]):
            occupations["fixmagmom"] = True
            structure["magmoms"] = [SPIN * spin / len(atoms)] * len(atoms)
        settings = {
            "mode": {"name": "pw", "ecut": self._cutoff},
            "xc": FUNCTIONALS[self.xc],
            "kpts": {"size": list(mesh), "gamma": True},
            "charge": int(frames.charge[0]),
            "symmetry": {"point_group": False},
            "occupations": occupations,
            "convergence": {"density": accuracy.density, "energy": accuracy.energy_eV},
            "maxiter": self.CYCLES,
            **LADDER[attempt],
        }
        return json.dumps({"atoms": structure, "settings": settings}, indent=1)

    def _run(self, place: Place, text: str, frames: Frames) -> None:  # noqa: ARG002
        (place.folder / INPUT).write_text(text)
        shutil.copy(gpaw_calculation.__file__, place.folder / SCRIPT)
        place.run(self.command, [SCRIPT, INPUT], self.OUTPUT, self.time_limit_min)

    def _ended(self, output: Path) -> bool:
        return output.is_file() and _said(output, gpaw_calculation.RESULT) is not None

    def _read(self, output: Path) -> ase.Atoms | None:
        if _said(output, gpaw_calculation.UNCONVERGED) is not None:
            return None
        if stopped := _said(output, gpaw_calculation.STOPPED):
            raise Refusal(f"GPAW stopped: {stopped}")
        result = _said(output, gpaw_calculation.RESULT)
        if result is None:
            raise without_result("GPAW", output)
        if not self.smearing_eV and np.ptp(result["electrons"]) > 1e-6:
            raise Refusal("GPAW found a metal, with smearing_eV = 0; give smearing_eV = 0.1, say.")
        return answered(result["energy"], np.array(result["forces"]), np.array(result["stress"]))

    @classmethod
    def availability(cls) -> tuple[bool, str]:
        """Whether it works on this machine, and its version or how to get it."""
        if importlib.util.find_spec("gpaw") is None:
            return False, cls.INSTALL
        return True, f"gpaw {importlib.metadata.version('gpaw')}; {cls._covered()}"

    @staticmethod
    def _covered() -> str:
        known = [f"{xc.upper()} for {len(available(xc))} elements" for xc in FUNCTIONALS]
        return f"setups: {'; '.join(known)}"


def setups() -> list[Path]:
    """Folders of GPAW's setups: those that the environment names, and that of gpaw-data."""
    named = os.environ.get("GPAW_SETUP_PATH", "")
    folders = [Path(folder) for folder in named.split(os.pathsep) if folder]
    found = importlib.util.find_spec("gpaw_data")
    if found is not None and found.origin:
        folders.append(Path(found.origin).parent / "setups")
    return folders


def available(xc: str) -> list[str]:
    """Elements with a setup for a functional."""
    end = f".{FUNCTIONALS[xc]}.gz"
    paths = (path for folder in setups() for path in folder.glob(f"*{end}"))
    return sorted({name for path in paths if "." not in (name := path.name.removesuffix(end))})


@lru_cache
def _digest(path: Path) -> str:
    return f"{path.name} {hashlib.blake2b(path.read_bytes(), digest_size=8).hexdigest()}"


def _said(output: Path, kind: str) -> Any:
    """The JSON behind such a word; None: it was not said."""
    for line in output.read_text(errors="replace").splitlines():
        if line.startswith(kind):
            return json.loads(line.removeprefix(kind))
    return None
