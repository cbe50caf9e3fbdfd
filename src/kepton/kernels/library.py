"""The compiled library: loaded once, its operations made known to XLA."""

import ctypes
from ctypes import c_double, c_long, c_void_p
from functools import cache
from pathlib import Path

import jax

FILE = Path(__file__).with_name("libkepton.so")
OPERATIONS = ("deep_potential_f32", "deep_potential_f64", "closed_moments")
NEIGHBORS = (*3 * [c_long], *5 * [c_void_p], c_double, *5 * [c_void_p], c_long)
"""Arguments of the search for neighbours: one that is passed undeclared is an int, half a long"""


@cache
def library() -> ctypes.CDLL | None:
    """The compiled kernels; None where there are none, or XLA is too old or too new for them."""
    try:
        found = ctypes.CDLL(str(FILE))
        for name in OPERATIONS:
            capsule = jax.ffi.pycapsule(getattr(found, name))
            jax.ffi.register_ffi_target(f"kepton_{name}", capsule, platform="cpu")
        found.kepton_neighbors.argtypes = NEIGHBORS
    except (OSError, AttributeError, RuntimeError):
        return None
    return found


def serves() -> bool:
    """Whether programs run where the kernels do, and they are here."""
    return jax.default_backend() == "cpu" and library() is not None
