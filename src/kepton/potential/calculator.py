"""An ensemble as an ASE calculator."""

from typing import Any, ClassVar

import numpy as np
from ase.calculators.calculator import Calculator, PropertyNotImplementedError, all_changes
from ase.stress import full_3x3_to_voigt_6_stress

from kepton.atoms.frames import Frames
from kepton.atoms.neighbors import neighbors
from kepton.potential.ensemble import Ensemble, check_elements, component_rms, evaluate

SKIN = 0.5
"""Å that atoms may use up between two neighbour lists"""


class KeptonCalculator(Calculator):
    """Energy, forces, stress and the ensemble's doubt for ASE.

    stress = -virial / volume (periodic along all three cell vectors only)

    Beside ASE's properties, `results` holds `force_deviation`, (n,) eV/Å, the disagreement of the
    ensemble on each atom; its maximum is DP-GEN's model deviation. `deviation_rms` is the same as a
    root mean square over force components, comparable to the target of a campaign.

    Args:
        ensemble: the potential
    Raises:
        InputError: at calculation, an element that the potential was not trained on
    """

    implemented_properties: ClassVar[list[str]] = ["energy", "free_energy", "forces", "stress"]

    def __init__(self, ensemble: Ensemble):
        super().__init__()
        self.ensemble = ensemble
        self._lists: Any = None

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        """Fill `results` for one structure."""
        super().calculate(atoms, properties, system_changes)
        structure: Any = self.atoms
        frames = Frames.from_ase([structure])
        check_elements(self.ensemble, frames)
        structure_changed = set(system_changes) - {"positions", "cell"}
        if self._lists is None or structure_changed or self._stale(frames):
            self._lists = neighbors(frames, self.ensemble.cutoff, SKIN)
        label, per_atom = evaluate(self.ensemble, frames, self._lists)
        energy = float(label.energy[0])
        self.results = {
            "energy": energy,
            "free_energy": energy,
            "forces": np.array(label.forces[0]),
            "force_deviation": np.array(per_atom[0]),
            "deviation_rms": float(component_rms(per_atom, frames.mask)[0]),
        }
        if structure.pbc.all():
            stress = -np.array(label.virial[0]) / structure.get_volume()
            self.results["stress"] = full_3x3_to_voigt_6_stress(stress)
        elif "stress" in properties:
            raise PropertyNotImplementedError(
                "Stress needs a cell that is periodic in 3 directions."
            )

    def _stale(self, frames: Frames) -> bool:
        return bool(self._lists.stale(frames, self.ensemble.cutoff).any())
