"""From a molecule, a first principle and a target error to a certified Deep Potential."""

import os

# One XLA thread: the many small operations of few atoms lose more to a second one than they gain
# (14 against 10 ms a training step on two idle cores, 90 on two busy ones).
os.environ.setdefault("PJRT_NPROC", "1")

import jax
import platformdirs

jax.config.update("jax_enable_x64", True)  # sums of energies and integrators need float64
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    jax.config.update("jax_compilation_cache_dir", platformdirs.user_cache_dir("kepton"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)

from kepton.errors import InputError

__all__ = ["InputError", "load"]
__version__ = "0.1.0"


def load(path):
    """The potential in a `model.kepton` file; see `kepton.potential.file.load_ensemble`.

    Raises:
        InputError: no such file, or not a model file
    """
    from kepton.potential.file import load_ensemble

    return load_ensemble(path)[0]
