"""The engines by the name that a campaign file gives them."""

from kepton.principles.abinit import Abinit
from kepton.principles.ase import ASECalculator
from kepton.principles.cp2k import CP2K
from kepton.principles.espresso import Espresso
from kepton.principles.gpaw import GPAW
from kepton.principles.periodic import PeriodicProgram
from kepton.principles.principle import Principle
from kepton.principles.pyscf import PySCF
from kepton.principles.xtb import XTB

PRINCIPLES: dict[str, type[Principle]] = {
    "pyscf": PySCF,
    "xtb": XTB,
    "espresso": Espresso,
    "cp2k": CP2K,
    "gpaw": GPAW,
    "abinit": Abinit,
    "ase": ASECalculator,
}
"""kind -> class; an engine itself is imported when it is first asked for something."""

PERIODIC = {kind: one for kind, one in PRINCIPLES.items() if issubclass(one, PeriodicProgram)}
"""Those with a cutoff and a mesh of k-points"""


def doctor() -> dict[str, tuple[bool, str]]:
    """Whether each kind of principle works on this machine, and its version or how to get it."""
    return {kind: principle.availability() for kind, principle in PRINCIPLES.items()}
