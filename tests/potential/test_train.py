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
    first, again = (train([twenty], short, untrained, key=7) for _ in range(2))
    assert same(first, again)
    assert not same(first, train([twenty], short, untrained, key=8))


def test_members_differ(trained):
    a, b = trained.member(0).weights, trained.member(1).weights
    assert not same(a, b)


def test_a_warm_start_goes_on_from_where_it_was(twenty, trained):
    """One step at no rate changes nothing, and a few keep the error small."""
    still = train([twenty], replace(TRAINING, warm_steps=1, rate=0.0), trained, key=1, warm=True)
    assert same(still.members.weights, trained.members.weights)
    short = replace(TRAINING, warm_steps=30, rate=1e-3)
    on = train([twenty], short, trained, key=1, warm=True)
    size = rms(twenty[1].forces)
    assert rms(predict(on, twenty[0])[0].forces - twenty[1].forces) < 0.05 * size


def test_any_number_of_steps_is_done_and_told(twenty, untrained):
    told = []
    short = replace(TRAINING, steps=43)
    train([twenty], short, untrained, key=0, progress=told.append)
    assert [point.step for point in told] == [20, 40, 43]
    assert told[-1].fraction == 1.0
    assert all(np.isfinite(point.error) for point in told)


@pytest.mark.parametrize("name", ["energy", "forces"])
def test_labels_that_are_no_numbers_are_refused(twenty, untrained, name):
    frames, label = twenty
    wrong = np.array(getattr(label, name))
    wrong.flat[3] = np.nan
    with pytest.raises(InputError, match="not finite numbers"):
        train([(frames, replace(label, **{name: wrong}))], TRAINING, untrained, key=0)


def test_a_training_that_diverges_says_so(twenty, untrained):
    with pytest.raises(InputError, match=r"smaller \[train\] rate than inf"):
        train([twenty], replace(TRAINING, steps=20, rate=np.inf), untrained, key=0)


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
    start = fresh("deep_potential", config, 1, [(frames, label)], key=0)
    without = replace(label, virial=np.full((4, 3, 3), np.nan))
    mixed = replace(label, virial=np.where(np.arange(4)[:, None, None] < 2, label.virial, np.nan))
    settings = replace(TRAINING, steps=150, batch=4, virial_weight=10.0)
    off = {}
    for name, one in (("all", label), ("some", mixed), ("none", without)):
        found = predict(train([(frames, one)], settings, start, key=0), frames)[0]
        assert np.isfinite(found.virial).all()
        off[name] = rms(found.virial - label.virial)
    assert off["all"] < off["none"]
    assert off["all"] < 0.3 * rms(label.virial)


def test_a_cold_crystal_is_learnt():
    """Its descriptor hardly varies: nets must not saturate while the embedding moves it."""
    structures = []
    for k in range(12):
        atoms = bulk("Cu", cubic=True) * (2, 1, 1)
        atoms.rattle(0.002, seed=k)
        structures.append(atoms)
    frames = Frames.from_ase(structures)
    label = concatenate_labels([ASECalculator()(frames[k : k + 1]) for k in range(12)])
    data = frames[:10], label[:10]
    config = DeepPotentialConfig((29,), cutoff_A=3.5, fitting=(32, 32))
    start = fresh("deep_potential", config, 1, [data], key=0)
    found = train([data], replace(TRAINING, steps=1000, batch=2), start, key=0)
    unseen = predict(found, frames[10:])[0].forces
    assert rms(unseen - label.forces[10:]) < 0.3 * rms(label.forces[10:])


def test_an_overfitted_training_goes_back_to_its_best_and_ends(labelled, untrained):
    """Labels without any sense: whatever is learnt of them makes others worse."""
    frames, label = labelled
    noise = np.random.default_rng(0).normal(size=label.forces.shape)
    senseless = replace(label, energy=np.zeros(len(frames)), forces=noise)
    told = []
    found = train(
        [(frames[:5], senseless[:5])],
        replace(TRAINING, steps=2000, batch=5),
        untrained,
        key=0,
        progress=told.append,
        held_out=(frames[5:], senseless[5:]),
    )
    assert told[-1].step < 1500
    assert told[-1].rate < 0.01 * TRAINING.rate
    looks = [point for point in told if np.isfinite(point.forces)]
    weight = TRAINING.energy_weight
    least = min(point.forces**2 + weight * point.energy**2 for point in looks)
    answer = predict(found, frames[5:])[0]
    per_atom = answer.energy / frames.mask[5:].sum(axis=1)
    error = rms(answer.forces - noise[5:]) ** 2 + weight * rms(per_atom) ** 2
    assert error == pytest.approx(least, rel=0.02)


def test_going_back_to_the_best_is_no_divergence(labelled, untrained):
    """The best on other labels than those learnt errs a hundred times more on these."""
    frames, label = labelled
    noise = np.random.default_rng(0).normal(size=label.forces.shape)
    other = replace(label, energy=np.zeros(len(frames)), forces=noise)
    told = []
    train(
        [(frames[:10], label[:10])],
        replace(TRAINING, steps=3000),
        untrained,
        key=0,
        progress=told.append,
        held_out=(frames[10:], other[10:]),
    )
    assert told[-1].error > 10 * min(point.error for point in told)
    assert told[-1].step < 1500


def test_new_data_move_the_repulsive_core_outwards_never(twenty, trained):
    frames, label = twenty
    squeezed = frames.with_positions(frames.positions * 0.9)
    short = replace(TRAINING, warm_steps=1, rate=0.0)
    closer = train([(squeezed, label)], short, trained, key=0, warm=True)
    stretched = frames.with_positions(frames.positions * 1.1)
    wider = train([(stretched, label)], short, trained, key=0, warm=True)
    core = np.asarray(trained.members.statistics["core"])
    assert (np.asarray(closer.members.statistics["core"]) <= core).all()
    assert (np.asarray(closer.members.statistics["core"]) < core).any()
    assert (np.asarray(wider.members.statistics["core"]) <= core).all()
    assert MODEL.species == trained.species


def test_a_killed_training_goes_on_bit_for_bit(twenty, untrained, tmp_path, monkeypatch):
    class Killed(Exception):
        pass

    def die(point):
        if point.step == 60:
            raise Killed

    monkeypatch.setattr("kepton.potential.train.CHECKPOINT_SECONDS", 0.0)
    short = replace(TRAINING, steps=100)
    file = tmp_path / "checkpoint"
    held_out = twenty[0][:3], twenty[1][:3]
    whole = train([twenty], short, untrained, key=7, held_out=held_out)
    with pytest.raises(Killed):
        train([twenty], short, untrained, 7, progress=die, held_out=held_out, checkpoint=file)
    assert file.exists()
    told = []
    rest = train(
        [twenty], short, untrained, 7, progress=told.append, held_out=held_out, checkpoint=file
    )
    assert told[0].step == 60
    assert same(rest, whole)
    assert not file.exists()


def test_the_checkpoint_of_another_training_is_refused(twenty, untrained, tmp_path, monkeypatch):
    monkeypatch.setattr("kepton.potential.train.CHECKPOINT_SECONDS", 0.0)
    file = tmp_path / "checkpoint"
    file.write_bytes(b"of another program")
    short = replace(TRAINING, steps=20)
    with pytest.raises(InputError, match="no checkpoint of a training"):
        train([twenty], short, untrained, 0, checkpoint=file)
    file.unlink()

    def die(point):
        if point.step == 40:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train([twenty], replace(TRAINING, steps=60), untrained, 0, progress=die, checkpoint=file)
    with pytest.raises(InputError, match="differs in settings"):
        train([twenty], short, untrained, 0, checkpoint=file)


def test_time_ends_a_training(twenty, untrained):
    told = []
    train([twenty], replace(TRAINING, steps=10**9), untrained, 0, progress=told.append, seconds=3.0)
    assert told[-1].fraction == 1.0
    assert 3.0 <= told[-1].seconds < 6.0
    assert told[-1].rate < 0.2 * max(point.rate for point in told)


def test_a_step_too_far_is_undone_at_half_the_rate(twenty, trained):
    """At a learning rate of one the weights are noise after a few steps."""
    told = []
    found = train(
        [twenty],
        replace(TRAINING, warm_steps=300, rate=0.3),
        trained,
        key=0,
        warm=True,
        progress=told.append,
    )
    assert max(point.rate for point in told[-10:]) < 0.3
    assert rms(predict(found, twenty[0])[0].forces - twenty[1].forces) < rms(twenty[1].forces)


def test_frames_without_forces_teach_energies(labelled, twenty, untrained):
    """Ten frames with forces and ten without leave energies as good as forces would."""
    frames, label = twenty
    forces = np.array(label.forces)
    forces[::2] = np.nan
    found = train([(frames, replace(label, forces=forces))], TRAINING, untrained, key=0)
    answer = predict(found, labelled[0][20:])[0]
    assert rms(answer.forces - labelled[1].forces[20:]) < 0.5 * rms(label.forces)
    assert rms(answer.energy - labelled[1].energy[20:]) < 0.3 * np.std(label.energy)


def test_frames_of_different_sizes_are_learnt_together(twenty, crystals):
    """A molecule without virials and a crystal with them, in one training."""
    config = DeepPotentialConfig(
        (1, 6, 8, 13), basis=12, embedding=(4, 8), axis=4, fitting=(16, 16), cutoff_A=3.5
    )
    start = fresh("deep_potential", config, 2, [twenty, crystals], key=0)
    told = []
    longer = replace(TRAINING, steps=1000)
    found = train([twenty, crystals], longer, start, key=0, progress=told.append)
    for frames, label in (twenty, crystals):
        off = predict(found, frames)[0].forces - label.forces
        assert rms(off) < 0.7 * rms(label.forces)  # a crystal is seen 170 times
    assert told[-1].step == longer.steps
