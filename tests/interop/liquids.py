"""Statistics of a liquid: structure, diffusion, and how sure they are."""

import ase
import numpy as np

STEP, EVERY, PIECE, PIECES = 0.5, 20, 200, 10
"""fs; steps between two frames; frames of a piece, 2 ps, and pieces of a trajectory"""
SHORTEST, LONGEST, BIN = 2.2, 6.0, 0.1
"""Å, of the distances of oxygens"""
LAG = 50, 100
"""Frames, 0.5 and 1 ps, between which the mean square displacement has become straight"""


def radial_distribution(x: np.ndarray, side: float) -> np.ndarray:
    """g(r) of t frames of n particles in a cube: count of pairs over that of a uniform density."""
    edges = np.arange(SHORTEST, LONGEST + BIN / 2, BIN)
    n, count = x.shape[1], np.zeros(len(edges) - 1)
    one, other = np.triu_indices(n, 1)
    for frame in x:
        d = frame[one] - frame[other]
        r = np.linalg.norm(d - side * np.round(d / side), axis=1)
        count += np.histogram(r, edges)[0]
    shells = 4.0 / 3.0 * np.pi * np.diff(edges**3)
    return count / len(x) / (0.5 * n * (n - 1) * shells / side**3)


def diffusion(x: np.ndarray) -> float:
    """D of t frames of n particles, Å^2/ps: a sixth of the mean square displacement's slope."""
    x = x - x.mean(axis=1, keepdims=True)
    low, high = (((x[lag:] - x[:-lag]) ** 2).sum(axis=2).mean() for lag in LAG)
    return float((high - low) / (6.0 * (LAG[1] - LAG[0]) * EVERY * STEP * 1e-3))


def measured(x: np.ndarray, atoms: ase.Atoms) -> tuple[np.ndarray, np.ndarray]:
    """g(r) and D by piece of a trajectory, in columns: mean and squared error of the mean."""
    oxygen = x[1:, atoms.numbers == 8]
    pieces = np.split(oxygen, PIECES)
    rows = [[*radial_distribution(one, atoms.cell[0, 0]), diffusion(one)] for one in pieces]
    return np.mean(rows, axis=0), np.var(rows, axis=0, ddof=1) / PIECES
