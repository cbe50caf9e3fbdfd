"""Data that cannot be right are refused, wherever in a large set they are."""

from pathlib import Path

import ase
import numpy as np
import pytest
from ase.build import bulk, molecule
from labelled_data import error_of

from kepton.atoms import Frames, Label, soundness
from kepton.atoms.groups import Group

COUNT = 50


def group(structures, label=None, source="data"):
    frames = Frames.from_ase(structures)
    return Group(frames, label, Path(source), np.arange(100, 100 + len(frames)))


def waters(count=COUNT):
    """Shaken water in large groups; frame k is called 100 + k."""
    frames = [molecule("H2O") for _ in range(count)]
    for k, atoms in enumerate(frames):
        atoms.rattle(0.05, seed=k)
    return group(frames, Label(np.zeros(count), np.zeros((count, 3, 3)), np.zeros((count, 3, 3))))


def refused(*groups):
    return error_of(lambda: soundness.check(groups))


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(soundness, "AT_ONCE", 21)


def test_sound_data():
    soundness.check([waters(), group([bulk("Cu")]), group([ase.Atoms("H")])])


def test_atoms_may_be_near():
    soundness.check([group([ase.Atoms("H2", [[0, 0, 0], [0, 0, 0.11]])])])


@pytest.mark.parametrize("frame", [0, 6, 7, 49])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_positions(frame, value):
    data = waters()
    data.frames.positions[frame, 1, 2] = value
    message = refused(waters(), data)
    assert f"data, frame {100 + frame} (counted from 0)" in message
    assert "positions or cell vectors that are not finite numbers; remove the frame" in message


def test_cells():
    data = group([bulk("Cu") for _ in range(9)])
    data.frames.cell[8, 0, 1] = np.nan
    assert "frame 108" in refused(data)


def test_flat_cells():
    data = group([bulk("Cu") for _ in range(9)])
    data.frames.cell[5] = [[1, 0, 0], [0, 1, 0], [1, 1, 0]]
    message = refused(data)
    assert "frame 105" in message
    assert "give the cell" in message


def test_a_slab_needs_no_third_vector():
    slab = ase.Atoms("Cu", cell=[2.5, 2.5, 0.0], pbc=(True, True, False))
    soundness.check([group([slab])])
    slab.cell[1] = 0.0
    assert "give the cell" in refused(group([slab]))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_energy(value):
    data = waters()
    data.label.energy[30] = value
    message = refused(data)
    assert "frame 130" in message
    assert "an energy that is not finite; remove the frame" in message


@pytest.mark.parametrize("name", ["forces", "virial"])
def test_half_of_forces_or_virial(name):
    data = waters()
    values = getattr(data.label, name)
    values[20] = np.nan
    soundness.check([data])
    values[33, 1, 1] = np.nan
    message = refused(data)
    assert "frame 133" in message
    assert name in message
    values[33] = np.inf
    assert "frame 133" in refused(data)


def test_one_place_is_found_in_every_frame(monkeypatch):
    monkeypatch.setattr(soundness, "MEASURED", 1)
    for frame in (0, 8, 49):
        data = waters()
        data.frames.positions[frame, 2] = data.frames.positions[frame, 0]
        message = refused(data)
        assert f"frame {100 + frame}" in message
        assert "atoms 0 and 2 (counted from 0) 0.000 Å apart" in message


def test_one_value_along_a_line_is_no_coincidence():
    """Atoms at different places with one value of what _ties sorts by."""
    place = [[1.0, 0.0, 0.0], [0.0, np.sqrt(0.5), 0.0]]
    x = np.array([place])
    line = x[..., 0] + np.sqrt(2.0) * x[..., 1] + np.e * x[..., 2]
    x[0, 1, 1] *= line[0, 0] / line[0, 1]
    assert soundness._ties(x).all()
    soundness.check([group([ase.Atoms("H2", x[0])])])


def test_near_atoms_are_found_in_a_sample(monkeypatch):
    def near(count):
        data = waters(count)
        data.frames.positions[:, 2] = data.frames.positions[:, 0] + [0.05, 0.0, 0.0]
        return data

    assert "0.050 Å apart, over all periodic images, where 0.1 is the least" in refused(near(COUNT))
    assert "frame 100 " in refused(near(COUNT))  # all are measured; the first is told
    monkeypatch.setattr(soundness, "MEASURED", 10)
    assert "0.050" in refused(near(1), waters())  # sampling is over all groups, seeded
    monkeypatch.setattr(soundness, "MEASURED_ATOMS", 1)
    assert "0.050" in refused(near(5))  # one frame is measured in any case


def test_a_sample_is_no_larger_than_it_says(monkeypatch):
    measured = []

    class Search:
        def __init__(self, **_):
            pass

        def compute(self, positions, *_, **__):
            measured.append(len(positions))
            return np.zeros(0, int), np.zeros(0, int), np.zeros(0)

    monkeypatch.setattr(soundness, "NeighborList", Search)
    soundness.check([waters(), waters()])
    assert len(measured) == 2 * COUNT
    measured.clear()
    monkeypatch.setattr(soundness, "MEASURED", 10)
    soundness.check([waters(), waters()])
    assert len(measured) == 10
    measured.clear()
    monkeypatch.setattr(soundness, "MEASURED_ATOMS", 14)
    soundness.check([waters(), waters()])
    assert len(measured) == 4


@pytest.mark.parametrize("pbc", [(True, True, True), (True, False, False)])
def test_images_count(pbc):
    atoms = ase.Atoms("H2", [[0.02, 0, 0], [3.95, 0, 0]], cell=[[4, 0, 0], [1, 4, 0], [0, 1, 4]])
    soundness.check([group([atoms])])
    atoms.pbc = pbc
    assert "0.070 Å apart" in refused(group([atoms]))


def test_large_isolated_frames():
    grid = np.stack(np.meshgrid(*[np.arange(5.0)] * 3), axis=-1).reshape(-1, 3)
    atoms = ase.Atoms("H125", 1.5 * grid)
    soundness.check([group([atoms])])
    atoms.positions[77] = atoms.positions[3] + [0.0, 0.09, 0.0]
    assert "atoms 3 and 77 (counted from 0) 0.090 Å apart" in refused(group([atoms]))
