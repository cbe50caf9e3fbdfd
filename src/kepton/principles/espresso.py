"""Quantum ESPRESSO: plane-wave density functional theory of crystals, liquids and surfaces."""

import hashlib
import io
import re
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import ase
import ase.io
import numpy as np
from ase.io.espresso import write_espresso_in
from ase.units import Rydberg

from kepton.atoms import Frames, Label
from kepton.elt import Failure
from kepton.errors import InputError
from kepton.principles import pseudopotentials
from kepton.principles.principle import Refusal, answer, check_electrons, nearest
from kepton.principles.program import Place, check_program, executable, workplace
from kepton.principles.pseudopotentials import Pseudopotential

INSTALL = "Debian: apt-get install quantum-espresso quantum-espresso-data"
XC = ("pbe", "pbesol", "lda", "blyp", "tpss")


@dataclass(frozen=True)
class Accuracy:
    """Numerical settings that go together.

    Args:
        cutoffs: in units of those that the pseudopotentials suggest
        k_spacing_per_A: largest distance of k-points along a reciprocal vector (2 pi included)
        convergence_Ry: of the energy of an atom in the SCF
    """

    cutoffs: float
    k_spacing_per_A: float
    convergence_Ry: float


ACCURACIES = {
    "draft": Accuracy(0.7, 0.4, 1e-7),
    "normal": Accuracy(1.0, 0.25, 1e-8),
    "tight": Accuracy(1.5, 0.15, 1e-9),
}
ATTEMPTS = (
    {"mixing_beta": 0.7},
    {"mixing_beta": 0.3, "mixing_ndim": 12},
    {"mixing_beta": 0.1, "mixing_mode": "local-TF", "diagonalization": "cg"},
)
"""Of the SCF, each tried where the one before did not converge"""
CYCLES = 100
NEAR = 0.1
"""Relative difference of lengths up to which a cell has the mesh of a known one"""
VACUUM = 6.0
"""Å without atoms along a direction, across which nothing is taken to be periodic"""
INPUT, OUTPUT, SCRATCH = "pw.in", "pw.out", "scratch"
SPIN = 0.5
"""Initial polarisation of every atom where electrons are unpaired"""


@dataclass(frozen=True)
class Espresso:
    """Free energy, forces and stress by pw.x, on one core.

    The mesh of k-points holds ceil(|b| / k_spacing) points along a reciprocal vector b, so it
    follows the cell, and one where the direction is not periodic or atoms leave VACUUM free. Cells
    whose b are within NEAR of those of a structure that it is for (`settled`) have its mesh: the
    energy would jump where a strain adds a point (30 meV an atom in silicon at a draft's accuracy).
    Symmetry is not used: pw.x would add to a shifted mesh the points that the lattice's symmetry
    asks for, and the energy would jump where a strain breaks it (10 meV in two atoms of silicon).
    Occupations are smeared by the cold function, which changes nothing in an insulator; with
    smearing_eV = 0 they are fixed. What is left open follows from `accuracy`.

    An SCF that does not converge is tried again with more careful mixing, and then with another
    diagonalisation. With a `folder`, input and output of every calculation stay there, and one that
    has ended is read, not repeated.

    Args:
        xc: functional, which that of the pseudopotential files must be
        accuracy: "draft", "normal" or "tight"
        pseudopotentials: folder of UPF files; none: those of Debian's quantum-espresso-data
        cutoff_Ry, density_cutoff_Ry: of wave functions and density
        k_spacing_per_A: largest distance of k-points
        smearing_eV: width
        command: how pw.x is called; the shell does not see it
        time_limit_min: for one attempt
        folder: where calculations are kept; none: they go when they have been read
        elements, cells: that it is settled for: symbols, and lengths of b in 1/Å

    Source: Giannozzi et al., J. Phys.: Condens. Matter 29, 465901 (2017); Marzari et al., Phys.
        Rev. Lett. 82, 3296 (1999)
    """

    xc: str = "pbe"
    accuracy: str = "normal"
    pseudopotentials: Path | None = None
    cutoff_Ry: float | None = None
    density_cutoff_Ry: float | None = None
    k_spacing_per_A: float | None = None
    smearing_eV: float = 0.1
    command: str = "pw.x"
    time_limit_min: float = 120.0
    folder: Path | None = field(default=None, metadata={"setting": False})
    elements: tuple[str, ...] = field(default=(), metadata={"setting": False})
    cells: tuple[tuple[float, float, float], ...] = field(default=(), metadata={"setting": False})

    def settled(self, frames: Frames) -> "Espresso":
        """The same, knowing what it is for, so that `settings` say all and meshes do not change."""
        cells = {(a, b, c) for a, b, c in np.linalg.norm(_reciprocal(frames), axis=2).round(6)}
        return replace(
            self,
            elements=tuple(sorted({*self.elements, *frames.symbols})),
            cells=tuple(sorted({*self.cells, *cells})),
        )

    def keeping(self, folder: Path) -> "Espresso":
        """The same, whose calculations stay in a folder, so that a rerun reads what has ended."""
        return replace(self, folder=folder)

    @property
    def settings(self) -> dict[str, Any]:
        """JSON of everything that decides a label, pseudopotentials by their content."""
        files = self._files(self.elements)
        return {
            "kind": "espresso",
            "xc": self.xc,
            "pseudopotentials": {s: f"{f.path.name} {f.digest}" for s, f in files.items()},
            "cutoffs_Ry": list(self._cutoffs(files)) if files else None,
            "k_spacing_per_A": self._k_spacing,
            "cells_per_A": [list(cell) for cell in self.cells],
            "smearing_eV": self.smearing_eV,
            "convergence_Ry": self._accuracy.convergence_Ry,
        }

    @property
    def _accuracy(self) -> Accuracy:
        return ACCURACIES[self.accuracy]

    @property
    def _k_spacing(self) -> float:
        return self.k_spacing_per_A or self._accuracy.k_spacing_per_A

    def _files(self, symbols: tuple[str, ...]) -> dict[str, Pseudopotential]:
        folder = self.pseudopotentials or pseudopotentials.DEBIAN
        return pseudopotentials.chosen(symbols, folder, self.xc)

    @property
    def scale(self) -> float:
        """Cutoffs in units of those that pseudopotentials suggest, where none is given."""
        return self._accuracy.cutoffs

    def cutoffs(self, symbols: tuple[str, ...]) -> tuple[float, float]:
        """Of wave functions and density for these elements, Ry."""
        return self._cutoffs(self._files(symbols))

    def _cutoffs(self, files: dict[str, Pseudopotential]) -> tuple[float, float]:
        scale = self._accuracy.cutoffs
        wave = self.cutoff_Ry or scale * max(file.cutoff_Ry for file in files.values())
        density = scale * max(file.density_cutoff_Ry for file in files.values())
        return round(wave, 3), round(self.density_cutoff_Ry or max(density, 4.0 * wave), 3)

    def check(self, frames: Frames) -> None:
        """Raise InputError where pw.x cannot label such frames with such settings."""
        check_program("espresso", self.command, INSTALL)
        if self.accuracy not in ACCURACIES:
            raise InputError(
                f"accuracy = {self.accuracy!r} is not known{nearest(self.accuracy, ACCURACIES)}; "
                f"give one of {', '.join(ACCURACIES)}."
            )
        if self.xc not in XC:
            raise InputError(
                f"xc = {self.xc!r} is not known{nearest(self.xc, XC)}; give one of {', '.join(XC)}."
            )
        for name in ("cutoff_Ry", "density_cutoff_Ry", "k_spacing_per_A", "time_limit_min"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise InputError(f"{name} = {value:g}; give a number above 0.")
        if not 0 <= self.smearing_eV <= 2:
            raise InputError(f"smearing_eV = {self.smearing_eV:g}; give 0 to 2 eV.")
        if self.pseudopotentials is not None and not self.pseudopotentials.is_dir():
            raise InputError(
                f"pseudopotentials = '{self.pseudopotentials}' is not a folder; name one that "
                "holds UPF files."
            )
        files = self._files(frames.symbols)
        wave, density = self._cutoffs(files)
        if density < 4.0 * wave:
            raise InputError(
                f"density_cutoff_Ry = {density:g} is less than 4 cutoff_Ry = {4 * wave:g}, below "
                "which the density lacks products of wave functions; give more, or leave it out."
            )
        if not np.all(np.linalg.matrix_rank(np.asarray(frames.cell)) == 3):
            raise InputError(
                "kind = 'espresso' needs a cell with three independent vectors; give a molecule a "
                f"box with at least {VACUUM:g} Å of vacuum and pbc = T T T, or use kind = 'pyscf'."
            )
        check_electrons(frames)

    def __call__(self, frames: Frames) -> Label | Failure:
        """Free energy, forces and virial of one configuration."""
        return answer(self._label, frames)

    def _label(self, frames: Frames) -> Label:
        files = self._files(frames.symbols)
        text = self._input(frames, files)
        name = hashlib.blake2b(
            "".join([text, *(file.digest for file in files.values())]).encode(), digest_size=12
        ).hexdigest()
        with workplace(self.folder, name, self.time_limit_min) as place:
            for number, attempt in enumerate(ATTEMPTS, 1):
                if not _ended(place.folder):
                    self._attempt(place, text, files, attempt)
                shutil.rmtree(place.folder / SCRATCH, ignore_errors=True)
                result = _read(place.folder)
                if result is not None:
                    return _labelled(frames, result, number, self.xc)
                (place.folder / OUTPUT).rename(place.folder / f"attempt-{number}.out")
        raise Refusal(
            f"The SCF of pw.x did not converge in {len(ATTEMPTS)} times {CYCLES} cycles, with "
            f"mixing_beta down to {ATTEMPTS[-1]['mixing_beta']}."
        )

    def _input(self, frames: Frames, files: dict[str, Pseudopotential]) -> str:
        (atoms,) = frames.to_ase()
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
        convergence = self._accuracy.convergence_Ry * len(atoms)
        electrons = {"conv_thr": convergence, "electron_maxstep": CYCLES}
        mesh = self.mesh(frames)
        stream = io.StringIO()
        write_espresso_in(
            stream,
            atoms,
            input_data={"control": control, "system": system, "electrons": electrons},
            pseudopotentials={symbol: file.path.name for symbol, file in files.items()},
            kpts=None if mesh == (1, 1, 1) else mesh,
            koffset=[int(n % 2 == 0) for n in mesh],
        )
        return stream.getvalue()

    def mesh(self, frames: Frames) -> tuple[int, int, int]:
        """k-points along each reciprocal vector; an even number is shifted by half a step."""
        (reciprocal,) = _reciprocal(frames)
        lengths = np.linalg.norm(reciprocal, axis=1)
        known = (np.array(cell) for cell in self.cells)
        near = (cell for cell in known if np.abs(np.log(lengths / cell)).max() < NEAR)
        counts = np.ceil(next(near, lengths) / self._k_spacing - 1e-6).astype(int)
        scaled = np.sort(np.asarray(frames.positions[0]) @ reciprocal.T / (2 * np.pi) % 1.0, axis=0)
        gaps = np.diff(scaled, axis=0, append=scaled[:1] + 1.0).max(axis=0)
        dense = np.asarray(frames.pbc[0]) & (gaps * 2 * np.pi / lengths < VACUUM)
        a, b, c = np.where(dense, counts, 1).tolist()
        return a, b, c

    def _attempt(
        self, place: Place, text: str, files: dict[str, Pseudopotential], how: dict[str, Any]
    ) -> None:
        scratch = place.folder / SCRATCH
        scratch.mkdir(exist_ok=True)
        for file in files.values():
            link = scratch / file.path.name
            link.unlink(missing_ok=True)
            link.symlink_to(file.path.resolve())
        lines = "".join(f"   {name} = {value!r}\n" for name, value in how.items())
        told = text.replace("&ELECTRONS\n", f"&ELECTRONS\n{lines}")
        (place.folder / INPUT).write_text(told)
        place.run(self.command, ["-in", INPUT], OUTPUT, self.time_limit_min)

    @staticmethod
    def availability() -> tuple[bool, str]:
        """Whether it works on this machine, and its version or how to get it."""
        path = executable("pw.x")
        if path is None:
            return False, INSTALL
        known = [
            f"{xc.upper()} for {', '.join(sorted(found))}"
            for xc in ("pbe", "lda")
            if (found := pseudopotentials.available(pseudopotentials.DEBIAN, xc))
        ]
        return True, f"{path}; pseudopotentials of {'; of '.join(known) or 'a folder you name'}"


def _reciprocal(frames: Frames) -> np.ndarray:
    """(b, 3, 3) rows are the reciprocal vectors, 2 pi included, 1/Å."""
    return 2 * np.pi * np.swapaxes(np.linalg.inv(np.asarray(frames.cell, float)), 1, 2)


def _ended(place: Path) -> bool:
    """Whether a calculation ran here to its end."""
    output = place / OUTPUT
    return output.is_file() and "JOB DONE" in output.read_text(errors="replace")[-2000:]


def _read(place: Path) -> ase.Atoms | None:
    """What pw.x said; None: its SCF did not converge.

    Raises:
        Refusal: it said that something else is wrong, or nothing that can be read
    """
    text = (place / OUTPUT).read_text(errors="replace")
    if "convergence NOT achieved" in text:
        return None
    if wrong := re.search(r"%%%+\s*\n\s*Error in routine\s+(.*?)\n\s*%%%+", text, re.DOTALL):
        said = " ".join(wrong[1].split())
        metal = "system is metallic" in said or "smearing is needed" in said
        remedy = "; give smearing_eV = 0.1, say" if metal else ""
        raise Refusal(f"pw.x stopped: {said}{remedy}.")
    if "convergence has been achieved" not in text or not _ended(place):
        last = next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")
        raise Refusal(f"pw.x ended without a result; its last line is {last[:200]!r}.")
    return ase.io.read(place / OUTPUT, format="espresso-out")  # pyright: ignore


def _labelled(frames: Frames, result: ase.Atoms, attempt: int, xc: str) -> Label:
    virial = np.full((3, 3), np.nan)
    if np.all(frames.pbc):
        virial = -result.get_stress(voigt=False) * result.get_volume()
    again = f", attempt {attempt}" if attempt > 1 else ""
    return Label(
        energy=np.array([result.get_potential_energy(force_consistent=True)]),
        forces=np.array(result.get_forces(), float)[None],
        virial=virial[None],
        engine=f"Quantum ESPRESSO {xc.upper()}{again}",
    )
