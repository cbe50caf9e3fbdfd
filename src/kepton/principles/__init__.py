"""First-principles engines: Frames -> Label."""

from kepton.principles.abinit import Abinit
from kepton.principles.ase import ASECalculator
from kepton.principles.cp2k import CP2K
from kepton.principles.espresso import Espresso
from kepton.principles.gpaw import GPAW
from kepton.principles.principle import Principle, Program
from kepton.principles.pyscf import PySCF
from kepton.principles.registry import PERIODIC, PRINCIPLES, doctor
from kepton.principles.xtb import XTB

__all__ = [
    "CP2K",
    "GPAW",
    "PERIODIC",
    "PRINCIPLES",
    "XTB",
    "ASECalculator",
    "Abinit",
    "Espresso",
    "Principle",
    "Program",
    "PySCF",
    "doctor",
]
