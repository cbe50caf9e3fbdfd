"""Quantum ESPRESSO: plane-wave density functional theory of crystals, liquids and surfaces."""

import io
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import ase
import ase.io
import numpy as np
from ase.io.espresso import write_espresso_in
from ase.units import Rydberg

from kepton.atoms import Frames
from kepton.errors import InputError
from kepton.principles import pseudopotentials
from kepton.principles.periodic import PeriodicProgram, without_result
from kepton.principles.principle import Refusal
from kepton.principles.program import Place
from kepton.principles.pseudopotentials import Pseudopotential


@dataclass(frozen=True)
class Accuracy:
    """Numerical settings that go together.

    Args:
        cutoffs: in units of those that the pseudopotentials suggest
        convergence_Ry: of the energy of an atom in the SCF
    """

    cutoffs: float
    convergence_Ry: float


ACCURACIES = {
    "draft": Accuracy(0.7, 1e-7),
    "normal": Accuracy(1.0, 1e-8),
    "tight": Accuracy(1.5, 1e-9),
}
LADDER = (
    {"mixing_beta": 0.7},
    {"mixing_beta": 0.3, "mixing_ndim": 12},
    {"mixing_beta": 0.1, "mixing_mode": "local-TF", "diagonalization": "cg"},
)
"""Of the SCF, each tried where the one before did not converge"""
INPUT, SCRATCH = "pw.in", "scratch"
SPIN = 0.5
"""Initial polarisation of every atom where electrons are unpaired"""


@dataclass(frozen=True, kw_only=True)
class Espresso(PeriodicProgram):
    """Free energy, forces and stress by pw.x: see `PeriodicProgram`.

    Symmetry is not used, so that a strain that breaks it changes neither points nor energy.
    Occupations are smeared by the cold function, which changes nothing in an insulator.

    Args:
        xc: functional, which that of the pseudopotential files must be
        pseudopotentials: folder of UPF files; none: those of Debian's quantum-espresso-data, and
            for other elements GTH ones from PySCF's tables, which need larger cutoffs
        cutoff_Ry, density_cutoff_Ry: of wave functions and density

    Source: Giannozzi et al., J. Phys.: Condens. Matter 29, 465901 (2017); Marzari et al., Phys.
        Rev. Lett. 82, 3296 (1999)
    """

    command: str = "pw.x"
    pseudopotentials: Path | None = None
    cutoff_Ry: float | None = None
    density_cutoff_Ry: float | None = None

    KIND: ClassVar[str] = "espresso"
    PROGRAM: ClassVar[str] = "Quantum ESPRESSO"
    INSTALL: ClassVar[str] = "Debian: apt-get install quantum-espresso quantum-espresso-data"
    XC: ClassVar[tuple[str, ...]] = ("pbe", "pbesol", "lda", "blyp", "tpss")
    OUTPUT: ClassVar[str] = "pw.out"
    ATTEMPTS: ClassVar[int] = len(LADDER)
    DENSITY: ClassVar[str] = f"{SCRATCH}/pwscf.save/charge-density.*"
    LEAST_MIXING: ClassVar[float] = LADDER[-1]["mixing_beta"]

    def _settings(self, symbols: tuple[str, ...]) -> dict[str, Any]:
        files = self._files(symbols)
        return {
            "pseudopotentials": {s: f"{f.path.name} {f.digest}" for s, f in files.items()},
            "cutoffs_Ry": list(self._cutoffs(files)) if files else None,
            "convergence_Ry": ACCURACIES[self.accuracy].convergence_Ry,
        }

    def _files(self, symbols: tuple[str, ...]) -> dict[str, Pseudopotential]:
        return pseudopotentials.chosen(symbols, self.pseudopotentials, self.xc)

    def cutoffs(self, symbols: tuple[str, ...]) -> dict[str, float]:
        """Of wave functions and density."""
        wave, density = self._cutoffs(self._files(symbols))
        return {"cutoff_Ry": wave, "density_cutoff_Ry": density}

    def _cutoffs(self, files: dict[str, Pseudopotential]) -> tuple[float, float]:
        scale = ACCURACIES[self.accuracy].cutoffs
        wave = self.cutoff_Ry or scale * max(file.cutoff_Ry for file in files.values())
        density = scale * max(file.density_cutoff_Ry for file in files.values())
        return round(wave, 3), round(self.density_cutoff_Ry or max(density, 4.0 * wave), 3)

    def _check(self, frames: Frames) -> None:
        self._check_positive("cutoff_Ry", "density_cutoff_Ry")
        if self.pseudopotentials is not None and not self.pseudopotentials.is_dir():
            raise InputError(
                f"pseudopotentials = '{self.pseudopotentials}' is not a folder; name one that "
                "holds UPF files."
            )
        wave, density = self._cutoffs(self._files(frames.symbols))
        if density < 4.0 * wave:
            raise InputError(
                f"density_cutoff_Ry = {density:g} is less than 4 cutoff_Ry = {4 * wave:g}, below "
                "which the density lacks products of wave functions; give more, or leave it out."
            )
        self._check_cell(frames)

    def _input(self, frames: Frames, attempt: int, goes_on: bool) -> str:
        (atoms,) = frames.to_ase()
        files = self._files(frames.symbols)
        wave, density = self._cutoffs(files)
        spin, periodic = int(frames.spin[0]), bool(np.all(frames.pbc))
        system: dict[str, Any] = {"ecutwfc": wave, "ecutrho": density, "nosym": True}
        if self.smearing_eV:
            width = self.smearing_eV / Rydberg
            system |= {"occupations": "smearing", "smearing": "cold", "degauss": round(width, 8)}
        if charge := int(frames.charge[0]):
            system["tot_charge"] = charge
        if spin:
            system |= {"nspin": 2, "tot_magnetization": spin}
            atoms.set_initial_magnetic_moments(np.full(len(atoms), SPIN))
        control = {
            "calculation": "scf",
            "tprnfor": True,
            "tstress": periodic,
            "disk_io": "nowf",
            "outdir": SCRATCH,
            "pseudo_dir": SCRATCH,
        }
        convergence = ACCURACIES[self.accuracy].convergence_Ry * len(atoms)
        electrons = {"conv_thr": convergence, "electron_maxstep": self.CYCLES} | LADDER[attempt]
        if goes_on:
            electrons["startingpot"] = "file"
        mesh = self.mesh(frames)
        stream = io.StringIO()
        write_espresso_in(
            stream,
            atoms,
            input_data={"control": control, "system": system, "electrons": electrons},
            pseudopotentials={symbol: file.path.name for symbol, file in files.items()},
            kpts=None if mesh == (1, 1, 1) else mesh,
            koffset=(0, 0, 0),
        )
        return stream.getvalue()

    def _run(self, place: Place, text: str, frames: Frames) -> None:
        scratch = place.folder / SCRATCH
        scratch.mkdir(exist_ok=True)
        for file in self._files(frames.symbols).values():
            file.put(scratch)
        (place.folder / INPUT).write_text(text)
        place.run(self.command, ["-in", INPUT], self.OUTPUT, self.time_limit_min)

    def _tidy(self, folder: Path, frames: Frames) -> None:  # noqa: ARG002
        shutil.rmtree(folder / SCRATCH, ignore_errors=True)

    def _ended(self, output: Path) -> bool:
        return output.is_file() and "JOB DONE" in output.read_text(errors="replace")[-2000:]

    def _read(self, output: Path) -> ase.Atoms | None:
        text = output.read_text(errors="replace")
        if "convergence NOT achieved" in text:
            return None
        if wrong := re.search(r"%%%+\s*\n\s*Error in routine\s+(.*?)\n\s*%%%+", text, re.DOTALL):
            said = " ".join(wrong[1].split())
            metal = "system is metallic" in said or "smearing is needed" in said
            remedy = "; give smearing_eV = 0.1, say" if metal else ""
            raise Refusal(f"pw.x stopped: {said}{remedy}.")
        if "convergence has been achieved" not in text or not self._ended(output):
            raise without_result("pw.x", output)
        return ase.io.read(output, format="espresso-out")  # pyright: ignore

    @staticmethod
    def _covered() -> str:
        known = []
        for xc in ("pbe", "lda"):
            files = pseudopotentials.available(pseudopotentials.DEBIAN, xc)
            others = pseudopotentials.analytical(xc).keys() - files.keys()
            known.append(
                f"{xc.upper()} for {', '.join(sorted(files)) or 'no element'} (Debian) and "
                f"{len(others)} others (GTH, from PySCF)"
            )
        return f"pseudopotentials of {'; of '.join(known)}"
