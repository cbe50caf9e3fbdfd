"""The compiled library: loaded once, its operations made known to XLA."""

import ctypes
from functools import cache
from pathlib import Path

import jax

FILE = Path(__file__).with_name("libkepton.so")
OPERATIONS = ("deep_potential_f32", "deep_potential_f64")


@cache
def library() -> ctypes.CDLL | None:
    """The compiled kernels; None where there are none, or XLA is too old or too new for them."""
    try:
        found = ctypes.CDLL(str(FILE))
        for name in OPERATIONS:
            capsule = jax.ffi.pycapsule(getattr(found, name))
            jax.ffi.register_ffi_target(f"kepton_{name}", capsule, platform="cpu")
    except (OSError, AttributeError, RuntimeError):
        return None
    return found
