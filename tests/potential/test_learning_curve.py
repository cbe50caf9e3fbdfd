"""The learning curve goes on where it was, and holds no step twice."""

import numpy as np

from kepton.potential.learning_curve import ROWS, LearningCurve
from kepton.potential.train import Point


def point(step, forces=np.nan):
    return Point(step, 0.1, 0.5 * step, 1e-3, 1.0 / step, forces, 1e-3 * forces)


def steps(curve):
    return [p.step for p in curve.points]


def test_a_table_is_read_back_and_continued_from_an_earlier_step(tmp_path):
    first = LearningCurve(tmp_path / "model.csv")
    for step in (10, 20, 30):
        first.add(point(step, 0.25 if step == 20 else np.nan))
    first.write()
    second = LearningCurve(tmp_path / "model.csv", resumed=True)
    assert steps(second) == [10, 20, 30]
    assert second.points[1].forces == 0.25
    assert np.isclose(second.points[1].energy, 2.5e-4)
    assert np.isnan(second.points[2].forces)
    second.add(point(20))
    second.write()
    second.draw()
    assert steps(LearningCurve(tmp_path / "model.csv", resumed=True)) == [10, 20]
    assert steps(LearningCurve(tmp_path / "model.csv")) == []
    assert (tmp_path / "model.png").read_bytes().startswith(b"\x89PNG")


def test_a_table_of_another_kind_is_left_out(tmp_path):
    (tmp_path / "model.csv").write_text("a,b\n1,2\n")
    assert steps(LearningCurve(tmp_path / "model.csv", resumed=True)) == []


def test_of_a_long_training_all_looks_stay_and_some_of_the_rest(tmp_path):
    curve = LearningCurve(tmp_path / "model.csv")
    count = 10 * ROWS
    for step in range(1, count + 1):
        curve.add(point(step, 0.1 if step % 1000 == 0 else np.nan))
    assert len(curve.points) <= ROWS
    assert [p.step for p in curve.points if np.isfinite(p.forces)] == list(
        range(1000, count + 1, 1000)
    )
    assert max(np.diff(steps(curve))) <= 64
