"""Ensembles that have learnt of many molecules beforehand, where learners begin."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from ase.data import chemical_symbols

from kepton.atoms.frames import Frames
from kepton.errors import InputError, did_you_mean
from kepton.potential.architectures import architecture_of
from kepton.potential.cluster_expansion import ClusterExpansion
from kepton.potential.dataset import System
from kepton.potential.ensemble import Ensemble, predict
from kepton.potential.file import read_model
from kepton.potential.statistics import energies_of_atoms

ORGANIC = Path(__file__).with_name("organic.kepton")
"""Small molecules of the elements below, labelled by GFN2-xTB; `pretraining/` made it"""
ORGANIC_ELEMENTS = frozenset((1, 6, 7, 8, 16, 17))
NAMED = {"organic": ORGANIC}
"""Model files that come with Kepton"""
FINE = 5e-3
"""Learning rate at which pretrained members forget little"""


def named(name: str, folder: Path) -> Path:
    """The file of a name in NAMED, or in a folder.

    Raises:
        InputError: neither is there
    """
    path = NAMED.get(name) or folder / Path(name).expanduser()
    if not path.is_file():
        raise InputError(
            f"There is no model file {path}{did_you_mean(name, NAMED)}; give one, or "
            f"{', '.join(NAMED)}, which comes with Kepton."
        )
    return path


def is_organic(structures: Sequence[Frames]) -> bool:
    """Whether all are molecules of elements that ORGANIC knows."""
    return all(
        not np.any(frames.pbc) and {z for z, _ in frames.composition} <= ORGANIC_ELEMENTS
        for frames in structures
    )


def read_pretrained(
    path: Path, architecture: str, species: tuple[int, ...], members: int
) -> Ensemble:
    """So many members of a model file, which know these elements alone.

    Raises:
        InputError: a file that cannot be read, of another architecture, without an element, or
            of too few members; an architecture that cannot be pretrained
    """
    kind, _ = architecture_of(architecture)
    if kind is not ClusterExpansion:
        raise InputError(
            f"A {architecture} cannot begin with pretrained weights, which belong to pairs of "
            "elements there; a cluster_expansion can (--model, or [model] learner)."
        )
    known, _ = read_model(path)
    if not isinstance(known.members, kind):
        raise InputError(
            f"{path} is no {architecture}, and only that can begin one; `kepton train --model "
            f"{architecture}` makes one."
        )
    if unknown := [chemical_symbols[z] for z in species if z not in known.species]:
        raise InputError(
            f"{path} does not know {', '.join(unknown)}; give a model that does, or begin with "
            "random weights (no --pretrained, or pretrained = 'none')."
        )
    if members > known.size:
        raise InputError(
            f"{path} has {known.size} members, and {members} are asked for; ask for no more, or "
            "begin with random weights (no --pretrained, or pretrained = 'none')."
        )
    some = Ensemble(known.member(slice(members))).members
    return Ensemble(some.of_elements(species))


def adapted(known: Ensemble, data: Sequence[System]) -> Ensemble:
    """Pretrained members with the energies that atoms have in new data.

    The principle that labels new data counts energies from elsewhere: least squares over what the
    members lack.
    """
    lacking = [
        (frames, np.asarray(label.mean.energy) - np.asarray(predict(known, frames)[0].energy))
        for frames, label in data
    ]
    members = known.members
    bias = members.statistics["bias"] + energies_of_atoms(known.species, lacking)
    return Ensemble(replace(members, statistics=members.statistics | {"bias": bias}))
