"""What the rung tells the loop: exploration, audit, samples as bytes."""

import pickle
import time
from dataclasses import replace

import numpy as np
import pytest
from ase.build import bulk, molecule

from conftest import MODEL, SIZES, TRAINING
from kepton.atoms import Frames, Label, concatenate
from kepton.dynamics import Shape
from kepton.elt import Failure, Problem
from kepton.errors import InputError
from kepton.potential import ExploreConfig, PotentialProblem, Recipe, default_model
from kepton.potential.ensemble import predict
from kepton.potential.explore import MOMENTS_PER_WALK, SAMPLES_PER_WALK
from kepton.potential.geometry import Strain
from kepton.potential.rung import decode, encode
from kepton.principles import ASECalculator

CONDITIONS = ExploreConfig(
    temperature_K=(50.0, 100.0), walkers=8, walk_fs=60.0, audit_fs=60.0, watch_fs=5.0
)


@pytest.fixture(scope="module")
def problem(start):
    return PotentialProblem(
        (start,), ASECalculator(), CONDITIONS, Recipe("deep_potential", MODEL, TRAINING, 2)
    )


def same(a, b):
    return all((x.positions == y.positions).all() for x, y in zip(a, b, strict=True))


def test_the_rung_is_a_problem(problem):
    assert isinstance(problem, Problem)
    pickle.loads(pickle.dumps(problem.label))


def test_exploration_is_deterministic_and_sound(problem, trained, start):
    a, b = (problem.explore(trained, [start], 1e3, 5) for _ in range(2))
    assert same(a.samples, b.samples)
    assert same(a.typical, b.typical)
    np.testing.assert_array_equal(a.visited, b.visited)
    other = problem.explore(trained, [start], 1e3, 6)
    assert not same(a.samples[:1], other.samples[:1])
    assert a.info["stayed"] == 1.0
    assert len(a.samples) == len(a.deviation) == SAMPLES_PER_WALK * 8
    assert a.visited.shape == (MOMENTS_PER_WALK * 4,)
    assert np.isfinite(a.visited).all()
    for sample in a.samples:
        assert problem.gate.sound(sample).all()
    # the deviation told is that of the sample
    np.testing.assert_allclose(
        problem.deviation(trained, a.samples), a.deviation, rtol=1e-4, atol=1e-6
    )


def test_walkers_stop_where_trust_ends(problem, trained, start):
    free = problem.explore(trained, [start], 1e3, 5)
    trust = float(np.median(free.deviation))
    held = problem.explore(trained, [start], trust, 5)
    assert held.info["stayed"] < 1.0
    assert held.info["walk_fs"] < free.info["walk_fs"]
    assert np.isinf(held.visited).any()
    # each walk shows at most one configuration beyond its trust: the one that ended it
    assert (held.deviation > trust).sum() <= CONDITIONS.walkers
    none = problem.explore(trained, [start], 0.0, 5)
    assert none.info["stayed"] == 0.0
    assert np.isinf(none.visited).all()
    assert len(none.typical) == 0
    assert len(none.samples) == CONDITIONS.walkers


def test_an_audit_is_deterministic_and_its_draws_differ(problem, trained, start):
    a, b = (problem.audit(trained, 11, 5) for _ in range(2))
    assert same(a, b)
    assert len(a) == 11
    moved = [np.abs(draw.positions - start.positions).max() for draw in a]
    assert min(moved) > 1e-3
    assert len({round(m, 12) for m in moved}) == 11


def test_draws_come_from_the_second_half(problem, trained):
    """Of two looks it is always the second: the same walks as those of one look, twice as late.

    Walks depend on their keys alone; other programs round forces to 1e-6 of 10 eV/Å.
    """
    two = replace(problem, exploration=replace(CONDITIONS, audit_fs=10.0, watch_fs=5.0))
    one = replace(problem, exploration=replace(CONDITIONS, audit_fs=10.0, watch_fs=10.0))
    for seed in range(3):
        for x, y in zip(two.audit(trained, 8, seed), one.audit(trained, 8, seed)):
            np.testing.assert_allclose(x.positions, y.positions, rtol=0, atol=1e-5)


@pytest.fixture(scope="module")
def crystal():
    """Copper in strained cells at some pressures, and an ensemble that has just begun to learn."""
    start = Frames.from_ase([bulk("Cu", cubic=True)])
    conditions = replace(
        CONDITIONS,
        strain=Strain((-0.04, 0.04), 0.01),
        pressure_GPa=(0.0, 5.0),
        cell_shape=Shape.FULL,
    )
    model = default_model("deep_potential", [start], cutoff_A=4.0, **SIZES)
    recipe = Recipe("deep_potential", model, replace(TRAINING, steps=50), 2)
    problem = PotentialProblem((start,), ASECalculator(), conditions, recipe)
    samples = problem.seed(12, 0)
    return problem, problem.train([(s, problem.label(s)) for s in samples], None, 0)


def test_cells_are_strained_and_move_at_constant_pressure(crystal):
    problem, models = crystal
    (start,) = problem.structures
    seen = problem.explore(models, [start], 1e3, 1).samples
    cells = np.array([np.asarray(frames.cell[0]) for frames in seen])
    assert len({round(float(v), 9) for v in np.linalg.det(cells)}) == len(seen)
    change = np.linalg.det(cells) / np.linalg.det(start.cell[0]) - 1.0
    assert np.abs(change).max() < 0.2
    assert np.abs(cells - cells * np.eye(3)).max() > 0.01
    assert problem.gate.sound(concatenate(seen)).all()


def test_errors_beside_the_certificate_are_those_of_the_audit(crystal):
    problem, models = crystal
    samples = problem.audit(models, 4, 2)
    data = [(sample, problem.label(sample)) for sample in samples]
    told = problem._unbounded_errors(models, data)
    answers = [predict(models, sample)[0] for sample in samples]
    off = [(a.energy[0] - label.energy[0]) / 4 for a, (_, label) in zip(answers, data)]
    assert told["energy_error_meV_per_atom"] == pytest.approx(
        1e3 * np.sqrt(np.mean(np.square(off))), rel=1e-3
    )
    stress = [
        (np.asarray(a.virial[0]) - label.virial[0]) / np.linalg.det(sample.cell[0])
        for a, (sample, label) in zip(answers, data)
    ]
    expected = np.sqrt(np.mean(np.square(stress))) * 160.21766
    assert told["stress_error_GPa"] == pytest.approx(expected, rel=1e-3)


def test_as_many_walkers_as_suit_the_size():
    def walkers(count):
        return ExploreConfig().suited([Frames.from_ase([bulk("Cu") * (count, 1, 1)])]).walkers

    assert [walkers(n) for n in (1, 16, 32, 200)] == [64, 64, 32, 8]
    assert ExploreConfig(walkers=5).suited([Frames.from_ase([bulk("Cu")])]).walkers == 5


def test_a_broken_model_fails_its_audit(problem, broken):
    draws = problem.audit(broken, 9, 0)
    failures = [draw for draw in draws if isinstance(draw, Failure)]
    assert len(failures) >= 8
    assert "The walk broke" in failures[0].reason
    seen = problem.explore(broken, [problem.structures[0]], 1e9, 0)
    assert np.isinf(seen.visited).mean() > 0.8
    for sample in seen.samples:
        assert problem.gate.sound(sample).all()


def test_error_is_the_root_mean_square_over_components(problem, trained, labelled):
    frames, label = labelled
    data = [(frames[k : k + 1], label[k : k + 1]) for k in range(3)]
    off = predict(trained, frames[:3])[0].forces - label.forces[:3]
    expected = np.sqrt((off**2).mean(axis=(1, 2)))
    np.testing.assert_allclose(problem.error(trained, data), expected, rtol=1e-4)


def test_models_are_trained_and_restored_through_the_rung(problem, labelled):
    frames, label = labelled
    brief = replace(TRAINING, steps=10, warm_steps=10)
    quick = replace(problem, learner=replace(problem.learner, training=brief))
    data = [(frames[k : k + 1], label[k : k + 1]) for k in range(20)]
    models = quick.train(data, None, 0)
    saved = quick.save(models)
    assert quick.save(quick.restore(saved)) == saved
    assert quick.save(quick.train(data, None, 0)) == saved
    assert quick.save(quick.train(data, models, 0)) != saved
    with pytest.raises(InputError, match="nothing to train on"):
        quick.train([], None, 0)


def test_samples_and_labels_are_bytes_that_depend_on_their_content_alone():
    atoms = molecule("CH3")
    atoms.info.update(charge=1, spin=0)
    for one in (atoms, bulk("Si")):
        frames = Frames.from_ase([one])
        data = encode(frames)
        time.sleep(2.1)  # zip archives hold times to two seconds
        assert encode(decode(data)) == encode(frames) == data
        assert decode(data).composition == frames.composition
    label = Label(np.array([-1.5]), np.ones((1, 2, 3)), np.full((1, 3, 3), np.nan), "engine 1.0")
    again = decode(encode(label))
    assert again.engine == "engine 1.0"
    np.testing.assert_array_equal(again.virial, label.virial)
    assert encode(again) == encode(label)


def test_settings_tell_problems_apart(problem, start):
    assert problem.settings["principle"] == ASECalculator().settings
    moved = replace(problem, structures=(start.with_positions(start.positions + 0.1),))
    assert moved.settings != problem.settings
    charged = replace(problem, structures=(replace(start, charge=np.array([1])),))
    assert charged.settings != problem.settings
    # how it is trained and explored decides no label, nor does progress
    learner = replace(problem.learner, members=3)
    assert replace(problem, learner=learner, progress=print).settings == problem.settings


def test_sizes_follow_from_the_structures():
    assert default_model("deep_potential", [Frames.from_ase([bulk("Si")])]).cutoff_A == 6.0
    water = default_model("deep_potential", [Frames.from_ase([molecule("H2O")])])
    assert (water.cutoff_A, water.species) == (4.0, (1, 8))
    large = default_model("deep_potential", [Frames.from_ase([molecule("C6H6")])])
    assert large.cutoff_A == 5.0
    chosen = default_model("deep_potential", [Frames.from_ase([molecule("H2O")])], cutoff_A=3.0)
    assert chosen.cutoff_A == 3.0


@pytest.mark.slow
def test_validation_measures_the_drift_of_dynamics_at_constant_energy(problem, trained):
    checks = problem.validate(trained, [])
    assert abs(checks["nve_drift_meV_per_atom_ps"]) < 1.0
    assert 0 <= checks["nve_fluctuation_meV_per_atom"] < 5.0
