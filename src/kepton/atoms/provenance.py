"""Whether labels are all of one principle, as far as they tell.

Absolute energies of two principles have nothing to do with one another, so no potential can learn
both.
"""

import re
from collections.abc import Iterator, Sequence

import numpy as np
from ase.symbols import Symbols

from kepton.atoms.groups import Group
from kepton.errors import InputError

APART_EV = 15.0
"""Energy of an atom between two files of the same composition, more than any bonds can make"""
LOOKED_AT = 1000
"""Frames of a group"""


def check(groups: Sequence[Group]) -> None:
    """Refuse labels of several principles.

    These are told by the names of the engines, where files hold them, apart from versions; and by
    energies of an atom, in files of the same composition, that are more than APART_EV apart.

    Raises:
        InputError: what tells that there are several
    """
    found = _methods(groups) or _energies(groups)
    if found:
        raise InputError(
            f"The labels are of more than one principle: {found}. Their energies do not fit "
            "together; give data of one, or shift the energies first and give --mixed-principles."
        )


def _methods(groups: Sequence[Group]) -> str:
    named = sorted({(engine, str(group.source)) for group in groups for engine in group.engines})
    known: dict[tuple[str, ...], str] = {}
    # the longest first, so that what says less is the beginning of what is known
    for engine, source in sorted(named, key=lambda pair: -len(_method(pair[0]))):
        method = _method(engine)
        if not any(one[: len(method)] == method for one in known):
            known[method] = f"{engine} ({source})"
    return " and ".join(known.values()) if len(known) > 1 else ""


def _method(engine: str) -> tuple[str, ...]:
    """Words of an engine's name without versions, attempts, and whether electrons are paired."""
    name = re.sub(r", attempt \d+$", "", engine)
    name = re.sub(r"\b[RU]KS/", "", name)
    return tuple(word for word in name.split() if not re.fullmatch(r"v?\d+(\.\w+)+", word))


def _energies(groups: Sequence[Group]) -> str:
    known: dict[str, list[tuple[float, float, Group]]] = {}
    for group in groups:
        for formula, energies in _by_formula(group):
            low, high = float(energies.min()), float(energies.max())
            for other_low, other_high, other in known.get(formula, []):
                if group.source != other.source and (
                    low - other_high > APART_EV or other_low - high > APART_EV
                ):
                    return (
                        f"{formula} has {other_low:.6g} eV an atom in {other.source} and {low:.6g} "
                        f"in {group.source}"
                    )
            known.setdefault(formula, []).append((low, high, group))
    return ""


def _by_formula(group: Group) -> Iterator[tuple[str, np.ndarray]]:
    """Energies of an atom, by the reduced formula of frames."""
    if group.label is None:
        return
    species = np.sort(np.asarray(group.frames.species[:LOOKED_AT]), axis=1)
    kinds, which = np.unique(species, axis=0, return_inverse=True)
    energies = np.asarray(group.label.energy[:LOOKED_AT], float) / species.shape[1]
    for kind, row in enumerate(kinds):
        formula, _ = Symbols(row).formula.reduce()
        yield str(formula), energies[which.ravel() == kind]
