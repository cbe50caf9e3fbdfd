"""What Kepton writes for DeePMD-kit is the same function, or is refused in a sentence."""

from dataclasses import replace

import jax
import numpy as np
import pytest
from deep_potentials import PLAIN, cluster, energy_of, random_potential

import kepton
from kepton.atoms import Frames
from kepton.errors import InputError
from kepton.potential.deepmd_kit import read, write
from kepton.potential.deepmd_kit.writing import tree_of
from kepton.potential.ensemble import Ensemble, predict
from kepton.potential.file import read_model, save

ROUNDING = 1e-11
"""eV and eV/Å: energies of some 10 eV, rounded to 2e-16, through some thousand operations"""

KINDS = {
    "one-sided": PLAIN,
    "two-sided": replace(PLAIN, one_sided=False),
    "other activations": replace(PLAIN, activation=("silut:0.5", "softplus")),
}


def without_core(potential):
    """The same potential where no two atoms are near: what a file holds."""
    statistics = {name: v for name, v in potential.statistics.items() if name != "core"}
    return replace(potential, statistics=statistics)


def exact(potential):
    weights = jax.tree.map(lambda matrix: matrix[None], potential.weights)
    alone = replace(potential, weights=weights, exact=True)
    return Ensemble(replace(alone, config=replace(alone.config, basis=0)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("suffix", [".dp", ".yaml"])
def test_a_trained_potential_is_the_same_function_when_it_is_read_again(kind, suffix, tmp_path):
    """Scales, means and normalisation of the descriptor go into the weights."""
    potential = random_potential(steps=True, core=True, config=KINDS[kind])
    path, frames = tmp_path / f"model{suffix}", Frames.from_ase([cluster()])
    write(path, potential)
    expected = predict(exact(without_core(potential)), frames)[0]
    found = predict(kepton.load(path, exact=True), frames)[0]
    for name in ("energy", "forces", "virial"):
        a, b = getattr(found, name), getattr(expected, name)
        np.testing.assert_allclose(a, b, rtol=0, atol=ROUNDING)
    assert energy_of(tree_of(potential), cluster()) == pytest.approx(
        float(found.energy[0]), abs=ROUNDING
    )


def test_there_is_room_for_more_neighbours_than_in_the_data(tmp_path):
    potential = random_potential(core=True)
    write(tmp_path / "model.dp", potential)
    again = read(tmp_path / "model.dp").member(0)
    np.testing.assert_array_equal(again.statistics["selected"], [16, 12, 8])
    np.testing.assert_array_equal(potential.statistics["selected"], [12, 8, 4])


@pytest.mark.parametrize("environment", [False, True])
@pytest.mark.parametrize("suffix", [".dp", ".yaml"])
def test_a_model_of_deepmd_kit_comes_back_bit_for_bit(environment, suffix, tmp_path):
    """File to .kepton to file: the same weights, the same answers."""
    config = replace(PLAIN, one_sided=False)
    write(tmp_path / "a.dp", random_potential(steps=True, environment=environment, config=config))
    save(tmp_path / "b.kepton", read(tmp_path / "a.dp"))
    (middle, _) = read_model(tmp_path / "b.kepton")
    write(tmp_path / f"c{suffix}", middle.member(0))
    first, last = read(tmp_path / "a.dp"), read(tmp_path / f"c{suffix}")
    assert first.members.config == last.members.config
    names = set(first.members.statistics) - {"basis_start"}
    for name in names:
        np.testing.assert_array_equal(first.members.statistics[name], last.members.statistics[name])
    for a, b in zip(jax.tree.leaves(first.members.weights), jax.tree.leaves(last.members.weights)):
        np.testing.assert_array_equal(a, b)
    frames = Frames.from_ase([cluster()])
    for path in ("b.kepton", f"c{suffix}"):
        found = predict(kepton.load(tmp_path / path, exact=True), frames)[0]
        expected = predict(kepton.load(tmp_path / "a.dp", exact=True), frames)[0]
        np.testing.assert_array_equal(found.energy, expected.energy)
        np.testing.assert_array_equal(found.forces, expected.forces)


def test_the_same_potential_gives_the_same_bytes(tmp_path):
    for name in ("a.dp", "b.dp", "a.yaml", "b.yaml"):
        write(tmp_path / name, random_potential())
    assert (tmp_path / "a.dp").read_bytes() == (tmp_path / "b.dp").read_bytes()
    assert (tmp_path / "a.yaml").read_bytes() == (tmp_path / "b.yaml").read_bytes()
    assert not list(tmp_path.glob("*unfinished"))


def test_excluded_pairs_are_written(tmp_path):
    config = replace(PLAIN, excluded=((1, 8), (6, 6), (8, 1)))
    write(tmp_path / "model.dp", random_potential(config=config))
    assert tree_of(random_potential(config=config))["model"]["descriptor"]["exclude_types"] == [
        [0, 2],
        [1, 1],
    ]
    assert read(tmp_path / "model.dp").members.config.excluded == config.excluded


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (replace(PLAIN, fitting=(10, 20)), "from 10 to 20 channels"),
        (replace(PLAIN, fitting=(24, 24)), "from 24 to 24 channels"),
        (replace(PLAIN, fitting=(48, 10)), "from 24 to 48 channels"),
        (replace(PLAIN, excluded=((1, 8),)), "one alone does not see the other"),
    ],
)
def test_what_deepmd_kit_would_take_in_two_ways_is_refused(config, words, tmp_path):
    for core in (False, True):
        with pytest.raises(InputError, match=words):
            write(tmp_path / "model.dp", random_potential(core=core, config=config))
    assert not list(tmp_path.iterdir())


def test_other_suffixes_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"ends in \.dp or \.yaml or \.yml"):
        write(tmp_path / "model.pb", random_potential())
