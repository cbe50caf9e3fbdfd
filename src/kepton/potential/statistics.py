"""What a data set fixes of a potential before it is trained."""

from collections.abc import Sequence

import numpy as np
from ase.data import covalent_radii
from jaxtyping import Float

from kepton.atoms.frames import Frames, Label
from kepton.atoms.neighbors import Neighbors

Parts = Sequence[tuple[Frames, Neighbors, Label]]
"""Labelled frames of one shape each, and their neighbours"""


def energy_bias(species: Sequence[int], parts: Parts) -> Float[np.ndarray, "S"]:
    """`energies_of_atoms` in a data set."""
    return energies_of_atoms(
        species, [(frames, np.asarray(label.energy)) for frames, _, label in parts]
    )


def energies_of_atoms(
    species: Sequence[int], energies: Sequence[tuple[Frames, Float[np.ndarray, "_"]]]
) -> Float[np.ndarray, "S"]:
    """Energy of an atom of each element by least squares, of least norm where collinear, eV.

    Args:    energies: frames and their energies, eV
    """
    counts = [
        (np.asarray(frames.species)[:, :, None] == np.asarray(species)).sum(axis=1)
        for frames, _ in energies
    ]
    known = np.concatenate([np.asarray(energy) for _, energy in energies])
    return np.linalg.lstsq(np.concatenate(counts).astype(float), known, rcond=None)[0]


def force_scale(parts: Parts) -> float:
    """Root mean square force component, eV/Å."""
    forces = [np.asarray(label.forces)[np.asarray(frames.mask)] for frames, _, label in parts]
    known = np.concatenate(forces)
    known = known[np.isfinite(known)]
    return float(np.sqrt(np.mean(known**2) + 1e-6)) if len(known) else 1.0


def shortest_and_most(
    species: Sequence[int], cutoff: float, frames: Frames, lists: Neighbors
) -> tuple[Float[np.ndarray, "S S"], Float[np.ndarray, "S"]]:
    """Shortest distance between every two elements, Å, and most neighbours of each, in the data.

    Where a pair never comes within the cutoff, 0.7 of the sum of covalent radii.

    Args:    species: atomic numbers, in order;  cutoff: Å
    """
    r = lists.distances(frames)
    numbers = np.asarray(frames.species)
    radii = covalent_radii[list(species)]
    shortest = 0.7 * (radii[:, None] + radii)
    most = np.ones(len(species))
    for other, slot in lists.slots:
        t = species.index(other)
        near = lists.mask[..., slot] & (r[..., slot] < cutoff)
        most[t] = max(1, near.sum(axis=2).max())
        for s, z in enumerate(species):
            pairs = near & (numbers[:, :, None] == z)
            if pairs.any():
                shortest[s, t] = r[..., slot][pairs].min()
    return shortest, most
