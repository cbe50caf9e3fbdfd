"""`model_devi.out` holds what DeePMD-kit calls the model deviation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase import Atoms
from deep_potentials import cluster, ensemble_of, random_potential

from kepton.atoms import Frames
from kepton.atoms.neighbors import neighbors
from kepton.errors import InputError
from kepton.potential.model_deviation import HEADER, line, model_deviation
from kepton.potential.molecular_dynamics import Output, Settings, run


@pytest.fixture
def ensemble():
    return ensemble_of(*[random_potential(seed, core=True) for seed in range(3)])


def test_columns_follow_their_definition(ensemble):
    """As deepmd/infer/model_devi.py has it: standard deviations over members."""
    frames = Frames.from_ase([cluster(), cluster()[:6]])
    lists = neighbors(frames, ensemble.cutoff)
    found = model_deviation(ensemble, frames, lists)
    answers = jax.jit(type(ensemble).answers)(ensemble, frames, lists)
    for f, n in enumerate((9, 6)):
        forces = np.linalg.norm(np.std(np.asarray(answers.forces)[:, f, :n], axis=0), axis=-1)
        virial = np.std(np.asarray(answers.virial)[:, f].reshape(3, 9) / n, axis=0)
        expected = [virial.max(), virial.min(), np.linalg.norm(virial) / 3]
        expected += [forces.max(), forces.min(), forces.mean()]
        np.testing.assert_allclose(found[f], expected, rtol=1e-9, atol=1e-14)


def test_lines_are_those_of_lammps():
    assert HEADER == (
        "#       step         max_devi_v         min_devi_v         avg_devi_v"
        "         max_devi_f         min_devi_f         avg_devi_f"
    )
    values = [2.356883e-03, 2.870528e-04, 9.664e-04, 4.666813e-02, 1.863914e-03, 1.194021e-02]
    assert line(20, jnp.array(values)) == (
        "          20       2.356883e-03       2.870528e-04       9.664000e-04"
        "       4.666813e-02       1.863914e-03       1.194021e-02"
    )


def test_dynamics_writes_a_line_a_frame(ensemble, tmp_path):
    start = cluster()[:8]
    start.rattle(0.02, seed=0)
    (tmp_path / "devi.out").write_text("old")
    output = Output(tmp_path / "md.extxyz", tmp_path / "devi.out")
    points = list(run(ensemble, start, Settings(50.0, 0.1, every=2), 4, output))
    table = np.loadtxt(tmp_path / "devi.out")
    assert table.shape == (2, 7)
    assert table[:, 0].tolist() == [2, 4]
    assert (table[:, 4] >= table[:, 6]).all()
    # the deviation of a point is a root mean square over components, never above the largest
    for row, point in zip(table, points):
        assert row[5] / 3**0.5 <= point.deviation <= row[4]


def test_one_member_has_nobody_to_disagree_with(ensemble, tmp_path):
    output = Output(tmp_path / "md.extxyz", tmp_path / "devi.out")
    with pytest.raises(InputError, match="this model has one"):
        next(run(ensemble.alone(0), Atoms("H"), Settings(300.0), 2, output))
    assert not list(tmp_path.iterdir())
