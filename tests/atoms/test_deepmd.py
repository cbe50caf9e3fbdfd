"""The layouts of deepmd/npy: what they mean, and what of them stays on disk."""

import shutil
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from ase.build import molecule
from labelled_data import assert_same, copper, error_of, labelled, molecules

from kepton.atoms import (
    consistency,
    deepmd,
    read_labelled,
    read_systems,
    soundness,
    write_labelled,
)


@pytest.fixture
def mapped(monkeypatch):
    """Every array is large enough to stay on disk."""
    monkeypatch.setattr(deepmd, "MAPPED_FROM", 1)


def is_mapped(array):
    return isinstance(array, np.memmap)


def rewrite(file, change):
    np.save(file, change(np.load(file)))


def water(path, count=2, **kept):
    """A folder with frames of water, and the frames."""
    data = labelled([molecule("H2O")] * count, **kept)
    write_labelled(path, *data)
    return data


@pytest.mark.usefixtures("mapped")
def test_arrays_stay_on_disk(tmp_path):
    write_labelled(tmp_path / "a", *labelled(copper(), virial=True))
    ((frames, label),) = read_systems(tmp_path / "a")
    for array in (frames.positions, frames.cell, label.forces, label.virial):
        assert is_mapped(array)
        assert not array.flags.writeable
    for array in (frames.species, frames.mask, frames.pbc, frames.charge):
        assert array.strides[0] == 0
    coord = np.load(tmp_path / "a/set.000/coord.npy", mmap_mode="r+")
    coord[0, 0] += 1.0
    coord.flush()
    assert frames.positions[0, 0, 0] == coord[0, 0]


def test_small_arrays_are_read(tmp_path):
    water(tmp_path / "a")
    ((frames, label),) = read_systems(tmp_path / "a")
    assert not is_mapped(frames.positions)
    assert not is_mapped(label.forces)


@pytest.mark.usefixtures("mapped")
def test_few_files_are_open(tmp_path, monkeypatch):
    monkeypatch.setattr(deepmd, "MAPPED", 3)
    for k, count in enumerate((2, 5, 3, 4)):
        water(tmp_path / f"{k}", count, seed=k)
    groups = read_systems([tmp_path / f"{k}" for k in range(4)])
    on_disk = [(is_mapped(frames.positions), is_mapped(label.forces)) for frames, label in groups]
    assert sum(map(sum, on_disk)) == 3
    assert on_disk[1] == (True, True)  # the largest
    assert [len(frames) for frames, _ in groups] == [2, 5, 3, 4]


@pytest.mark.usefixtures("mapped")
def test_large_data_take_little_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(soundness, "AT_ONCE", 3000)
    monkeypatch.setattr(consistency, "POOL", 100)
    count, rng = 60_000, np.random.default_rng(0)
    (tmp_path / "set.000").mkdir()
    (tmp_path / "type_map.raw").write_text("H O")
    (tmp_path / "type.raw").write_text("1 0 0")
    (tmp_path / "nopbc").touch()
    positions = molecule("H2O").positions + rng.normal(size=(count, 3, 3)) * 0.05
    for name, array in (
        ("coord", positions.reshape(count, 9)),
        ("force", rng.normal(size=(count, 9))),
        ("energy", rng.normal(size=count)),
    ):
        np.save(tmp_path / f"set.000/{name}.npy", array)
    del positions, array
    tracemalloc.start()
    ((frames, _),) = read_systems(tmp_path)
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(frames) == count
    assert held < 2 * 2**20  # energies and rows; coordinates and forces are 8.6 MB
    assert peak < 6 * 2**20


def test_one_group_for_every_set(tmp_path):
    frames, label = labelled(copper())
    write_labelled(tmp_path / "a", frames[:2], label[:2])
    write_labelled(tmp_path / "b", frames[2:], label[2:])
    shutil.copytree(tmp_path / "b/set.000", tmp_path / "a/set.001")
    assert [len(part) for part, _ in read_systems(tmp_path / "a")] == [2, 1]
    assert_same(read_labelled(tmp_path / "a"), (frames, label), exact=True)


def test_types_in_any_order(tmp_path):
    write_labelled(tmp_path / "a", *labelled([molecule("H2O")[[1, 0, 2]]]))
    (tmp_path / "a/type_map.raw").write_text("O\nC\nH\n")
    (tmp_path / "a/type.raw").write_text("2 0 2\n")
    frames, _ = read_labelled(tmp_path / "a")
    assert frames.species.tolist() == [[1, 8, 1]]
    assert frames.composition == ((1, 2), (8, 1))


def test_no_box_without_periodicity(tmp_path):
    water(tmp_path / "a")
    assert not (tmp_path / "a/set.000/box.npy").exists()
    ((frames, _),) = read_systems(tmp_path / "a")
    assert not frames.pbc.any()
    assert not frames.cell.any()


def test_nopbc_passes_over_the_box(tmp_path):
    write_labelled(tmp_path / "a", *labelled(copper()))
    (tmp_path / "a/nopbc").touch()
    ((frames, _),) = read_systems(tmp_path / "a")
    assert not frames.pbc.any()
    assert not frames.cell.any()


def test_energies_in_a_column(tmp_path):
    _, label = water(tmp_path / "a")
    rewrite(tmp_path / "a/set.000/energy.npy", lambda e: e.reshape(-1, 1))
    ((_, read),) = read_systems(tmp_path / "a")
    assert read.energy.shape == (2,)
    assert np.array_equal(read.energy, label.energy)


@pytest.mark.usefixtures("mapped")
@pytest.mark.parametrize(
    ("dtype", "kept"), [("<f4", "<f4"), ("<f8", "<f8"), (">f8", "<f8"), ("<f2", "<f8")]
)
def test_precision_is_kept(tmp_path, dtype, kept):
    water(tmp_path / "a", virial=True)
    for name in ("coord", "force", "virial", "energy"):
        rewrite(tmp_path / f"a/set.000/{name}.npy", lambda array: array.astype(dtype))
    ((frames, label),) = read_systems(tmp_path / "a")
    for array in (frames.positions, label.forces, label.virial):
        assert array.dtype == np.dtype(kept)
        assert is_mapped(array) == (dtype == kept)
    assert label.energy.dtype == np.float64
    frames, label = read_labelled(tmp_path / "a")
    for array in (frames.positions, frames.cell, label.forces, label.virial, label.energy):
        assert array.dtype == np.float64


# ---------------------------------------------------------------- mixed types


@pytest.mark.usefixtures("mapped")
def test_mixed_types_without_padding_stay_on_disk(tmp_path):
    data = water(tmp_path / "a", 3)
    types = np.array([[1, 0, 0], [0, 1, 0], [1, 1, 0]])
    np.save(tmp_path / "a/set.000/real_atom_types.npy", types)
    ((frames, label),) = read_systems(tmp_path / "a")
    assert is_mapped(frames.positions)
    assert is_mapped(label.forces)
    assert frames.species.tolist() == [[8, 1, 1], [1, 8, 1], [8, 8, 1]]
    assert frames.composition == ((1, 2), (8, 2))
    assert np.array_equal(label.forces, data[1].forces)


def test_mixed_types_with_padding_are_groups_by_size(tmp_path):
    frames, label = water(tmp_path / "a", 4, virial=True)
    types = np.array([[1, 0, -1], [1, 0, 0], [1, -1, 0], [0, 1, 0]])  # the third has a gap
    np.save(tmp_path / "a/set.000/real_atom_types.npy", types)
    (two, two_label), (three, three_label) = read_systems(tmp_path / "a")
    assert two.species.tolist() == [[8, 1], [8, 1]]
    assert three.species.tolist() == [[8, 1, 1], [1, 8, 1]]
    assert two.mask.all()
    assert three.mask.all()
    assert np.array_equal(two.positions[1], frames.positions[2][[0, 2]])
    assert np.array_equal(two_label.forces[1], label.forces[2][[0, 2]])
    assert np.array_equal(two_label.energy, label.energy[[0, 2]])
    assert np.array_equal(three_label.virial, label.virial[[1, 3]])
    joined, joined_label = read_labelled(tmp_path / "a")
    assert joined.species.tolist() == [[8, 1, 0], [8, 1, 1], [8, 1, 0], [1, 8, 1]]
    assert np.array_equal(joined_label.energy, label.energy)


def test_errors_tell_the_row_of_a_padded_set(tmp_path):
    water(tmp_path / "a", 4)
    types = np.array([[1, 0, -1], [1, 0, 0], [1, 0, -1], [1, 0, 0]])
    np.save(tmp_path / "a/set.000/real_atom_types.npy", types)
    rewrite(tmp_path / "a/set.000/coord.npy", lambda x: np.where(np.arange(4)[:, None] == 2, 0, x))
    error_of(lambda: read_systems(tmp_path / "a"), tmp_path / "a/set.000", "frame 2", "0.000 Å")


def test_mixed_frame_of_padding_alone(tmp_path):
    water(tmp_path / "a")
    np.save(tmp_path / "a/set.000/real_atom_types.npy", np.array([[1, 0, 0], [-1, -1, -1]]))
    error_of(lambda: read_systems(tmp_path / "a"), "real_atom_types.npy, frame 1", "no atoms")


def test_mixed_types_out_of_range(tmp_path):
    water(tmp_path / "a")
    np.save(tmp_path / "a/set.000/real_atom_types.npy", np.array([[1, 0, 0], [1, 0, 2]]))
    error_of(lambda: read_systems(tmp_path / "a"), "indices into the 2 elements")


# ---------------------------------------------------------------- labels with missing parts


@pytest.mark.usefixtures("mapped")
def test_no_forces(tmp_path):
    _, label = water(tmp_path / "a", virial=True)
    (tmp_path / "a/set.000/force.npy").unlink()
    ((_, read),) = read_systems(tmp_path / "a")
    assert np.isnan(read.forces).all()
    assert np.array_equal(read.virial, label.virial)
    assert np.array_equal(read.energy, label.energy)


def test_no_virial(tmp_path):
    water(tmp_path / "a")
    ((_, read),) = read_systems(tmp_path / "a")
    assert np.isnan(read.virial).all()
    assert np.isfinite(read.forces).all()


@pytest.mark.parametrize("name", ["force.npy", "virial.npy"])
def test_no_energy(tmp_path, name):
    water(tmp_path / "a", virial=True)
    for other in {"energy.npy", "force.npy", "virial.npy"} - {name}:
        (tmp_path / "a/set.000" / other).unlink()
    error_of(lambda: read_systems(tmp_path / "a"), "set.000/energy.npy is missing")


@pytest.mark.parametrize("target", ["a", "a.extxyz"])
def test_frames_with_and_without_forces_round_trip(tmp_path, target):
    frames, label = labelled(molecules())
    forces = label.forces.copy()
    forces[[0, 2]] = np.where(frames.mask[[0, 2]][..., None], np.nan, 0.0)
    label = replace(label, forces=forces)
    write_labelled(tmp_path / target, frames, label)
    order = np.array([0, 3, 1, 2]) if target == "a" else np.arange(4)  # folder by folder
    assert_same(read_labelled(tmp_path / target), (frames[order], label[order]))
    if target != "a":
        assert (tmp_path / target).read_text().count("forces:R:3") == 2
    else:
        folders = {f.name: (f / "set.000/force.npy").exists() for f in tmp_path.glob("a/*")}
        assert folders == {"C2H6O": False, "C2H6O_2": True, "H2O": True, "H2O_2": False}


def test_unlabelled_sets_are_refused(tmp_path):
    water(tmp_path / "a")
    for name in ("energy.npy", "force.npy"):
        (tmp_path / "a/set.000" / name).unlink()
    error_of(lambda: read_systems(tmp_path / "a"), tmp_path / "a", "add energy.npy")
