"""DeePMD-kit's model files, `.dp` and `.yaml`: Deep Potentials read and written without loss."""

from kepton.potential.deepmd_kit.container import SUFFIXES
from kepton.potential.deepmd_kit.reading import read
from kepton.potential.deepmd_kit.writing import write

__all__ = ["SUFFIXES", "read", "write"]
