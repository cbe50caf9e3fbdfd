"""Basis sets and pseudopotentials in CP2K's format: one file holds those of many elements."""

import hashlib
import importlib.util
import re
from dataclasses import dataclass, replace
from functools import lru_cache
from math import log
from pathlib import Path

from ase.data import atomic_numbers


@dataclass(frozen=True)
class Entry:
    """A basis set or pseudopotential of an element.

    Args:
        element: chemical symbol
        names: by which the file calls it
        text: what it holds
    """

    element: str
    names: tuple[str, ...]
    text: str

    @property
    def name(self) -> str:
        """The first of the names."""
        return self.names[0]

    def called(self, name: str) -> "Entry":
        """The same, by one of its names."""
        return replace(self, names=(name,))

    @property
    def digest(self) -> str:
        """Of the content."""
        return hashlib.blake2b(self.text.encode(), digest_size=8).hexdigest()

    @property
    def largest(self) -> float:
        """Exponent of the hardest Gaussian of a basis set, 1/bohr²."""
        rows = (line.split() for line in self.text.splitlines())
        return max(float(row[0]) for row in rows if "." in row[0])


@lru_cache
def entries(path: Path) -> tuple[Entry, ...]:
    """All that a file holds; nothing where there is no file."""
    if not path.is_file():
        return ()
    found: list[Entry] = []
    for line in path.read_text(errors="replace").splitlines():
        words = line.split("#")[0].split()
        if not words:
            continue
        if words[0] in atomic_numbers and len(words) > 1 and not re.match(r"[-\d.]", words[1]):
            found.append(Entry(words[0], tuple(words[1:]), ""))
        elif found:
            found[-1] = replace(found[-1], text=f"{found[-1].text}{' '.join(words)}\n")
    return tuple(found)


PYSCF = {
    "pbe": ("gth-pbe", "GTH-PBE"),
    "lda": ("gth-pade", "GTH-PADE"),
    "blyp": ("gth-blyp", "GTH-BLYP"),
}
"""Functional -> PySCF's table of pseudopotentials, and the name of the usual one of an element"""
CODES = {"pbe": 11, "lda": 1, "blyp": 18}
"""Of functionals in ABINIT's files"""
DECAY = 5.0
"""Powers of e by which a term of a potential has fallen at the cutoff of wave functions"""


def tabulated(xc: str) -> dict[str, Entry]:
    """PySCF's pseudopotential of each element for a functional; nothing where there is no table."""
    found = importlib.util.find_spec("pyscf")
    if xc not in PYSCF or found is None or not found.origin:
        return {}
    table, name = PYSCF[xc]
    path = Path(found.origin).parent / "pbc" / "gto" / "pseudo" / f"{table}.dat"
    return {entry.element: entry for entry in entries(path) if name in entry.names}


@dataclass(frozen=True)
class Separable:
    """The numbers of a pseudopotential, in hartree and bohr.

    Args:
        valence: number of electrons
        radius, local: of the local part, and its coefficients
        projectors: (radius, rows of the upper triangle of h) of each angular momentum

    Source: Goedecker, Teter and Hutter, Phys. Rev. B 54, 1703 (1996); Hartwigsen, Goedecker and
        Hutter, Phys. Rev. B 58, 3641 (1998)
    """

    valence: int
    radius: float
    local: tuple[float, ...]
    projectors: tuple[tuple[float, tuple[tuple[float, ...], ...]], ...]

    @property
    def cutoff_Ry(self) -> float:
        """Of wave functions: where all terms (G r)^p exp(-(G r)²/2) of the potential have decayed.

        Helium and silicon are then within 0.2 meV an atom of the limit, lithium within 13.
        """
        terms = [(self.radius, 2 * max(len(self.local) - 1, 0))]
        terms += [
            (radius, momentum + 2 * (len(rows) - 1))
            for momentum, (radius, rows) in enumerate(self.projectors)
            if rows
        ]
        return round(max((_reach(power) / radius) ** 2 for radius, power in terms), 1)


def _reach(power: int) -> float:
    """The x > 1 at which x^power exp(-x²/2) has fallen to exp(-DECAY)."""
    x = 3.0
    for _ in range(50):
        x = (2.0 * (DECAY + power * log(x))) ** 0.5
    return x


def separable(entry: Entry) -> Separable:
    """The numbers in an entry of CP2K's format."""
    electrons, *rest = entry.text.splitlines()
    numbers = iter(" ".join(rest).split())
    radius, count = float(next(numbers)), int(next(numbers))
    local = tuple(float(next(numbers)) for _ in range(count))
    projectors = []
    for _ in range(int(next(numbers))):
        length, size = float(next(numbers)), int(next(numbers))
        rows = tuple(tuple(float(next(numbers)) for _ in range(size - i)) for i in range(size))
        projectors.append((length, rows))
    return Separable(sum(map(int, electrons.split())), radius, local, tuple(projectors))


def abinit_file(entry: Entry, xc: str) -> str:
    """The pseudopotential as ABINIT writes it (pspcod 10), which pw.x reads too.

    One without projectors has one that is zero, without which pw.x crashes.
    """
    told = separable(entry)
    projectors = told.projectors or ((told.radius, ((0.0,),)),)
    largest = len(projectors) - 1
    lines = [
        f"{entry.element} {entry.name}",
        f"{atomic_numbers[entry.element]} {told.valence} 0",
        f"10 {CODES[xc]} {largest} {largest + 1} 2001 0",
        " ".join(map(repr, (told.radius, len(told.local), *told.local))),
        f"{len(projectors)}",
    ]
    for momentum, (radius, rows) in enumerate(projectors):
        first = rows[0] if rows else ()
        lines.append(" ".join(map(repr, (radius, len(rows), *first))))
        lines += [" ".join(map(repr, row)) for row in rows[1:]]
        if momentum:  # of the spin-orbit coupling
            lines += [" ".join(["0.0"] * len(row)) for row in rows]
    return "\n".join(lines) + "\n"
