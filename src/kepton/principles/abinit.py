"""ABINIT: plane-wave density functional theory with GTH pseudopotentials."""

import re
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any, ClassVar

import ase
import numpy as np
import yaml

from kepton.atoms import Frames
from kepton.atoms.outputs import judgement
from kepton.atoms.units import BOHR, HARTREE
from kepton.errors import InputError
from kepton.principles import pseudopotentials
from kepton.principles.periodic import PeriodicProgram, answered, without_result
from kepton.principles.principle import Refusal
from kepton.principles.program import Place
from kepton.principles.pseudopotentials import Pseudopotential


@dataclass(frozen=True)
class Accuracy:
    """Numerical settings that go together.

    Args:
        cutoffs: in units of those at which the pseudopotentials have decayed
        forces: largest change of a force at convergence of the SCF, hartree/bohr
    """

    cutoffs: float
    forces: float


ACCURACIES = {
    "draft": Accuracy(0.7, 2e-5),
    "normal": Accuracy(1.0, 5e-6),
    "tight": Accuracy(1.5, 5e-7),
}
FUNCTIONALS = {"pbe": 11, "lda": 1}
LADDER: tuple[dict[str, Any], ...] = (
    {},
    {"diemix": 0.3, "npulayit": 12},
    {"diemix": 0.1, "diemac": 100.0, "npulayit": 15, "nline": 8},
)
"""Of the SCF, each tried where the one before did not converge"""
SMOOTH_HA = 0.5
"""Energy below the cutoff over which plane waves come in, so that none jumps in with a strain"""
EMPTY = 1.2, 4
"""Bands: a multiple of the filled ones, and some more"""
INPUT, LOG = "abinit.abi", "abinit.log"


@dataclass(frozen=True, kw_only=True)
class Abinit(PeriodicProgram):
    """Free energy, forces and stress by ABINIT: see `PeriodicProgram`.

    Pseudopotentials are the GTH ones of PySCF's tables. Symmetry is not used. Occupations are
    smeared by the cold function. Plane waves come in smoothly (ecutsm), so the energy of a strained
    cell has no jumps, and the stress is its derivative at any cutoff.

    Args:
        xc: functional: "pbe" or "lda"
        cutoff_Ry: of wave functions

    Source: Gonze et al., Comput. Phys. Commun. 248, 107042 (2020)
    """

    command: str = "abinit"
    cutoff_Ry: float | None = None

    KIND: ClassVar[str] = "abinit"
    PROGRAM: ClassVar[str] = "ABINIT"
    INSTALL: ClassVar[str] = "Debian: apt-get install abinit"
    XC: ClassVar[tuple[str, ...]] = tuple(FUNCTIONALS)
    OUTPUT: ClassVar[str] = "abinit.abo"
    ATTEMPTS: ClassVar[int] = len(LADDER)
    DENSITY: ClassVar[str] = "abinito_DEN"
    LEAST_MIXING: ClassVar[float] = LADDER[-1]["diemix"]

    def _settings(self, symbols: tuple[str, ...]) -> dict[str, Any]:
        files = self._files(symbols)
        return {
            "pseudopotentials": {s: f"{f.path.name} {f.digest}" for s, f in files.items()},
            "cutoff_Ry": self._cutoff(files) if files else None,
            "convergence": ACCURACIES[self.accuracy].forces,
        }

    def _files(self, symbols: tuple[str, ...]) -> dict[str, Pseudopotential]:
        known = pseudopotentials.analytical(self.xc)
        for symbol in symbols:
            if symbol not in known:
                raise InputError(
                    f"There is no GTH pseudopotential of {symbol} for xc = {self.xc!r}, only of "
                    f"{', '.join(sorted(known))}; use kind = 'espresso' with UPF files."
                )
        return {symbol: known[symbol] for symbol in symbols}

    def cutoffs(self, symbols: tuple[str, ...]) -> dict[str, float]:
        """Of wave functions."""
        return {"cutoff_Ry": self._cutoff(self._files(symbols))}

    def _cutoff(self, files: dict[str, Pseudopotential]) -> float:
        natural = max(file.cutoff_Ry for file in files.values())
        return self.cutoff_Ry or round(ACCURACIES[self.accuracy].cutoffs * natural, 3)

    def _check(self, frames: Frames) -> None:
        self._check_positive("cutoff_Ry")
        self._files(frames.symbols)
        self._check_cell(frames)
        self._check_smeared(frames)
        if any(
            spin and spin == self._electrons(frames) for spin in np.asarray(frames.spin).tolist()
        ):
            raise InputError(
                "ABINIT cannot fix a spin to which all electrons belong; use kind = 'espresso', or "
                "give a smaller spin."
            )

    def _electrons(self, frames: Frames) -> int:
        (atoms,), files = frames.to_ase(), self._files(frames.symbols)
        return sum(files[symbol].valence for symbol in atoms.symbols) - int(frames.charge[0])

    def _input(self, frames: Frames, attempt: int, goes_on: bool) -> str:
        (atoms,) = frames.to_ase()
        files, mesh = self._files(frames.symbols), self.mesh(frames)
        charge, spin = int(frames.charge[0]), int(frames.spin[0])
        more, some = EMPTY
        told: dict[str, Any] = {
            "ecut": self._cutoff(files) / 2,
            "ecutsm": SMOOTH_HA,
            "ixc": FUNCTIONALS[self.xc],
            "nband": ceil(more * (self._electrons(frames) + spin) / 2) + some,
            "occopt": 4 if self.smearing_eV else 1,
            "kptopt": 3,
            "ngkpt": mesh,
            "nshiftk": 1,
            "shiftk": [0.0, 0.0, 0.0],
            "nsym": 1,
            "chkprim": 0,
            "nstep": self.CYCLES,
            "toldff": ACCURACIES[self.accuracy].forces,
            "optforces": 1,
            "optstress": 1,
            **dict.fromkeys(("prtwf", "prteig", "prtgsr", "prtebands"), 0),
            "natom": len(atoms),
            "ntypat": len(files),
            "znucl": [int(atoms.numbers[atoms.symbols == symbol][0]) for symbol in files],
            "typat": [list(files).index(symbol) + 1 for symbol in atoms.symbols],
            "pseudos": f'"{", ".join(file.path.name for file in files.values())}"',
            "acell": "1 1 1 Angstrom",
            "rprim": atoms.cell.array.ravel().tolist(),
            "xcart": f"{_words(atoms.positions.ravel().tolist())} Angstrom",
            **LADDER[attempt],
        }
        if goes_on:
            told["getden_filepath"] = f'"{self.DENSITY}"'
        if self.smearing_eV:
            told["tsmear"] = self.smearing_eV / HARTREE
        if charge:
            told["cellcharge"] = charge
        if spin:
            told |= {"nsppol": 2, "spinmagntarget": spin}
            told["spinat"] = [0.0, 0.0, spin / len(atoms)] * len(atoms)
        return "".join(f"{name} {_words(value)}\n" for name, value in told.items())

    def _run(self, place: Place, text: str, frames: Frames) -> None:
        for file in self._files(frames.symbols).values():
            file.put(place.folder)
        (place.folder / INPUT).write_text(text)
        (place.folder / self.OUTPUT).unlink(missing_ok=True)
        place.run(self.command, [INPUT], LOG, self.time_limit_min)

    def _tidy(self, folder: Path, frames: Frames) -> None:
        files = self._files(frames.symbols).values()
        for path in [*folder.glob("abinito_*"), *(folder / file.path.name for file in files)]:
            path.unlink(missing_ok=True)

    def _ended(self, output: Path) -> bool:
        return output.is_file() and "Calculation completed" in output.read_text(errors="replace")

    def _read(self, output: Path) -> ase.Atoms | None:
        log = output.with_name(LOG)
        if not self._ended(output):
            text = log.read_text(errors="replace")
            if wrong := re.search(r"--- !ERROR\n.*?message: \|\n(.*?)\n\.\.\.", text, re.DOTALL):
                raise Refusal(f"ABINIT stopped: {' '.join(wrong[1].split())}")
            raise without_result("ABINIT", log)
        judged = judgement(output)
        if judged is not None and judged.refused:
            return None
        result = _document(output, "ResultsGS")
        energy = _document(output, "EnergyTerms")["total_energy"] * HARTREE
        forces, stress = (np.array(result[f"cartesian_{n}"]) for n in ("forces", "stress_tensor"))
        return answered(energy, forces * HARTREE / BOHR, stress * HARTREE / BOHR**3)

    @staticmethod
    def _covered() -> str:
        known = [
            f"{xc.upper()} for {len(pseudopotentials.analytical(xc))} elements"
            for xc in FUNCTIONALS
        ]
        return f"GTH pseudopotentials of {'; of '.join(known)}"


def _words(value: Any) -> str:
    """A value of ABINIT's input, numbers to all digits."""
    values = value if isinstance(value, list | tuple) else [value]
    return " ".join(one if isinstance(one, str) else repr(one) for one in values)


def _document(output: Path, name: str) -> dict[str, Any]:
    """A YAML document in ABINIT's output."""
    text = output.read_text(errors="replace")
    found = re.search(rf"--- !{name}\n(.*?)\n\.\.\.", text, re.DOTALL)
    if found is None:
        raise without_result("ABINIT", output)
    return yaml.safe_load(found[1])
