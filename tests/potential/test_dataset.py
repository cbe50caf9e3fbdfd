"""Frames of all sizes are handed out padded, every one equally often, and held out by runs."""

import itertools

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from kepton.atoms import Frames, Label
from kepton.potential.dataset import Dataset, hold_out

CUTOFF = 3.0


def system(*structures):
    """Frames whose energies and forces tell them apart."""
    frames = Frames.from_ase(structures)
    energy = np.array([float(atoms.info.get("place", 0)) for atoms in structures])
    forces = np.where(np.asarray(frames.mask)[..., None], frames.positions, 0.0)
    return frames, Label(energy, forces, np.full((len(energy), 3, 3), np.nan))


def numbered(atoms, first, count):
    copies = []
    for place in range(first, first + count):
        copy = atoms.copy()
        copy.rattle(0.05, seed=place)
        copy.info["place"] = place
        copies.append(copy)
    return copies


@pytest.fixture(scope="module")
def dataset():
    """12 waters and 5 methanes that share a bucket, 7 benzenes, 3 crystals."""
    return Dataset.of(
        [
            system(*numbered(molecule("C6H6"), 100, 7)),
            system(*numbered(molecule("CH4"), 50, 5)),
            system(*numbered(bulk("Al", cubic=True), 200, 3)),
            system(*numbered(Atoms("CH3", molecule("CH4").positions[:4]), 0, 12)),
        ],
        CUTOFF,
    )


def test_frames_of_similar_size_share_a_bucket(dataset):
    assert [(len(bucket), bucket.atoms) for bucket in dataset.buckets] == [(17, 5), (7, 12), (3, 4)]
    assert len(dataset) == 27


def test_a_batch_holds_the_frames_asked_for_in_order(dataset):
    frames, lists, label = dataset.buckets[0].batch(np.array([13, 2, 16, 2]))
    assert label.energy.tolist() == [51, 2, 54, 2]
    assert np.asarray(frames.mask).sum(axis=1).tolist() == [5, 4, 5, 4]
    np.testing.assert_array_equal(
        label.forces, np.where(frames.mask[..., None], frames.positions, 0)
    )
    assert lists.mask.sum(axis=(1, 2)).tolist() == [20, 12, 20, 12]
    assert frames.composition == ((1, 4), (6, 1))


def test_every_frame_is_seen_equally_often(dataset):
    seen = {}
    for bucket, rows in itertools.islice(dataset.stream(4, key=3), 27 * 5):
        for energy in bucket.batch(rows)[2].energy:
            seen[float(energy)] = seen.get(float(energy), 0) + 1
    assert len(seen) == 27
    assert max(seen.values()) - min(seen.values()) <= 2
    assert sum(seen.values()) == 4 * 27 * 5


def test_a_stream_can_be_entered_anywhere(dataset):
    whole = [(b.atoms, r.tolist()) for b, r in itertools.islice(dataset.stream(4, 3), 40)]
    rest = [(b.atoms, r.tolist()) for b, r in itertools.islice(dataset.stream(4, 3, 15), 25)]
    assert whole[15:] == rest
    other = [(b.atoms, r.tolist()) for b, r in itertools.islice(dataset.stream(4, 4), 40)]
    assert whole != other


def test_lists_made_for_each_block_are_those_kept(monkeypatch):
    """Where memory is short, neighbours are found again and again."""
    crystals = [system(*numbered(bulk("Al", cubic=True), 0, 6))]
    kept = Dataset.of(crystals, CUTOFF).buckets[0]
    monkeypatch.setattr("kepton.potential.dataset.LISTS_BYTES", 0)
    monkeypatch.setattr("kepton.potential.dataset.SCANNED_ATOMS", 8)
    made = Dataset.of(crystals, CUTOFF).buckets[0]
    assert kept.lists is not None
    assert made.lists is None
    found = []
    for bucket in (kept, made):
        frames, lists, _ = bucket.batch(np.array([4, 1]))
        found.append(np.sort(lists.distances(frames)[lists.mask]))
    assert len(found[0]) > 60
    np.testing.assert_array_equal(*found)


def test_held_out_frames_are_runs_and_nobody_is_lost():
    systems = [system(*numbered(molecule("H2O"), 0, 60)), system(*numbered(molecule("H2O"), 60, 8))]
    rest, held = hold_out(systems, 0.25, 1000, seed=1)
    energies = [np.concatenate([label.energy for _, label in part]) for part in (rest, held)]
    assert sorted(np.concatenate(energies).tolist()) == list(range(68))
    assert 8 <= len(energies[1]) <= 26
    _, fewer = hold_out(systems, 0.25, 7, seed=1)
    assert sum(len(frames) for frames, _ in fewer) <= 10
    _, none = hold_out(systems, 0.0, 1000, seed=1)
    assert none == []


def test_a_single_frame_is_not_held_out():
    one = [system(*numbered(molecule("H2O"), 0, 1))]
    for seed in range(30):
        rest, held = hold_out(one, 0.9, 1000, seed)
        assert len(rest) == 1
        assert held == []
