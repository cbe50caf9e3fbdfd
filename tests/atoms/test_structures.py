"""Files of ASE in groups without padding, a few frames at a time, and labels with missing parts."""

import weakref

import ase.io
import numpy as np
import pytest
from ase.build import molecule
from labelled_data import assert_same, error_of, labelled, molecules

from kepton.atoms import read_labelled, read_systems, structures, write_labelled


def test_groups_by_number_of_atoms(tmp_path):
    frames, label = labelled(molecules(), virial=True)
    write_labelled(tmp_path / "a.xyz", frames, label)
    (large, large_label), (small, small_label) = read_systems(tmp_path / "a.xyz")
    assert large.mask.shape == (2, 9)
    assert small.mask.shape == (2, 3)
    assert large.mask.all()
    assert small.mask.all()
    assert np.array_equal(large_label.energy, label.energy[[0, 3]])
    assert np.array_equal(small_label.virial, label.virial[[1, 2]])
    assert small.charge.tolist() == [1, 0]


@pytest.mark.parametrize("at_once", [1, 2, 3])
def test_frames_keep_their_order(tmp_path, monkeypatch, at_once):
    monkeypatch.setattr(structures, "AT_ONCE", at_once)
    data = labelled(molecules())
    write_labelled(tmp_path / "a.xyz", *data)
    assert_same(read_labelled(tmp_path / "a.xyz"), data)


def test_few_frames_are_held_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(structures, "AT_ONCE", 5)
    water = molecule("H2O")
    write_labelled(tmp_path / "a.xyz", *labelled([water] * 40))
    alive, most, read = weakref.WeakSet(), [], ase.io.iread

    class Counted(ase.Atoms):
        __hash__ = object.__hash__

    def counting(*args, **kwargs):
        for atoms in read(*args, **kwargs):
            counted = Counted(atoms)
            counted.calc = atoms.calc
            alive.add(counted)
            most.append(len(alive))
            yield counted

    monkeypatch.setattr(ase.io, "iread", counting)
    ((frames, _),) = read_systems(tmp_path / "a.xyz")
    assert len(frames) == len(most) == 40
    assert max(most) <= 11


def test_errors_tell_the_frame_of_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(structures, "AT_ONCE", 2)
    frames, label = labelled(molecules())
    write_labelled(tmp_path / "a.xyz", frames, label)
    text = (tmp_path / "a.xyz").read_text()
    (tmp_path / "a.xyz").write_text(text + "1\ncharge=1\nH 0 0 0\n")
    error_of(lambda: read_systems(tmp_path / "a.xyz"), "a.xyz, frame 4 (counted", "no energy")
    (tmp_path / "a.xyz").write_text(text + "1\nenergy=1 charge=0.5\nH 0 0 0\n")
    error_of(lambda: read_systems(tmp_path / "a.xyz"), "a.xyz, frame 4 (counted", "charge = 0.5")
    double = "3\nenergy=1.0\nH 0 0 0\nH 0 0 1\nH 0 0 1\n"
    (tmp_path / "a.xyz").write_text(text + double)
    error_of(
        lambda: read_systems(tmp_path / "a.xyz"),
        "a.xyz, frame 4 (counted",
        "atoms 1 and 2",
        "0.000",
    )


def one_frame(path, header, forces):
    rows = "".join(f"H 0 0 {z} {f}\n" for z, f in enumerate(forces))
    path.write_text(f"2\nProperties=species:S:1:pos:R:3:forces:R:3 {header}\n{rows}")
    return path


def test_energies_alone(tmp_path):
    (tmp_path / "a.xyz").write_text("1\nenergy=-13.6\nH 0 0 0\n1\nenergy=-13.5\nH 0 0 0\n")
    ((frames, label),) = read_systems(tmp_path / "a.xyz")
    assert label.energy.tolist() == [-13.6, -13.5]
    assert label.forces.shape == (2, 1, 3)
    assert np.isnan(label.forces).all()
    assert np.isnan(label.virial).all()
    assert frames.symbols == ("H",)


def test_nan_everywhere_is_missing(tmp_path):
    virial = 'virial="nan nan nan nan nan nan nan nan nan"'
    path = one_frame(tmp_path / "a.xyz", f"energy=-1 {virial}", ["nan nan nan"] * 2)
    ((_, label),) = read_systems(path)
    assert np.isnan(label.forces).all()
    assert np.isnan(label.virial).all()


@pytest.mark.parametrize(
    ("header", "forces", "told"),
    [
        ("energy=-1", ["nan nan nan", "0 0 0"], "forces must be finite"),
        ("energy=-1", ["nan 0 0", "0 0 0"], "forces must be finite"),
        ("energy=-1", ["inf inf inf", "inf inf inf"], "forces must be finite"),
        ('energy=-1 virial="1 2 3 4 nan 6 7 8 9"', ["0 0 0"] * 2, "virial must be finite"),
        ("energy=nan", ["0 0 0"] * 2, "energy must be finite"),
        ("charge=1", ["0 0 0"] * 2, "has no energy"),
    ],
)
def test_half_of_a_label(tmp_path, header, forces, told):
    path = one_frame(tmp_path / "a.xyz", header, forces)
    error_of(lambda: read_systems(path), f"{path}, frame 0 (counted from 0)", told)


@pytest.mark.parametrize("key", ["energy", "Energy", "REF_energy", "total_energy", "free_energy"])
def test_keys_of_the_energy(tmp_path, key):
    path = one_frame(tmp_path / "a.xyz", f"{key}=-2.5", ["0 0 0"] * 2)
    ((_, label),) = read_systems(path)
    assert label.energy.tolist() == [-2.5]


@pytest.mark.parametrize(
    ("key", "voigt"),
    [("stress", False), ("REF_stress", False), ("REF_stress", True), ("dft_stress", True)],
)
def test_keys_of_the_stress(tmp_path, key, voigt):
    """ASE's order xx yy zz yz xz xy, tension positive, so that W = -V sigma."""
    numbers = "1 2 3 4 5 6" if voigt else "1 6 5 6 2 4 5 4 3"
    header = f'energy=-1 Lattice="2 0 0 0 3 0 0 0 4" pbc="T T T" {key}="{numbers}"'
    ((_, label),) = read_systems(one_frame(tmp_path / "a.xyz", header, ["0 0 0"] * 2))
    expected = -24.0 * np.array([[1, 6, 5], [6, 2, 4], [5, 4, 3]])
    assert label.virial[0] == pytest.approx(expected)


def test_single_frame(tmp_path):
    data = labelled([molecule("H2O")])
    write_labelled(tmp_path / "a.xyz", *data)
    ((frames, label),) = read_systems(str(tmp_path / "a.xyz"))
    assert len(frames) == len(label) == 1
    assert label.engine == "emt 1.0 of 3"
