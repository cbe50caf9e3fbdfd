"""From a molecule, a first principle and a target error to a certified Deep Potential."""

import os
import warnings

from kepton.machine import cores, xla_is_known

# One XLA thread: the many small operations of few atoms lose more to a second one than they gain
# (14 against 10 ms a training step on two idle cores, 90 on two busy ones). Instead a device a
# core, each of which trains its share of an ensemble's members.
os.environ.setdefault("PJRT_NPROC", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as many decompositions at a time as cores
os.environ.setdefault("JAX_NUM_CPU_DEVICES", str(min(8, cores())))
# XLA's YNN kernels on a CPU: a training step takes 10 ms with them and 3.5 without (JAX 0.10.2).
_YNN = "--xla_cpu_experimental_ynn_fusion_type"
if xla_is_known() and _YNN not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_YNN}=".strip()

import jax
import platformdirs

jax.config.update("jax_enable_x64", True)  # sums of energies and integrators need float64
if "JAX_DEFAULT_MATMUL_PRECISION" not in os.environ:  # by default GPUs round factors to 10 bits
    jax.config.update("jax_default_matmul_precision", "highest")
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    jax.config.update("jax_compilation_cache_dir", platformdirs.user_cache_dir("kepton"))
    # the hundreds of small programs of a campaign take a third of its time, or next to nothing
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    # on a full or read-only disk they are compiled again, and hundreds of warnings would say so
    warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache")

from kepton.errors import InputError

__all__ = ["InputError", "load"]
__version__ = "0.1.0"


def load(path, exact: bool = False):
    """The potential in a `.kepton` file, or in a `.dp` or `.yaml` file of DeePMD-kit.

    Args:
        exact: evaluate the embedding nets at every neighbour, all in float64: to rounding what
            DeePMD-kit computes; default: nets in float32, the embedding as a radial basis
    Raises:
        InputError: no such file, or not a model file that Kepton reads
    """
    from kepton.potential.file import load_ensemble

    return load_ensemble(path, exact)[0]
