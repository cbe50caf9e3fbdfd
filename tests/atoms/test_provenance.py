"""Labels of several principles are told apart, those of one are not."""

from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk

from kepton.atoms import Frames, convert, read_labelled, read_systems, write_labelled
from kepton.atoms.frames import Label
from kepton.errors import InputError
from kepton.potential import from_data

OUTPUTS = Path(__file__).parent / "outputs"


def crystals(path, energy, engine="", repeat=1, count=3):
    """A file of rattled silicon with such an energy an atom, eV."""
    structures = []
    for seed in range(count):
        atoms = bulk("Si") * (repeat, 1, 1)
        atoms.rattle(0.1, seed=seed)
        structures.append(atoms)
    b, n = count, len(structures[0])
    rng = np.random.default_rng(0)
    label = Label(
        n * (energy + rng.uniform(-0.2, 0.2, b)),
        np.zeros((b, n, 3)),
        np.full((b, 3, 3), np.nan),
        engine,
    )
    write_labelled(path, Frames.from_ase(structures), label)
    return path


def files_of(folder, *engines, count=3):
    """A file a name of an engine, of energies that fit together."""
    return [
        crystals(folder / f"{k}.extxyz", -5.0, engine, count=count)
        for k, engine in enumerate(engines)
    ]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("pyscf 2.9.0 RKS/PBE/def2-svp", "pyscf 2.9.0 RKS/PBE/def2-tzvp"),
        ("Quantum ESPRESSO PBE", "Quantum ESPRESSO LDA"),
        ("Quantum ESPRESSO PBE", "VASP"),
        ("tblite 0.4.0 GFN2-xTB", "tblite 0.4.0 GFN1-xTB"),
    ],
)
def test_engines_of_other_names_are_refused_together(tmp_path, one, other):
    paths = files_of(tmp_path, one, other)
    with pytest.raises(InputError, match="more than one principle") as told:
        read_systems(paths)
    assert all(str(part) in str(told.value) for part in (one, other, *paths))
    assert sum(len(frames) for frames, _ in read_systems(paths, mixed=True)) == 6


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("pyscf 2.9.0 RKS/PBE/def2-svp", "pyscf 2.10.1 UKS/PBE/def2-svp"),
        ("Quantum ESPRESSO PBE", "Quantum ESPRESSO PBE, attempt 2"),
        ("Quantum ESPRESSO", "Quantum ESPRESSO PBE"),
        ("ABINIT PBE", ""),
    ],
)
def test_what_changes_no_label_makes_no_other_principle(tmp_path, one, other):
    paths = files_of(tmp_path, one, other)
    assert len(read_labelled(paths)[0]) == 6


def test_principles_within_one_file_are_refused_too(tmp_path):
    paths = files_of(tmp_path, "emt", "lj")
    both = tmp_path / "both.extxyz"
    both.write_text("".join(path.read_text() for path in paths))
    with pytest.raises(InputError, match=r"emt .*both.* and lj .*both"):
        read_labelled(both)


def test_absolute_energies_that_no_bonds_explain_are_refused(tmp_path):
    near = crystals(tmp_path / "near.extxyz", -5.0)
    atoms = crystals(tmp_path / "hot.extxyz", 1.0, repeat=2)
    assert len(read_labelled([near, atoms])[0]) == 6
    far = tmp_path / "far"
    convert(crystals(tmp_path / "far.extxyz", -153.0, repeat=2), far)
    with pytest.raises(InputError, match=r"Si has -5\.\S* eV an atom in .*near.* and -153"):
        read_labelled([near, far])


def test_outputs_of_programs_are_told_by_their_own_names(tmp_path):
    names = ("espresso-converged.out", "abinit-converged.abo")
    with pytest.raises(InputError, match=r"Quantum ESPRESSO .* and ABINIT"):
        read_labelled([OUTPUTS / name for name in names])
    convert(OUTPUTS / names[0], tmp_path / "one.extxyz")
    assert read_labelled(tmp_path / "one.extxyz")[1].engine == "Quantum ESPRESSO"


def test_training_takes_several_only_where_it_is_asked_to(tmp_path):
    paths = files_of(tmp_path, "emt", "lj", count=6)
    order = {"data": paths, "out": tmp_path / "m.kepton", "steps": 10, "members": 1}
    with pytest.raises(InputError, match="--mixed-principles"):
        from_data.train_from_data(from_data.Order(**order), 0.0)
    assert from_data.train_from_data(from_data.Order(**order, mixed=True), 0.0).failure is None
