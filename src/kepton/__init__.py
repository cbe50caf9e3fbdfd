"""From a molecule, a first principle and a target error to a certified Deep Potential."""

import jax

jax.config.update("jax_enable_x64", True)  # sums of energies and integrators need float64

from kepton.errors import InputError  # noqa: E402

__all__ = ["InputError", "load"]
__version__ = "0.1.0"


def load(path):
    """The potential in a `model.kepton` file; see `kepton.potential.file.load`."""
    from kepton.potential.file import load

    return load(path)
