"""Training fits few labels well, and the same labels to the same bits."""

from dataclasses import replace

import jax
import numpy as np
import pytest
from ase.build import bulk

from conftest import MODEL, TRAINING, rms
from kepton.atoms import Frames
from kepton.atoms.frames import concatenate_labels
from kepton.errors import InputError
from kepton.potential.deep_potential import DeepPotentialConfig
from kepton.potential.ensemble import predict
from kepton.potential.train import fresh, train
from kepton.principles import ASECalculator


def same(a, b):
    return all((x == y).all() for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b)))


def test_twenty_labels_are_fitted_and_others_foretold(labelled, twenty, trained):
    frames, label = labelled
    size = rms(label.forces[:20])
    fitted, _ = predict(trained, twenty[0])
    assert rms(fitted.forces - twenty[1].forces) < 0.05 * size
    unseen, _ = predict(trained, frames[20:])
    assert rms(unseen.forces - label.forces[20:]) < 0.3 * size
    spread = np.std(label.energy[:20])
    assert rms(fitted.energy - twenty[1].energy) < 0.05 * spread


def test_training_is_deterministic_to_the_bit(twenty, untrained):
    short = replace(TRAINING, steps=25)
    first, again = (train(*twenty, short, untrained, key=7) for _ in range(2))
    assert same(first, again)
    assert not same(first, train(*twenty, short, untrained, key=8))


def test_members_differ(trained):
    a, b = trained.member(0).weights, trained.member(1).weights
    assert not same(a, b)


def test_a_warm_start_goes_on_from_where_it_was(twenty, trained):
    """One step at no rate changes nothing, and a few keep the error small."""
    still = train(*twenty, replace(TRAINING, warm_steps=1, rate=0.0), trained, key=1, warm=True)
    assert same(still.members.weights, trained.members.weights)
    short = replace(TRAINING, warm_steps=30, rate=1e-3)
    on = train(*twenty, short, trained, key=1, warm=True)
    size = rms(twenty[1].forces)
    assert rms(predict(on, twenty[0])[0].forces - twenty[1].forces) < 0.05 * size


def test_any_number_of_steps_is_done_and_told(twenty, untrained):
    told = []
    short = replace(TRAINING, steps=23)
    train(*twenty, short, untrained, key=0, progress=lambda *now: told.append(now))
    assert [now[:2] for now in told] == [(10, 23), (20, 23), (23, 23)]
    assert all(np.isfinite(now[2]) for now in told)


@pytest.mark.parametrize("name", ["energy", "forces"])
def test_labels_that_are_no_numbers_are_refused(twenty, untrained, name):
    frames, label = twenty
    wrong = np.array(getattr(label, name))
    wrong.flat[3] = np.nan
    with pytest.raises(InputError, match="not finite numbers"):
        train(frames, replace(label, **{name: wrong}), TRAINING, untrained, key=0)


def test_a_training_that_diverges_says_so(twenty, untrained):
    with pytest.raises(InputError, match=r"smaller \[train\] rate than inf"):
        train(*twenty, replace(TRAINING, steps=20, rate=np.inf), untrained, key=0)


@pytest.fixture(scope="module")
def crystals():
    """Two aluminium cells with virials, one of them compressed."""
    structures = []
    for k, scale in enumerate((1.0, 0.97, 1.02, 0.99)):
        atoms = bulk("Al", cubic=True)
        atoms.set_cell(atoms.cell * scale, scale_atoms=True)
        atoms.rattle(0.08, seed=k)
        structures.append(atoms)
    frames = Frames.from_ase(structures)
    return frames, concatenate_labels([ASECalculator()(frames[k : k + 1]) for k in range(4)])


def test_virials_are_learnt_where_there_are_any(crystals):
    frames, label = crystals
    config = DeepPotentialConfig(
        (13,), basis=12, embedding=(4, 8), axis=4, fitting=(16, 16), cutoff_A=3.5
    )
    start = fresh("deep_potential", config, 1, frames, label, key=0)
    without = replace(label, virial=np.full((4, 3, 3), np.nan))
    mixed = replace(label, virial=np.where(np.arange(4)[:, None, None] < 2, label.virial, np.nan))
    settings = replace(TRAINING, steps=150, batch=4, virial_weight=10.0)
    off = {}
    for name, one in (("all", label), ("some", mixed), ("none", without)):
        found = predict(train(frames, one, settings, start, key=0), frames)[0]
        assert np.isfinite(found.virial).all()
        off[name] = rms(found.virial - label.virial)
    assert off["all"] < off["none"]
    assert off["all"] < 0.3 * rms(label.virial)


def test_new_data_move_the_repulsive_core_outwards_never(twenty, trained):
    frames, label = twenty
    squeezed = frames.with_positions(frames.positions * 0.9)
    short = replace(TRAINING, warm_steps=1, rate=0.0)
    closer = train(squeezed, label, short, trained, key=0, warm=True)
    wider = train(frames.with_positions(frames.positions * 1.1), label, short, trained, 0, True)
    core = np.asarray(trained.members.statistics["core"])
    assert (np.asarray(closer.members.statistics["core"]) <= core).all()
    assert (np.asarray(closer.members.statistics["core"]) < core).any()
    assert (np.asarray(wider.members.statistics["core"]) <= core).all()
    assert MODEL.species == trained.species
