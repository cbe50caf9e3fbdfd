"""What a first principle is: the protocol `Principle`, and what all engines share."""

import difflib
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from time import perf_counter
from typing import Any, Protocol, runtime_checkable

import ase
import numpy as np

from kepton.atoms import Frames, Label
from kepton.elt import Failure
from kepton.errors import InputError


class Principle(Protocol):
    """An engine with its settings: immutable, picklable, deterministic; leaves no file behind."""

    @property
    def settings(self) -> dict[str, Any]:
        """JSON of everything that decides a label: the kind and every option, no version."""
        ...

    def check(self, frames: Frames) -> None:
        """Raise InputError where the engine cannot label such frames with such settings."""
        ...

    def __call__(self, frames: Frames) -> Label | Failure:
        """Label of one configuration; whatever the engine does wrong is a Failure."""
        ...

    @staticmethod
    def availability() -> tuple[bool, str]:
        """Whether it works on this machine, and its version or how to get it."""
        ...


@runtime_checkable
class Program(Principle, Protocol):
    """An engine that is a program of its own, and may keep its calculations."""

    def keeping(self, folder: Path) -> "Program":
        """The same, whose calculations stay in a folder, so that a rerun reads what has ended."""
        ...

    def settled(self, frames: Frames) -> "Program":
        """The same, knowing the elements it is for, so that `settings` name their files."""
        ...


class Refusal(Exception):
    """The engine ended without a label: one sentence, which becomes the Failure's reason."""


RIGID_FORCE_TOLERANCE = 5e-3
"""eV/Å: a tenth of the errors that potentials are trained to (0.05 eV/Å)."""


def answer(compute: Callable[[Frames], Label], frames: Frames) -> Label | Failure:
    """Run `compute` on one configuration; what the engine does wrong becomes a Failure.

    A label fails too when it is not finite, or when `rigid_force` exceeds
    RIGID_FORCE_TOLERANCE: at least so wrong are its forces.

    Raises:
        ValueError: more than one configuration, or padding
    """
    if len(frames) != 1 or not np.all(frames.mask):
        raise ValueError(f"A principle labels one configuration, unpadded; got {len(frames)}.")
    start = perf_counter()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            label = compute(frames)
        reason = _defect(frames, label)
    except Refusal as refusal:
        reason = str(refusal)
    except Exception as error:
        first_line = next(iter(str(error).strip().splitlines()), "no message")
        reason = f"The engine raised {type(error).__name__}: {first_line}"
    return Failure(reason, perf_counter() - start) if reason else label


def _defect(frames: Frames, label: Label) -> str:
    if not (np.isfinite(label.energy).all() and np.isfinite(label.forces).all()):
        return f"{label.engine} gave an energy or forces that are not finite numbers."
    positions, forces = np.asarray(frames.positions)[0], np.asarray(label.forces)[0]
    wrong = rigid_force(positions, forces, periodic=bool(np.any(frames.pbc)))
    if wrong > RIGID_FORCE_TOLERANCE:
        return (
            f"{label.engine} gave forces with a net force or torque of {wrong:.1e} eV/Å an atom, "
            f"where {RIGID_FORCE_TOLERANCE:g} is allowed; a finer grid or tighter convergence "
            "removes it."
        )
    return ""


def rigid_force(positions: np.ndarray, forces: np.ndarray, periodic: bool = False) -> float:
    """Root mean square force along rigid motions: a lower bound of the error of the forces.

    |P F| / sqrt(n)     P -> projection on 3 translations and 3 rotations; F -> forces

    The true energy is invariant under rigid motion, hence P F = 0. Only translations count where
    the frame is periodic.

    Args:    positions: (n, 3) Å; forces: (n, 3) eV/Å
    Returns: eV/Å
    """
    n = len(positions)
    motions = [np.tile(axis, (n, 1)) for axis in np.eye(3)]
    if not periodic:
        motions += [np.cross(axis, positions - positions.mean(axis=0)) for axis in np.eye(3)]
    modes = np.reshape(motions, (-1, 3 * n))
    _, sizes, basis = np.linalg.svd(modes, full_matrices=False)
    rigid = basis[sizes > 1e-6 * sizes[0]]
    return float(np.linalg.norm(rigid @ forces.ravel()) / np.sqrt(n))


def check_electrons(frames: Frames, paired: bool = True) -> None:
    """Raise InputError where charge and spin do not fit the number of electrons.

    electrons = sum Z - charge >= 1;    spin <= electrons, and odd when they are odd

    Args:    paired: whether occupations are whole, so that the last holds
    """
    for species, charge, spin in zip(frames.species, frames.charge, frames.spin):
        electrons = int(np.sum(species)) - int(charge)
        numbers = np.asarray(species)[np.asarray(species) > 0]
        name = ase.Atoms(numbers).get_chemical_formula() + (f" ({charge:+d} e)" if charge else "")
        if electrons < 1:
            raise InputError(
                f"{name} has no electrons: charge = {charge} is more than its nuclei carry; "
                "give a smaller charge in [system] or in the structure file."
            )
        if spin < 0 or spin > electrons:
            raise InputError(
                f"{name} has {electrons} electrons, but spin = {spin}; give spin (number of "
                f"unpaired electrons) between 0 and {electrons} in [system] or in the structure "
                "file."
            )
        if paired and (electrons - spin) % 2:
            parity = "odd" if electrons % 2 else "even"
            raise InputError(
                f"{name} has {electrons} electrons, which is {parity}, but spin = {spin}; give "
                f"spin = {electrons % 2} (number of unpaired electrons) in [system] or in the "
                "structure file."
            )


def nearest(name: str, known: Iterable[str]) -> str:
    """The known names most like a wrong one, as the end of a sentence; empty when none is."""
    close = difflib.get_close_matches(name, list(known))
    return f" (nearest: {', '.join(close)})" if close else ""
