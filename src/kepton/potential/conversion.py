"""Model files from one format to another."""

from pathlib import Path
from typing import NamedTuple

from kepton.atoms.replacing import write_whole
from kepton.errors import InputError
from kepton.potential import deepmd_kit
from kepton.potential.basis import TOLERANCE, basis_error
from kepton.potential.deep_potential import DeepPotential
from kepton.potential.file import SUFFIXES, read_model, save
from kepton.potential.lammps import core_distances, core_table


class Converted(NamedTuple):
    """Files that were written, and sentences about them."""

    files: list[Path]
    remarks: list[str]


def is_model(path: Path) -> bool:
    """Whether a name is that of a model file."""
    return path.suffix.lower() in SUFFIXES


def convert_model(source: Path, target: Path) -> Converted:
    """The same model in another format, weights bit for bit.

    A `.dp` or `.yaml` file holds one potential, so an ensemble goes to one file a member:
    `model.000.dp`, `model.001.dp`, ... Where the potential has a repulsive core, for which such
    files have no place, a table for LAMMPS holds it.

    Raises:
        InputError: a name that is not one of a model, or a model that the format cannot hold
    """
    for path, other in ((source, target), (target, source)):
        if not is_model(path):
            raise InputError(
                f"{other} is a model and {path} is not; give two names that end in "
                f"{', '.join(SUFFIXES)}, or two of labelled data."
            )
    ensemble, info = read_model(source)
    if target.suffix.lower() not in deepmd_kit.SUFFIXES:
        save(target, ensemble, info)
        return Converted([target], [])
    if not isinstance(ensemble.members, DeepPotential):
        raise InputError(f"{source} is no Deep Potential, which {target.suffix} files hold alone.")
    members, files = [ensemble.member(index) for index in range(ensemble.size)], [target]
    if ensemble.size > 1:
        names = [f"{target.stem}.{index:03d}{target.suffix}" for index in range(ensemble.size)]
        files = [target.with_name(name) for name in names]
    for path, member in zip(files, members):
        deepmd_kit.write(path, member)
    remarks = []
    if ensemble.members.config.basis:
        error = max(basis_error(member).slope for member in members)
        if error > TOLERANCE:
            remarks.append(
                f"Kepton evaluates {ensemble.members.config.basis} radial functions, whose slopes "
                f"are {error:.1e} (relative) from those of the nets, which DeePMD-kit evaluates; "
                "`kepton test` tells the errors of either on your data."
            )
    if "core" in ensemble.members.statistics:
        table = target.with_suffix(".core.table")
        write_whole(table, core_table(ensemble.members, table, files).encode())
        distances = core_distances(ensemble.members)
        nearest, farthest = (f(distances, key=distances.__getitem__) for f in (min, max))
        remarks.append(
            "Where two atoms are nearer than 0.9 of the shortest distance in the data "
            f"({nearest} {distances[nearest]:.2f} Å ... {farthest} {distances[farthest]:.2f} Å), "
            f"Kepton adds a repulsion for which {target.suffix} files have no place; {table} holds "
            "it for LAMMPS, with the lines to give in its head."
        )
        files = [*files, table]
    return Converted(files, remarks)
