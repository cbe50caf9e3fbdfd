"""Pseudopotential files: what they are for, and which serves an element best."""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ase.data import atomic_numbers

from kepton.errors import InputError
from kepton.principles import gth

DEBIAN = Path("/usr/share/espresso/pseudo")
"""Where Debian's package quantum-espresso-data puts them"""
HEAD = 60_000
"""Characters of a file within which its header is"""
FUNCTIONALS = {
    "PBE": "pbe",
    "SLA PW PBX PBC": "pbe",
    "SLA PW PBE PBE": "pbe",
    "PBESOL": "pbesol",
    "SLA PW PSX PSC": "pbesol",
    "PZ": "lda",
    "SLA PZ NOGX NOGC": "lda",
    "BLYP": "blyp",
    "SLA LYP B88 BLYP": "blyp",
    "SLA LYP BLYP BLYP": "blyp",
    "TPSS": "tpss",
}
"""Functionals by the words that a UPF file has for them"""
NORM_CONSERVING_RY, SOFT_RY = 80.0, 40.0
"""Cutoffs of files that suggest none: norm-conserving, and ultrasoft or PAW"""


@dataclass(frozen=True)
class Pseudopotential:
    """One UPF file.

    Args:
        path: the file
        element: chemical symbol
        functional: as in FUNCTIONALS, or the file's own words
        kind: "PAW", "US" or "NC"
        cutoff_Ry, density_cutoff_Ry: that the file suggests, or a guess by its kind
        suggested: whether it does
        relativistic: has spin-orbit terms, which only a calculation with them can use
        text: what the file is to hold, where there is none yet
        valence: number of electrons, where the text is known
    """

    path: Path
    element: str
    functional: str
    kind: str
    cutoff_Ry: float
    density_cutoff_Ry: float
    suggested: bool
    relativistic: bool
    text: str = ""
    valence: int = 0

    @property
    def digest(self) -> str:
        """Of the content."""
        content = self.text.encode() or self.path.read_bytes()
        return hashlib.blake2b(content, digest_size=8).hexdigest()

    def put(self, folder: Path) -> None:
        """Make the file, or a link to it, in a folder."""
        place = folder / self.path.name
        place.unlink(missing_ok=True)
        if self.text:
            place.write_text(self.text)
        else:
            place.symlink_to(self.path.resolve())


@lru_cache
def read(path: Path) -> Pseudopotential | None:
    """The file's header; None: not a UPF file, or of no element or kind that is known."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            head = file.read(HEAD)
    except OSError:
        return None
    header = re.search(r"<PP_HEADER(.*?)(?:/>|</PP_HEADER>)", head, re.DOTALL)
    if header is None:
        return None
    said = {k.lower(): " ".join(v.split()) for k, v in re.findall(r'(\w+)="(.*?)"', header[1])}
    said = said or _first_version(header[1])
    element = said.get("element", "").strip()
    if element not in atomic_numbers or element == "X":
        return None
    kind = said.get("pseudo_type", "").upper()
    kind = {"USPP": "US", "SL": "NC"}.get(kind, kind)
    if kind not in ("PAW", "US", "NC"):
        return None
    functional = said.get("functional", "").upper()
    cutoffs = [_number(said.get(name, "0")) for name in ("wfc_cutoff", "rho_cutoff")]
    for place, of in enumerate(("wavefunctions", "charge density")):
        if told := re.search(rf"Suggested minimum cutoff for {of}:\s*([\d.]+)", head):
            cutoffs[place] = max(cutoffs[place], _number(told[1]))
    wave, density = cutoffs
    suggested = wave > 0
    wave = wave or (NORM_CONSERVING_RY if kind == "NC" else SOFT_RY)
    density = max(density, (4.0 if kind == "NC" else 8.0) * wave if not suggested else 4.0 * wave)
    return Pseudopotential(
        path,
        element,
        FUNCTIONALS.get(functional, functional.lower()),
        kind,
        wave,
        density,
        suggested,
        said.get("relativistic", "") == "full",
    )


def _first_version(header: str) -> dict[str, str]:
    """What the header of UPF version 1 says, in the words of version 2."""
    said = {}
    for name, pattern in (
        ("element", r"^\s*([A-Z][a-z]?)\s+Element"),
        ("pseudo_type", r"^\s*(NC|US|PAW)\s"),
        ("functional", r"^\s*(.*?)\s+Exchange-Correlation"),
        ("wfc_cutoff", r"^\s*([\d.EeDd+-]+)\s+[\d.EeDd+-]+\s+Suggested cutoff"),
        ("rho_cutoff", r"^\s*[\d.EeDd+-]+\s+([\d.EeDd+-]+)\s+Suggested cutoff"),
    ):
        if found := re.search(pattern, header, re.MULTILINE):
            said[name] = " ".join(found[1].split())
    words = said.get("functional", "").split()
    said["functional"] = " ".join(words[:4])
    return said


def _number(text: str) -> float:
    try:
        return float(text.replace("d", "e").replace("D", "e"))
    except ValueError:
        return 0.0


def available(folder: Path, functional: str) -> dict[str, Pseudopotential]:
    """The best file of each element in a folder, for a functional.

    One that suggests its cutoffs is better; then PAW before ultrasoft before norm-conserving, then
    the last by name.
    """
    best: dict[str, Pseudopotential] = {}
    for path in _upf(folder):
        found = read(path)
        if found is None or found.relativistic or found.functional != functional:
            continue
        rival = best.get(found.element)
        if rival is None or _rank(found) >= _rank(rival):
            best[found.element] = found
    return best


def analytical(functional: str) -> dict[str, Pseudopotential]:
    """The pseudopotentials of Goedecker, Teter and Hutter that come with PySCF, by element."""
    found: dict[str, Pseudopotential] = {}
    for element, entry in gth.tabulated(functional).items():
        told = gth.separable(entry)
        found[element] = Pseudopotential(
            Path(f"{element}.{functional}.gth"),
            element,
            functional,
            "NC",
            told.cutoff_Ry,
            4.0 * told.cutoff_Ry,
            suggested=True,
            relativistic=False,
            text=gth.abinit_file(entry, functional),
            valence=told.valence,
        )
    return found


def _upf(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*") if path.suffix.lower() == ".upf")


def _rank(found: Pseudopotential) -> tuple[bool, int]:
    return found.suggested, ("NC", "US", "PAW").index(found.kind)


def chosen(
    symbols: Iterable[str], folder: Path | None, functional: str
) -> dict[str, Pseudopotential]:
    """The file of each of these elements: in the folder, or without one Debian's, else a GTH one.

    Raises:
        InputError: an element without one
    """
    known = available(folder or DEBIAN, functional)
    if folder is None:
        known = analytical(functional) | known
    for symbol in symbols:
        if symbol not in known:
            files = (read(path) for path in _upf(folder or DEBIAN))
            others = {file.functional for file in files if file and file.element == symbol}
            there = f" (there is {', '.join(sorted(others))})" if others else ""
            raise InputError(
                f"{folder or DEBIAN} holds no pseudopotential of {symbol} for xc = "
                f"{functional!r}{there}, only of {', '.join(sorted(known)) or 'no element'}; put "
                "UPF files into a folder (pseudo-dojo.org and materialscloud.org/sssp have them "
                "for all elements) and name it: [principle] pseudopotentials = 'FOLDER'."
            )
    return {symbol: known[symbol] for symbol in symbols}
