"""Basis sets and pseudopotentials in CP2K's format: one file holds those of many elements."""

import hashlib
import re
from dataclasses import dataclass, replace
from functools import lru_cache
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
