"""First-principles engines: Frames -> Label."""

from kepton.principles.ase import ASECalculator
from kepton.principles.principle import Principle
from kepton.principles.pyscf import PySCF
from kepton.principles.registry import PRINCIPLES, doctor
from kepton.principles.xtb import XTB

__all__ = ["PRINCIPLES", "XTB", "ASECalculator", "Principle", "PySCF", "doctor"]
