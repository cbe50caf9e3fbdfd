"""Any calculator of the Atomic Simulation Environment, named by its import path."""

import importlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import ase
import numpy as np
from ase.calculators.calculator import PropertyNotImplementedError

from kepton.atoms import Frames, Label
from kepton.atoms.outputs import judgement
from kepton.elt import Failure
from kepton.errors import InputError
from kepton.principles.principle import Refusal, answer, nearest


@dataclass(frozen=True)
class ASECalculator:
    """Energy, forces and, where the calculator knows it, virial of any ASE calculator.

    The energy is the one whose derivatives the forces are (ASE's `free_energy`) where the
    calculator tells it apart. A calculator that writes files does so in a temporary folder; what
    the outputs of programs there say of convergence (see `kepton.atoms.outputs`) decides whether
    there is a label, since ASE does not look.
    Charge and spin stand in the atoms' `info`: a calculator that does not read them there needs
    them in `arguments`.

    Args:
        calculator: "module:name" of the class, or of a function that makes a calculator
        arguments: keyword arguments of the class, as JSON

    Source: Larsen et al., J. Phys.: Condens. Matter 29, 273002 (2017)
    """

    calculator: str = "ase.calculators.emt:EMT"
    arguments: dict[str, Any] = field(default_factory=dict)

    @property
    def settings(self) -> dict[str, Any]:
        """JSON of everything that decides a label."""
        return {"kind": "ase", **asdict(self)}

    def check(self, frames: Frames) -> None:  # noqa: ARG002 - a calculator knows its elements late
        """Raise InputError where no ASE calculator can be made of such settings."""
        try:
            json.dumps(self.arguments)
        except (TypeError, ValueError) as error:
            raise InputError(
                f"arguments of {self.calculator!r} must be numbers, strings, lists and tables, so "
                f"that they can be written down: {error}."
            ) from error
        module_name, _, name = self.calculator.partition(":")
        if not (module_name and name):
            raise InputError(
                f"calculator = {self.calculator!r} is not an import path; give 'module:name', such "
                "as 'ase.calculators.emt:EMT'."
            )
        try:
            module = importlib.import_module(module_name)
        except ImportError as error:
            raise InputError(
                f"calculator = {self.calculator!r}: the module {module_name!r} cannot be imported "
                f"({error}); correct the name or install the package it belongs to."
            ) from error
        if not hasattr(module, name):
            raise InputError(
                f"calculator = {self.calculator!r}: the module {module_name!r} has no {name!r}"
                f"{nearest(name, dir(module))}; give the name of a calculator class."
            )
        try:
            calculator = self._calculator()
        except Exception as error:
            raise InputError(
                f"calculator = {self.calculator!r} cannot be made from arguments = "
                f"{self.arguments}: {type(error).__name__}: {error}; correct [principle.arguments] "
                "by the calculator's own documentation."
            ) from error
        if not (hasattr(calculator, "get_forces") and hasattr(calculator, "get_potential_energy")):
            raise InputError(
                f"calculator = {self.calculator!r} makes a {type(calculator).__name__}, which is "
                "not an ASE calculator: it has no get_potential_energy and get_forces."
            )

    def _calculator(self):
        module, _, name = self.calculator.partition(":")
        return getattr(importlib.import_module(module), name)(**self.arguments)

    def __call__(self, frames: Frames) -> Label | Failure:
        """Energy, forces and virial of one configuration; nan where there is no virial."""
        return answer(self._label, frames)

    def _label(self, frames: Frames) -> Label:
        (atoms,) = frames.to_ase()
        with TemporaryDirectory(prefix="kepton-") as folder:
            calculator = self._calculator()
            if hasattr(calculator, "directory"):
                calculator.directory = Path(folder)
            atoms.calc = calculator
            forces = atoms.get_forces()
            try:
                energy = atoms.get_potential_energy(force_consistent=True)
            except PropertyNotImplementedError:
                energy = atoms.get_potential_energy()
            virial = _virial(atoms)
            _check_converged(Path(folder))
        return Label(
            energy=np.array([energy], float),
            forces=np.array(forces, float)[None],
            virial=virial[None],
            engine=f"ase {ase.__version__} {self.calculator}",
        )

    @staticmethod
    def availability() -> tuple[bool, str]:
        """Whether it works on this machine, and its version or how to get it."""
        return True, f"ase {ase.__version__}"


def _check_converged(folder: Path) -> None:
    """Raise Refusal where a program's output says that it did not converge."""
    for path in folder.rglob("*"):
        found = judgement(path) if path.is_file() else None
        if found is not None and found.refused:
            raise Refusal(f"{found.output.program} did not converge: {found.refused[0]}.")


def _virial(atoms: ase.Atoms) -> np.ndarray:
    """-stress times volume in eV; nan without a periodic cell or without a stress."""
    if atoms.pbc.any() and atoms.cell.rank == 3:
        try:
            return -np.asarray(atoms.get_stress(voigt=False)) * atoms.get_volume()
        except PropertyNotImplementedError:
            pass
    return np.full((3, 3), np.nan)
