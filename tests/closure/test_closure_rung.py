"""What the rung tells the loop, and the loop on it."""

import json
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from waves import tube

from kepton.closure import closed
from kepton.closure.boltzmann import Boltzmann
from kepton.closure.closure import Closure
from kepton.closure.difference import broken
from kepton.closure.equation import Kinetic
from kepton.closure.file import ARCHITECTURE, from_bytes, load_closure, to_bytes
from kepton.closure.initial import InitialData
from kepton.closure.rung import EXPLORED, ClosureProblem
from kepton.closure.train import Training
from kepton.elt import Failure, Goal, Journal, Problem, run
from kepton.errors import InputError
from kepton.model_file import pack

PROBLEM = ClosureProblem(
    Kinetic(),
    InitialData(cells=32),
    times=(0.05, 0.1),
    order=6,
    members=2,
    training=Training(steps=6, warm_steps=3, batch=4),
)


@pytest.fixture(scope="module")
def models():
    return Closure.fresh(6, 2, 0)


def test_the_rung_is_a_problem():
    assert isinstance(PROBLEM, Problem)
    PROBLEM.check()
    pickle.loads(pickle.dumps(PROBLEM.label))
    json.dumps(PROBLEM.settings)


def test_samples_and_labels_are_bytes_and_back():
    case = PROBLEM.seed(1, 0)[0]
    label = PROBLEM.label(case)
    for value in (case, label):
        data = PROBLEM.encode(value)
        assert PROBLEM.encode(PROBLEM.decode(data)) == data
    back = PROBLEM.decode(PROBLEM.encode(label))
    np.testing.assert_array_equal(back.conserved.energy, label.conserved.energy)


def test_models_are_bytes_and_back(models, tmp_path):
    np.testing.assert_array_equal(PROBLEM.restore(PROBLEM.save(models)).weights, models.weights)
    file = tmp_path / "model.kepton"
    file.write_bytes(to_bytes(models, {"a": 1}))
    assert load_closure(file)[1] == {"a": 1}
    for equation in (Boltzmann(7), Kinetic(3, 2 / 3)):
        monatomic = Closure.fresh(6, 2, 0, equation)
        back, _ = from_bytes(to_bytes(monatomic, {}))
        assert back.equation == equation
        np.testing.assert_array_equal(back.weights, monatomic.weights)
    other = to_bytes(Closure(np.zeros((2, 4, 1, 5))), {})
    with pytest.raises(InputError, match="1 or 3 dimensions"):
        from_bytes(to_bytes(Closure(monatomic.weights, Kinetic(2)), {}))
    for data in (b"", b"nonsense" * 20, file.read_bytes()[:-8], other):
        with pytest.raises(InputError, match="not the file of a closure"):
            from_bytes(data)
    with pytest.raises(InputError, match="no model file"):
        load_closure(tmp_path / "other.kepton")


def test_files_from_before_equations_were_in_them_are_read(models):
    header = {"architecture": ARCHITECTURE, "info": {}}
    back, _ = from_bytes(pack({"weights": np.ascontiguousarray(models.weights[:, :, 0])}, header))
    assert back.equation == Kinetic()
    np.testing.assert_array_equal(back.weights, models.weights)


def test_the_first_samples_are_those_on_which_untrained_members_disagree():
    fresh, drawn = Closure.fresh(6, 2, 7), PROBLEM.initial.draw(EXPLORED, 7)
    deviation = PROBLEM.deviation(fresh, drawn)
    first = [PROBLEM.encode(case) for case in PROBLEM.seed(3, 7)]
    assert len(set(first)) == 3
    assert first[0] == PROBLEM.encode(drawn[np.argmax(deviation)])
    ranks = [[PROBLEM.encode(case) for case in drawn].index(one) for one in first]
    assert deviation[ranks].min() > np.median(deviation)


def test_exploration_is_deterministic_and_its_deviation_that_of_the_samples(models):
    a, b = (PROBLEM.explore(models, [], 1e-2, 5) for _ in range(2))
    assert len(a.samples) == len(a.visited) == EXPLORED
    np.testing.assert_array_equal(a.deviation, b.deviation)
    np.testing.assert_allclose(
        PROBLEM.deviation(models, a.samples[:3]), a.deviation[:3], rtol=1e-10
    )
    same = Closure(np.stack([models.weights[0]] * 2))
    assert PROBLEM.deviation(same, a.samples[:3]).max() < 1e-14
    other = PROBLEM.explore(models, [], 1e-2, 6)
    assert PROBLEM.encode(other.samples[0]) != PROBLEM.encode(a.samples[0])


def test_a_broken_solution_has_no_finite_error_and_is_a_failed_draw(models):
    case = tube(32, 10.0, (1.0, -2.0, 0.2), (1.0, 2.0, 0.2))
    bare = Closure(np.stack([Closure.none(4).weights] * 2))
    assert broken(closed.solve(bare.mean, case, PROBLEM.times)).all()
    assert np.isinf(PROBLEM.deviation(bare, [case])).all()
    assert np.isinf(PROBLEM.error(bare, [(case, PROBLEM.label(case))])).all()
    draws = PROBLEM.audit(models, 5, 0)
    assert len(draws) == 5
    assert not any(isinstance(draw, Failure) for draw in draws)


def test_the_class_is_what_it_says():
    low, high = 1 - 0.5, 1 + 0.5
    cases = InitialData(cells=32).draw(60, 0)
    for case in cases:
        rho, u, theta = case.initial
        assert low <= rho.min() <= rho.max() <= high
        assert low <= theta.min() <= theta.max() <= high
        assert np.abs(u).max() <= 0.3
    knudsen = np.log10([case.knudsen[0] for case in cases])
    assert -3 <= knudsen.min() < -2 < 0 < knudsen.max() <= 1
    steepest = [np.abs(np.diff(case.initial.density)).max() for case in cases]
    assert 0.2 < np.mean(np.array(steepest) > 0.15) < 0.9  # some have jumps, some have none


def test_features_do_not_see_a_shift(models):
    case = PROBLEM.seed(1, 3)[0]
    rolled = type(case.initial)(*(np.roll(part, 5, axis=-1) for part in case.initial))
    shifted = type(case)(rolled, case.knudsen, case.outside, case.boundary)
    a, b = PROBLEM.features(models, [case, shifted])
    np.testing.assert_allclose(a, b, atol=1e-12)


def test_the_loop_certifies(tmp_path):
    goal = Goal(target=0.03, confidence=0.8, coverage=0.8, labels=60, seed_labels=6, batch_labels=4)
    journal = Journal(tmp_path / "campaign.db", PROBLEM.settings)
    result = run(PROBLEM, goal, journal, lambda: ThreadPoolExecutor(1), 1)
    assert result.stop.certified
    fresh = [(case, PROBLEM.label(case)) for case in PROBLEM.initial.draw(20, 99)]
    assert np.mean(PROBLEM.error(result.models, fresh) < goal.target) > 0.8
    checks = PROBLEM.validate(result.models, [])
    assert checks["mass_momentum_energy_lost"] < 1e-12
    journal.close()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"equation": Kinetic(2)}, "1 or 3 dimensions"),
        ({"equation": Kinetic(1, 2 / 3)}, "in one it is 1"),
        ({"times": (0.2, 0.1)}, "increasing"),
        ({"order": 2}, "order"),
        ({"initial": InitialData(kinds=("wave",))}, "did you mean 'waves'"),
        ({"initial": InitialData(cells=30)}, "multiple of 4"),
        ({"initial": InitialData(knudsen=(1.0, 0.1))}, "in this order"),
    ],
)
def test_problems_that_cannot_be_set_are_refused(change, words):
    with pytest.raises(InputError, match=words):
        ClosureProblem(**{"equation": Kinetic(), "initial": InitialData()} | change).check()
