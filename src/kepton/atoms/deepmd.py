"""The folders deepmd/npy: labelled data of DeePMD-kit.

A system is a folder with `type_map.raw` (the elements), `type.raw` (an index into them for each
atom), `set.*/{coord,box,energy,force,virial}.npy`, and `nopbc` where it is not periodic. A set
whose frames differ in their elements has `real_atom_types.npy` besides, -1 where padded. A folder
of such folders is one data set.

Source: Zeng et al., J. Chem. Phys. 159, 054801 (2023)
"""

import heapq
from collections import Counter
from collections.abc import Collection
from pathlib import Path

import ase
import numpy as np
from ase.data import atomic_numbers, chemical_symbols

from kepton.atoms.frames import Frames, Label
from kepton.atoms.groups import Group
from kepton.atoms.replacing import reason, replacing
from kepton.errors import InputError

MAPPED, MAPPED_FROM = 256, 2**20
"""So many arrays, the largest ones of at least so many bytes, may stay on disk: each keeps a file
open, of which a process may have about a thousand."""


def is_data_set(path: Path) -> bool:
    """Whether a path is a folder with deepmd/npy systems."""
    return path.is_dir() and bool(_folders(path))


def is_folder(target: Path) -> bool:
    """Whether a target without a format in its suffix means a deepmd/npy folder."""
    return target.is_dir() or not target.suffix


def _folders(path: Path) -> list[Path]:
    """Folders of the systems under a path; hidden ones are what a killed process left."""
    folders = sorted(file.parent for file in path.rglob("type.raw"))
    return [f for f in folders if not any(p.startswith(".") for p in f.relative_to(path).parts)]


def large(paths: Collection[Path]) -> set[Path]:
    """The arrays under all paths that are better mapped from disk than read."""
    sizes = {file: file.stat().st_size for path in paths for file in path.rglob("set.*/*.npy")}
    largest = heapq.nlargest(MAPPED, sizes, key=sizes.__getitem__)
    return {file for file in largest if sizes[file] >= MAPPED_FROM}


def read(path: Path, mapped: Collection[Path] = ()) -> list[Group]:
    """All sets of all systems under a path, in order; without labels where none has any.

    Positions, cells, forces and virials keep the precision of the file, float32 or float64, and
    the arrays in `mapped` stay on disk. A set with padding is copied: it becomes a Group for each
    number of atoms.

    Raises:
        InputError: files that are missing, cannot be read, or do not fit each other
    """
    groups = [part for folder in _folders(path) for part in _read_folder(folder, mapped)]
    labelled = sum(group.label is not None for group in groups)
    if 0 < labelled < len(groups):
        raise InputError(
            f"{path} holds sets with labels and sets without; add energy.npy and force.npy to the "
            "latter, or move them to another folder."
        )
    return groups


def _read_folder(folder: Path, mapped: Collection[Path]) -> list[Group]:
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
    return [group for part in sets for group in _read_set(part, types, numbers, mapped)]


def _read_set(
    folder: Path, types: np.ndarray, numbers: np.ndarray, mapped: Collection[Path]
) -> list[Group]:
    def load(name: str, *shape: int) -> np.ndarray:
        return _load(folder / name, shape, folder / name in mapped)

    def whole(name: str) -> np.ndarray:
        if not (folder / name).exists():
            return np.broadcast_to(np.array(0), b)
        return load(name, b, 1).ravel().astype(int)

    positions, n = load("coord.npy"), len(types)
    b = len(positions)
    if b == 0:
        raise InputError(f"{folder / 'coord.npy'} holds no frames; remove {folder}.")
    mixed = (folder / "real_atom_types.npy").exists()
    types = load("real_atom_types.npy", b, n).astype(int) if mixed else types[None]
    if types.size == 0 or types.min() < -1 or types.max() > len(numbers) - 2:
        raise InputError(
            f"{folder}: its types must be indices into the {len(numbers) - 1} elements of "
            f"type_map.raw; correct type.raw (or real_atom_types.npy)."
        )
    periodic = not (folder.parent / "nopbc").exists()
    frames = Frames.of(
        load("coord.npy", b, 3 * n).reshape(b, n, 3),
        np.broadcast_to(numbers[types], (b, n)),
        load("box.npy", b, 9).reshape(b, 3, 3) if periodic else _all(0.0, b, 3, 3),
        _all(periodic, b, 3),
        whole("charge.npy"),
        whole("unpaired_electrons.npy"),
    )
    label = None
    force, virial = ((folder / name).exists() for name in ("force.npy", "virial.npy"))
    if force or virial or (folder / "energy.npy").exists():
        label = Label(
            energy=load("energy.npy", b, 1).ravel().astype(float),
            forces=load("force.npy", b, 3 * n).reshape(b, n, 3) if force else _all(np.nan, b, n, 3),
            virial=load("virial.npy", b, 9).reshape(b, 3, 3) if virial else _all(np.nan, b, 3, 3),
        )
    if (types == -1).any():
        return _without_padding(frames, label, folder)
    return [Group(frames, label, folder, np.arange(b))]


def _all(value: float | bool, *shape: int) -> np.ndarray:
    """An array of one value that needs no memory."""
    return np.broadcast_to(np.array(value), shape)


def _without_padding(frames: Frames, label: Label | None, folder: Path) -> list[Group]:
    """A Group for each number of atoms in a padded set."""
    counts, groups = frames.mask.sum(axis=1), []
    if not counts.all():
        raise InputError(
            f"{folder / 'real_atom_types.npy'}, frame {counts.argmin()} (counted from 0) has no "
            "atoms; remove the frame from all arrays."
        )
    for count in dict.fromkeys(counts.tolist()):
        rows = np.flatnonzero(counts == count)
        atoms = np.argsort(~frames.mask[rows], axis=1, kind="stable")[:, :count]
        part = Frames.of(
            frames.positions[rows[:, None], atoms],
            frames.species[rows[:, None], atoms],
            *(leaf[rows] for leaf in (frames.cell, frames.pbc, frames.charge, frames.spin)),
        )
        part_label = label and Label(
            label.energy[rows], label.forces[rows[:, None], atoms], label.virial[rows]
        )
        groups.append(Group(part, part_label, folder, rows))
    return groups


def _load(file: Path, shape: tuple[int, ...], mapped: bool) -> np.ndarray:
    """An array of numbers, a row a frame, in float32 or float64; never a pickle."""
    if not file.exists():
        raise InputError(
            f"{file} is missing; a labelled set has coord.npy, energy.npy and, where there are "
            "any, force.npy and virial.npy, and box.npy unless an empty file nopbc stands beside "
            "type.raw."
        )
    try:
        array = np.load(file, mmap_mode="r" if mapped else None, allow_pickle=False)
        array = array.reshape(len(array), -1) if array.size else array
        if array.dtype not in (np.float32, np.float64):
            array = np.asarray(array, float)
    except Exception as error:
        raise InputError(
            f"{file} cannot be read as an array of numbers ({reason(error)}); it may be cut "
            "short, or hold pickled objects, which are refused; write it anew with numpy.save."
        ) from error
    if shape and array.shape != shape:
        raise InputError(
            f"{file} must hold {shape[0]} frames (as coord.npy) of {shape[1]} numbers for the "
            f"atoms in type.raw, but has shape {array.shape}; correct one of the three."
        )
    return array


def write(target: Path, frames: Frames, label: Label | None) -> None:
    """Write one folder, or a subfolder for each composition, periodicity and kind of label."""
    groups: dict[tuple, list[int]] = {}
    for i in range(len(frames)):
        pbc = np.asarray(frames.pbc[i])
        if pbc.any() != pbc.all():
            raise InputError(
                f"{target}: a deepmd/npy folder holds frames that are periodic along all "
                f"directions or none, but frame {i} has pbc = {pbc.tolist()}; write extxyz."
            )
        real = np.asarray(frames.mask[i])
        species = tuple(np.asarray(frames.species[i])[real].tolist())
        has_forces = label is not None and bool(np.isfinite(label.forces[i])[real].all())
        has_virial = label is not None and bool(np.isfinite(label.virial[i]).all())
        groups.setdefault((species, bool(pbc.all()), has_forces, has_virial), []).append(i)
    elements = sorted({z for species, *_ in groups for z in species})
    named = Counter()
    with replacing(target) as new:
        for (species, periodic, has_forces, has_virial), rows in groups.items():
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
                per_frame["energy"] = label.energy
                per_atom |= {"force": label.forces} if has_forces else {}
                per_frame |= {"virial": label.virial} if has_virial else {}
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
