"""The folders deepmd/npy: labelled data of DeePMD-kit.

A system is a folder with `type_map.raw` (the elements), `type.raw` (an index into them for each
atom), `set.*/{coord,box,energy,force,virial}.npy`, and `nopbc` where it is not periodic. A folder
of such folders is one data set.

Source: Zeng et al., J. Chem. Phys. 159, 054801 (2023)
"""

from collections import Counter
from pathlib import Path

import ase
import numpy as np
from ase.data import atomic_numbers, chemical_symbols

from kepton.atoms.frames import Frames, Label, concatenate, concatenate_labels
from kepton.atoms.replacing import reason, replacing
from kepton.errors import InputError


def is_data_set(path: Path) -> bool:
    """Whether a path is a folder with deepmd/npy systems."""
    return path.is_dir() and bool(_systems(path))


def is_folder(target: Path) -> bool:
    """Whether a target without a format in its suffix means a deepmd/npy folder."""
    return target.is_dir() or not target.suffix


def _systems(path: Path) -> list[Path]:
    """Folders of the systems under a path; hidden ones are what a killed process left."""
    folders = sorted(file.parent for file in path.rglob("type.raw"))
    return [f for f in folders if not any(p.startswith(".") for p in f.relative_to(path).parts)]


def read(path: Path) -> tuple[Frames, Label | None]:
    """All sets of all systems under a path; no Label where none of them has one."""
    sets = [part for folder in _systems(path) for part in _read_system(folder)]
    labels = [label for _, label in sets if label is not None]
    if labels and len(labels) < len(sets):
        raise InputError(
            f"{path} holds sets with labels and sets without; add energy.npy and force.npy to the "
            "latter, or move them to another folder."
        )
    frames = concatenate([frames for frames, _ in sets])
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
            f"{file} cannot be read as an array of numbers ({reason(error)}); it may be cut "
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
        species = tuple(np.asarray(frames.species[i])[np.asarray(frames.mask[i])].tolist())
        has_virial = label is not None and bool(np.isfinite(label.virial[i]).all())
        groups.setdefault((species, bool(pbc.all()), has_virial), []).append(i)
    elements = sorted({z for species, _, _ in groups for z in species})
    named = Counter()
    with replacing(target) as new:
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
