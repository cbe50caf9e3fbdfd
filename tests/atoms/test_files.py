"""Files: what is written is read back, and a wrong file is told in one paragraph."""

import re
import shutil
from dataclasses import replace

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from labelled_data import assert_same, copper, error_of, labelled, molecules

from kepton.atoms import convert, read_labelled, read_structures, structures, write_labelled

# ---------------------------------------------------------------- round trips


@pytest.mark.parametrize("virial", [False, True], ids=["no virial", "virial"])
@pytest.mark.parametrize("make", [molecules, copper])
def test_extxyz_round_trip(tmp_path, make, virial):
    data = labelled(make(), virial=virial)
    write_labelled(tmp_path / "a.extxyz", *data)
    read = read_labelled(tmp_path / "a.extxyz")
    assert_same(read, data)
    assert read[1].engine == data[1].engine


@pytest.mark.parametrize("virial", [False, True], ids=["no virial", "virial"])
def test_npy_round_trip_is_exact(tmp_path, virial):
    data = labelled(copper(), virial=virial)
    write_labelled(tmp_path / "a", *data)
    assert (tmp_path / "a/set.000/virial.npy").exists() == virial
    assert_same(read_labelled(tmp_path / "a"), data, exact=True)


def test_npy_of_molecules_of_several_kinds(tmp_path):
    data = labelled(molecules())
    write_labelled(tmp_path / "a", *data)
    assert sorted(f.name for f in (tmp_path / "a").iterdir()) == ["C2H6O", "H2O"]
    assert (tmp_path / "a/H2O/nopbc").exists()
    assert (tmp_path / "a/H2O/type_map.raw").read_text().split() == ["H", "C", "O"]
    order = np.array([0, 3, 1, 2])  # folder by folder
    assert_same(read_labelled(tmp_path / "a"), (data[0][order], data[1][order]), exact=True)


def test_npy_of_one_formula_in_several_orders(tmp_path):
    water = molecule("H2O")
    write_labelled(tmp_path / "a", *labelled([water, water[[1, 0, 2]]]))
    assert sorted(f.name for f in (tmp_path / "a").iterdir()) == ["H2O", "H2O_2"]
    assert read_labelled(tmp_path / "a")[0].species.tolist() == [[8, 1, 1], [1, 8, 1]]


def test_npy_keeps_padding_anywhere(tmp_path):
    frames, label = labelled([molecule("H2O"), molecule("H2O")])
    gap = [np.array([0, 1, 2, 3]), np.array([0, 1, 3, 2])]  # the second frame has its gap inside

    def pad(array):
        wide = np.concatenate([array, np.zeros_like(array[:, :1])], axis=1)
        return np.stack([row[order] for row, order in zip(wide, gap)])

    padded = replace(
        frames,
        positions=pad(frames.positions),
        species=pad(frames.species),
        mask=pad(frames.mask),
    )
    write_labelled(tmp_path / "a", padded, replace(label, forces=pad(label.forces)))
    assert_same(read_labelled(tmp_path / "a"), (frames, label), exact=True)


def test_info_is_kept(tmp_path):
    info = [{"origin": "dynamics", "round": i} for i in range(3)]
    write_labelled(tmp_path / "a.xyz", *labelled(copper()), info=info)
    for i, atoms in enumerate(read_structures(tmp_path / "a.xyz")):
        assert (atoms.info["origin"], atoms.info["round"]) == ("dynamics", i)


def test_several_files_make_one_batch(tmp_path):
    write_labelled(tmp_path / "a.extxyz", *labelled(molecules()))
    write_labelled(tmp_path / "b", *labelled(copper(), virial=True))
    frames, label = read_labelled([tmp_path / "a.extxyz", str(tmp_path / "b")])
    assert len(frames) == len(label) == 7
    assert frames.symbols == ("H", "C", "O", "Cu")
    error_of(lambda: read_labelled([]), "at least one")


def test_lengths_must_agree(tmp_path):
    frames, label = labelled(copper())
    with pytest.raises(ValueError, match="3 frames, 2 labels"):
        write_labelled(tmp_path / "a.extxyz", frames, label[:2])


# ---------------------------------------------------------------- signs and keys


def test_signs_of_ase(tmp_path):
    """W = -V sigma, so the virial of EMT is minus the derivative of its energy by strain."""
    ase.io.write(tmp_path / "a.extxyz", copper(1))
    _, label = read_labelled(tmp_path / "a.extxyz")
    (atoms,) = copper(1)
    step = 1e-4

    def energy(strain):
        strained = atoms.copy()
        strained.set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=True)
        strained.calc = EMT()
        return strained.get_potential_energy()

    for i, j in ((0, 0), (1, 2)):
        strain = np.zeros((3, 3))
        strain[i, j] = step
        derivative = (energy(strain) - energy(-strain)) / (2 * step)
        assert label.virial[0, i, j] == pytest.approx(-derivative, abs=1e-4)
    assert label.energy[0] == atoms.get_potential_energy()


def test_stress_that_is_written_is_the_one_ase_reads(tmp_path):
    (atoms,) = copper(1)
    ase.io.write(tmp_path / "a.extxyz", atoms)
    write_labelled(tmp_path / "b.extxyz", *read_labelled(tmp_path / "a.extxyz"))
    assert ase.io.read(tmp_path / "b.extxyz").get_stress() == pytest.approx(atoms.get_stress())


@pytest.mark.parametrize(
    ("energy", "forces", "virial"),
    [
        ("energy", "forces", "virial"),
        ("REF_energy", "REF_forces", "REF_virial"),
        ("dft_energy", "dft_forces", "virials"),
        ("TotEnergy", "force", "virial"),
        ("energy_eV", "forces", "REF_virials"),
        ("free_energy", "forces", "virial"),
    ],
)
def test_common_keys(tmp_path, energy, forces, virial):
    (tmp_path / "a.xyz").write_text(
        f'2\nProperties=species:S:1:pos:R:3:{forces}:R:3 {energy}=-3.5 pbc="F F F" '
        f'{virial}="1 0 0 0 2 0 0 0 3"\nH 0 0 0 0 0 -1\nH 0 0 1 0 0 1\n'
    )
    _, label = read_labelled(tmp_path / "a.xyz")
    assert label.energy.tolist() == [-3.5]
    assert label.forces.tolist() == [[[0, 0, -1], [0, 0, 1]]]
    assert np.diag(label.virial[0]).tolist() == [1, 2, 3]


def test_free_energy_is_the_one_that_forces_derive_from(tmp_path):
    atoms = molecule("H2O")
    atoms.calc = SinglePointCalculator(
        atoms, energy=-1.0, free_energy=-1.5, forces=np.zeros((3, 3))
    )
    ase.io.write(tmp_path / "a.extxyz", atoms)
    assert read_labelled(tmp_path / "a.extxyz")[1].energy.tolist() == [-1.5]


# ---------------------------------------------------------------- the layouts of deepmd/npy


def test_water(shared_data):
    frames, label = read_labelled(shared_data / "water/data_1")
    assert frames.positions.shape == (160, 192, 3)
    assert frames.composition == ((1, 128), (8, 64))
    first = np.load(shared_data / "water/data_1/set.000/coord.npy")
    assert np.array_equal(frames.positions[:80].reshape(80, -1), first)
    assert np.isnan(label.virial).all()
    assert label.energy.dtype == frames.positions.dtype == np.float64


def test_folder_of_systems(shared_data):
    assert len(read_labelled(shared_data / "water")[0]) == 400


@pytest.mark.parametrize("name", ["water/data_0", "molecules/ethanol_test.extxyz"])
def test_shared_data_round_trips(shared_data, tmp_path, name):
    data = read_labelled(shared_data / name)
    convert(shared_data / name, tmp_path / "a")
    assert_same(read_labelled(tmp_path / "a"), data, exact=True)
    convert(tmp_path / "a", tmp_path / "b.extxyz")
    assert_same(read_labelled(tmp_path / "b.extxyz"), data)


def test_mixed_types(tmp_path):
    write_labelled(tmp_path / "a", *labelled([molecule("H2O")] * 2))
    types = np.array([[1, 0, 0], [1, 0, -1]])  # the second lacks a hydrogen atom
    np.save(tmp_path / "a/set.000/real_atom_types.npy", types)
    frames, label = read_labelled(tmp_path / "a")
    assert frames.species.tolist() == [[8, 1, 1], [8, 1, 0]]
    assert not label.forces[1, 2].any()


def test_leftovers_of_a_killed_process_are_not_data(tmp_path):
    write_labelled(tmp_path / "data/a", *labelled(copper()))
    shutil.copytree(tmp_path / "data/a", tmp_path / "data/.a-xyz/a")
    assert len(read_labelled(tmp_path / "data")[0]) == 3


# ---------------------------------------------------------------- convert


def test_convert_without_labels(tmp_path):
    bare = [atoms.copy() for atoms in copper()]
    ase.io.write(tmp_path / "a.extxyz", bare)
    convert(tmp_path / "a.extxyz", tmp_path / "a")
    assert {f.name for f in (tmp_path / "a/set.000").iterdir()} == {"coord.npy", "box.npy"}
    convert(tmp_path / "a", tmp_path / "b.cif")
    for before, after in zip(bare, read_structures(tmp_path / "b.cif"), strict=True):
        assert after.get_volume() == pytest.approx(before.get_volume())
    error_of(lambda: read_labelled(tmp_path / "a"), tmp_path / "a", "add energy.npy")


def test_convert_keeps_charge_and_spin(tmp_path):
    write_labelled(tmp_path / "a.extxyz", *labelled(molecules()))
    convert(tmp_path / "a.extxyz", tmp_path / "b")
    convert(tmp_path / "b", tmp_path / "c.xyz")
    frames, _ = read_labelled(tmp_path / "c.xyz")
    assert frames.charge.tolist() == frames.spin.tolist() == [0, 0, 1, 0]


def test_convert_keeps_labels_in_formats_of_ase(tmp_path):
    data = labelled(copper(), virial=True)
    write_labelled(tmp_path / "a", *data)
    convert(tmp_path / "a", tmp_path / "b.traj")
    assert_same(read_labelled(tmp_path / "b.traj"), data, exact=True)


def test_convert_keeps_what_it_does_not_know(shared_data, tmp_path):
    source = shared_data / "molecules/ethanol_test.extxyz"
    convert(source, tmp_path / "a.traj")
    assert read_structures(tmp_path / "a.traj")[-1].info == read_structures(source)[-1].info


def test_convert_refuses_half_a_label(tmp_path):
    (tmp_path / "a.xyz").write_text("1\nProperties=species:S:1:pos:R:3:forces:R:3\nH 0 0 0 0 0 0\n")
    error_of(
        lambda: convert(tmp_path / "a.xyz", tmp_path / "a"),
        tmp_path / "a.xyz",
        "no energy; its keys are forces.",
        "eV under one of",
    )
    assert not (tmp_path / "a").exists()


def test_convert_refuses_periodicity_that_npy_cannot_hold(tmp_path):
    slab = bulk("Cu", cubic=True)
    slab.pbc = (True, True, False)
    ase.io.write(tmp_path / "a.extxyz", slab)
    call = lambda: convert(tmp_path / "a.extxyz", tmp_path / "a")  # noqa: E731
    error_of(call, tmp_path / "a", "[True, True, False]", "write extxyz")


def test_convert_to_an_unknown_format(tmp_path):
    ase.io.write(tmp_path / "a.extxyz", copper())
    call = lambda: convert(tmp_path / "a.extxyz", tmp_path / "a.nonsense")  # noqa: E731
    error_of(call, tmp_path / "a.nonsense", "give a name that ends in .extxyz")
    assert [f.name for f in tmp_path.iterdir()] == ["a.extxyz"]


# ---------------------------------------------------------------- wrong inputs

HYDROGEN = "2\nProperties=species:S:1:pos:R:3:forces:R:3 {info}\nH 0 0 0 0 0 0\nH {x} 0 0 {f} 0 0\n"


def hydrogen(info="energy=-1.0", x="0.7", f="0.1"):
    return HYDROGEN.format(info=info, x=x, f=f)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        pytest.param("", "format that ASE reads", id="empty"),
        pytest.param("nonsense", "format that ASE reads", id="nonsense"),
        pytest.param(hydrogen()[:-20], "complete file", id="cut short"),
        pytest.param("0\n\n", "no atoms; give at least one", id="no atoms"),
        pytest.param(hydrogen(x="nan"), "not finite numbers; remove the frame", id="nan"),
        pytest.param(hydrogen(x="0.05"), "0.050 Å apart", id="coincident"),
        pytest.param("1\n\nX 0 0 0\n", "name their elements", id="no element"),
        pytest.param(hydrogen('energy=-1 pbc="T T T"'), "give the cell", id="no cell"),
        pytest.param(
            hydrogen('energy=-1 Lattice="0.72 0 0 0 5 0 0 0 5"', x="0.7"),
            "0.020 Å apart, over all periodic images",
            id="coincident images",
        ),
        pytest.param(hydrogen("charge=0.5"), "charge = 0.5; give a whole number", id="charge"),
        pytest.param(hydrogen("spin=nan"), "spin = nan; give a whole number", id="nan spin"),
        pytest.param(hydrogen("spin=up"), "spin = up; give a whole number", id="spin"),
    ],
)
def test_wrong_structures(tmp_path, text, told):
    path = tmp_path / "a.xyz"
    path.write_text(text)
    for read in (read_structures, read_labelled):
        error_of(lambda read=read: read(path), path, told)


def test_missing_file(tmp_path):
    path = tmp_path / "a.xyz"
    for read in (read_structures, read_labelled):
        error_of(lambda read=read: read(path), f"{path} does not exist; give the path")


def test_folder_that_is_no_data(tmp_path):
    error_of(lambda: read_labelled(tmp_path), tmp_path, "without type.raw", "give a structure file")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        pytest.param(hydrogen("other=1"), "no energy; its keys are other, forces.", id="energy"),
        pytest.param("1\n\nH 0 0 0\n", "its keys are none", id="no keys"),
        pytest.param(hydrogen("energy=nan"), "energy must be finite", id="nan energy"),
        pytest.param(hydrogen("energy=low"), "energy must be finite", id="text"),
        pytest.param(hydrogen('energy="1 2"'), "came as shape (2,)", id="two energies"),
        pytest.param(hydrogen(f="inf"), "forces must be finite", id="infinite forces"),
        pytest.param(
            hydrogen('energy=1 REF_virial="1 2 3"'),
            "ref_virial must be finite numbers",
            id="virial",
        ),
    ],
)
def test_wrong_labels(tmp_path, text, told):
    path = tmp_path / "a.xyz"
    path.write_text(hydrogen() + text)
    error_of(lambda: read_labelled(path), f"{path}, frame 1 (counted from 0)", told)
    assert len(read_structures(path)) == 2


def save(array):
    return lambda file: np.save(file, array)


def cut(file):
    file.write_bytes(file.read_bytes()[:-8])


NPY_DEFECTS = [
    ("type_map.raw", lambda file: file.unlink(), "write their symbols there"),
    ("type_map.raw", lambda file: file.write_text("Type_0\n"), "write chemical symbols"),
    ("type.raw", lambda file: file.write_text("0 0 0 one"), "must hold whole numbers"),
    ("type.raw", lambda file: file.write_text("0 0 0 1"), "indices into the 1 elements"),
    ("type.raw", lambda file: file.write_text("0 0 0"), "has shape (3, 12); correct"),
    ("set.000/coord.npy", lambda file: file.unlink(), "no set.*/coord.npy"),
    ("set.000/coord.npy", save(np.full((3, 12), np.nan)), "frame 0"),
    ("set.000/coord.npy", save(np.zeros((0, 12))), "coord.npy holds no frames"),
    ("set.000/energy.npy", lambda file: file.unlink(), "energy.npy is missing"),
    ("set.000/energy.npy", save(np.zeros(2)), "must hold 3 frames"),
    ("set.000/energy.npy", save(np.full(3, np.inf)), "remove the frame"),
    ("set.000/energy.npy", save(np.array(["low"] * 3)), "array of numbers"),
    ("set.000/energy.npy", save(np.float64(1.0)), "energy.npy"),
    ("set.000/force.npy", save(np.zeros((3, 9))), "of 12 numbers"),
    ("set.000/force.npy", cut, "may be cut short"),
    ("set.000/force.npy", save(np.array([[{}]] * 3, object)), "pickled objects"),
    ("set.000/box.npy", lambda file: file.unlink(), "nopbc"),
    ("set.000/virial.npy", save(np.zeros((3, 6))), "of 9 numbers"),
]


@pytest.mark.parametrize(
    ("name", "spoil", "told"), NPY_DEFECTS, ids=[f"{n}: {t}" for n, _, t in NPY_DEFECTS]
)
def test_wrong_npy(tmp_path, name, spoil, told):
    write_labelled(tmp_path / "a", *labelled(copper()))
    spoil(tmp_path / "a" / name)
    error_of(lambda: read_labelled(tmp_path / "a"), tmp_path / "a", told)


def test_sets_with_and_without_labels(tmp_path):
    write_labelled(tmp_path / "a", *labelled(copper()))
    (tmp_path / "a/set.001").mkdir()
    for name in ("coord.npy", "box.npy"):
        shutil.copy(tmp_path / "a/set.000" / name, tmp_path / "a/set.001")
    error_of(lambda: read_structures(tmp_path / "a"), tmp_path / "a", "another folder")


# ---------------------------------------------------------------- nothing is lost


@pytest.mark.parametrize("name", ["a.extxyz", "a"])
def test_target_is_replaced(tmp_path, name):
    write_labelled(tmp_path / name, *labelled(molecules()))
    data = labelled(copper(), virial=True)
    write_labelled(tmp_path / name, *data)
    assert_same(read_labelled(tmp_path / name), data)
    assert [f.name for f in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    ("name", "writer"), [("a.extxyz", "ase.io.write"), ("a", "kepton.atoms.deepmd.np.save")]
)
def test_failed_write_leaves_the_old(tmp_path, monkeypatch, name, writer):
    old = labelled(copper())
    write_labelled(tmp_path / name, *old)

    def fail(file, *_):
        file.write_text("half")
        raise OSError("No space left on device")

    monkeypatch.setattr(writer, fail)
    message = error_of(
        lambda: write_labelled(tmp_path / name, *labelled(molecules())), tmp_path / name
    )
    assert re.search("No space left.*give a path", message)
    assert_same(read_labelled(tmp_path / name), old)
    assert [f.name for f in tmp_path.iterdir()] == [name]


def test_folder_of_other_things_is_not_replaced(tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home/thesis.tex").write_text("dear")
    call = lambda: write_labelled(tmp_path / "home", *labelled(copper()))  # noqa: E731
    error_of(call, tmp_path / "home", "holds thesis.tex", "give another name")
    assert (tmp_path / "home/thesis.tex").read_text() == "dear"


def test_other_suffix(tmp_path):
    call = lambda: write_labelled(tmp_path / "a.cif", *labelled(copper()))  # noqa: E731
    error_of(call, tmp_path / "a.cif", ".extxyz", "give such a path")


def test_target_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    target = tmp_path / "file/a.extxyz"
    error_of(lambda: write_labelled(target, *labelled(copper())), target, "where you may write")


def test_keys_are_in_small_letters():
    for key in (*structures.ENERGY, *structures.FORCES, *structures.VIRIAL, *structures.STRESS):
        assert key == key.lower()


def test_read_structures_is_periodic_where_the_file_is(tmp_path):
    ase.io.write(tmp_path / "POSCAR", Atoms("Cu", cell=[3.0, 3.0, 3.0], pbc=True))
    (atoms,) = read_structures(tmp_path / "POSCAR")
    assert atoms.pbc.all()
