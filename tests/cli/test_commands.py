"""Every command, run as a user runs it, on a campaign of seconds."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import ase.io
import numpy as np
import pytest
from ase import Atoms

import kepton as package
from command_line import CAMPAIGN, kepton
from kepton.elt.journal import Journal
from kepton.elt.run import goal_of, replay
from kepton.potential.cluster_expansion import ClusterExpansion
from kepton.potential.deep_potential import DeepPotential


def test_a_certified_campaign_leaves_everything_that_is_promised(workplace):
    out = workplace / "water"
    claims = json.loads((out / "certificate.json").read_text())
    assert claims["certified"]
    assert claims["audits"][-1]["proved_coverage"] >= 0.8
    assert "confidence 80%" in claims["claim"]
    assert claims["conditions"]["temperature_K"] == 400
    assert abs(claims["checks"]["nve_drift_meV_per_atom_ps"]) < 1.0
    assert claims["potential"] == "deep_potential"
    handed, learner = (package.load(out / f"{name}.kepton") for name in ("model", "learner"))
    assert isinstance(handed.members, DeepPotential)
    assert isinstance(learner.members, ClusterExpansion)
    data = ase.io.read(out / "data.extxyz", ":")
    assert len(data) == claims["labels"]
    assert {"seed", "audit"} <= {frame.info["origin"] for frame in data}
    assert (out / "report.html").stat().st_size > 100_000


def test_the_same_command_again_finds_nothing_to_do(workplace):
    before = Journal(workplace / "water" / "campaign.db").events()
    done = kepton("run", "water.toml", cwd=workplace, check=0)
    assert "Certified" in done.stdout
    assert Journal(workplace / "water" / "campaign.db").events() == before


def test_status_and_report(workplace):
    status = kepton("status", "water", cwd=workplace, check=0).stdout
    assert "audit" in status
    assert "nothing: certified" in status
    (workplace / "water" / "report.html").unlink()
    kepton("report", "water", cwd=workplace, check=0)
    assert (workplace / "water" / "report.html").is_file()


def test_md_conserves_energy_and_is_seeded(workplace):
    arguments = ["md", "water/model.kepton", "water.xyz", "--temperature-K", 300, "--steps", 200]
    arguments += ["--ensemble", "nve", "--timestep-fs", 0.25]
    for name in ("a.extxyz", "b.extxyz"):
        kepton(*arguments, "--out", name, cwd=workplace, check=0)
    a, b = (ase.io.read(workplace / name, ":") for name in ("a.extxyz", "b.extxyz"))
    assert len(a) == 20
    assert a[-1].info["step"] == 200
    np.testing.assert_array_equal(a[-1].positions, b[-1].positions)
    total = np.array([atoms.get_total_energy() for atoms in a])
    # velocity Verlet's energy oscillates by (omega dt)^2/8 of the kinetic energy: with
    # omega = 0.7/fs (O-H stretch) and K = 0.12 eV that is 5e-4 eV; files hold 8 digits
    assert np.ptp(total) < 5e-3
    assert a[0].info["force_deviation"] > 0


def test_md_above_the_certified_temperature_warns(workplace):
    arguments = ["md", "water/model.kepton", "water.xyz", "--temperature-K", 900, "--steps", 10]
    done = kepton(*arguments, "--out", "hot.extxyz", cwd=workplace, check=0)
    assert "certified at 400 K" in done.stderr


def test_test_tells_errors_as_a_table_and_as_json(workplace):
    table = kepton("test", "water/model.kepton", "water/data.extxyz", cwd=workplace, check=0)
    assert "forces on O" in table.stdout
    done = kepton(
        "test", "water/model.kepton", "water/data.extxyz", "--json", cwd=workplace, check=0
    )
    errors = json.loads(done.stdout)
    assert errors["forces"]["rmse"] < 0.2
    assert set(errors["forces_by_element"]) == {"H", "O"}
    assert errors["virial_per_atom"] is None


def test_train_from_labelled_data_alone(workplace):
    done = kepton(
        *["train", "water/data.extxyz", "--out", "trained.kepton", "--steps", 300],
        cwd=workplace,
        check=0,
    )
    assert "held out" in done.stdout
    assert package.load(workplace / "trained.kepton").species == (1, 8)
    curve = (workplace / "trained.csv").read_text().splitlines()
    assert curve[0].startswith("step,seconds,learning_rate")
    assert curve[-1].startswith("300,")
    assert (workplace / "trained.png").read_bytes().startswith(b"\x89PNG")
    assert not (workplace / "trained.kepton.checkpoint").exists()


def test_a_potential_is_distilled(workplace):
    """A cluster expansion learns from data alone; a Deep Potential learns from it."""
    kepton(
        *["train", "water/data.extxyz", "--model", "cluster_expansion", "--steps", 300],
        *["--out", "learner.kepton", "--ensemble-size", 2],
        cwd=workplace,
        check=0,
    )
    principle = 'kind = "kepton"\nmodel = "learner.kepton"'
    campaign = CAMPAIGN.replace('kind = "xtb"\nmethod = "gfn1"', principle)
    (workplace / "distil.toml").write_text(campaign)
    done = kepton("run", "distil.toml", cwd=workplace)
    assert done.returncode in (0, 3), done.stderr
    claims = json.loads((workplace / "distil/certificate.json").read_text())
    assert claims["principle"]["kind"] == "kepton"
    assert len(claims["principle"]["sha256"]) == 64
    assert package.load(workplace / "distil/model.kepton").species == (1, 8)


def test_train_within_a_time_limit(workplace):
    """Once its programs are compiled: the first block is done however long it takes."""
    training = ["train", "water/data.extxyz", "--out", "short.kepton", "--ensemble-size", 1]
    kepton(*training, "--steps", 20, cwd=workplace, check=0)
    kepton(*training, "--time-limit-min", 0.3, cwd=workplace, check=0)
    *_, last = (workplace / "short.csv").read_text().splitlines()
    assert float(last.split(",")[1]) < 18.0
    assert package.load(workplace / "short.kepton").size == 1


def test_convert_to_npy_and_back(workplace):
    kepton("convert", "water/data.extxyz", "npy", cwd=workplace, check=0)
    kepton("convert", "npy", "back.extxyz", cwd=workplace, check=0)
    there = ase.io.read(workplace / "water/data.extxyz", ":")
    back = ase.io.read(workplace / "back.extxyz", ":")
    assert len(there) == len(back)
    np.testing.assert_allclose(there[3].get_forces(), back[3].get_forces(), atol=1e-8)


def test_doctor_names_every_principle_and_extra(workplace):
    told = kepton("doctor", cwd=workplace, check=0).stdout
    assert "kernels" in told
    assert all(word in told for word in ("pyscf", "xtb", "ase", "JAX"))


def test_the_calculator_gives_what_the_ensemble_says(workplace):
    potential = package.load(workplace / "water/model.kepton")
    atoms = ase.io.read(workplace / "water.xyz")
    atoms.calc = potential.calculator()
    forces = atoms.get_forces()
    atoms.rattle(0.05, seed=1)
    step = 1e-3
    left, right = atoms.copy(), atoms.copy()
    left.positions[0, 0] -= step
    right.positions[0, 0] += step
    for moved in (left, right):
        moved.calc = potential.calculator()
    slope = (right.get_potential_energy() - left.get_potential_energy()) / (2 * step)
    # float32 nets: energies of a few eV carry 1e-6 eV, over 2e-3 Å
    assert abs(slope + atoms.get_forces()[0, 0]) < 5e-3
    assert atoms.calc.results["force_deviation"].shape == (3,)
    assert forces.shape == (3, 3)
    stranger = Atoms("HCl", [[0, 0, 0], [1.3, 0, 0]], calculator=potential.calculator())
    with pytest.raises(package.InputError, match="knows H, O"):
        stranger.get_potential_energy()


def test_a_budget_that_ends_first_is_told_honestly_and_can_be_raised(workplace, tmp_path):
    shutil.copy(workplace / "water.xyz", tmp_path)
    hopeless = CAMPAIGN.replace("force_error = 0.2", "force_error = 0.0005")
    (tmp_path / "w.toml").write_text(hopeless.replace("labels = 80", "labels = 28"))
    done = kepton("run", "w.toml", cwd=tmp_path, check=3)
    assert "Not certified" in done.stdout
    claims = json.loads((tmp_path / "w" / "certificate.json").read_text())
    assert not claims["certified"]
    assert "labels" in claims["missing"]
    assert package.load(tmp_path / "w" / "model.kepton").size == 2
    (tmp_path / "w.toml").write_text(hopeless.replace("labels = 80", "labels = 32"))
    kepton("run", "w.toml", cwd=tmp_path, check=3)
    more = json.loads((tmp_path / "w" / "certificate.json").read_text())
    assert more["labels"] >= claims["labels"]


def test_killing_it_at_random_moments_changes_nothing(workplace, tmp_path):
    shutil.copy(workplace / "water.xyz", tmp_path)
    (tmp_path / "water.toml").write_text(CAMPAIGN)
    chance = random.Random(7)
    command = [sys.executable, "-m", "kepton.cli", "run", "water.toml"]
    for _ in range(5):
        process = subprocess.Popen(
            command, cwd=tmp_path, stdout=subprocess.DEVNULL, start_new_session=True
        )
        time.sleep(chance.uniform(2.0, 12.0))
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    kepton("run", "water.toml", cwd=tmp_path, check=0)
    states = []
    for folder in (workplace, tmp_path):
        journal = Journal(folder / "water" / "campaign.db")
        states.append(replay(journal, goal_of(journal)))
    for a, b in zip(*(state.measured for state in states), strict=True):
        assert (a.key, a.origin, a.round, a.failure) == (b.key, b.origin, b.round, b.failure)
        assert a.error == pytest.approx(b.error, rel=0, abs=0, nan_ok=True)
    assert [v.errors for v in states[0].verdicts] == [v.errors for v in states[1].verdicts]


HEARS_CTRL_C = (
    "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); "
    "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
)
"""What a shell starts in the background ignores Ctrl-C, and so would its children"""


def test_ctrl_c_is_heard_where_python_ignores_exceptions():
    """It comes while an object is deleted, whose exceptions are never raised."""
    code = """
import os, signal, time, kepton.cli as cli
class Deleted:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)
@cli.app.command()
def wait():
    try:
        Deleted()
        time.sleep(30)
    except KeyboardInterrupt:
        print("heard")
cli.main()
"""
    done = subprocess.run(
        [sys.executable, "-c", HEARS_CTRL_C, "-c", code, "wait"],
        capture_output=True,
        text=True,
        timeout=25,
        check=True,
    )
    assert done.stdout.strip() == "heard"
    assert "Traceback" not in done.stderr


def test_ctrl_c_says_that_nothing_is_lost(workplace, tmp_path):
    shutil.copy(workplace / "water.xyz", tmp_path)
    (tmp_path / "water.toml").write_text(CAMPAIGN.replace("steps = 400", "steps = 40000"))
    process = subprocess.Popen(
        [sys.executable, "-c", HEARS_CTRL_C, "-m", "kepton.cli", "run", "water.toml"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    while "labelled" not in process.stdout.readline():
        assert process.poll() is None
    os.killpg(process.pid, signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert told.startswith("Interrupted.")
    assert "Traceback" not in told
    assert len(Journal(tmp_path / "water" / "campaign.db").outcomes()) == 16


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("kind =", "knid ="), "'knid'"),
        (('"xtb"', '"xbt"'), "did you mean 'xtb'"),
        (("force_error", "force_eror"), "did you mean 'force_error'"),
        (("[explore]", "[explor]"), "did you mean 'explore'"),
        (("water.xyz", "nowhere.xyz"), "nowhere.xyz"),
        (("walkers = 8", "walkers = 0"), "walkers"),
        (("temperature_K = 400", "temperature_K = [600, 300]"), "lowest"),
        (("labels = 80", "labels = 20"), "labels = "),
        (('structure = "water.xyz"', 'structure = "water.xyz"\ncharge = 1'), "spin = 1"),
        (("axis = 4", "axis = 9"), "axis"),
        (
            ("[model]", '[model]\nlearner = "deep_potential"'),
            "channels is not a size of deep_potential",
        ),
        (("[model]", '[model]\nrunner = "ace"'), "runner"),
        (("[model]", '[model]\nlearner = "deep_potentiel"'), "did you mean"),
        (('kind = "xtb"\nmethod = "gfn1"', 'kind = "kepton"'), "model is missing"),
        (
            ('kind = "xtb"\nmethod = "gfn1"', 'kind = "kepton"\nmodel = "no.kepton"'),
            "no model file",
        ),
        (("[system]", "[system"), "not valid TOML"),
        (("gfn1", "gfn7"), "gfn7"),
    ],
)
def test_a_wrong_campaign_file_is_one_paragraph_and_exit_2(workplace, change, words):
    wrong = CAMPAIGN.replace(*change)
    assert wrong != CAMPAIGN
    (workplace / "wrong.toml").write_text(wrong)
    done = kepton("run", "wrong.toml", cwd=workplace, check=2)
    assert words in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (workplace / "wrong").exists()


def test_a_directory_of_another_campaign_is_refused(workplace):
    (workplace / "other.toml").write_text(CAMPAIGN.replace('"gfn1"', '"gfn2"'))
    done = kepton("run", "other.toml", "--out", "water", cwd=workplace, check=2)
    assert "another campaign" in done.stderr
    assert "principle.method" in done.stderr


def test_other_wrong_inputs(workplace):
    (workplace / "broken.kepton").write_bytes(b"not a model")
    (workplace / "empty.xyz").write_text("")
    md = ["md", "water/model.kepton", "empty.xyz"]
    for arguments in (
        ["status", "nowhere"],
        ["report", "nowhere"],
        ["test", "broken.kepton", "water/data.extxyz"],
        ["test", "water/model.kepton", "nowhere.extxyz"],
        ["train", "water.xyz", "--out", "x.kepton"],
        ["train", "water/data.extxyz", "--out", "x.kepton", "--model", "gap"],
        ["convert", "empty.xyz", "npy"],
        [*md, "--temperature-K", 300, "--steps", 5, "--out", "t.extxyz"],
        ["run", "nowhere.toml"],
    ):
        done = kepton(*arguments, cwd=workplace, check=2)
        assert done.stderr.strip(), arguments


COPPER = """
[system]
crystal = "Cu"
atoms = 4

[principle]
kind = "ase"

[target]
force_error = 5.0
confidence = 0.6
coverage = 0.6

[budget]
labels = 40

[explore]
temperature_K = 300
walkers = 4
walk_fs = 50
audit_fs = 50
volume_change = [-0.05, 0.05]
pressure_GPa = [0, 1]

[model]
runner = "none"
channels = 4
cutoff_A = 4.5

[train]
steps = 200

[run]
seed_labels = 8
"""


@pytest.mark.slow
def test_a_crystal_is_validated_beside_its_principle(tmp_path):
    pytest.importorskip("phonopy", reason="needs the extra solids")
    (tmp_path / "copper.toml").write_text(COPPER)
    kepton("run", "copper.toml", cwd=tmp_path, check=0)
    claims = json.loads((tmp_path / "copper" / "certificate.json").read_text())
    assert claims["conditions"]["pressure_GPa"] == [0, 1]
    assert claims["checks"]["stress_error_GPa"] > 0
    told = kepton("validate", "copper", cwd=tmp_path, check=0).stdout
    assert "C44, GPa" in told
    rows = json.loads((tmp_path / "copper" / "validation.json").read_text())
    known = {row["name"]: row["principle"] for row in rows}
    assert known["a_A"] == pytest.approx(3.5898, abs=1e-3)
    assert "Beside the principle" in (tmp_path / "copper" / "report.html").read_text()
    journal = Journal(tmp_path / "copper" / "campaign.db")
    labelled = journal.outcomes()
    kepton("validate", "copper", cwd=tmp_path, check=0)
    assert journal.outcomes() == labelled  # each was paid for once
    (tmp_path / "copper.toml").rename(tmp_path / "moved.toml")
    done = kepton("validate", "copper", cwd=tmp_path, check=2)
    assert "give it by --campaign" in done.stderr
    kepton("validate", "copper", "--campaign", "moved.toml", cwd=tmp_path, check=0)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("atoms = 4", 'surfaces = "11"'), "Miller"),
        (("atoms = 4", 'surfaces = "111"'), "vacuum: it would close"),
        (('crystal = "Cu"\natoms = 4', 'structure = "Cu.xyz"\nvacancies = true'), "none is named"),
        (('kind = "ase"', 'kind = "cp2k"\ncommand = "nowhere"'), "needs the program 'nowhere'"),
    ],
)
def test_crystals_and_programs_that_are_not_there(tmp_path, change, words):
    (tmp_path / "Cu.xyz").write_text("1\n\nCu 0 0 0\n")
    text = COPPER.replace(*change)
    if "structure" in text:
        text = text.replace("volume_change", "# volume_change").replace("pressure", "# pressure")
    (tmp_path / "copper.toml").write_text(text)
    assert words in " ".join(kepton("run", "copper.toml", cwd=tmp_path, check=2).stderr.split())


def test_programs_that_cannot_be_kept_are_no_matter(tmp_path):
    (tmp_path / "file").write_text("no folder")
    code = "import kepton, jax.numpy as jnp; print(jnp.arange(3.0) + 1.0)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"XDG_CACHE_HOME": str(tmp_path / "file")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "[1. 2. 3.]\n"
    assert done.stderr == ""
