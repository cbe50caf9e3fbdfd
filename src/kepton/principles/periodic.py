"""Engines that are programs for periodic systems: what they have in common."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import ase
import numpy as np
from ase.calculators.singlepoint import SinglePointCalculator

from kepton.atoms import GAP, Frames, Label, gaps
from kepton.elt import Failure
from kepton.errors import InputError
from kepton.principles.principle import Refusal, answer, check_electrons, nearest
from kepton.principles.program import Place, check_program, executable, workplace

K_SPACINGS_PER_A = {"draft": 0.35, "normal": 0.25, "tight": 0.15}
"""Largest distance of k-points along a reciprocal vector (2 pi included), by accuracy"""
NEAR = 0.1
"""Relative difference of lengths up to which a cell has the mesh of a known one"""


@dataclass(frozen=True, kw_only=True)
class PeriodicProgram(ABC):
    """A program that labels periodic systems by density functional theory, on one core.

    The mesh of k-points holds ceil(|b| / k_spacing) points along a reciprocal vector b, so it
    follows the cell, and one where the direction is not periodic or atoms leave GAP free. Cells
    whose b are within NEAR of those of a structure that it is for (`settled`) have its mesh: the
    energy would jump where a strain adds a point (30 meV an atom in silicon at a draft's accuracy).
    What is left open follows from `accuracy`.

    An SCF that does not converge is tried again in another way, as often as there are ATTEMPTS: the
    second goes on from the DENSITY of the first, those after it begin anew. With a `folder`, input
    and output of every calculation stay there, and an attempt that has ended is read, not repeated.

    Args:
        xc: functional
        accuracy: "draft", "normal" or "tight"
        k_spacing_per_A: largest distance of k-points
        smearing_eV: width of the occupations; 0: fixed ones
        command: how the program is called; the shell does not see it
        time_limit_min: for one attempt
        folder: where calculations are kept; none: they go when they have been read
        elements, cells: that it is settled for: symbols, and lengths of b in 1/Å
    """

    xc: str = "pbe"
    accuracy: str = "normal"
    k_spacing_per_A: float | None = None
    smearing_eV: float = 0.1
    command: str = ""
    time_limit_min: float = 120.0
    folder: Path | None = field(default=None, metadata={"setting": False})
    elements: tuple[str, ...] = field(default=(), metadata={"setting": False})
    cells: tuple[tuple[float, float, float], ...] = field(default=(), metadata={"setting": False})

    KIND: ClassVar[str]
    PROGRAM: ClassVar[str]
    INSTALL: ClassVar[str]
    XC: ClassVar[tuple[str, ...]]
    OUTPUT: ClassVar[str]
    ATTEMPTS: ClassVar[int]
    CYCLES: ClassVar[int] = 100
    """Of the SCF in an attempt, at most"""
    DENSITY: ClassVar[str | None] = None
    """Pattern of the files in which an attempt leaves its density, where another can read it"""
    LEAST_MIXING: ClassVar[float]
    """Share of the new density in the last attempt"""
    FRACTIONAL: ClassVar[bool] = True
    """Whether it shares an odd electron out where occupations are smeared"""

    def settled(self, frames: Frames) -> "PeriodicProgram":
        """The same, knowing what it is for, so that `settings` say all and meshes do not change."""
        cells: set[tuple[float, float, float]] = set()
        if np.any(frames.pbc):
            lengths = np.linalg.norm(reciprocal(frames), axis=2).round(6)
            cells = {(a, b, c) for a, b, c in lengths.tolist()}
        return replace(
            self,
            elements=tuple(sorted({*self.elements, *frames.symbols})),
            cells=tuple(sorted({*self.cells, *cells})),
        )

    def keeping(self, folder: Path) -> "PeriodicProgram":
        """The same, whose calculations stay in a folder, so that a rerun reads what has ended."""
        return replace(self, folder=folder)

    @property
    def settings(self) -> dict[str, Any]:
        """JSON of everything that decides a label, pseudopotentials by their content."""
        return {
            "kind": self.KIND,
            "xc": self.xc,
            **(self._settings(self.elements)),
            "mesh": "around 0",
            "k_spacing_per_A": self._k_spacing,
            "cells_per_A": [list(cell) for cell in self.cells],
            "smearing_eV": self.smearing_eV,
        }

    @property
    def _k_spacing(self) -> float:
        return self.k_spacing_per_A or K_SPACINGS_PER_A[self.accuracy]

    def mesh(self, frames: Frames) -> tuple[int, int, int]:
        """k-points along each reciprocal vector, one of them at 0."""
        if not np.any(frames.pbc):
            return 1, 1, 1
        (vectors,) = reciprocal(frames)
        lengths = np.linalg.norm(vectors, axis=1)
        known = (np.array(cell) for cell in self.cells)
        near = (cell for cell in known if np.abs(np.log(lengths / cell)).max() < NEAR)
        counts = np.ceil(next(near, lengths) / self._k_spacing - 1e-6).astype(int)
        dense = np.asarray(frames.pbc[0]) & (gaps(frames) < GAP)
        a, b, c = np.where(dense, counts, 1).tolist()
        return a, b, c

    def check(self, frames: Frames) -> None:
        """Raise InputError where the program cannot label such frames with such settings."""
        check_program(self.KIND, self.command, self.INSTALL)
        _check_known("accuracy", self.accuracy, K_SPACINGS_PER_A)
        _check_known("xc", self.xc, self.XC)
        self._check_positive("k_spacing_per_A", "time_limit_min")
        if not 0 <= self.smearing_eV <= 2:
            raise InputError(f"smearing_eV = {self.smearing_eV:g}; give 0 to 2 eV.")
        self._check(frames)
        check_electrons(frames, paired=not (self.smearing_eV and self.FRACTIONAL))

    def _check_positive(self, *names: str) -> None:
        for name in names:
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise InputError(f"{name} = {value:g}; give a number above 0.")

    def _check_cell(self, frames: Frames) -> None:
        if not np.all(np.linalg.matrix_rank(np.asarray(frames.cell)) == 3):
            raise InputError(
                f"kind = {self.KIND!r} needs a cell with three independent vectors; give a "
                f"molecule a box with at least {GAP:g} Å of vacuum and pbc = T T T, or use "
                "kind = 'pyscf'."
            )

    def _check_smeared(self, frames: Frames) -> None:
        """For programs that fill as many bands at each k-point where nothing is smeared."""
        if not self.smearing_eV and self.mesh(frames) != (1, 1, 1):
            raise InputError(
                f"smearing_eV = 0 with more than one k-point: {self.PROGRAM} then fills as many "
                "bands at each, in a metal too, where the energy is too high; give smearing_eV = "
                "0.05, say, which changes nothing in an insulator, or a larger cell or "
                "k_spacing_per_A."
            )

    def __call__(self, frames: Frames) -> Label | Failure:
        """Free energy, forces and virial of one configuration."""
        return answer(self._label, frames)

    def _label(self, frames: Frames) -> Label:
        content = self._input(frames, 0, False) + repr(self._settings(frames.symbols))
        name = hashlib.blake2b(content.encode(), digest_size=12).hexdigest()
        with workplace(self.folder, name, self.time_limit_min) as place:
            try:
                return self._tried(place, frames)
            finally:
                self._tidy(place.folder, frames)

    def _tried(self, place: Place, frames: Frames) -> Label:
        output = place.folder / self.OUTPUT
        for attempt in range(self.ATTEMPTS):
            unconverged = place.folder / f"attempt-{attempt + 1}.out"
            if unconverged.exists():
                continue
            if not self._ended(output):
                goes_on = attempt == 1 and bool(self._densities(place.folder))
                self._run(place, self._input(frames, attempt, goes_on), frames)
            result = self._read(output)
            if result is not None:
                return self._labelled(frames, result, attempt + 1)
            output.rename(unconverged)
        remedy = "" if self.smearing_eV else "; a metal needs smearing_eV = 0.1, say"
        raise Refusal(
            f"The SCF of {self.PROGRAM} did not converge in {self.ATTEMPTS} times {self.CYCLES} "
            f"cycles, with mixing down to {self.LEAST_MIXING:g}{remedy}."
        )

    def _labelled(self, frames: Frames, result: ase.Atoms, attempt: int) -> Label:
        virial = np.full((3, 3), np.nan)
        if np.all(frames.pbc):
            volume = abs(np.linalg.det(np.asarray(frames.cell[0], float)))
            virial = -result.get_stress(voigt=False) * volume
        again = f", attempt {attempt}" if attempt > 1 else ""
        return Label(
            energy=np.array([result.get_potential_energy(force_consistent=True)]),
            forces=np.array(result.get_forces(), float)[None],
            virial=virial[None],
            engine=f"{self.PROGRAM} {self.xc.upper()}{again}",
        )

    @abstractmethod
    def _settings(self, symbols: tuple[str, ...]) -> dict[str, Any]:
        """What decides a label of these elements beside what all programs have."""

    @abstractmethod
    def cutoffs(self, symbols: tuple[str, ...]) -> dict[str, float]:
        """With which it labels these elements, by the name of the setting."""

    @abstractmethod
    def _check(self, frames: Frames) -> None:
        """Raise InputError for what only this program cannot do."""

    @abstractmethod
    def _input(self, frames: Frames, attempt: int, goes_on: bool) -> str:
        """The input of an attempt, counted from 0; it may go on from the density that is there."""

    @abstractmethod
    def _run(self, place: Place, text: str, frames: Frames) -> None:
        """Run the program on an input."""

    def _tidy(self, folder: Path, frames: Frames) -> None:  # noqa: ARG002
        """Remove what only the program reads."""
        for path in self._densities(folder):
            path.unlink()

    def _densities(self, folder: Path) -> list[Path]:
        """What an attempt has left of its density."""
        return list(folder.glob(self.DENSITY)) if self.DENSITY else []

    @abstractmethod
    def _ended(self, output: Path) -> bool:
        """Whether a calculation ran here to its end."""

    @abstractmethod
    def _read(self, output: Path) -> ase.Atoms | None:
        """What the program said; None: its SCF did not converge.

        Raises:
            Refusal: it said that something else is wrong, or nothing that can be read
        """

    @classmethod
    def availability(cls) -> tuple[bool, str]:
        """Whether it works on this machine, and its version or how to get it."""
        path = executable(cls.command)
        return (True, f"{path}; {cls._covered()}") if path else (False, cls.INSTALL)

    @staticmethod
    @abstractmethod
    def _covered() -> str:
        """For how many elements there is what it needs, in words."""


def reciprocal(frames: Frames) -> np.ndarray:
    """(b, 3, 3) rows are the reciprocal vectors, 2 pi included, 1/Å."""
    return 2 * np.pi * np.swapaxes(np.linalg.inv(np.asarray(frames.cell, float)), 1, 2)


def answered(energy: float, forces: np.ndarray, stress: np.ndarray) -> ase.Atoms:
    """What a program said, as ASE's readers give it; there is no species.

    Args:    energy: free, eV;  forces: (n, 3) eV/Å;  stress: (3, 3) or Voigt's (6,) eV/Å^3
    """
    atoms = ase.Atoms(["X"] * len(forces))
    atoms.calc = SinglePointCalculator(
        atoms, energy=energy, free_energy=energy, forces=forces, stress=stress
    )
    return atoms


def without_result(program: str, output: Path) -> Refusal:
    """The reason for an output that holds no result and no reason of its own."""
    lines = output.read_text(errors="replace").splitlines()
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return Refusal(f"{program} ended without a result; its last line is {last[:200]!r}.")


def _check_known(name: str, value: str, known: Mapping[str, Any] | tuple[str, ...]) -> None:
    if value not in known:
        raise InputError(
            f"{name} = {value!r} is not known{nearest(value, known)}; give one of "
            f"{', '.join(known)}."
        )
