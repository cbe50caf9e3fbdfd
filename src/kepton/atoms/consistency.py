"""Whether energies and forces are in units, and of signs, that belong together.

E_2 - E_1 = -(F_1 + F_2)/2 . (x_2 - x_1) + O(|x_2 - x_1|^3)

                    E -> energy; F -> forces; x -> positions; the right side is called work here

holds between near frames of the same atoms. Where the two sides are proportional by a factor other
than one, and a known mix-up explains the factor, the labels are refused. Labels that are all scaled
alike, such as Hartree and Hartree/Å, cannot be told by this, and frames far apart tell nothing.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from ase import units

from kepton.atoms.frames import Frames, Label
from kepton.atoms.groups import Group
from kepton.atoms.neighbors import complete
from kepton.atoms.units import BOHR, HARTREE
from kepton.errors import InputError

RYDBERG, KCAL, KJOULE = 0.5 * HARTREE, units.kcal / units.mol, units.kJ / units.mol

MIX_UPS = (
    (1 / BOHR, "forces in Hartree/Bohr beside energies in Hartree, or eV/Bohr beside eV"),
    (1 / HARTREE, "energies in Hartree beside forces in eV/Å"),
    (HARTREE, "forces in Hartree/Å beside energies in eV"),
    (HARTREE / BOHR, "forces in Hartree/Bohr beside energies in eV"),
    (1 / RYDBERG, "energies in Rydberg beside forces in eV/Å"),
    (RYDBERG, "forces in Rydberg/Å beside energies in eV"),
    (RYDBERG / BOHR, "forces in Rydberg/Bohr beside energies in eV"),
    (1 / KCAL, "energies in kcal/mol beside forces in eV/Å"),
    (KCAL, "forces in kcal/mol/Å beside energies in eV"),
    (KCAL / HARTREE, "energies in Hartree beside forces in kcal/mol/Å"),
    (1 / KJOULE, "energies in kJ/mol beside forces in eV/Å"),
    (KJOULE, "forces in kJ/mol/Å beside energies in eV"),
)
"""(energy differences over work, what makes it so): the unit of the forces in eV/Å over the unit of
the energies in eV. Factors between 1/12 and 1 are left out: far pairs of right labels have them."""

Pool = list[tuple[Frames, Label, int]]

POOL, POOL_ATOMS, LOOKED_AT = 1000, 400_000, 5000
"""Frames, and their atoms, that are compared with each other; frames that are looked at in all."""

NEAR = 0.3
"""Å: the root mean square displacement of an atom between frames of a pair is less."""

LEAST, FIRM, MOST = 8, 16, 32
"""Pairs in a fit: the nearest third, from FIRM to MOST, else the nearest LEAST."""

CORRELATION, ALIKE, AGREED, FAR = 0.9, 0.2, 0.6, 10.0
"""A fit counts where the correlation is higher. Slopes are alike whose logarithms differ by less. A
slope nearer to one than FAR, which chance may feign, must come from FIRM pairs; pairs with this
share of the work must have a ratio within 30 % of the median, and the median must be alike."""

SHAPE_ATOMS = 40
"""Isolated frames are searched for near ones by the distances between so many of their atoms."""


def check(groups: Sequence[Group]) -> None:
    """Refuse labels whose energies and forces do not fit by a factor that a mix-up explains.

    Raises:
        InputError: near frames of the same atoms show such a factor, or forces of the wrong sign
    """
    for source, pool in _pools(groups):
        for slope in _slopes(*_pairs(pool)):
            if likely := _explanations(slope):
                raise InputError(
                    f"{source}: between near frames the energy changes {slope:.3g} times as much "
                    f"as the work of the forces tells, which suggests {'; or '.join(likely)}. "
                    "Give energies in eV, and forces, which are minus the gradient, in eV/Å."
                )


def _explanations(slope: float) -> list[str]:
    """What makes energies change by such a multiple of the work, likeliest first."""
    away = sorted(
        (abs(np.log(abs(slope) / factor)), what) for factor, what in ((1.0, ""), *MIX_UPS)
    )
    sign = "gradients in place of forces" if slope < 0 else ""
    likely = [", ".join(filter(None, (sign, what))) for far, what in away if far < ALIKE]
    return [what for what in likely if what]


# ---------------------------------------------------------------- near frames


def _pools(groups: Sequence[Group]) -> Iterator[tuple[Path, Pool]]:
    """Frames with forces of the same atoms in the same cell, and the source of the first."""
    pools: dict[tuple, tuple[Path, Pool]] = {}
    looked_at = 0
    for group in groups:
        frames, label = group.frames, group.label
        for i in range(min(len(frames), POOL, LOOKED_AT - looked_at)):
            looked_at += 1
            if label is None or not np.isfinite(label.forces[i, 0, 0]):
                continue
            cell = np.asarray(frames.cell[i], float).round(6) + 0.0
            key = tuple(np.asarray(a).tobytes() for a in (frames.species[i], frames.pbc[i], cell))
            _, pool = pools.setdefault(key, (group.source, []))
            if len(pool) < min(POOL, POOL_ATOMS // frames.positions.shape[1]):
                pool.append((frames, label, i))
    yield from ((source, pool) for source, pool in pools.values() if len(pool) > LEAST)


def _pairs(pool: Pool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Work, energy difference, and distance in Å of each frame and the one most like it."""
    frames, _, first = pool[0]
    pbc = np.asarray(frames.pbc[first])
    box = complete(np.asarray(frames.cell[first], float), pbc)
    x = np.stack([np.asarray(frames.positions[i], float) for frames, _, i in pool])
    f = np.stack([np.asarray(label.forces[i], float) for _, label, i in pool])
    energy = np.array([float(label.energy[i]) for _, label, i in pool])
    shape = _images(x, box, pbc) if pbc.any() else _distances(x)
    square = (shape**2).sum(axis=1)
    unlike = square[:, None] + square - 2.0 * shape @ shape.T
    np.fill_diagonal(unlike, np.inf)
    nearest = np.stack([np.arange(len(pool)), unlike.argmin(axis=1)], axis=1)
    i, j = np.unique(np.sort(nearest, axis=1), axis=0).T
    x1, f1, x2, f2 = x[i], f[i], x[j], f[j]
    if pbc.any():
        d = x2 - x1
        d -= np.where(pbc, np.round(d @ np.linalg.inv(box)), 0.0) @ box
    else:
        x1, x2 = (a - a.mean(axis=1, keepdims=True) for a in (x1, x2))
        turn = _rotations(x2, x1)
        d, f2 = x2 @ turn - x1, f2 @ turn
    work = -0.5 * ((f1 + f2) * d).sum(axis=(1, 2))
    return work, energy[j] - energy[i], np.sqrt((d * d).sum(axis=2).mean(axis=1))


def _images(x: np.ndarray, box: np.ndarray, pbc: np.ndarray) -> np.ndarray:
    """Numbers of each frame, in Å, whose differences are about those between the nearest images."""
    length = np.linalg.norm(box, axis=1)
    fraction = x @ np.linalg.inv(box)
    angle = 2.0 * np.pi * fraction[..., pbc]
    circle = np.concatenate([np.cos(angle), np.sin(angle)], axis=-1)
    circle *= np.tile(length[pbc], 2) / (2.0 * np.pi)
    line = fraction[..., ~pbc] * length[~pbc]
    return np.concatenate([circle, line], axis=-1).reshape(len(x), -1)


def _distances(x: np.ndarray) -> np.ndarray:
    """The distances between atoms of each frame, the same however it is turned."""
    n = x.shape[1]
    x = x[:, np.unique(np.linspace(0, n - 1, min(n, SHAPE_ATOMS)).astype(int))]
    i, j = np.triu_indices(x.shape[1], 1)
    return np.linalg.norm(x[:, i] - x[:, j], axis=-1)


def _rotations(x: np.ndarray, onto: np.ndarray) -> np.ndarray:
    """The proper rotations R that bring x R nearest to the other positions (Kabsch)."""
    u, _, v = np.linalg.svd(np.swapaxes(x, 1, 2) @ onto)
    u[:, :, 2] *= np.sign(np.linalg.det(u @ v))[:, None]
    return u @ v


# ---------------------------------------------------------------- their ratio


def _slopes(work: np.ndarray, change: np.ndarray, distance: np.ndarray) -> Iterator[float]:
    """Energy differences over work by least squares, where near pairs lie on a straight line."""
    near = np.argsort(distance, kind="stable")
    near = near[((work != 0.0) & (change != 0.0) & (distance < NEAR))[near]]
    for count in (min(max(len(near) // 3, FIRM), MOST), LEAST):
        w, e = work[near[:count]], change[near[:count]]
        if len(w) < LEAST:
            return
        slope, correlation = float(w @ e / (w @ w)), w @ e / np.sqrt((w @ w) * (e @ e))
        far = abs(np.log(abs(slope))) > np.log(FAR)
        firm = len(w) >= FIRM and _agreed(w, e, slope)
        if abs(correlation) > CORRELATION and (far or firm):
            yield slope


def _agreed(work: np.ndarray, change: np.ndarray, slope: float) -> bool:
    """Whether pairs agree on a slope, rather than a few that do most of the work."""
    ratio, weight = change / work, np.abs(work)
    order = np.argsort(ratio)
    half = int(np.searchsorted(weight[order].cumsum(), 0.5 * weight.sum()))
    median = float(ratio[order][half])
    agreed = float(weight[np.abs(ratio - median) < 0.3 * abs(median)].sum() / weight.sum())
    alike = slope * median > 0.0 and bool(abs(np.log(slope / median)) < ALIKE)
    return agreed > AGREED and alike
