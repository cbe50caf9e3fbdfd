"""Structures and labelled data in files: whatever ASE reads, and the folders deepmd/npy.

Source: Larsen et al., J. Phys.: Condens. Matter 29, 273002 (2017)
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ase
import ase.io
import numpy as np
from ase.calculators.singlepoint import SinglePointCalculator
from ase.neighborlist import neighbor_list
from ase.stress import full_3x3_to_voigt_6_stress, voigt_6_to_full_3x3_stress

from kepton.atoms import deepmd
from kepton.atoms.frames import Frames, Label, concatenate, concatenate_labels
from kepton.atoms.replacing import reason, replacing
from kepton.errors import InputError

CLOSEST = 0.1
"""Å: two atoms nearer than this, over all images, are one atom written twice."""

ENERGY = ("ref_energy", "dft_energy", "free_energy", "energy", "energy_ev", "totenergy")
FORCES = ("ref_forces", "dft_forces", "forces", "ref_force", "dft_force", "force")
VIRIAL = ("ref_virial", "ref_virials", "dft_virial", "dft_virials", "virial", "virials")
STRESS = ("ref_stress", "dft_stress", "stress")
"""Keys of a labelled frame in any case of letters; the first that is there counts."""

EXTXYZ = (".extxyz", ".xyz")


def read_structures(path: str | Path) -> list[ase.Atoms]:
    """All structures of a file that ASE reads, or of a deepmd/npy folder.

    Raises:
        InputError: no such file, not readable, or without frames; a frame without atoms or with
            atoms of no element, with positions that are not finite, with atoms nearer than
            CLOSEST, or periodic along a cell vector that is not there
    """
    path = Path(path)
    return _read_deepmd(path)[0].to_ase() if deepmd.is_data_set(path) else _read_ase(path)


def read_labelled(paths: str | Path | Sequence[str | Path]) -> tuple[Frames, Label]:
    """Labelled frames of one or several files or deepmd/npy folders, in one batch.

    W = -V sigma where a file holds the stress        W -> virial; V -> volume; sigma -> stress

    Energies are in eV, forces in eV/Å, virials in eV, stresses in eV/Å^3 (tension positive), under
    the keys that ENERGY, FORCES, VIRIAL and STRESS list. The virial is nan where there is none.

    Raises:
        InputError: what `read_structures` refuses; a frame without energy or forces, or with
            labels that are not finite or not of the right shape
    """
    if not isinstance(paths, str | Path):
        if not paths:
            raise InputError("No labelled data: the list of files is empty; give at least one.")
        data = [read_labelled(path) for path in paths]
        return concatenate([f for f, _ in data]), concatenate_labels([label for _, label in data])
    path = Path(paths)
    if not deepmd.is_data_set(path):
        structures = _read_ase(path)
        return Frames.from_ase(structures), _labels(structures, path)
    frames, label = _read_deepmd(path)
    if label is None:
        raise InputError(
            f"{path} holds coordinates without labels; add energy.npy (eV) and force.npy (eV/Å) "
            "beside each coord.npy."
        )
    return frames, label


def write_labelled(
    path: str | Path, frames: Frames, label: Label, info: Sequence[dict[str, Any]] | None = None
) -> None:
    """Labelled frames to an extxyz file, or to a deepmd/npy folder where `path` has no suffix.

    An extxyz file holds positions and forces to 8 decimals and all else to the last bit: energy,
    virial, charge, spin, engine and `info`, and the stress too where the frame is periodic along
    all directions. A deepmd/npy folder holds float64 arrays, and charge and spin (`charge.npy`,
    `unpaired_electrons.npy`, which DeePMD-kit passes over) where they are not zero; neither engine
    nor `info`. Frames that differ in the elements of their atoms in order, in periodicity, or in
    having a virial go to folders of their own, named by their formula. The target appears, or is
    replaced, when all is written.

    Args:    info: keys and values of each frame, such as its origin and round
    Raises:
        InputError: another suffix, a target that cannot be written or that is a folder with other
            files, frames periodic along some directions only for a deepmd/npy folder
        ValueError: frames, label and info differ in length
    """
    path = Path(path)
    if not len(frames) == len(label) == len(info or frames):
        raise ValueError(f"{len(frames)} frames, {len(label)} labels, info {len(info or frames)}.")
    if path.suffix.lower() in EXTXYZ:
        _write_ase(path, _labelled_structures(frames, label, info))
    elif deepmd.is_folder(path):
        deepmd.write(path, frames, label)
    else:
        raise InputError(
            f"{path}: labelled data go to a file that ends in {' or '.join(EXTXYZ)}, or to a "
            "deepmd/npy folder, whose name has no ending; give such a path."
        )


def convert(source: str | Path, target: str | Path) -> None:
    """The frames of a file or deepmd/npy folder, with their labels, in another format.

    A target without suffix is a deepmd/npy folder; others are in the format that ASE knows by the
    name. Between formats of ASE everything is kept that the target can hold; a deepmd/npy folder
    takes labels of all frames, energy and forces, or of none.

    Raises:
        InputError: what `read_structures` and `write_labelled` refuse; labels of some frames only,
            or of energy or forces alone, for a deepmd/npy folder
    """
    source, target = Path(source), Path(target)
    if deepmd.is_data_set(source):
        frames, label = _read_deepmd(source)
        structures = frames.to_ase() if label is None else _labelled_structures(frames, label)
    else:
        structures = _read_ase(source)
    if not deepmd.is_folder(target):
        _write_ase(target, structures)
    else:
        label = _labels(structures, source) if any(map(_has_labels, structures)) else None
        deepmd.write(target, Frames.from_ase(structures), label)


# ---------------------------------------------------------------- files of ASE


def _read_deepmd(path: Path) -> tuple[Frames, Label | None]:
    frames, label = deepmd.read(path)
    _check(frames.to_ase(), path)
    return frames, label


def _read_ase(path: Path) -> list[ase.Atoms]:
    if not path.exists():
        raise InputError(f"{path} does not exist; give the path of a structure file.")
    if path.is_dir():
        raise InputError(
            f"{path} is a folder without type.raw, so not a deepmd/npy folder; give a structure "
            "file, or add type.raw and type_map.raw."
        )
    try:
        structures: Any = ase.io.read(path, index=":", do_not_split_by_at_sign=True)
    except Exception as error:  # ASE's readers raise whatever a wrong file leads them to
        raise InputError(
            f"{path} cannot be read as structures ({reason(error)}); give a complete file in a "
            "format that ASE reads, such as extxyz, cif or POSCAR, or a deepmd/npy folder."
        ) from error
    _check(structures, path)
    return structures


def _write_ase(target: Path, structures: list[ase.Atoms]) -> None:
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


def _check(structures: list[ase.Atoms], path: Path) -> None:
    """Raise InputError where a frame cannot be a physical structure."""
    if not structures:
        raise InputError(f"{path} holds no frames; give a file with at least one structure.")
    for i, atoms in enumerate(structures):
        if wrong := _defect(atoms) or _odd_state(atoms) or _coincidence(atoms):
            raise InputError(f"{path}, frame {i} (counted from 0) {wrong}.")


def _defect(atoms: ase.Atoms) -> str:
    if len(atoms) == 0:
        return "has no atoms; give at least one"
    if (atoms.numbers == 0).any():
        return "has atoms of no element (X); name their elements"
    if not (np.isfinite(atoms.positions).all() and np.isfinite(atoms.cell.array).all()):
        return "has positions or cell vectors that are not finite numbers; remove the frame"
    if np.linalg.matrix_rank(atoms.cell.array[atoms.pbc]) < atoms.pbc.sum():
        return (
            f"is periodic (pbc = {atoms.pbc.tolist()}) without cell vectors that span these "
            "directions; give the cell, or set pbc to false"
        )
    return ""


def _odd_state(atoms: ase.Atoms) -> str:
    for key in ("charge", "spin", "multiplicity"):
        value = atoms.info.get(key, 0)
        if not (isinstance(value, int | float | np.number) and float(value).is_integer()):
            return f"has {key} = {value}; give a whole number, or rename the key"
    return ""


def _coincidence(atoms: ase.Atoms) -> str:
    i, j, distance = neighbor_list("ijd", atoms, CLOSEST)
    if len(i):
        return (
            f"has atoms {i[0]} and {j[0]} (counted from 0) {distance[0]:.3f} Å apart, over all "
            f"periodic images, where {CLOSEST} is the least; remove the copy or correct the cell"
        )
    return ""


# ---------------------------------------------------------------- labels in ASE's atoms


def _values(atoms: ase.Atoms) -> dict[str, Any]:
    """Everything a frame holds besides its structure, by the key in small letters."""
    held = {**atoms.info, **atoms.arrays, **(atoms.calc.results if atoms.calc else {})}
    return {str(k).lower(): v for k, v in held.items() if k not in ("positions", "numbers")}


def _has_labels(atoms: ase.Atoms) -> bool:
    return not {*ENERGY, *FORCES, *VIRIAL, *STRESS}.isdisjoint(_values(atoms))


def _labels(structures: list[ase.Atoms], path: Path) -> Label:
    n = max(map(len, structures))
    energy, forces = np.zeros(len(structures)), np.zeros((len(structures), n, 3))
    virial = np.full((len(structures), 3, 3), np.nan)
    for i, atoms in enumerate(structures):
        values, where = _values(atoms), f"{path}, frame {i} (counted from 0)"
        for name, keys, unit in (("energy", ENERGY, "eV"), ("forces", FORCES, "eV/Å")):
            if not any(key in values for key in keys):
                raise InputError(
                    f"{where} has no {name}; its keys are {', '.join(values) or 'none'}. Give the "
                    f"{name} in {unit} under one of {', '.join(keys)}."
                )
        energy[i] = _numbers(values, ENERGY, where, (), (1,)).item()
        forces[i, : len(atoms)] = _numbers(values, FORCES, where, (len(atoms), 3))
        if any(key in values for key in VIRIAL):
            virial[i] = _tensor(values, VIRIAL, where)
        elif atoms.cell.rank == 3 and any(key in values for key in STRESS):
            virial[i] = -_tensor(values, STRESS, where) * atoms.get_volume()
    engines = {str(atoms.info.get("engine", "")) for atoms in structures}
    return Label(energy, forces, virial, engines.pop() if len(engines) == 1 else "")


def _numbers(values: dict, keys: Sequence[str], where: str, *shapes: tuple[int, ...]) -> np.ndarray:
    """The value of the first key that is there: finite, and of one of the shapes."""
    key = next(key for key in keys if key in values)
    try:
        array = np.asarray(values[key], float)
    except (TypeError, ValueError):
        array = np.array(np.nan)
    if array.shape not in shapes or not np.isfinite(array).all():
        raise InputError(
            f"{where}: {key} must be finite numbers of shape {' or '.join(map(str, shapes))}, but "
            f"came as {'not finite' if array.shape in shapes else f'shape {array.shape}'}; correct "
            "the value or remove the frame."
        )
    return array


def _tensor(values: dict, keys: Sequence[str], where: str) -> np.ndarray:
    array = _numbers(values, keys, where, (3, 3), (9,), (6,))
    return voigt_6_to_full_3x3_stress(array) if array.shape == (6,) else array.reshape(3, 3)


def _labelled_structures(
    frames: Frames, label: Label, info: Sequence[dict[str, Any]] | None = None
) -> list[ase.Atoms]:
    structures = frames.to_ase()
    for i, atoms in enumerate(structures):
        real, virial = np.asarray(frames.mask[i]), np.asarray(label.virial[i], float)
        atoms.info |= {"engine": label.engine} if label.engine else {}
        atoms.info |= info[i] if info else {}
        results = {
            "energy": float(label.energy[i]),
            "forces": np.asarray(label.forces[i], float)[real],
        }
        if np.isfinite(virial).all():
            atoms.info["virial"] = virial
            if atoms.pbc.all():
                results["stress"] = full_3x3_to_voigt_6_stress(-virial / atoms.get_volume())
        atoms.calc = SinglePointCalculator(atoms, **results)
    return structures
