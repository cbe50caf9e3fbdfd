"""Neighbour lists against a brute-force sum over images."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest
from ase import Atoms

from kepton.atoms import Frames
from kepton.atoms.images import IMAGES, packed, unpacked
from kepton.atoms.neighbors import ALL_PAIRS, neighbors
from kepton.errors import InputError
from kepton.kernels import library


@pytest.fixture(params=["compiled", "vesin"], autouse=True)
def method(request, monkeypatch):
    """Both searches."""
    if request.param == "vesin":
        monkeypatch.setattr("kepton.atoms.neighbors.library", lambda: None)
    elif library() is None:
        pytest.skip("no kernels: no C++ compiler at install")
    return request.param


TRICLINIC = [[7.0, 0.0, 0.0], [2.5, 6.0, 0.0], [-1.5, 2.0, 8.0]]
SHEARED = [[3.0, 0.0, 0.0], [2.9, 3.0, 0.0], [2.8, -2.7, 3.0]]


def box(cell, pbc, count=12, outside=0.3, seed=0):
    """Atoms strewn over a cell and somewhat beyond it."""
    scaled = np.random.default_rng(seed).uniform(-outside, 1 + outside, (count, 3))
    cell = np.asarray(cell, float)
    return Atoms("Ar" * count, scaled @ cell, cell=cell, pbc=pbc)


def brute_force(atoms, cutoff, images=7):
    """For every atom, its sorted neighbours (index, dx, dy, dz) within the cutoff."""
    ranges = [range(-images, images + 1) if p else (0,) for p in atoms.pbc]
    shifts = np.array(list(itertools.product(*ranges))) @ atoms.cell.array
    x = atoms.positions
    away = x[None, :, None] + shifts - x[:, None, None]
    distance = np.linalg.norm(away, axis=-1)
    near = (distance < cutoff) & (distance > 1e-8)
    return [ordered(np.nonzero(near[i])[0], away[i][near[i]]) for i in range(len(x))]


def ordered(index, vectors):
    rows = np.column_stack([index, vectors])
    return rows[np.lexsort(np.round(rows.T, 6))]


def listed(frames, found, frame):
    vectors, mask = np.asarray(found.vectors(frames))[frame], np.asarray(found.mask)[frame]
    atoms = int(frames.mask[frame].sum())
    return [ordered(found.index[frame, i][mask[i]], vectors[i][mask[i]]) for i in range(atoms)]


def check(structures, cutoff, skin=0.0):
    frames = Frames.from_ase(structures)
    found = neighbors(frames, cutoff, skin)
    for frame, atoms in enumerate(structures):
        expected = brute_force(atoms, min(found.reach, 1e3))
        for a, b in zip(listed(frames, found, frame), expected, strict=True):
            assert a.shape == b.shape
            np.testing.assert_allclose(a, b, atol=1e-9)
    return frames, found


@pytest.mark.parametrize(
    ("cell", "pbc", "count", "cutoff"),
    [
        pytest.param(np.eye(3) * 8.0, True, 30, 3.5, id="cubic"),
        pytest.param(TRICLINIC, True, 20, 3.0, id="triclinic"),
        pytest.param(np.eye(3) * 2.5, True, 2, 6.0, id="cell-smaller-than-cutoff"),
        pytest.param(np.eye(3) * 2.5, True, 1, 5.1, id="one-atom-and-its-images"),
        pytest.param(SHEARED, True, 2, 4.0, id="strongly-sheared"),
        pytest.param(TRICLINIC, (True, True, False), 15, 4.0, id="slab"),
        pytest.param(TRICLINIC, (False, True, True), 15, 4.0, id="slab-along-the-first"),
        pytest.param(np.diag([3.0, 3.0, 0.0]), (True, True, False), 5, 4.0, id="slab-without-c"),
        pytest.param(TRICLINIC, (False, False, True), 15, 4.0, id="wire"),
        pytest.param(np.diag([2.0, 0, 0]), (True, False, False), 4, 4.0, id="wire-without-b-c"),
        pytest.param(np.eye(3) * 9.0, False, ALL_PAIRS + 5, 3.0, id="isolated-and-large"),
        pytest.param(np.eye(3) * 9.0, False, ALL_PAIRS, 3.0, id="isolated-all-pairs"),
    ],
)
def test_every_image_within_reach_stands_once(cell, pbc, count, cutoff):
    check([box(cell, pbc, count)], cutoff, skin=0.4)


def test_far_outside_the_cell():
    atoms = box(TRICLINIC, True)
    atoms.positions[3] += 5 * atoms.cell[0] - 3 * atoms.cell[2]
    check([atoms], 3.0)


def test_slab_extends_beyond_its_cell():
    atoms = box(TRICLINIC, (True, True, False))
    atoms.positions[0, 2] += 40.0
    _, found = check([atoms], 4.0)
    assert not (unpacked(found.image)[..., 2] != 0).any()


def test_frames_of_all_kinds_in_one_batch():
    structures = [
        box(np.eye(3) * 6.0, True, 9),
        box(np.eye(3) * 3.0, False, 4),
        box(TRICLINIC, (True, False, True), 6),
        Atoms("H"),
    ]
    frames, found = check(structures, 3.0)
    assert all(width % 4 == 0 for _, width in found.segments)
    assert not found.mask[~frames.mask].any()


def test_all_pairs_are_padded_and_never_stale():
    frames, found = check(
        [box(np.eye(3) * 9, False, 7), Atoms("H"), Atoms("OH", [[0] * 3, [99] * 3])], 3.0
    )
    assert found.mask.sum(axis=(1, 2)).tolist() == [42, 0, 2]
    assert not found.stale(frames.with_positions(frames.positions + 1e3), 3.0).any()
    assert (np.linalg.norm(found.vectors(frames), axis=-1)[~found.mask] > 100).all()


def test_one_atom_has_no_neighbours():
    frames = Frames.from_ase([Atoms("H")])
    found = neighbors(frames, 3.0)
    assert not found.mask.any()
    assert found.vectors(frames).shape[:2] == (1, 1)


def test_stale_once_an_atom_moved_half_the_skin():
    frames = Frames.from_ase([box(np.eye(3) * 6, True), box(np.eye(3) * 6, True)])
    found = neighbors(frames, 3.0, skin=1.0)
    for distance, expected in ((0.49, False), (0.51, True)):
        moved = frames.positions.copy()
        moved[1, 4] += distance * np.array([0.6, 0.0, 0.8])
        assert found.stale(frames.with_positions(moved), 3.0).tolist() == [False, expected]


def test_large_cells_in_threads(monkeypatch):
    """One list, whoever makes it; both searches find the same pairs."""
    frames = Frames.from_ase([box(np.diag([60.0, 21.0, 9.0]), True, 3000)])
    found = []
    for count in (1, 3):
        monkeypatch.setattr("kepton.atoms.neighbors.threads", lambda count=count: count)
        found.append(neighbors(frames, 2.5))
    np.testing.assert_array_equal(found[0].index, found[1].index)
    np.testing.assert_array_equal(found[0].image, found[1].image)
    monkeypatch.setattr("kepton.atoms.neighbors.library", lambda: None)
    other = neighbors(frames, 2.5)
    np.testing.assert_array_equal(*(np.sort(one.index, axis=-1) for one in (found[0], other)))
    lengths = [np.sort(one.distances(frames), axis=-1) for one in (found[0], other)]
    np.testing.assert_allclose(*lengths, atol=1e-9)


def test_sparse_atoms_in_a_huge_cell():
    check([box(np.diag([900.0, 30.0, 500.0]), True, 5), box(TRICLINIC, True, 3)], 4.0)


def test_images_are_packed_and_unpacked():
    images = np.array(list(itertools.product((-IMAGES, -1, 0, 2, IMAGES), repeat=3)))
    np.testing.assert_array_equal(unpacked(packed(images)), images)
    np.testing.assert_array_equal(unpacked(jnp.asarray(packed(images))), images)
    assert packed(np.zeros((1, 3), int)) == [0]


def test_a_tiny_cell_is_refused():
    with pytest.raises(InputError, match="cell vector is so short"):
        neighbors(Frames.from_ase([box(np.diag([0.2, 5.0, 5.0]), True, 1, 0.0)]), 4.0)


def test_widths_grow_with_room_to_spare():
    thin, dense = (Frames.from_ase([box(np.eye(3) * 8, True, n)]) for n in (20, 60))
    first = neighbors(thin, 3.5)
    second = neighbors(dense, 3.5, segments=first.segments)
    assert second.segments[0][1] > second.mask.sum(axis=2).max()
    assert neighbors(thin, 3.5, segments=second.segments).segments == second.segments


@pytest.mark.parametrize("far", [1e6, 1e13, 1e18])
def test_one_atom_far_away_costs_nothing(far, method):
    """As a broken walk leaves it; cells of half the reach up to there would fill any memory."""
    if method == "vesin":
        pytest.skip("vesin divides by zero there")
    rng = np.random.default_rng(0)
    atoms = Atoms("Ar70", rng.uniform(0.0, 12.0, (70, 3)))
    here = neighbors(Frames.from_ase([atoms[1:]]), 5.0)
    atoms.positions[0, 0] = far
    lists = neighbors(Frames.from_ase([atoms]), 5.0)
    counts = np.asarray(lists.mask).sum(axis=2)[0]
    assert counts[0] == 0
    np.testing.assert_array_equal(counts[1:], np.asarray(here.mask).sum(axis=2)[0])
