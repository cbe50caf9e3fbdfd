"""Outputs of CP2K: energies, forces and stresses of the configurations that they print.

Source: Kühne et al., J. Chem. Phys. 152, 194103 (2020); versions 6 to 2025
"""

import re
from collections.abc import Iterator
from pathlib import Path

import ase
import numpy as np
from ase.calculators.singlepoint import SinglePointCalculator

from kepton.atoms.units import BOHR, GIGAPASCAL, HARTREE
from kepton.errors import InputError

MOST_BETWEEN = 5
"""Lines between a heading and its table"""
_NUMBER = r"[-+]?\d+\.\d+(?:[Ee][-+]?\d+)?"
_THREE = re.compile(rf"({_NUMBER})\s+({_NUMBER})\s+({_NUMBER})")


def read(path: Path) -> list[ase.Atoms]:
    """The configurations of an output whose coordinates it holds.

    The energy is the free energy under smearing. CP2K's stress is positive under compression.

    Raises:
        InputError: energies of configurations whose coordinates went to another file
    """
    frames: list[ase.Atoms] = []
    cell, symbols, positions, energies = np.zeros((3, 3)), [], None, 0
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            if vector := re.search(r"CELL\| Vector ([abc]) \[angstrom\]:", line):
                cell["abc".index(vector[1])] = _numbers(line.split("]:")[1])
            elif "ATOMIC COORDINATES IN" in line.upper():
                rows = list(_table(file, r"^\s*\d+\s+\d+\s+[A-Z]"))
                symbols = [row.split()[2] for row in rows]
                positions = np.array([_numbers(row) for row in rows])
            elif "ENERGY| Total FORCE_EVAL" in line:
                energies += 1
                if positions is None:
                    continue
                atoms = ase.Atoms(symbols, positions, cell=cell, pbc=True)
                energy = float(line.split()[-1]) * HARTREE
                atoms.calc = SinglePointCalculator(atoms, energy=energy, free_energy=energy)
                frames.append(atoms)
                positions = None
            elif frames and energies == len(frames):
                _add(frames[-1], line, file)
    if energies > len(frames):
        raise InputError(
            f"{path} holds {energies} energies but the coordinates of {len(frames)} configurations "
            "only; CP2K writes those of molecular dynamics to other files. Convert them with "
            "dpdata (format cp2k/aimd_output) to deepmd/npy, and give that folder."
        )
    return frames


def _add(atoms: ase.Atoms, line: str, file: Iterator[str]) -> None:
    """Forces or stress, where a table of them begins here."""
    assert atoms.calc is not None
    if "ATOMIC FORCES in [a.u.]" in line or "FORCES| Atomic forces" in line:
        rows = list(_table(file, r"^\s*(FORCES\|)?\s*\d+\s"))
        forces = np.array([_numbers(row) for row in rows])
        atoms.calc.results["forces"] = forces * HARTREE / BOHR
    elif re.search(
        r"STRESS TENSOR \[GPa\]|STRESS\|.*stress tensor \[GPa\]", line
    ) and not re.search("[Ee]igenv|EIGENV", line):
        rows = list(_table(file, r"^\s*(STRESS\|)?\s*[xyzXYZ]\s+[-\d]"))
        pressure = np.array([_numbers(row) for row in rows[:3]])
        atoms.calc.results["stress"] = (-pressure * GIGAPASCAL).ravel()[[0, 4, 8, 5, 2, 1]]


def _table(file: Iterator[str], row: str) -> Iterator[str]:
    """The rows that follow a heading, after a few other lines."""
    begun = False
    for count, line in enumerate(file):
        if re.search(row, line):
            begun = True
            yield line
        elif begun or count > MOST_BETWEEN:
            return


def _numbers(line: str) -> list[float]:
    found = _THREE.search(line)
    return [float(number) for number in found.groups()] if found else [np.nan] * 3
