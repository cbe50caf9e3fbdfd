"""xTB: semi-empirical tight binding by the tblite library, for molecules and crystals."""

from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

import numpy as np

from kepton.atoms import Frames, Label
from kepton.atoms.units import BOHR, BOLTZMANN, HARTREE
from kepton.elt import Failure
from kepton.errors import InputError
from kepton.principles.principle import Refusal, answer, check_electrons, nearest

METHODS = {"gfn1": "GFN1-xTB", "gfn2": "GFN2-xTB"}
INSTALL = "pip install 'kepton[xtb]'"
ATTEMPTS = ((250, 0.4), (500, 0.1))
"""(iterations, damping of the charge mixer), each tried when the one before did not converge."""


@dataclass(frozen=True)
class XTB:
    """Electronic free energy, forces and virial of the tight-binding models GFN1 and GFN2.

    Crystals are sampled at the Gamma point alone: give a supercell. The electronic temperature is
    never raised to make a calculation converge, for it changes the energy.

    Args:
        method: "GFN2-xTB" or "GFN1-xTB"; "gfn2" and "gfn1" for short, in any case
        accuracy: thresholds of integrals and convergence, relative to those of the library
        electronic_temperature_K: of the Fermi distribution of the electrons

    Source: Grimme et al., J. Chem. Theory Comput. 13, 1989 (2017); Bannwarth et al., J. Chem.
        Theory Comput. 15, 1652 (2019)
    """

    method: str = "GFN2-xTB"
    accuracy: float = 0.1
    electronic_temperature_K: float = 300.0

    def __post_init__(self):
        short = self.method.lower().removesuffix("-xtb")
        object.__setattr__(self, "method", METHODS.get(short, self.method))

    @property
    def settings(self) -> dict[str, Any]:
        """JSON of everything that decides a label."""
        return {"kind": "xtb", **asdict(self)}

    def check(self, frames: Frames) -> None:
        """Raise InputError where tblite cannot label such frames with such settings."""
        if self.method not in METHODS.values():
            raise InputError(
                f"method = {self.method!r} is not known{nearest(self.method, METHODS.values())}; "
                f"give one of {', '.join(METHODS.values())}."
            )
        if not 0 < self.accuracy <= 10:
            raise InputError(
                f"accuracy = {self.accuracy:g}; give a number above 0 and up to 10, where smaller "
                "is more accurate."
            )
        if not self.electronic_temperature_K >= 0:
            raise InputError(
                f"electronic_temperature_K = {self.electronic_temperature_K:g}; give kelvin, 0 or "
                "more."
            )
        if heavy := [
            symbol for symbol, (z, _) in zip(frames.symbols, frames.composition) if z > 86
        ]:
            raise InputError(
                f"{self.method} has no parameters for {', '.join(heavy)}, only for H to Rn "
                "(Z <= 86); use kind = 'pyscf' or 'ase'."
            )
        if np.any(np.any(frames.pbc, axis=1) & ~np.all(frames.pbc, axis=1)):
            raise InputError(
                "kind = 'xtb' labels molecules (pbc = F F F) and crystals (pbc = T T T), but the "
                "structure is periodic along some directions only; set all three, with vacuum "
                "where there are no neighbours."
            )
        check_electrons(frames)
        available, advice = self.availability()
        if not available:
            raise InputError(f"kind = 'xtb' needs the package tblite; run: {advice}")

    def __call__(self, frames: Frames) -> Label | Failure:
        """Energy and forces of one configuration; the virial is nan where it is a molecule."""
        return answer(self._label, frames)

    def _label(self, frames: Frames) -> Label:
        result = self._converged(frames)
        virial = np.full((3, 3), np.nan)
        if np.all(frames.pbc):
            virial = -result.get("virial") * HARTREE
        return Label(
            energy=np.array([result.get("energy") * HARTREE]),
            forces=-result.get("gradient")[None] * HARTREE / BOHR,
            virial=virial[None],
            engine=f"tblite {version('tblite')} {self.method}",
        )

    def _converged(self, frames: Frames):
        from tblite.exceptions import TBLiteRuntimeError
        from tblite.interface import Calculator

        periodic = bool(np.all(frames.pbc))
        calculator = Calculator(
            self.method,
            np.asarray(frames.species[0]),
            np.asarray(frames.positions[0], float) / BOHR,
            charge=float(frames.charge[0]),
            uhf=int(frames.spin[0]),
            lattice=np.asarray(frames.cell[0], float) / BOHR if periodic else None,
            periodic=np.asarray(frames.pbc[0]) if periodic else None,
        )
        calculator.set("verbosity", 0)
        calculator.set("accuracy", self.accuracy)
        calculator.set("temperature", self.electronic_temperature_K * BOLTZMANN / HARTREE)
        for iterations, damping in ATTEMPTS:
            calculator.set("max-iter", iterations)
            calculator.set("mixer-damping", damping)
            try:
                return calculator.singlepoint()
            except TBLiteRuntimeError as error:
                if "not converged" not in str(error):
                    raise
        raise Refusal(
            f"{self.method} did not converge in {' + '.join(str(i) for i, _ in ATTEMPTS)} "
            f"iterations with mixer damping down to {ATTEMPTS[-1][1]}."
        )

    @staticmethod
    def availability() -> tuple[bool, str]:
        """Whether it works on this machine, and its version or how to get it."""
        try:
            import tblite.interface  # noqa: F401
        except ImportError as error:
            return False, f"{INSTALL} ({error})"
        return True, f"tblite {version('tblite')}"
