"""What no data of atoms may hold: numbers that are not finite, cells that do not span, one atom
twice.

Every frame is looked at where that is cheap; distances are measured in a sample of a large data
set.
"""

from collections.abc import Sequence

import numpy as np
from vesin import NeighborList

from kepton.atoms.groups import Group
from kepton.atoms.neighbors import complete
from kepton.errors import InputError

CLOSEST = 0.1
"""Å: two atoms nearer than this, over all images, are one atom written twice."""

MEASURED, MEASURED_ATOMS = 2000, 400_000
"""So many frames, of so many atoms in all, have their distances measured."""

AT_ONCE = 500_000
"""Atoms that are looked at together."""

SEARCHED = 1.0
"""Å: the cutoff of the search for close atoms; a shorter one needs more cells and takes longer."""


def check(groups: Sequence[Group]) -> None:
    """Refuse what cannot be a physical structure with its label.

    Raises:
        InputError: positions, cells, energies that are not finite; forces or a virial of a frame
            that are neither finite nor all nan; periodicity along a cell vector that is not there;
            atoms at one place or, in the frames measured, nearer than CLOSEST over all images
    """
    for group in groups:
        step = max(1, AT_ONCE // group.frames.positions.shape[1])
        for first in range(0, len(group.frames), step):
            _check_frames(group, first, slice(first, first + step))
    _check_distances(groups)


def _check_frames(group: Group, first: int, part: slice) -> None:
    frames, label = group.frames, group.label
    x, cell = np.asarray(frames.positions[part], float), np.asarray(frames.cell[part])

    def refuse(wrong: np.ndarray, what: str) -> None:
        if wrong.any():
            raise InputError(f"{group.name(first + int(wrong.argmax()))} {what}.")

    refuse(
        ~(_finite(x) & _finite(cell)),
        "has positions or cell vectors that are not finite numbers; remove the frame",
    )
    pbc = np.asarray(frames.pbc[part])
    refuse(
        _flat(cell, pbc),
        "is periodic without cell vectors that span the periodic directions; give the cell, or "
        "set pbc to false",
    )
    if label is not None:
        refuse(
            ~np.isfinite(label.energy[part]), "has an energy that is not finite; remove the frame"
        )
        for name, values in (("forces", label.forces[part]), ("a virial", label.virial[part])):
            missing = np.isnan(values).all(axis=(1, 2))
            refuse(
                ~(_finite(values) | missing),
                f"has {name} with numbers that are not finite; remove the frame, or write nan "
                f"everywhere if there are none",
            )
    for f in np.flatnonzero(_ties(x)):
        order = np.lexsort(x[f].T)
        same = np.flatnonzero((np.diff(x[f][order], axis=0) == 0).all(axis=1))
        if len(same):
            i, j = order[same[0]], order[same[0] + 1]
            _refuse_pair(group, first + int(f), int(i), int(j), 0.0)


def _finite(values: np.ndarray) -> np.ndarray:
    """Which frames hold finite numbers alone."""
    return np.asarray(np.isfinite(values).all(axis=(1, 2)))


def _flat(cell: np.ndarray, pbc: np.ndarray) -> np.ndarray:
    """Which frames lack independent vectors along their periodic directions."""
    flat = np.zeros(len(cell), bool)
    new = np.ones(len(cell), bool)  # the ranks of one cell after the other, if they differ
    new[1:] = (cell[1:] != cell[:-1]).any(axis=(1, 2)) | (pbc[1:] != pbc[:-1]).any(axis=1)
    rows = np.flatnonzero(new)
    periodic = np.where(pbc[rows][:, :, None], cell[rows], 0.0)
    flat[rows] = np.linalg.matrix_rank(periodic) < pbc[rows].sum(axis=1)
    return flat


def _ties(x: np.ndarray) -> np.ndarray:
    """Which frames may have two atoms at one place: two with one value of x + sqrt(2) y + e z."""
    line = x[..., 0] + np.sqrt(2.0) * x[..., 1] + np.e * x[..., 2]
    line.sort(axis=1)
    return (np.diff(line, axis=1) == 0.0).any(axis=1)


def _check_distances(groups: Sequence[Group]) -> None:
    ends = np.cumsum([len(group.frames) for group in groups])
    sizes = [group.frames.positions.shape[1] for group in groups]
    total = int(ends[-1])
    chosen = np.random.default_rng(0).choice(total, min(total, MEASURED), replace=False)
    of_group = np.searchsorted(ends, chosen, side="right")
    atoms = np.cumsum([sizes[g] for g in of_group])
    kept = np.flatnonzero((atoms <= MEASURED_ATOMS) | (np.arange(len(chosen)) == 0))
    search = NeighborList(cutoff=SEARCHED, full_list=False)
    for at in sorted(kept, key=lambda k: chosen[k]):  # the first in the order of the files is told
        group = groups[of_group[at]]
        i = int(chosen[at] - (ends[of_group[at]] - len(group.frames)))
        pbc = np.asarray(group.frames.pbc[i])
        box = np.asarray(group.frames.cell[i], float)
        box = box if pbc.all() else complete(box, pbc)
        x = np.asarray(group.frames.positions[i], float)
        first, second, distance = search.compute(x, box, pbc, quantities="ijd")
        if len(distance) and distance.min() < CLOSEST:
            near = int(distance.argmin())
            _refuse_pair(group, i, int(first[near]), int(second[near]), float(distance[near]))


def _refuse_pair(group: Group, frame: int, i: int, j: int, distance: float) -> None:
    raise InputError(
        f"{group.name(frame)} has atoms {min(i, j)} and {max(i, j)} (counted from 0) "
        f"{distance:.3f} Å apart, over all periodic images, where {CLOSEST} is the least; remove "
        "the copy or correct the cell."
    )
