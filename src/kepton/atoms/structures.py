"""Files that ASE reads and writes, and the labels that its atoms hold.

Source: Larsen et al., J. Phys.: Condens. Matter 29, 273002 (2017)
"""

import warnings
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import ase
import ase.io
import numpy as np
from ase.calculators.singlepoint import SinglePointCalculator
from ase.stress import full_3x3_to_voigt_6_stress, voigt_6_to_full_3x3_stress

from kepton.atoms import cp2k
from kepton.atoms.frames import Frames, Label, concatenate
from kepton.atoms.groups import Group, joined_labels
from kepton.atoms.outputs import Judgement, judgement, output_in
from kepton.atoms.replacing import reason, replacing
from kepton.errors import InputError, LeftOut

ENERGY = (
    "ref_energy",
    "dft_energy",
    "free_energy",
    "energy",
    "energy_ev",
    "total_energy",
    "totenergy",
)
FORCES = ("ref_forces", "dft_forces", "forces", "ref_force", "dft_force", "force")
VIRIAL = ("ref_virial", "ref_virials", "dft_virial", "dft_virials", "virial", "virials")
STRESS = ("ref_stress", "dft_stress", "stress")
"""Keys of a labelled frame in any case of letters; the first that is there counts."""

EXTXYZ = (".extxyz", ".xyz")

AT_ONCE = 1000
"""Frames that are held as ASE's atoms while a file is read."""


def read(path: Path, labelled: bool = False) -> Iterator[ase.Atoms]:
    """The structures of a file, one after the other.

    Where their labels count, frames of calculations that did not converge are left out, and a
    warning `LeftOut` says how many.

    Raises:
        InputError: no such file, not readable, or without frames; a frame without atoms, with
            atoms of no element, or with charge or spin that are not whole numbers; no calculation
            that converged
    """
    if not path.exists():
        raise InputError(f"{path} does not exist; give the path of a structure file.")
    if path.is_dir():
        raise InputError(
            f"{path} is a folder without type.raw, so not a deepmd/npy folder; give a structure "
            "file, or add type.raw and type_map.raw."
        )
    found = judgement(path) if labelled else None
    frames = _converged(found) if found else _frames(path)
    count = 0
    while (atoms := _next(frames, path)) is not None:
        if wrong := _nothing(atoms) or _odd_state(atoms):
            raise InputError(f"{path}, frame {count} (counted from 0) {wrong}.")
        count += 1
        yield atoms
    if count == 0:
        raise InputError(f"{path} holds no frames; give a file with at least one structure.")


def _frames(path: Path) -> Iterator[ase.Atoms]:
    output = output_in(path)
    format = output.format if output else None
    if format == "cp2k":
        return iter(cp2k.read(path))
    frames: Any = ase.io.iread(str(path), index=":", format=format, do_not_split_by_at_sign=True)
    return frames


def _converged(found: Judgement) -> Iterator[ase.Atoms]:
    """The frames of converged calculations."""
    found.check()
    frames, all_frames = _frames(found.path), []
    while (atoms := _next(frames, found.path)) is not None:
        all_frames.append(atoms)
    found.check(len(all_frames))
    if found.refused:
        warnings.warn(f"{found.told()} and are left out.", LeftOut, stacklevel=2)
        all_frames = [all_frames[i] for i in found.converged]
    for atoms in all_frames:
        atoms.info.setdefault("engine", found.output.program)
    return iter(all_frames)


def _next(frames: Iterator[ase.Atoms], path: Path) -> ase.Atoms | None:
    try:
        return next(frames, None)
    except Exception as error:  # ASE's readers raise whatever a wrong file leads them to
        raise InputError(
            f"{path} cannot be read as structures ({reason(error)}); give a complete file in a "
            "format that ASE reads, such as extxyz, cif or POSCAR, or a deepmd/npy folder."
        ) from error


def _nothing(atoms: ase.Atoms) -> str:
    if len(atoms) == 0:
        return "has no atoms; give at least one"
    if (atoms.numbers == 0).any():
        return "has atoms of no element (X); name their elements"
    return ""


def _odd_state(atoms: ase.Atoms) -> str:
    for key in ("charge", "spin", "multiplicity"):
        value = atoms.info.get(key, 0)
        if not (isinstance(value, int | float | np.number) and float(value).is_integer()):
            return f"has {key} = {value}; give a whole number, or rename the key"
    return ""


def groups(structures: Iterator[ase.Atoms], path: Path, labelled: bool) -> list[Group]:
    """The structures of a file by their number of atoms; few at a time are ASE's atoms.

    Raises:
        InputError: a frame without energy, or with labels that are not numbers of the right shape
    """
    parts: dict[int, list[tuple[list[int], Frames, Label | None, set[str]]]] = {}
    first = 0
    while some := list(islice(structures, AT_ONCE)):
        by_size: dict[int, list[int]] = {}
        for i, atoms in enumerate(some):
            by_size.setdefault(len(atoms), []).append(i)
        for size, places in by_size.items():
            group, rows = [some[i] for i in places], [first + i for i in places]
            label = labels(group, path, rows) if labelled else None
            part = rows, Frames.from_ase(group), label, engines(group)
            parts.setdefault(size, []).append(part)
        first += len(some)
    result = []
    for size in list(parts):
        group = parts.pop(size)
        rows = np.concatenate([rows for rows, _, _, _ in group])
        frames = concatenate([frames for _, frames, _, _ in group])
        of_group = [label for _, _, label, _ in group if label is not None]
        label = joined_labels(of_group) if labelled else None
        named = frozenset().union(*(names for _, _, _, names in group)) - {""}
        result.append(Group(frames, label, path, rows, named))
    return result


def write(target: Path, structures: list[ase.Atoms]) -> None:
    """Write a file in the format that ASE knows by the name, whole or not at all."""
    with replacing(target) as new:
        try:
            ase.io.write(new, structures, "extxyz" if target.suffix.lower() in EXTXYZ else None)
        except OSError:
            raise
        except Exception as error:  # ASE's writers raise whatever does not fit their format
            raise InputError(
                f"{target} cannot hold these {len(structures)} frames ({reason(error)}); give a "
                "name that ends in .extxyz, or in another format that ASE writes."
            ) from error


# ---------------------------------------------------------------- labels in ASE's atoms


def _values(atoms: ase.Atoms) -> dict[str, Any]:
    """Everything a frame holds besides its structure, by the key in small letters."""
    held = {**atoms.info, **atoms.arrays, **(atoms.calc.results if atoms.calc else {})}
    return {str(k).lower(): v for k, v in held.items() if k not in ("positions", "numbers")}


def has_labels(atoms: ase.Atoms) -> bool:
    """Whether a frame holds any label."""
    return not {*ENERGY, *FORCES, *VIRIAL, *STRESS}.isdisjoint(_values(atoms))


def labels(structures: Sequence[ase.Atoms], path: Path, rows: Sequence[int]) -> Label:
    """The labels of structures that are the given frames of a file.

    W = -V sigma where a frame holds the stress        W -> virial; V -> volume; sigma -> stress

    Forces and virial are nan where there are none, or nan alone.

    Raises:
        InputError: a frame without energy, or with labels that are not numbers of the right shape
    """
    n = max(map(len, structures))
    energy, forces = np.zeros(len(structures)), np.zeros((len(structures), n, 3))
    virial = np.full((len(structures), 3, 3), np.nan)
    for i, atoms in enumerate(structures):
        values, where = _values(atoms), f"{path}, frame {rows[i]} (counted from 0)"
        if not any(key in values for key in ENERGY):
            raise InputError(
                f"{where} has no energy; its keys are {', '.join(values) or 'none'}. Give the "
                f"energy in eV under one of {', '.join(ENERGY)}."
            )
        energy[i] = _numbers(values, ENERGY, where, (), (1,)).item()
        forces[i, : len(atoms)] = np.nan
        if any(key in values for key in FORCES):
            forces[i, : len(atoms)] = _numbers(values, FORCES, where, (len(atoms), 3))
        if any(key in values for key in VIRIAL):
            virial[i] = _tensor(values, VIRIAL, where)
        elif atoms.cell.rank == 3 and any(key in values for key in STRESS):
            virial[i] = -_tensor(values, STRESS, where) * atoms.get_volume()
    named = engines(structures)
    return Label(energy, forces, virial, named.pop() if len(named) == 1 else "")


def engines(structures: Sequence[ase.Atoms]) -> set[str]:
    """Names of those that answered, "" for frames that do not say."""
    return {str(atoms.info.get("engine", "")) for atoms in structures}


def _numbers(values: dict, keys: Sequence[str], where: str, *shapes: tuple[int, ...]) -> np.ndarray:
    """The value of the first key that is there: of one of the shapes, finite or nothing but nan."""
    key = next(key for key in keys if key in values)
    try:
        array = np.asarray(values[key], float)
    except (TypeError, ValueError):
        array = np.array(np.nan)
    missing = array.size > 1 and np.isnan(array).all()
    if array.shape not in shapes or not (missing or np.isfinite(array).all()):
        raise InputError(
            f"{where}: {key} must be finite numbers of shape {' or '.join(map(str, shapes))}, but "
            f"came as {'not finite' if array.shape in shapes else f'shape {array.shape}'}; correct "
            "the value or remove the frame."
        )
    return array


def _tensor(values: dict, keys: Sequence[str], where: str) -> np.ndarray:
    array = _numbers(values, keys, where, (3, 3), (9,), (6,))
    return voigt_6_to_full_3x3_stress(array) if array.shape == (6,) else array.reshape(3, 3)


def labelled(
    frames: Frames, label: Label, info: Sequence[dict[str, Any]] | None = None
) -> list[ase.Atoms]:
    """ASE's atoms that hold their labels, in `calc` what ASE knows and in `info` the virial."""
    structures = frames.to_ase()
    for i, atoms in enumerate(structures):
        real, virial = np.asarray(frames.mask[i]), np.asarray(label.virial[i], float)
        atoms.info |= {"engine": label.engine} if label.engine else {}
        atoms.info |= info[i] if info else {}
        results: dict[str, Any] = {"energy": float(label.energy[i])}
        forces = np.asarray(label.forces[i], float)[real]
        if np.isfinite(forces).all():
            results["forces"] = forces
        if np.isfinite(virial).all():
            atoms.info["virial"] = virial
            if atoms.pbc.all():
                results["stress"] = full_3x3_to_voigt_6_stress(-virial / atoms.get_volume())
        atoms.calc = SinglePointCalculator(atoms, **results)
    return structures
