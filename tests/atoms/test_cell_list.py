"""Neighbour lists made where the atoms are, against those made on the host."""

import jax
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from kepton.atoms import Frames
from kepton.atoms import cell_list as room
from kepton.atoms.neighbors import LARGE, Neighbors, _on_accelerator, neighbors
from kepton.errors import InputError


@pytest.fixture
def here(monkeypatch):
    """`neighbors`, by the cell list."""

    def made(*given) -> Neighbors:
        with monkeypatch.context() as patch:
            patch.setattr("kepton.atoms.neighbors._on_accelerator", lambda _: True)
            return neighbors(*given)

    return made


def strewn(cell, count, elements="Ar", outside=0.3, seed=0) -> Frames:
    """Atoms strewn over a cell and somewhat beyond it."""
    rng = np.random.default_rng(seed)
    cell = np.diag(cell) if np.ndim(cell) == 1 else np.asarray(cell, float)
    scaled = rng.uniform(-outside, 1 + outside, (count, 3))
    numbers = Atoms(elements).numbers[rng.permutation(np.arange(count) % len(Atoms(elements)))]
    return Frames.from_ase([Atoms(numbers, scaled @ cell, cell=cell, pbc=True)])


def pairs(lists: Neighbors):
    """For every atom and element, the neighbours and their images in order."""
    index, image = np.asarray(lists.index[0], int), np.asarray(lists.image[0], int)
    both = np.where(index < 0, -1, 2**16 * index + image + 2**15)
    return [np.sort(both[:, slot], axis=1) for _, slot in lists.slots]


def assert_same(found: Neighbors, expected: Neighbors):
    assert isinstance(found.index, jax.Array)
    assert found.segments == expected.segments
    for name in ("home", "built_at", "built_in", "inverse_cell"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    for name in ("index", "image", "home", "built_at"):
        assert getattr(found, name).dtype == getattr(expected, name).dtype
    for a, b in zip(pairs(found), pairs(expected), strict=True):
        np.testing.assert_array_equal(a, b)


TRICLINIC = np.array([[40.0, 0.0, 0.0], [-15.0, 36.0, 0.0], [9.0, 12.0, 30.0]])
SHEARED = np.array([[3.0, 0.0, 0.0], [2.9, 3.0, 0.0], [2.8, -2.7, 3.0]])


@pytest.mark.parametrize(
    ("cell", "count", "elements", "reach"),
    [
        pytest.param([31.0, 40.0, 35.0], 4000, "Ar", 5.0, id="orthorhombic"),
        pytest.param([31.0, 40.0, 35.0], 3000, "OH2", 7.0, id="two-elements"),
        pytest.param([90.0, 9.0, 15.0], 2000, "CHO", 5.0, id="three-elements-and-few-bins"),
        pytest.param(TRICLINIC, 4000, "OH2", 5.5, id="triclinic"),
        pytest.param(0.2 * TRICLINIC, 30, "OH2", 5.5, id="several-images-of-others"),
        pytest.param([2.5, 2.5, 2.5], 1, "Ar", 6.1, id="one-atom-and-its-images"),
        pytest.param(SHEARED, 2, "Ar", 4.0, id="strongly-sheared"),
        pytest.param([900.0, 300.0, 500.0], 50, "Ar", 40.0, id="sparse"),
        pytest.param([0.5, 30.0, 30.0], 40, "Ar", 7.4, id="almost-too-short"),
    ],
)
def test_pairs_are_those_of_the_host(here, cell, count, elements, reach):
    frames = strewn(cell, count, elements)
    assert_same(here(frames, reach), neighbors(frames, reach))


def test_atoms_far_outside_the_cell(here):
    frames = strewn(TRICLINIC, 500, "OH2", outside=6.0)
    expected = neighbors(frames, 5.0)
    assert np.abs(expected.home).max() > 5
    assert_same(here(frames, 5.0), expected)


def test_atoms_on_the_borders_of_bins(here):
    atoms = bulk("Ar", "fcc", a=5.0, cubic=True) * (6, 4, 5)
    frames = Frames.from_ase([atoms])
    lengths = [np.sort(made(frames, 5.0, 0.1).distances(frames)) for made in (here, neighbors)]
    assert np.isfinite(lengths[0]).sum(axis=2).tolist() == [[18] * len(atoms)]
    np.testing.assert_allclose(*lengths, atol=1e-9)


@pytest.mark.parametrize("blocks", [1, 2.5, 7.3])
def test_atoms_in_blocks(here, monkeypatch, blocks):
    frames = strewn([20.0, 21.0, 22.0], 700, "OH2")
    monkeypatch.setattr(room, "CANDIDATES", 27 * 24 * int(700 / blocks))
    assert_same(here(frames, 6.5), neighbors(frames, 6.5))


def test_lists_and_bins_grow(here):
    frames = strewn([24.0, 24.0, 24.0], 1000, "OH2")
    first = here(frames, 4.0)
    # every atom in one eighth of the cell
    frames = frames.with_positions(0.5 * np.asarray(frames.positions))
    expected = neighbors(frames, 4.0, 0.0, first.segments)
    assert all(b > a for (_, a), (_, b) in zip(first.segments, expected.segments))
    assert_same(here(frames, 4.0, 0.0, first.segments), expected)


def test_the_order_of_neighbours_is_their_own(here):
    """Whatever the widths: a trajectory goes on bit for bit from where it was stored."""
    frames = strewn([24.0, 24.0, 24.0], 1000)
    first = here(frames, 4.0)
    (z, width), *_ = first.segments
    second = here(jax.tree.map(jax.numpy.asarray, frames), 4.0, 0.0, [(z, width + 8)])
    np.testing.assert_array_equal(second.index[..., :width], first.index)
    np.testing.assert_array_equal(second.image[..., :width], first.image)
    assert not second.mask[..., width:].any()


def test_a_tiny_cell_is_refused(here):
    with pytest.raises(InputError, match="cell vector is so short"):
        here(strewn([0.2, 30.0, 30.0], 40), 4.0)


def test_one_large_periodic_system_on_an_accelerator(monkeypatch):
    rows = np.random.default_rng(0).uniform(0, 40, (LARGE, 3))
    full = Atoms(f"Ar{LARGE}", rows, cell=[40] * 3, pbc=True)
    slab, small = full.copy(), full[1:]
    slab.pbc = (True, True, False)
    one = Frames.from_ase([full])
    assert not _on_accelerator(one)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert _on_accelerator(one)
    assert _on_accelerator(jax.tree.map(jax.numpy.asarray, one))
    for frames in (
        Frames.from_ase([slab]),
        Frames.from_ase([small]),
        Frames.from_ase([full, full]),
        Frames.from_ase([small, full])[:1],
    ):
        assert not _on_accelerator(frames)
