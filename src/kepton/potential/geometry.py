"""Sound geometries: first samples, strains of cells, and the gate that refuses broken ones."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from ase.data import covalent_radii
from jaxtyping import Bool, Float
from scipy.linalg import expm

from kepton.atoms.frames import Frames
from kepton.atoms.neighbors import neighbors
from kepton.errors import InputError

REACH = 4.0
"""Å within which distances are looked at"""
CLASH = 0.55
"""Atoms nearer than this share of the sum of their covalent radii clash."""
BOND = 1.3
"""Atoms nearer than this multiple of the sum of their covalent radii are bonded."""
TORN = 2.0
"""A bond is torn when it is this many times longer than in the given structure."""
AMPLITUDES = (0.01, 0.02, 0.03, 0.04, 0.05)
"""Root mean square displacements along each axis, in units of the shortest bond of an atom"""


@dataclass(frozen=True)
class Gate:
    """Refuses configurations that no walk of a good model visits.

    Args:
        bonds: by atomic numbers, for each structure given that has these (isomers share them),
            the pairs that are bonded in it and their lengths: (((i, j, Å), ...), ...); a frame
            must have no bond torn of one of them. Periodic structures list no pair
    """

    bonds: dict[tuple[int, ...], tuple[tuple[tuple[int, int, float], ...], ...]]

    @staticmethod
    def of(structures: list[Frames]) -> "Gate":
        """The gate of the given structures, one frame each."""
        bonds = {}
        for frames in structures:
            r, radii = _distances(frames)
            pairs = np.argwhere(np.triu(r[0] < BOND * radii[0]) & ~np.any(frames.pbc))
            lengths = tuple((int(i), int(j), float(r[0, i, j])) for i, j in pairs)
            name = _name(frames, 0)
            bonds[name] = (*bonds.get(name, ()), lengths)
        return Gate(bonds)

    def sound(self, frames: Frames) -> Bool[np.ndarray, "b"]:
        """Whether each frame is finite, free of clashes, and has no bond torn."""
        positions = np.asarray(frames.positions)
        finite: Any = np.isfinite(positions).all(axis=(1, 2))
        safe = frames.with_positions(np.where(finite[:, None, None], positions, 0.0))
        r, radii = _distances(safe)
        clash = (r < CLASH * radii).any(axis=(1, 2))

        def whole(f: int) -> bool:
            isomers = self.bonds.get(_name(frames, f), ((),))
            return any(
                all(r[f, i, j] < TORN * length for i, j, length in bonds) for bonds in isomers
            )

        return finite & ~clash & np.array([whole(f) for f in range(len(frames))])


@dataclass(frozen=True)
class Strain:
    """Random strains of cells that are periodic along all vectors, atoms moved with them.

    x v^(1/3) exp(d)     v uniform in 1 + volume_change; d symmetric without trace, its components
                         uniform in +-shear before their trace is taken off

    Args:
        volume_change: least and largest change of the volume, relative
        shear: largest component of d
    """

    volume_change: tuple[float, float] = (0.0, 0.0)
    shear: float = 0.0

    def of(self, frames: Frames, rng: np.random.Generator) -> Frames:
        """Every frame with a strain of its own; those of other cells as they are."""
        still = ~np.asarray(frames.pbc).all(axis=1)
        if still.all() or self == UNSTRAINED:
            return frames
        volume = rng.uniform(*self.volume_change, size=len(frames)) + 1.0
        d = rng.uniform(-self.shear, self.shear, size=(len(frames), 3, 3))
        d = np.triu(d) + np.swapaxes(np.triu(d, 1), 1, 2)
        d -= np.trace(d, axis1=1, axis2=2)[:, None, None] * np.eye(3) / 3.0
        deform = np.cbrt(volume)[:, None, None] * expm(d)
        deform[still] = np.eye(3)
        return replace(
            frames,
            positions=np.asarray(frames.positions) @ deform,
            cell=np.asarray(frames.cell) @ deform,
        )


UNSTRAINED = Strain()


def perturbed(
    structures: list[Frames], count: int, gate: Gate, seed: int, strain: Strain = UNSTRAINED
) -> list[Frames]:
    """First samples: each given structure, then strained, its atoms displaced by Gaussian noise.

    x_i + a l_i xi,   xi standard normal, a in AMPLITUDES in turn, l_i the shortest bond of atom i

    Args:    structures: one frame each, taken in turn;  count: number of samples
    Returns: `count` frames, none refused by the gate
    Raises:  InputError: a given structure is refused itself
    """
    for place, start in enumerate(structures):
        if not gate.sound(start)[0]:
            raise InputError(
                f"Structure {place + 1} has atoms nearer than {CLASH:.0%} of the sum of their "
                "covalent radii, or positions that are not finite numbers; give positions in Å."
            )
    rng = np.random.default_rng(seed)
    samples = list(structures[:count])
    tries = 0
    while len(samples) < count:
        start = structures[len(samples) % len(structures)]
        amplitude = AMPLITUDES[tries % len(AMPLITUDES)] * 0.99 ** (tries // (10 * count))
        bond = np.minimum(_distances(start)[0].min(axis=2), 2.0)[..., None]
        noise = rng.standard_normal(start.positions.shape)
        strained = strain.of(start, rng)
        moved = strained.with_positions(strained.positions + amplitude * bond * noise)
        tries += 1
        if gate.sound(moved)[0]:
            samples.append(moved)
    return samples


def _name(frames: Frames, index: int) -> tuple[int, ...]:
    return tuple(int(z) for z in np.asarray(frames.species[index]) if z)


def _distances(frames: Frames) -> tuple[Float[np.ndarray, "b n n"], Float[np.ndarray, "b n n"]]:
    """Shortest distance between every two atoms over all images (inf: far), and radii sums, Å."""
    lists = neighbors(frames, REACH)
    lengths = np.linalg.norm(np.asarray(lists.vectors(frames)), axis=-1)
    b, n, _ = frames.positions.shape
    r = np.full((b, n, n), np.inf)
    f, i, _ = np.nonzero(lists.mask)
    np.minimum.at(r, (f, i, lists.index[lists.mask]), lengths[lists.mask])
    radii = covalent_radii[np.asarray(frames.species)]
    return r, radii[:, :, None] + radii[:, None, :]
