"""C++ kernels for CPUs, compiled when Kepton is installed; without them XLA does the same."""

from kepton.kernels.library import library, serves

__all__ = ["library", "serves"]
