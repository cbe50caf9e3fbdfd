"""Model files become other model files, one a member, and say what they cannot hold."""

from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from ase import Atoms
from deep_potentials import PLAIN, cluster, ensemble_of, random_potential

import kepton
from kepton.atoms import Frames
from kepton.errors import InputError
from kepton.potential.conversion import convert_model
from kepton.potential.deepmd_kit import read, write
from kepton.potential.ensemble import predict
from kepton.potential.file import read_model, save
from kepton.potential.lammps import POINTS


@pytest.fixture
def trained(tmp_path):
    """A file with three members in float32, as training writes it."""
    members = ensemble_of(*[random_potential(seed, core=True) for seed in range(3)])
    save(tmp_path / "model.kepton", members.with_dtype(np.float32), {"target": 0.05})
    return tmp_path / "model.kepton"


def test_an_ensemble_goes_to_one_file_a_member(trained):
    folder = trained.parent
    files, remarks = convert_model(trained, folder / "model.dp")
    names = ["model.000.dp", "model.001.dp", "model.002.dp", "model.core.table"]
    assert [path.name for path in files] == names
    assert {path.name for path in folder.iterdir()} == {"model.kepton", *names}
    assert any("0.80 Å" in remark and "model.core.table" in remark for remark in remarks)
    ensemble, _ = read_model(trained)
    for k in range(3):
        found = read(folder / names[k]).member(0)
        for a, b in zip(found.weights["embedding"], ensemble.member(k).weights["embedding"]):
            np.testing.assert_array_equal(a, np.asarray(b, float))


def test_one_member_keeps_the_name_and_comes_back(tmp_path):
    config = replace(PLAIN, one_sided=False)
    write(tmp_path / "a.dp", random_potential(environment=True, config=config))
    assert convert_model(tmp_path / "a.dp", tmp_path / "b.kepton").files == [tmp_path / "b.kepton"]
    assert convert_model(tmp_path / "b.kepton", tmp_path / "c.yaml") == ([tmp_path / "c.yaml"], [])
    assert convert_model(tmp_path / "c.yaml", tmp_path / "d.dp").files == [tmp_path / "d.dp"]
    assert read_model(tmp_path / "b.kepton")[0].members.dtype == np.float64
    assert read_model(tmp_path / "b.kepton")[1] == {"source": "a.dp"}
    frames = Frames.from_ase([cluster()])
    expected = predict(kepton.load(tmp_path / "a.dp", exact=True), frames)[0].forces
    for name in ("b.kepton", "c.yaml", "d.dp"):
        found = predict(kepton.load(tmp_path / name, exact=True), frames)[0].forces
        np.testing.assert_array_equal(found, expected)
    expected = predict(kepton.load(tmp_path / "a.dp"), frames)[0].forces
    found = predict(kepton.load(tmp_path / "b.kepton"), frames)[0].forces
    np.testing.assert_array_equal(found, expected)


def test_a_rough_radial_basis_is_told_of(tmp_path):
    rough = random_potential(config=replace(PLAIN, basis=8))
    save(tmp_path / "rough.kepton", ensemble_of(rough))
    (remark,) = convert_model(tmp_path / "rough.kepton", tmp_path / "rough.dp").remarks
    assert remark.startswith("Kepton evaluates 8 radial functions")


@pytest.mark.parametrize(
    ("source", "target"),
    [("model.kepton", "model.extxyz"), ("model.kepton", "folder"), ("data.extxyz", "a.dp")],
)
def test_names_that_are_not_two_models_are_refused(source, target):
    with pytest.raises(InputError, match=r"give two names that end in \.kepton, \.dp"):
        convert_model(Path(source), Path(target))


# ---------------------------------------------------------------- the table for LAMMPS


def sections(path):
    """(N R lo hi, rows) by name."""
    blocks = path.read_text().split("\n\n")
    heads, found = blocks[0].splitlines(), {}
    assert all(head.startswith("# ") for head in heads)
    for name, rows in zip(blocks[1::2], blocks[2::2]):
        key, numbers = name.splitlines()
        found[key] = numbers.split(), np.array([row.split() for row in rows.splitlines()], float)
    return [head[2:] for head in heads], found


def test_the_table_holds_the_repulsion_of_every_pair(trained):
    convert_model(trained, trained.with_suffix(".dp"))
    _, found = sections(trained.with_name("model.core.table"))
    assert list(found) == ["H_H", "H_C", "H_O", "C_C", "C_O", "O_O"]
    with_core = kepton.load(trained, exact=True)
    statistics = {n: v for n, v in with_core.members.statistics.items() if n != "core"}
    without = replace(with_core, members=replace(with_core.members, statistics=statistics))
    for name, (head, rows) in found.items():
        pair = name.replace("_", "")
        n, lowest, highest = int(head[1]), float(head[3]), float(head[4])
        np.testing.assert_allclose(rows[:, 1], np.linspace(lowest, highest, n), atol=1e-12)
        np.testing.assert_allclose(rows[-1, 2:], 0.0, atol=1e-12)
        some = rows[[n // 3, n // 2, 7 * n // 8]]
        frames = Frames.from_ase([Atoms(pair, [[0, 0, 0], [r, 0, 0]]) for r in some[:, 1]])
        a, b = (predict(potential, frames)[0] for potential in (with_core, without))
        np.testing.assert_allclose(a.energy - b.energy, some[:, 2], rtol=1e-9, atol=1e-9)
        forces = (a.forces - b.forces)[:, 1, 0]
        np.testing.assert_allclose(forces, some[:, 3], rtol=1e-9, atol=1e-9)
        assert float(head[6]) == pytest.approx(np.gradient(rows[:, 3], rows[:, 1])[0], rel=0.05)


def test_the_head_of_the_table_says_how_to_use_it(trained):
    convert_model(trained, trained.with_suffix(".dp"))
    heads, found = sections(trained.with_name("model.core.table"))
    graphs = "model.000.pb model.001.pb model.002.pb"
    assert f"pair_style hybrid/overlay deepmd {graphs} table linear {POINTS}" in heads
    assert "pair_coeff * * deepmd H C O" in heads
    assert "pair_coeff 1 3 table model.core.table H_O" in heads
    assert len([head for head in heads if " table model" in head]) == len(found)
    assert jax.tree.leaves(found)
