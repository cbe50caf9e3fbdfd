"""Closures, cases and labels as bytes: safetensors with JSON metadata."""

import os
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from kepton.closure.boltzmann import Boltzmann
from kepton.closure.closure import FEATURES, Closure
from kepton.closure.equation import Kinetic
from kepton.closure.fields import Case, Conserved, Fields
from kepton.closure.label import Label
from kepton.errors import InputError
from kepton.model_file import metadata, pack, unpack

ARCHITECTURE = "moment_closure"
EQUATIONS = {"bgk": Kinetic, "boltzmann": Boltzmann}
"""By the kind that `Kinetic.settings` tell"""


def equation_of(settings: dict[str, Any]) -> Kinetic:
    """The equation of its `settings`; files of before there were kinds are of BGK."""
    return EQUATIONS[settings.get("kind", "bgk")](
        **{name: value for name, value in settings.items() if name != "kind"}
    )


def to_bytes(ensemble: Closure, info: dict[str, Any]) -> bytes:
    """A model file: an ensemble, and JSON that travels with it."""
    weights = np.ascontiguousarray(ensemble.weights, float)
    header = {
        "architecture": ARCHITECTURE,
        "equation": ensemble.equation.settings,
        "info": info,
    }
    return pack({"weights": weights}, header)


def from_bytes(data: bytes) -> tuple[Closure, dict[str, Any]]:
    """The ensemble, bit for bit, and the info that was saved with it.

    Raises:
        InputError: bytes that are not the file of a closure, or one of a newer format
    """
    try:
        tensors, header = unpack(data)
        if header["architecture"] != ARCHITECTURE:
            raise InputError(f"This is a model of another kind, {header['architecture']!r}.")
        equation, weights = equation_of(header.get("equation", {})), tensors["weights"]
        equation.check()
        if weights.ndim == 3:  # files of before there were equations in them
            weights = weights[:, :, None]
        if weights.ndim != 4 or weights.shape[2:] != (equation.kinds, FEATURES):
            raise ValueError(f"weights of the shape {weights.shape}")
        return Closure(weights, equation), header["info"]
    except (SafetensorError, KeyError, ValueError, TypeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            "This is not the file of a closure, or it is damaged "
            f"({type(error).__name__}: {error})."
        ) from error


def load_closure(path: str | os.PathLike) -> tuple[Closure, dict[str, Any]]:
    """The ensemble in a file, and its info.

    Raises:
        InputError: no such file, or not that of a closure
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"There is no model file {path}; `kepton run` makes one.")
    try:
        return from_bytes(path.read_bytes())
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def encode(value: Case | Label) -> bytes:
    """A sample or a label as bytes, the same for equal ones."""
    if isinstance(value, Case):
        tensors = {
            "initial": np.stack(value.initial),
            "outside": np.stack(value.outside),
            "knudsen": np.asarray(value.knudsen),
        }
        return save(tensors, {"boundary": value.boundary})
    return save({"conserved": np.stack(value.conserved), "error": value.error})


def decode(data: bytes) -> Any:
    """The sample or label that `encode` wrote."""
    tensors = load(data)
    if "conserved" in tensors:
        return Label(Conserved(*tensors["conserved"]), tensors["error"])
    return Case(
        Fields(*tensors["initial"]),
        tensors["knudsen"],
        Fields(*tensors["outside"]),
        metadata(data)["boundary"],
    )
