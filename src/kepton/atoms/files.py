"""Structures and labelled data in files: whatever ASE reads, and the folders deepmd/npy."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ase

from kepton.atoms import consistency, deepmd, provenance, soundness
from kepton.atoms import structures as ase_files
from kepton.atoms.frames import Frames, Label
from kepton.atoms.groups import Group, joined
from kepton.errors import InputError


def read_structures(path: str | Path) -> list[ase.Atoms]:
    """All structures of a file that ASE reads, or of a deepmd/npy folder.

    Raises:
        InputError: no such file, not readable, or without frames; a frame that
            `kepton.atoms.soundness` refuses, without atoms, or with atoms of no element
    """
    path = Path(path)
    if deepmd.is_data_set(path):
        return _deepmd(path)[0].to_ase()
    return _of_ase(path, labelled=False)


def _of_ase(path: Path, labelled: bool) -> list[ase.Atoms]:
    """All structures of a file that ASE reads, or those whose labels count."""
    structures = list(ase_files.read(path, labelled))
    soundness.check(ase_files.groups(iter(structures), path, labelled=False))
    return structures


def read_systems(
    paths: str | Path | Sequence[str | Path], mixed: bool = False
) -> list[tuple[Frames, Label]]:
    """Labelled frames of files or deepmd/npy folders, in groups that need no padding.

    W = -V sigma where a file holds the stress        W -> virial; V -> volume; sigma -> stress

    A group is one set of a deepmd/npy system, or the frames of one number of atoms in another
    file; its frames may differ in their elements. Large arrays of deepmd/npy are mapped from disk
    (read-only) in the precision of the file, and species are one row seen b times, so 10^6 frames
    need little memory. Other files are read as a stream, and their groups are held in memory.

    Energies are in eV, forces in eV/Å, virials in eV, stresses in eV/Å^3 (tension positive), under
    the keys that `kepton.atoms.structures` lists. Forces and virial are nan where a frame has none.

    Args:    mixed: take labels of several principles
    Raises:
        InputError: what `read_structures` refuses; a frame without energy; labels that are not
            finite or not of the right shape; energies that do not fit the forces by a factor that
            a mix-up of units or signs explains (see `kepton.atoms.consistency`); labels of several
            principles (see `kepton.atoms.provenance`)
    """
    return [(g.frames, g.label) for g in _labelled_groups(paths, mixed) if g.label is not None]


def read_labelled(paths: str | Path | Sequence[str | Path]) -> tuple[Frames, Label]:
    """What `read_systems` reads, in one padded batch in float64 and in the order of the files."""
    frames, label = joined(_labelled_groups(paths))
    assert label is not None
    return frames, label


def _labelled_groups(paths: str | Path | Sequence[str | Path], mixed: bool = False) -> list[Group]:
    paths = [Path(p) for p in ([paths] if isinstance(paths, str | Path) else paths)]
    if not paths:
        raise InputError("No labelled data: the list of files is empty; give at least one.")
    folders = {path for path in paths if deepmd.is_data_set(path)}
    mapped = deepmd.large(folders)
    groups = []
    for path in paths:
        if path in folders:
            of_path = deepmd.read(path, mapped)
            if any(group.label is None for group in of_path):
                raise InputError(
                    f"{path} holds coordinates without labels; add energy.npy (eV) and force.npy "
                    "(eV/Å) beside each coord.npy."
                )
        else:
            of_path = ase_files.groups(ase_files.read(path, labelled=True), path, labelled=True)
        groups += of_path
    soundness.check(groups)
    consistency.check(groups)
    if not mixed:
        provenance.check(groups)
    return groups


def write_labelled(
    path: str | Path, frames: Frames, label: Label, info: Sequence[dict[str, Any]] | None = None
) -> None:
    """Labelled frames to an extxyz file, or to a deepmd/npy folder where `path` has no suffix.

    An extxyz file holds positions and forces to 8 decimals and all else to the last bit: energy,
    virial, charge, spin, engine and `info`, and the stress too where the frame is periodic along
    all directions. A deepmd/npy folder holds float64 arrays, and charge and spin (`charge.npy`,
    `unpaired_electrons.npy`, which DeePMD-kit passes over) where they are not zero; neither engine
    nor `info`. Frames that differ in the elements of their atoms in order, in periodicity, or in
    having forces or a virial go to folders of their own, named by their formula. The target
    appears, or is replaced, when all is written.

    Args:    info: keys and values of each frame, such as its origin and round
    Raises:
        InputError: another suffix, a target that cannot be written or that is a folder with other
            files, frames periodic along some directions only for a deepmd/npy folder
        ValueError: frames, label and info differ in length
    """
    path = Path(path)
    if not len(frames) == len(label) == len(info or frames):
        raise ValueError(f"{len(frames)} frames, {len(label)} labels, info {len(info or frames)}.")
    if path.suffix.lower() in ase_files.EXTXYZ:
        ase_files.write(path, ase_files.labelled(frames, label, info))
    elif deepmd.is_folder(path):
        deepmd.write(path, frames, label)
    else:
        raise InputError(
            f"{path}: labelled data go to a file that ends in {' or '.join(ase_files.EXTXYZ)}, or "
            "to a deepmd/npy folder, whose name has no ending; give such a path."
        )


def convert(source: str | Path, target: str | Path) -> None:
    """The frames of a file or deepmd/npy folder, with their labels, in another format.

    A target without suffix is a deepmd/npy folder; others are in the format that ASE knows by the
    name. Between formats of ASE everything is kept that the target can hold; a deepmd/npy folder
    takes labels of all frames, which have an energy at least, or of none.

    Raises:
        InputError: what `read_structures` and `write_labelled` refuse; labels of some frames only,
            or without energy, for a deepmd/npy folder
    """
    source, target = Path(source), Path(target)
    if deepmd.is_data_set(source):
        frames, label = _deepmd(source)
        structures = frames.to_ase() if label is None else ase_files.labelled(frames, label)
    else:
        structures = _of_ase(source, labelled=True)
    if not deepmd.is_folder(target):
        ase_files.write(target, structures)
    else:
        label = None
        if any(map(ase_files.has_labels, structures)):
            label = ase_files.labels(structures, source, range(len(structures)))
        deepmd.write(target, Frames.from_ase(structures), label)


def _deepmd(path: Path) -> tuple[Frames, Label | None]:
    groups = deepmd.read(path)
    soundness.check(groups)
    return joined(groups)
