"""Model files: `.kepton`, an ensemble as one safetensors file with JSON metadata, and others."""

import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from ase.data import chemical_symbols
from safetensors import SafetensorError

from kepton.atoms.replacing import write_whole
from kepton.devices import jitted
from kepton.errors import InputError
from kepton.model_file import pack, unpack
from kepton.potential import deepmd_kit
from kepton.potential.architectures import ARCHITECTURES
from kepton.potential.compiled import knows, tables
from kepton.potential.ensemble import Ensemble

SUFFIXES = (".kepton", *deepmd_kit.SUFFIXES)
NETS = ("coefficients", "empty")
"""Tables in the precision of the nets as they are used"""
FROZEN = (".pb", ".pbtxt", ".pth", ".pt", ".pt2", ".hlo", ".jax", ".savedmodel")


def to_bytes(
    ensemble: Ensemble, info: dict[str, Any] | None = None, with_tables: bool = False
) -> bytes:
    """The file's bytes; `info` is JSON that travels with the model.

    Args:
        with_tables: add what the kernel derives of a Deep Potential, for LAMMPS; Kepton itself
            passes over them
    """
    members = ensemble.members
    name = next(n for n, (kind, _) in ARCHITECTURES.items() if isinstance(members, kind))
    tensors = {
        f"weights.{part}.{layer}": np.array(matrix, order="C")
        for part, matrices in members.weights.items()
        for layer, matrix in enumerate(matrices)
    } | {
        f"statistics.{part}": np.array(value, order="C")
        for part, value in members.statistics.items()
    }
    if with_tables and knows(members):
        derived = jitted(tables)(members.with_dtype(jnp.float64))
        tensors |= {
            f"kernel.{part}": np.array(value, np.float32 if part in NETS else None, order="C")
            for part, value in derived.items()
        }
    header = {
        "architecture": name,
        "config": asdict(members.config),
        "species": [chemical_symbols[z] for z in members.config.species],
        "members": ensemble.size,
        "info": info or {},
    }
    return pack(tensors, header)


def from_bytes(data: bytes) -> tuple[Ensemble, dict[str, Any]]:
    """The ensemble, bit for bit, and the info that was saved with it.

    Raises:
        InputError: bytes that are not a model file, or one of a newer format
    """
    try:
        tensors, header = unpack(data)
        kind, config_kind = ARCHITECTURES[header["architecture"]]
        config = config_kind(**{k: _tuples(v) for k, v in header["config"].items()})
        weights: dict[str, list] = {}
        for name in sorted(tensors, key=lambda name: (name.rpartition(".")[0], _layer(name))):
            if name.startswith("weights."):
                weights.setdefault(name.split(".")[1], []).append(jnp.asarray(tensors[name]))
        statistics = {
            name.partition(".")[2]: jnp.asarray(value)
            for name, value in tensors.items()
            if name.startswith("statistics.")
        }
        ensemble = Ensemble(kind(weights, statistics, config))
        if ensemble.size != header["members"]:
            raise KeyError("members")
        return ensemble, header["info"]
    except (SafetensorError, KeyError, ValueError, TypeError, IndexError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"This is not a Kepton model file, or it is damaged ({type(error).__name__}: {error})."
        ) from error


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _layer(name: str) -> int:
    return int(name.rpartition(".")[2]) if name.startswith("weights.") else 0


def save(path: str | os.PathLike, ensemble: Ensemble, info: dict[str, Any] | None = None) -> None:
    """Write a model file, whole or not at all, with what LAMMPS needs of it."""
    write_whole(Path(path), to_bytes(ensemble, info, with_tables=True))


def load_ensemble(path: str | os.PathLike, exact: bool = False) -> tuple[Ensemble, dict[str, Any]]:
    """The ensemble in a file, ready for use, and its info.

    Args:
        exact: all in float64, embedding nets of a Deep Potential evaluated at every neighbour;
            default: nets in float32, the embedding as a radial basis (`potential.basis`)
    Raises:
        InputError: what `read_model` refuses; nets that no radial basis holds, where not `exact`
    """
    ensemble, info = read_model(path)
    members = ensemble.members
    if exact:
        return Ensemble(members.reference()), info
    if not members.config.basis:
        raise InputError(
            f"{path}: the embedding nets ({members.config.activation[0]}) are not smooth enough "
            "for a radial basis; evaluate them at every neighbour with exact = True (--exact)."
        )
    return ensemble.with_dtype(jnp.float32), info


def read_model(path: str | os.PathLike) -> tuple[Ensemble, dict[str, Any]]:
    """The ensemble in a `.kepton`, `.dp` or `.yaml` file, in its own precision, and its info.

    Raises:
        InputError: no such file, or not a model file that Kepton reads
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(
            f"There is no model file {path}; `kepton run` and `kepton train` make one."
        )
    if path.suffix.lower() in deepmd_kit.SUFFIXES:
        return deepmd_kit.read(path), {"source": path.name}
    if path.suffix.lower() in FROZEN:
        raise InputError(
            f"{path} is a frozen model of DeePMD-kit, and Kepton reads {', '.join(SUFFIXES)}; give "
            f"what `dp convert-backend {path.name} {path.stem}.dp` makes of it."
        )
    try:
        return from_bytes(path.read_bytes())
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
