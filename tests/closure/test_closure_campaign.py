"""A campaign of closures from the command line: its files, its report, and the model in use."""

import json

import numpy as np
import pytest
from waves import middles

from command_line import kepton
from kepton import config
from kepton.closure import Case, Fields, closed, load_closure
from kepton.closure.initial_file import read_case
from kepton.errors import InputError

CAMPAIGN = """
[equation]
kind = "bgk"

[initial]
cells = 32
times = [0.05, 0.1]

[target]
moment_error = 0.03
confidence = 0.8
coverage = 0.8

[budget]
labels = 60

[run]
workers = 1
seed_labels = 6
batch_labels = 4

[model]
order = 6
ensemble_size = 2

[train]
steps = 6
warm_steps = 3
batch = 4
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("closures")
    (folder / "bgk.toml").write_text(CAMPAIGN)
    x = 2 * np.pi * middles(40)
    gas = {"density": 1 + 0.3 * np.sin(x), "velocity": 0 * x, "temperature": 1 + 0.2 * np.cos(x)}
    (folder / "gas.json").write_text(json.dumps({name: list(v) for name, v in gas.items()}))
    kepton("run", "bgk.toml", cwd=folder, check=0)
    return folder


def test_what_a_campaign_leaves(folder):
    claims = json.loads((folder / "bgk/certificate.json").read_text())
    assert claims["certified"]
    assert "density, momentum and energy below 0.03" in claims["claim"]
    assert claims["conditions"]["knudsen"] == [1e-3, 10.0]
    assert claims["checks"]["mass_momentum_energy_lost"] < 1e-12
    assert claims["checks"]["boosts_differ_by"] < 1e-10
    with np.load(folder / "bgk/data.npz", allow_pickle=False) as data:
        assert data["initial"].shape[1:] == (3, 32)
        assert data["conserved"].shape[1:] == (3, 2, 32)
        assert set(data["origin"]) >= {"seed", "audit"}
        assert len(data["origin"]) == claims["labels"]
    ensemble, info = load_closure(folder / "bgk/model.kepton")
    assert ensemble.weights.shape == (2, 4, 1, 3)
    assert info["certificate"]["certified"]


def test_the_report_says_what_was_learnt_and_shows_profiles(folder):
    html = (folder / "bgk/report.html").read_text()
    for words in ("Moment closure of the BGK equation", "Certified", "kinetic equation", "Kn = "):
        assert words in html
    assert "Profiles" in html
    assert "http://" not in html.replace("http://www.w3.org", "")
    for words in ("force", "eV/Å", "Molecules", "<script"):
        assert words not in html


def test_the_same_command_resumes_and_status_tells(folder):
    again = kepton("run", "bgk.toml", cwd=folder, check=0)
    assert "labelled" not in again.stdout
    told = kepton("status", "bgk", cwd=folder, check=0).stdout
    assert "certified" in told
    assert "eV" not in told


def test_a_closure_is_solved_from_a_users_initial_data(folder):
    command = ("closure", "solve", "bgk/model.kepton", "gas.json", "--knudsen", "0.5")
    told = kepton(*command, "--time", "0.1", "--out", "out.csv", cwd=folder, check=0)
    assert "deviation" in told.stdout
    table = np.genfromtxt(folder / "out.csv", delimiter=",", names=True)
    case = read_case(folder / "gas.json", 0.5)
    ensemble, _ = load_closure(folder / "bgk/model.kepton")
    known = closed.solve(ensemble.mean, case, [0.1])
    np.testing.assert_allclose(table["density"].mean(), 1.0, rtol=1e-12)
    np.testing.assert_allclose(np.sort(table["density"]), np.sort(known.density[0, 0]), rtol=0.01)
    beware = kepton(*command, "--time", "0.2", "--out", "out.csv", cwd=folder, check=0)
    assert "times up to 0.1" in beware.stderr


def test_a_solution_that_breaks_is_told(folder):
    streams = {"density": [1.0] * 32, "temperature": [0.2] * 32, "boundary": "inflow"}
    streams["velocity"] = [-2.0] * 16 + [2.0] * 16
    (folder / "streams.json").write_text(json.dumps(streams))
    told = kepton(
        "closure", "solve", "bgk/model.kepton", "streams.json", "--knudsen", "10", "--time", "0.1",
        "--out", "no.csv", cwd=folder, check=1,
    )  # fmt: skip
    assert "The solution broke" in told.stderr
    assert not (folder / "no.csv").exists()


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("moment_error = 0.03", "force_error = 0.03", "unknown key 'force_error'"),
        ('kind = "bgk"', 'kind = "boltzman"', "kind = 'boltzman'"),
        ('kind = "bgk"', 'kind = "boltzmann"\nprandtl = 1', "prandtl is not a key of kind"),
        ('kind = "bgk"', 'kind = "boltzmann"\ndegree = 8', "odd number"),
        ('kind = "bgk"', 'kind = "bgk"\ndegree = 9', "degree is not a key of kind"),
        ('kind = "bgk"', 'kind = "bgk"\nvelocity_dimensions = 2', "velocity_dimensions"),
        ('kind = "bgk"', 'kind = "bgk"\nprandtl = 0.7', "Prandtl number of 0.7"),
        ("cells = 32", "cells = 33", "multiple of 4"),
        ("order = 6", "order = 1", "order"),
        ("labels = 60", "labels = 10", "too small for the certificate"),
        ("[model]", "[modell]", "did you mean 'model'"),
        ("[target]\nmoment_error = 0.03", "[target]", "moment_error is missing"),
        ("times = [0.05, 0.1]", "times = [0.1, 0.05]", "increasing"),
    ],
)
def test_mistakes_in_a_campaign_file_are_told(tmp_path, old, new, words):
    assert old in CAMPAIGN
    file = tmp_path / "bgk.toml"
    file.write_text(CAMPAIGN.replace(old, new))
    with pytest.raises(InputError, match=words):
        config.read(file)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"density": [1, 1]}', "velocity is missing"),
        ('{"density": 1, "speed": 2}', "unknown key 'speed'"),
        ('{"density": ["a"], "velocity": [0], "temperature": [1]}', "lists of numbers"),
        ('{"density": [1], "velocity": [0], "temperature": [1]}', "at least 4"),
        ("[]", "each with a list"),
        ("{", "neither TOML nor JSON"),
    ],
)
def test_mistakes_in_initial_data_are_told(tmp_path, text, words):
    file = tmp_path / "gas.json"
    file.write_text(text)
    with pytest.raises(InputError, match=words):
        read_case(file, 0.1)
    with pytest.raises(InputError, match="no file"):
        read_case(tmp_path / "other.toml", 0.1)


def test_initial_data_are_toml_too(tmp_path):
    file = tmp_path / "gas.toml"
    file.write_text(
        "density = [1, 2, 1, 1]\nvelocity = [0, 0, 0, 0]\ntemperature = [1, 1, 1, 1]\n"
        'boundary = "reflecting"\n'
    )
    case = read_case(file, 0.1)
    known = Case.of(Fields(np.array([1.0, 2, 1, 1]), np.zeros(4), np.ones(4)), 0.1, "reflecting")
    np.testing.assert_array_equal(case.initial.density, known.initial.density)
    assert case.boundary == "reflecting"
