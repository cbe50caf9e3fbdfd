"""Formaldehyde: a liquid, a cluster and a small cell."""

import ase
import numpy as np
from ase.build import molecule
from scipy.spatial.transform import Rotation

CELL = np.array([[9.0, 0.0, 0.0], [1.1, 9.4, 0.0], [-0.7, 0.9, 8.7]])


def liquid(seed: int, stretch: float = 0.05) -> ase.Atoms:
    """Formaldehyde: eight molecules turned at random in a triclinic cell."""
    rng = np.random.default_rng(seed)
    atoms = ase.Atoms(cell=CELL, pbc=True)
    for corner in np.ndindex(2, 2, 2):
        one = molecule("H2CO")
        one.positions -= one.positions.mean(axis=0)
        turn = Rotation.random(random_state=rng).as_matrix()
        place = (np.array(corner) + 0.5) / 2 @ CELL + rng.uniform(-0.3, 0.3, 3)
        one.positions = one.positions @ turn.T + place
        atoms += one
    atoms.positions += stretch * rng.standard_normal(atoms.positions.shape)
    return atoms


def cluster(seed: int) -> ase.Atoms:
    """The same atoms without a cell, one of them far from all others."""
    atoms = liquid(seed)
    atoms.set_cell(None)
    atoms.pbc = False
    atoms.positions[-1] += [40.0, 0.0, 0.0]
    return atoms


def small_cell() -> ase.Atoms:
    """One molecule in a cell whose edges are shorter than twice the cutoff, not wrapped."""
    atoms = molecule("H2CO", cell=[[4.4, 0.0, 0.3], [0.9, 5.5, 0.0], [-0.4, 0.6, 4.7]], pbc=True)
    atoms.rattle(0.05, seed=1)
    atoms.positions[::2] += 2 * atoms.cell.array[0] - atoms.cell.array[2]
    return atoms
