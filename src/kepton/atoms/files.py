"""Structures and labelled data in files: whatever ASE reads, and the folders deepmd/npy.

A deepmd/npy system is a folder with `type_map.raw` (the elements), `type.raw` (an index into them
for each atom), `set.*/{coord,box,energy,force,virial}.npy`, and `nopbc` where it is not periodic.
A folder of such folders is one data set.

Source: Zeng et al., J. Chem. Phys. 159, 054801 (2023); Larsen et al., J. Phys.: Condens. Matter
    29, 273002 (2017)
"""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import ase
import ase.io
import numpy as np
from ase.calculators.singlepoint import SinglePointCalculator
from ase.data import atomic_numbers, chemical_symbols
from ase.neighborlist import neighbor_list
from ase.stress import full_3x3_to_voigt_6_stress, voigt_6_to_full_3x3_stress

from kepton.atoms.frames import Frames, Label, concatenate, concatenate_labels
from kepton.errors import InputError

CLOSEST = 0.1
"""Å: two atoms nearer than this, over all images, are one atom written twice."""

ENERGY = ("ref_energy", "dft_energy", "free_energy", "energy", "energy_ev", "totenergy")
FORCES = ("ref_forces", "dft_forces", "forces", "ref_force", "dft_force", "force")
VIRIAL = ("ref_virial", "ref_virials", "dft_virial", "dft_virials", "virial", "virials")
STRESS = ("ref_stress", "dft_stress", "stress")
"""Keys of a labelled frame in any case of letters; the first that is there counts."""

SYSTEM_FILES = ("type.raw", "type_map.raw", "nopbc")
EXTXYZ = (".extxyz", ".xyz")


def read_structures(path: str | Path) -> list[ase.Atoms]:
    """All structures of a file that ASE reads, or of a deepmd/npy folder.

    Raises:
        InputError: no such file, not readable, or without frames; a frame without atoms or with
            atoms of no element, with positions that are not finite, with atoms nearer than
            CLOSEST, or periodic along a cell vector that is not there
    """
    path = Path(path)
    return _structures(path)[0].to_ase() if _is_deepmd(path) else _read_ase(path)


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
    if not _is_deepmd(path):
        structures = _read_ase(path)
        return Frames.from_ase(structures), _labels(structures, path)
    frames, label = _structures(path)
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
    elif _is_folder(path):
        _write_deepmd(path, frames, label)
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
    if _is_deepmd(source):
        frames, label = _structures(source)
        structures = frames.to_ase() if label is None else _labelled_structures(frames, label)
    else:
        structures = _read_ase(source)
    if not _is_folder(target):
        _write_ase(target, structures)
    else:
        label = _labels(structures, source) if any(map(_has_labels, structures)) else None
        _write_deepmd(target, Frames.from_ase(structures), label)


# ---------------------------------------------------------------- files of ASE


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
            f"{path} cannot be read as structures ({_reason(error)}); give a complete file in a "
            "format that ASE reads, such as extxyz, cif or POSCAR, or a deepmd/npy folder."
        ) from error
    _check(structures, path)
    return structures


def _write_ase(target: Path, structures: list[ase.Atoms]) -> None:
    with _replacing(target) as new:
        try:
            ase.io.write(new, structures, "extxyz" if target.suffix.lower() in EXTXYZ else None)
        except OSError:
            raise
        except Exception as error:  # ASE's writers raise whatever does not fit their format
            raise InputError(
                f"{target} cannot hold these {len(structures)} frames ({_reason(error)}); give a "
                "name that ends in .extxyz, or in another format that ASE writes."
            ) from error


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {next(iter(str(error).strip().splitlines()), 'no message')}"


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


# ---------------------------------------------------------------- deepmd/npy


def _is_deepmd(path: Path) -> bool:
    return path.is_dir() and bool(_systems(path))


def _is_folder(target: Path) -> bool:
    return target.is_dir() or not target.suffix


def _systems(path: Path) -> list[Path]:
    """Folders of the systems under a path; hidden ones are what a killed process left."""
    folders = sorted(file.parent for file in path.rglob("type.raw"))
    return [f for f in folders if not any(p.startswith(".") for p in f.relative_to(path).parts)]


def _structures(path: Path) -> tuple[Frames, Label | None]:
    """All sets of all systems under a path; no Label where none of them has one."""
    sets = [part for folder in _systems(path) for part in _read_system(folder)]
    labels = [label for _, label in sets if label is not None]
    if labels and len(labels) < len(sets):
        raise InputError(
            f"{path} holds sets with labels and sets without; add energy.npy and force.npy to the "
            "latter, or move them to another folder."
        )
    frames = concatenate([frames for frames, _ in sets])
    _check(frames.to_ase(), path)
    return frames, concatenate_labels(labels) if labels else None


def _read_system(folder: Path) -> list[tuple[Frames, Label | None]]:
    """The sets of one system, in the order of their names."""
    if not (folder / "type_map.raw").exists():
        raise InputError(
            f"{folder} has type.raw but no type_map.raw, so its elements are unknown; write their "
            "symbols there, one a line in the order of the types."
        )
    names = (folder / "type_map.raw").read_text().split()
    if unknown := [name for name in names if atomic_numbers.get(name, 0) == 0]:
        raise InputError(
            f"{folder / 'type_map.raw'} names {', '.join(unknown)}, not an element; write chemical "
            "symbols, one a line in the order of the types."
        )
    try:
        types = np.array((folder / "type.raw").read_text().split(), int)
    except ValueError as error:
        raise InputError(
            f"{folder / 'type.raw'} must hold whole numbers, one an atom ({error}); write it anew."
        ) from error
    sets = sorted(file.parent for file in folder.glob("set.*/coord.npy"))
    if not sets:
        raise InputError(
            f"{folder} has no set.*/coord.npy; write its frames there as an array of shape "
            "(frames, 3 atoms), in Å."
        )
    numbers = np.array([*(atomic_numbers[name] for name in names), 0])  # type -1 is padding
    return [_read_set(part, types, numbers) for part in sets]


def _read_set(folder: Path, types: np.ndarray, numbers: np.ndarray) -> tuple[Frames, Label | None]:
    b, n = len(_load(folder / "coord.npy")), len(types)
    if (folder / "real_atom_types.npy").exists():  # frames of several compositions, padded
        types = _load(folder / "real_atom_types.npy", b, n).astype(int)
    if types.size == 0 or types.min() < -1 or types.max() > len(numbers) - 2:
        raise InputError(
            f"{folder}: its types must be indices into the {len(numbers) - 1} elements of "
            f"type_map.raw; correct type.raw (or real_atom_types.npy)."
        )
    species = np.broadcast_to(numbers[types], (b, n)).copy()
    mask, periodic = species > 0, not (folder.parent / "nopbc").exists()

    def optional(name: str) -> np.ndarray:
        file = folder / name
        return _load(file, b, 1).ravel().astype(int) if file.exists() else np.zeros(b, int)

    frames = Frames(
        positions=_load(folder / "coord.npy", b, 3 * n).reshape(b, n, 3) * mask[..., None],
        species=species,
        cell=_load(folder / "box.npy", b, 9).reshape(b, 3, 3) if periodic else np.zeros((b, 3, 3)),
        pbc=np.full((b, 3), periodic),
        mask=mask,
        charge=optional("charge.npy"),
        spin=optional("unpaired_electrons.npy"),
    )
    if not any((folder / name).exists() for name in ("energy.npy", "force.npy", "virial.npy")):
        return frames, None
    virial = np.full((b, 9), np.nan)
    if (folder / "virial.npy").exists():
        virial = _load(folder / "virial.npy", b, 9)
    return frames, Label(
        energy=_finite(_load(folder / "energy.npy", b, 1).ravel(), folder / "energy.npy"),
        forces=_finite(_load(folder / "force.npy", b, 3 * n), folder / "force.npy").reshape(b, n, 3)
        * mask[..., None],
        virial=virial.reshape(b, 3, 3),
    )


def _load(file: Path, *shape: int) -> np.ndarray:
    """An array of numbers in float64, a row a frame; never a pickle."""
    if not file.exists():
        raise InputError(
            f"{file} is missing; a labelled set has coord.npy, energy.npy and force.npy, and "
            "box.npy unless an empty file nopbc stands beside type.raw."
        )
    try:
        array = np.load(file, allow_pickle=False)
        array = np.asarray(array.reshape(len(array), -1) if array.size else array, float)
    except Exception as error:
        raise InputError(
            f"{file} cannot be read as an array of numbers ({_reason(error)}); it may be cut "
            "short, or hold pickled objects, which are refused; write it anew with numpy.save."
        ) from error
    if shape and array.shape != shape:
        raise InputError(
            f"{file} must hold {shape[0]} frames (as coord.npy) of {shape[1]} numbers for the "
            f"atoms in type.raw, but has shape {array.shape}; correct one of the three."
        )
    return array


def _finite(array: np.ndarray, file: Path) -> np.ndarray:
    if not np.isfinite(array).all():
        row = int(np.argwhere(~np.isfinite(array))[0, 0])
        raise InputError(
            f"{file}, frame {row} (counted from 0) is not finite; remove the frame from all arrays."
        )
    return array


def _write_deepmd(target: Path, frames: Frames, label: Label | None) -> None:
    groups: dict[tuple, list[int]] = {}
    for i in range(len(frames)):
        pbc = np.asarray(frames.pbc[i])
        if pbc.any() != pbc.all():
            raise InputError(
                f"{target}: a deepmd/npy folder holds frames that are periodic along all "
                f"directions or none, but frame {i} has pbc = {pbc.tolist()}; write extxyz."
            )
        species = tuple(np.asarray(frames.species[i])[np.asarray(frames.mask[i])].tolist())
        has_virial = label is not None and bool(np.isfinite(label.virial[i]).all())
        groups.setdefault((species, bool(pbc.all()), has_virial), []).append(i)
    elements = sorted({z for species, _, _ in groups for z in species})
    named = Counter()
    with _replacing(target) as new:
        for (species, periodic, has_virial), rows in groups.items():
            formula = ase.Atoms(species).get_chemical_formula()
            named[formula] += 1
            name = formula if named[formula] == 1 else f"{formula}_{named[formula]}"
            per_atom, per_frame = {"coord": frames.positions}, {}
            if periodic:
                per_frame["box"] = frames.cell
            if np.any(frames.charge):
                per_frame["charge"] = frames.charge
            if np.any(frames.spin):
                per_frame["unpaired_electrons"] = frames.spin
            if label is not None:
                per_atom["force"], per_frame["energy"] = label.forces, label.energy
            if label is not None and has_virial:
                per_frame["virial"] = label.virial
            mask = np.asarray(frames.mask)
            arrays = {key: np.asarray(value, float)[rows] for key, value in per_frame.items()}
            for key, value in per_atom.items():
                arrays[key] = np.stack([np.asarray(value[i], float)[mask[i]] for i in rows])
            _write_system(
                new / name if len(groups) > 1 else new,
                [elements.index(z) for z in species],
                [chemical_symbols[z] for z in elements],
                periodic,
                arrays,
            )


def _write_system(
    folder: Path, types: list[int], symbols: list[str], periodic: bool, arrays: dict
) -> None:
    (folder / "set.000").mkdir(parents=True)
    (folder / "type.raw").write_text("".join(f"{t}\n" for t in types))
    (folder / "type_map.raw").write_text("".join(f"{symbol}\n" for symbol in symbols))
    if not periodic:
        (folder / "nopbc").touch()
    for name, array in arrays.items():
        flat = array.reshape(len(array), -1) if array.ndim > 1 else array
        np.save(folder / "set.000" / f"{name}.npy", flat)


@contextmanager
def _replacing(target: Path) -> Iterator[Path]:
    """A path on the same disk, for a file or a folder that takes the target's place at the end."""
    if target.is_dir():
        _check_replaceable(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as folder:
            new = Path(folder, target.name)
            yield new
            if target.is_dir():  # no system replaces a folder that is not empty
                os.replace(target, Path(folder, "old"))
            os.replace(new, target)
    except OSError as error:
        raise InputError(
            f"{target} cannot be written ({_reason(error)}); give a path in a folder with space, "
            "where you may write."
        ) from error


def _check_replaceable(target: Path) -> None:
    """Raise InputError where a folder holds anything but deepmd/npy data."""
    for file in target.rglob("*"):
        if not (file.is_dir() or file.name in SYSTEM_FILES or file.suffix == ".npy"):
            raise InputError(
                f"{target} is a folder that holds {file.relative_to(target)}, which is no part of "
                "a deepmd/npy data set, so it is not replaced; give another name."
            )
