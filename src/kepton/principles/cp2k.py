"""CP2K: density functional theory with Gaussians and plane waves."""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import ase
import numpy as np
from ase.units import kB

from kepton.atoms import Frames, cp2k
from kepton.atoms.outputs import judgement
from kepton.errors import InputError
from kepton.principles import gth
from kepton.principles.gth import Entry
from kepton.principles.periodic import PeriodicProgram, without_result
from kepton.principles.principle import Refusal
from kepton.principles.program import Place


@dataclass(frozen=True)
class Accuracy:
    """Numerical settings that go together.

    Args:
        bases: families of basis sets, of which an element has the first that there is for it
        cutoff_Ry: of the density, in units of the largest exponent of the basis. The functional on
            too coarse a grid leaves a net force: with 80 0.012 eV/Å an atom in NaCl, with 100 0.002
        relative_cutoff_Ry: of a Gaussian with exponent 1, CP2K's REL_CUTOFF
        convergence: of the SCF, CP2K's EPS_SCF
        precision: of integrals, CP2K's EPS_DEFAULT
    """

    bases: tuple[str, ...]
    cutoff_Ry: float
    relative_cutoff_Ry: float
    convergence: float
    precision: float


DOUBLE = ("DZVP-MOLOPT-SR-GTH", "DZVP-MOLOPT-GTH")
TRIPLE = ("TZV2P-MOLOPT-SR-GTH", "TZV2P-MOLOPT-GTH", "TZV2P-MOLOPT-PBE-GTH")
ACCURACIES = {
    "draft": Accuracy(DOUBLE, 100.0, 40.0, 1e-6, 1e-12),
    "normal": Accuracy(DOUBLE, 120.0, 50.0, 1e-7, 1e-12),
    "tight": Accuracy(TRIPLE, 140.0, 60.0, 1e-8, 1e-14),
}
LEAST_CUTOFF_RY = 150.0
POTENTIALS = {"pbe": "GTH-PBE", "lda": "GTH-PADE", "blyp": "GTH-BLYP"}
FUNCTIONALS = {"pbe": "PBE", "lda": "PADE", "blyp": "BLYP"}
BASIS_FILES = ("BASIS_MOLOPT", "BASIS_MOLOPT_UCL", "BASIS_MOLOPT_UZH")
POTENTIAL_FILE = "GTH_POTENTIALS"
MIXING = (
    ("BROYDEN_MIXING", 0.4, 8),
    ("BROYDEN_MIXING", 0.1, 12),
    ("PULAY_MIXING", 0.05, 12),
)
"""Method, weight of the new density and number of old ones of attempts by diagonalisation"""
EMPTY = 4
"""Orbitals for each atom beside the filled ones, where occupations are smeared"""
INPUT, PROJECT = "cp2k.inp", "kepton"


@dataclass(frozen=True, kw_only=True)
class CP2K(PeriodicProgram):
    """Free energy, forces and stress by CP2K's Quickstep: see `PeriodicProgram`.

    Occupations are smeared by the Fermi function. With smearing_eV = 0, at one k-point, they are
    fixed: orbitals are then found by their transformation, or by diagonalisation where it fails.

    Args:
        xc: functional: "pbe", "lda" or "blyp"
        data: folder of CP2K's basis sets and pseudopotentials; none: the installed one
        basis: family of basis sets, such as "TZVP-MOLOPT-GTH"
        cutoff_Ry: of the density

    Source: Kühne et al., J. Chem. Phys. 152, 194103 (2020); VandeVondele and Hutter, J. Chem.
        Phys. 127, 114105 (2007)
    """

    command: str = "cp2k"
    data: Path | None = None
    basis: str | None = None
    cutoff_Ry: float | None = None

    KIND: ClassVar[str] = "cp2k"
    PROGRAM: ClassVar[str] = "CP2K"
    INSTALL: ClassVar[str] = "Debian: apt-get install cp2k"
    XC: ClassVar[tuple[str, ...]] = tuple(FUNCTIONALS)
    OUTPUT: ClassVar[str] = "cp2k.out"
    ATTEMPTS: ClassVar[int] = len(MIXING)
    DENSITY: ClassVar[str] = f"{PROJECT}-RESTART.*"
    LEAST_MIXING: ClassVar[float] = MIXING[-1][1]
    FRACTIONAL: ClassVar[bool] = False

    def _settings(self, symbols: tuple[str, ...]) -> dict[str, Any]:
        chosen = self._chosen(symbols)
        accuracy = ACCURACIES[self.accuracy]
        return {
            "basis": {s: f"{basis.name} {basis.digest}" for s, (basis, _) in chosen.items()},
            "pseudopotentials": {s: f"{p.name} {p.digest}" for s, (_, p) in chosen.items()},
            "cutoffs_Ry": [self._cutoff(chosen), accuracy.relative_cutoff_Ry] if chosen else None,
            "convergence": [accuracy.convergence, accuracy.precision],
        }

    @property
    def _folder(self) -> Path:
        return self.data or installed()

    def _chosen(self, symbols: tuple[str, ...]) -> dict[str, tuple[Entry, Entry]]:
        """Basis set and pseudopotential of each of these elements.

        Raises:
            InputError: an element without them
        """
        families = (self.basis,) if self.basis else ACCURACIES[self.accuracy].bases
        known = available(self._folder, self.xc, families)
        for symbol in symbols:
            if symbol not in known:
                raise InputError(
                    f"{self._folder} holds no basis set ({', '.join(families)}) with a "
                    f"pseudopotential of {symbol} for xc = {self.xc!r}, only of "
                    f"{', '.join(known) or 'no element'}; give another accuracy or basis, or name "
                    "a folder that holds them: [principle] data = 'FOLDER'."
                )
        return {symbol: known[symbol] for symbol in symbols}

    def cutoffs(self, symbols: tuple[str, ...]) -> dict[str, float]:
        """Of the density."""
        return {"cutoff_Ry": self._cutoff(self._chosen(symbols))}

    def _cutoff(self, chosen: dict[str, tuple[Entry, Entry]]) -> float:
        hardest = max(basis.largest for basis, _ in chosen.values())
        natural = max(ACCURACIES[self.accuracy].cutoff_Ry * hardest, LEAST_CUTOFF_RY)
        return self.cutoff_Ry or round(natural, 1)

    def _check(self, frames: Frames) -> None:
        self._check_positive("cutoff_Ry")
        self._chosen(frames.symbols)
        self._check_cell(frames)
        self._check_smeared(frames)

    def _input(self, frames: Frames, attempt: int, goes_on: bool) -> str:
        (atoms,) = frames.to_ase()
        chosen, mesh = self._chosen(frames.symbols), self.mesh(frames)
        accuracy = ACCURACIES[self.accuracy]
        electrons: dict[str, Any] = {
            "BASIS_SET_FILE_NAME": [self._folder / name for name in BASIS_FILES],
            "POTENTIAL_FILE_NAME": self._folder / POTENTIAL_FILE,
            "CHARGE": int(frames.charge[0]),
            "&MGRID": {
                "CUTOFF": self._cutoff(chosen),
                "REL_CUTOFF": accuracy.relative_cutoff_Ry,
            },
            "&QS": {"EPS_DEFAULT": accuracy.precision},
            "&SCF": self._scf(frames, attempt, goes_on),
            "&XC": {f"&XC_FUNCTIONAL {FUNCTIONALS[self.xc]}": {}},
        }
        if spin := int(frames.spin[0]):
            electrons |= {"UKS": "T", "MULTIPLICITY": spin + 1}
        if mesh != (1, 1, 1):
            onto_zero = [0.5 / n if n % 2 == 0 else 0.0 for n in mesh]
            scheme = f"MACDONALD {' '.join(map(str, mesh))} {_numbers(np.array(onto_zero))}"
            electrons["&KPOINTS"] = {"SCHEME": scheme, "EPS_GEO": 1e-10}
        matter = {
            "&CELL": {name: _numbers(vector) for name, vector in zip("ABC", atoms.cell.array)},
            "&COORD": {"": [f"{s} {_numbers(p)}" for s, p in zip(atoms.symbols, atoms.positions)]},
            **{
                f"&KIND {symbol}": {"BASIS_SET": basis.name, "POTENTIAL": potential.name}
                for symbol, (basis, potential) in chosen.items()
            },
            "&PRINT": {"&ATOMIC_COORDINATES ON": {}},
        }
        force = {
            "METHOD": "QUICKSTEP",
            "STRESS_TENSOR": "ANALYTICAL",
            "&DFT": electrons,
            "&SUBSYS": matter,
            "&PRINT": {"&FORCES ON": {"NDIGITS": 12}, "&STRESS_TENSOR ON": {}},
        }
        run = {"PROJECT": PROJECT, "RUN_TYPE": "ENERGY_FORCE", "PRINT_LEVEL": "LOW"}
        return "\n".join(_sections({"&GLOBAL": run, "&FORCE_EVAL": force})) + "\n"

    def _scf(self, frames: Frames, attempt: int, goes_on: bool) -> dict[str, Any]:
        scf: dict[str, Any] = {
            "SCF_GUESS": "RESTART" if goes_on else "ATOMIC",
            "EPS_SCF": ACCURACIES[self.accuracy].convergence,
            "MAX_SCF": self.CYCLES,
        }
        if not self.smearing_eV and attempt == 0:
            return scf | {"&OT": {"MINIMIZER": "DIIS", "PRECONDITIONER": "FULL_ALL"}}
        method, weight, past = MIXING[attempt]
        scf["&MIXING"] = {"METHOD": method, "ALPHA": weight, f"N{method.split('_')[0]}": past}
        if self.smearing_eV:
            scf["ADDED_MOS"] = EMPTY * int(np.sum(frames.mask))
            temperature = f"[K] {self.smearing_eV / kB:.6f}"
            smearing = {"METHOD": "FERMI_DIRAC", "ELECTRONIC_TEMPERATURE": temperature}
            if spin := int(frames.spin[0]):
                smearing["FIXED_MAGNETIC_MOMENT"] = str(spin)
            scf["&SMEAR ON"] = smearing
        return scf

    def _run(self, place: Place, text: str, frames: Frames) -> None:  # noqa: ARG002
        (place.folder / INPUT).write_text(text)
        place.run(self.command, ["-i", INPUT], self.OUTPUT, self.time_limit_min)

    def _ended(self, output: Path) -> bool:
        return output.is_file() and "PROGRAM ENDED" in output.read_text(errors="replace")[-2000:]

    def _read(self, output: Path) -> ase.Atoms | None:
        judged = judgement(output)
        if judged is not None and judged.refused:
            return None
        text = output.read_text(errors="replace")
        if wrong := re.search(r"\[ABORT\](.*?)\n\s*\*{20}", text, re.DOTALL):
            said = " ".join(
                re.sub(r"^ \* [ O/|\\_]{0,9}|[*]", " ", wrong[1], flags=re.MULTILINE).split()
            )
            raise Refusal(f"CP2K stopped: {said}.")
        found = cp2k.read(output) if self._ended(output) else []
        if len(found) != 1:
            raise without_result("CP2K", output)
        return found[0]

    @staticmethod
    def _covered() -> str:
        known = [
            f"{xc.upper()} for {len(found)} elements"
            for xc in FUNCTIONALS
            if (found := available(installed(), xc, DOUBLE))
        ]
        return "; ".join(known) or "basis sets of a folder that you name"


def installed() -> Path:
    """Where CP2K's data are, which the environment may say, and Debian's package puts there."""
    return Path(os.environ.get("CP2K_DATA_DIR", "/usr/share/cp2k"))


def available(folder: Path, xc: str, families: tuple[str, ...]) -> dict[str, tuple[Entry, Entry]]:
    """Basis set and pseudopotential, with as many electrons, of each element that has them.

    The first family that there is counts, and in it the largest number of electrons.
    """
    potentials = gth.entries(folder / POTENTIAL_FILE)
    bases = [entry for name in BASIS_FILES for entry in gth.entries(folder / name)]
    partners = {
        (potential.element, name): potential
        for potential in reversed(potentials)
        for name in potential.names
    }
    found: dict[str, tuple[int, int, Entry, Entry]] = {}
    for basis in bases:
        for name in basis.names:
            family, _, electrons = name.rpartition("-q")
            partner = partners.get((basis.element, f"{POTENTIALS[xc]}-q{electrons}"))
            if family not in families or partner is None:
                continue
            rank = -families.index(family), int(electrons)
            if basis.element not in found or rank > found[basis.element][:2]:
                found[basis.element] = (
                    *rank,
                    basis.called(name),
                    partner.called(f"{POTENTIALS[xc]}-q{electrons}"),
                )
    return {element: (basis, potential) for element, (_, _, basis, potential) in found.items()}


def _numbers(values: np.ndarray) -> str:
    return " ".join(f"{value:.12f}" for value in values)


def _sections(content: dict[str, Any], indent: str = "") -> list[str]:
    """Lines of CP2K's input: a key with & is a section, a list a keyword as often as it is long."""
    lines: list[str] = []
    for key, value in content.items():
        if isinstance(value, dict):
            inside = _sections(value, indent + "  ")
            lines += [f"{indent}{key}", *inside, f"{indent}&END {key[1:].split()[0]}"]
        else:
            for one in value if isinstance(value, list) else [value]:
                lines.append(f"{indent}{key} {one}".rstrip())
    return lines
