"""Errors of a potential on labelled data."""

from typing import Any

import numpy as np
from ase.data import chemical_symbols
from scipy.stats import rankdata

from kepton.atoms.frames import Frames, Label
from kepton.potential.ensemble import Ensemble, predict


def assess(ensemble: Ensemble, frames: Frames, label: Label) -> dict[str, Any]:
    """Root mean square, mean absolute and largest errors of energy per atom, forces and virial.

    Args:    frames, label: b labelled frames
    Returns: {"frames", "atoms", "energy_per_atom" (eV), "forces" (eV/Å, over components),
             "forces_by_element", "force_rms_by_frame" (quantiles over frames of the root mean
             square over components), "virial_per_atom" (eV, None without virials), "deviation"
             (how the ensemble's doubt tells its errors: Spearman's rank correlation "by_frame" and
             "by_atom", and "ratio", the root mean square error over that of the deviation; None
             for one member or fewer than three frames with forces)}, each error as
             {"rmse", "mae", "max"}; nan where no frame has forces
    Raises:  InputError: an element that the potential does not know
    """
    answer, doubt = predict(ensemble, frames)
    atoms = np.asarray(frames.mask).sum(axis=1)
    labelled = np.isfinite(label.forces).all(axis=(1, 2))
    real = np.asarray(frames.mask) & labelled[:, None]
    off = np.where(labelled[:, None, None], np.asarray(answer.forces) - label.forces, 0.0)
    by_element = {
        chemical_symbols[z]: _summary(off[real & (np.asarray(frames.species) == z)])
        for z, _ in frames.composition
    }
    by_frame = np.sqrt((off**2).sum(axis=(1, 2)) / (3 * atoms))[labelled]
    known = np.isfinite(label.virial).all(axis=(1, 2))
    virial = (np.asarray(answer.virial) - label.virial)[known] / atoms[known, None, None]
    return {
        "frames": len(frames),
        "atoms": int(atoms.sum()),
        "energy_per_atom": _summary((np.asarray(answer.energy) - label.energy) / atoms),
        "forces": _summary(off[real]),
        "forces_by_element": by_element,
        "force_rms_by_frame": {
            f"{q:.0%}": float(np.quantile(by_frame, q)) if len(by_frame) else np.nan
            for q in (0.5, 0.9, 0.95, 1.0)
        },
        "virial_per_atom": _summary(virial) if known.any() else None,
        "deviation": _deviation(off, doubt, real)
        if ensemble.size > 1 and labelled.sum() > 2
        else None,
    }


def _deviation(off: np.ndarray, doubt: np.ndarray, real: np.ndarray) -> dict[str, float]:
    error = np.linalg.norm(off, axis=-1)
    frames = real.any(axis=1)
    by_frame = [np.sqrt((values**2 * real).sum(axis=1))[frames] for values in (doubt, error)]
    return {
        "by_frame": _spearman(*by_frame),
        "by_atom": _spearman(doubt[real], error[real]),
        "ratio": float(np.sqrt(np.mean(error[real] ** 2) / np.mean(doubt[real] ** 2))),
    }


def _spearman(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(rankdata(a), rankdata(b))[0, 1])


def _summary(error: np.ndarray) -> dict[str, float]:
    if error.size == 0:
        return dict.fromkeys(("rmse", "mae", "max"), float("nan"))
    return {
        "rmse": float(np.sqrt(np.mean(error**2))),
        "mae": float(np.mean(np.abs(error))),
        "max": float(np.max(np.abs(error))),
    }
