"""Convergence of a periodic principle: what cutoff and mesh of k-points cost and bring."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from time import perf_counter

import numpy as np

from kepton.atoms import Frames, Label
from kepton.atoms.units import GIGAPASCAL
from kepton.errors import InputError
from kepton.principles.periodic import PeriodicProgram

CUTOFFS = (0.6, 0.7, 0.85, 1.0, 1.25, 1.5)
"""In units of those of a normal accuracy"""
SPACINGS = (0.6, 0.5, 0.4, 0.3, 0.25, 0.2)
"""1/Å"""
SHAKE = 0.1
"""Å by which atoms are displaced, since forces of a perfect crystal vanish at any accuracy"""


@dataclass(frozen=True)
class Row:
    """One calculation, and how far it is from the finest of its kind.

    Args:
        cutoffs, mesh: its settings, cutoffs by their names
        energy: meV/atom
        force: root mean square over components, meV/Å
        stress: root mean square over components, GPa; nan where there is none
        seconds: it took
    """

    cutoffs: dict[str, float]
    mesh: tuple[int, int, int]
    energy: float
    force: float
    stress: float
    seconds: float


def converge(
    principle: PeriodicProgram, frames: Frames, progress: Callable[[str], None] | None = None
) -> Iterator[tuple[str, list[Row]]]:
    """("cutoff", rows) and ("k-points", rows), each against the last row of its own.

    Cutoffs are compared on the mesh of the principle, meshes with its cutoff. What else its
    accuracy decides, such as the basis of CP2K, stays as it is.

    Args:    frames: one configuration, whose atoms are displaced by SHAKE
             progress: is told of each calculation that has ended
    Raises:  InputError: a label that failed
    """
    noise = np.random.default_rng(0).normal(size=frames.positions.shape)
    shaken = frames.with_positions(frames.positions + SHAKE * noise)
    normal = replace(principle, accuracy="normal").cutoffs(frames.symbols)
    series = {
        "cutoff": [
            replace(principle, **{name: round(c * value, 1) for name, value in normal.items()})
            for c in CUTOFFS
        ],
        "k-points": list(
            {
                one.mesh(frames): one
                for one in (replace(principle, k_spacing_per_A=s) for s in SPACINGS)
            }.values()
        ),
    }
    for name, principles in series.items():
        labels, seconds = [], []
        for one in principles:
            start = perf_counter()
            label = one(shaken)
            if not isinstance(label, Label):
                raise InputError(f"A label failed: {label.reason}")
            labels.append(label)
            seconds.append(perf_counter() - start)
            if progress:
                progress(f"{name}, {len(labels)} of {len(principles)}: {seconds[-1]:.0f} s")
        yield (
            name,
            [
                _row(one, shaken, label, labels[-1], time)
                for one, label, time in zip(principles, labels, seconds)
            ],
        )


def _row(
    principle: PeriodicProgram, frames: Frames, label: Label, finest: Label, seconds: float
) -> Row:
    atoms, volume = int(np.sum(frames.mask)), abs(np.linalg.det(np.asarray(frames.cell[0])))
    return Row(
        principle.cutoffs(frames.symbols),
        principle.mesh(frames),
        1e3 * float(label.energy[0] - finest.energy[0]) / atoms,
        1e3 * _rms(np.asarray(label.forces) - np.asarray(finest.forces)),
        _rms(np.asarray(label.virial) - np.asarray(finest.virial)) / volume / GIGAPASCAL,
        seconds,
    )


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


def recommended(rows: list[Row], force: float, stress: float) -> Row:
    """The cheapest from which on all are within these errors, in meV/Å and GPa."""
    best = rows[-1]
    for row in reversed(rows):
        if row.force > force or row.stress > stress:
            break
        best = row
    return best
