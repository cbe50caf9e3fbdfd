"""Errors of a potential on labelled data."""

from typing import Any

import numpy as np
from ase.data import chemical_symbols

from kepton.atoms.frames import Frames, Label
from kepton.potential.ensemble import Ensemble, predict


def assess(ensemble: Ensemble, frames: Frames, label: Label) -> dict[str, Any]:
    """Root mean square, mean absolute and largest errors of energy per atom, forces and virial.

    Args:    frames, label: b labelled frames
    Returns: {"frames", "atoms", "energy_per_atom" (eV), "forces" (eV/Å, over components),
             "forces_by_element", "force_rms_by_frame" (quantiles over frames of the root mean
             square over components), "virial_per_atom" (eV, None without virials)}, each error as
             {"rmse", "mae", "max"}; nan where no frame has forces
    Raises:  InputError: an element that the potential does not know
    """
    answer, _ = predict(ensemble, frames)
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
    }


def _summary(error: np.ndarray) -> dict[str, float]:
    if error.size == 0:
        return dict.fromkeys(("rmse", "mae", "max"), float("nan"))
    return {
        "rmse": float(np.sqrt(np.mean(error**2))),
        "mae": float(np.mean(np.abs(error))),
        "max": float(np.max(np.abs(error))),
    }
