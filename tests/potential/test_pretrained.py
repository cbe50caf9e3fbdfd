"""Learners that begin with a pretrained model: the same function, and fewer labels."""

from pathlib import Path

import ase.build
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import command_line
from kepton import config
from kepton.atoms import Frames, Label, read_labelled
from kepton.errors import InputError
from kepton.potential import Recipe
from kepton.potential.ensemble import Ensemble, predict
from kepton.potential.file import read_model, save
from kepton.potential.pretrained import ORGANIC, ORGANIC_ELEMENTS, adapted, read_pretrained

ROOT = Path(__file__).resolve().parents[2]
LEARNER = "cluster_expansion"


def molecule(name):
    return Frames.from_ase([ase.build.molecule(name)])


def test_what_comes_with_kepton_knows_its_elements():
    ensemble, info = read_model(ORGANIC)
    assert set(ensemble.species) == ORGANIC_ELEMENTS
    listed = (ROOT / "pretraining" / "molecules.txt").read_text().split()
    assert info["pretraining"]["molecules"] == len(set(listed)) == len(listed)


@pytest.mark.parametrize("name", ["CH3CH2OH", "CH3COCl", "CH3SH"])
def test_fewer_elements_are_the_same_function(name):
    frames = molecule(name)
    species = tuple(sorted(set(np.asarray(frames.species)[0].tolist())))
    whole, some = read_model(ORGANIC)[0], read_pretrained(ORGANIC, LEARNER, species, 3)
    assert some.species == species
    assert some.size == 3
    whole = Ensemble(whole.member(slice(3)))
    for a, b in zip(predict(whole, frames), predict(some, frames)):
        for one, other in zip(jax.tree.leaves(a), jax.tree.leaves(b)):
            # the same sums of float32, over as many elements as there are
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


def test_energies_are_those_of_new_data_and_forces_as_before():
    frames = Frames.from_ase([ase.build.molecule(name) for name in ("CH4", "C2H6", "CH4")])
    known = read_pretrained(ORGANIC, LEARNER, (1, 6), 4)
    answer = predict(known, frames)[0]
    counts = np.array([[4, 1], [6, 2], [4, 1]])
    shift = counts @ np.array([-13.0, -1000.0])
    label = Label(answer.energy + shift, answer.forces, answer.virial)
    moved = predict(adapted(known, [(frames, label)]), frames)[0]
    np.testing.assert_allclose(moved.energy, label.energy, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(moved.forces, answer.forces)


@pytest.mark.parametrize(
    ("architecture", "species", "members", "words"),
    [
        ("deep_potential", (1, 6), 4, "cluster_expansion"),
        (LEARNER, (1, 14), 4, "does not know Si"),
        (LEARNER, (1, 6), 5, "has 4 members"),
    ],
)
def test_what_cannot_begin_says_why(architecture, species, members, words):
    with pytest.raises(InputError, match=words):
        read_pretrained(ORGANIC, architecture, species, members)


def test_another_architecture_cannot_begin(tmp_path):
    frames = molecule("CH4")
    label = Label(np.zeros(1), np.zeros((1, 5, 3)), np.full((1, 3, 3), np.nan))
    recipe = Recipe.of("deep_potential", [frames], {"fitting": (4,), "embedding": (4, 8)})
    save(tmp_path / "dp.kepton", recipe.fresh([(frames, label)], 0))
    with pytest.raises(InputError, match="no cluster_expansion"):
        read_pretrained(tmp_path / "dp.kepton", LEARNER, (1, 6), 4)


@pytest.fixture
def learner(tmp_path):
    """The learner's recipe of a campaign of a structure, by [model]."""
    pytest.importorskip("tblite", reason="xtb campaigns need the extra xtb")

    def of(model, atoms=None):
        ase.io.write(tmp_path / "start.extxyz", atoms or ase.build.molecule("CH3CH2OH"))
        path = tmp_path / "campaign.toml"
        path.write_text(
            '[system]\nstructure = "start.extxyz"\n[principle]\nkind = "xtb"\nmethod = "gfn1"\n'
            f"[target]\nforce_error = 0.1\n[model]\n{model}\n"
        )
        return config.read(path).problem.learner

    return of


def test_molecules_begin_with_it_by_themselves(learner):
    assert learner("").pretrained == ORGANIC
    assert learner("").settings["pretrained"]
    assert learner("").training.rate < learner('pretrained = "none"').training.rate
    for model in ('pretrained = "none"', "channels = 8", "ensemble_size = 6", "cutoff_A = 4.5"):
        assert learner(model).pretrained is None
    assert learner("", ase.build.molecule("SiH4")).pretrained is None
    assert learner("", ase.build.bulk("NaCl", "rocksalt", 5.6)).pretrained is None


def test_a_file_of_ones_own_is_found_beside_the_campaign(learner, tmp_path):
    save(tmp_path / "own.kepton", read_pretrained(ORGANIC, LEARNER, (1, 6, 8), 2))
    own = learner('pretrained = "own.kepton"\nensemble_size = 2')
    assert own.pretrained == tmp_path / "own.kepton"
    assert own.settings["pretrained"] != learner("").settings["pretrained"]
    for model, words in (
        ('pretrained = "no.kepton"', "no model file"),
        ('pretrained = "organic"\nchannels = 8', "sizes of its own"),
        ('pretrained = "own.kepton"', "has 2 members"),
    ):
        with pytest.raises(InputError, match=words):
            learner(model)


def test_ethanol_which_it_has_not_seen_needs_a_fraction_of_the_labels(shared_data):
    """By another principle, GFN1-xTB, than the one it learnt."""
    paths = [shared_data / "molecules" / f"ethanol_{part}.extxyz" for part in ("pool", "test")]
    pool, test = (read_labelled([path]) for path in paths)
    assert "CCO" not in (ROOT / "pretraining" / "molecules.txt").read_text().split()
    chosen = np.random.default_rng(0).permutation(len(pool[0]))[:24]
    data = pool[0][chosen], pool[1][chosen]
    steps = {"steps": 400, "warm_steps": 400}

    def error(pretrained):
        recipe = Recipe.of(LEARNER, [data[0][:1]], None, steps, 2, pretrained)
        found = recipe.train([data], None, 0)
        off = np.asarray(predict(found, test[0])[0].forces) - test[1].forces
        return float(np.sqrt(np.mean(off**2)))

    assert error(ORGANIC) < 0.5 * error(None)


def test_training_from_data_begins_with_it(shared_data, tmp_path):
    data = shared_data / "molecules" / "ethanol_pool.extxyz"
    order = "train", data, "--model", LEARNER, "--steps", 20, "--ensemble-size", 2
    told = command_line.kepton(
        *order, "--pretrained", "organic", "--out", tmp_path / "a.kepton", cwd=tmp_path, check=0
    )
    assert "trained on" in told.stdout
    model, _ = read_model(tmp_path / "a.kepton")
    known = read_pretrained(ORGANIC, LEARNER, (1, 6, 8), 2)
    element, before = (e.members.weights["element"][0] for e in (model, known))
    assert jnp.abs(element - before).max() < 0.2  # random ones are of size one
    for wrong, words in (
        (("--cutoff-A", 4), "a cutoff of its own"),
        (("--ensemble-size", 5), "has 4 members"),
    ):
        said = command_line.kepton(
            *order, "--pretrained", "organic", "--out", "b.kepton", *wrong, cwd=tmp_path, check=2
        )
        assert words in said.stderr
