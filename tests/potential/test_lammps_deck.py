"""What `--engine lammps` writes."""

import ase.io
import numpy as np
import pytest
from ase import Atoms
from deep_potentials import cluster, ensemble_of, random_potential

from kepton.errors import InputError
from kepton.potential import lammps_deck
from kepton.potential.file import load_ensemble, save
from kepton.potential.lammps_deck import run_deck, write_deck
from kepton.potential.molecular_dynamics import Settings


@pytest.fixture(autouse=True)
def plugin(tmp_path, monkeypatch):
    """Where the plugin would be; it is not there."""
    path = tmp_path / "keptonplugin.so"
    monkeypatch.setattr(lammps_deck, "PLUGIN", path)
    return path


@pytest.fixture
def model(tmp_path):
    ensemble = ensemble_of(*[random_potential(seed, core=True) for seed in range(2)])
    path = tmp_path / "model.kepton"
    save(path, ensemble)
    return path, ensemble


def box():
    atoms = cluster()[:8]
    atoms.set_cell(9.0 * np.eye(3))
    atoms.pbc = True
    return atoms


def test_a_deck_for_the_plugin(model, plugin, tmp_path):
    plugin.touch()
    commands = write_deck(tmp_path / "deck", *model, box(), Settings(300.0, every=5), 70)
    lines = (tmp_path / "deck/in.lammps").read_text().splitlines()
    for line in (
        f"plugin load {plugin}",
        "pair_style kepton model.kepton",
        "pair_coeff * * H C O",
        "fix deviation all pair 5 kepton deviation 1",
        "dump 1 all custom 5 md.dump id type xu yu zu vx vy vz f_deviation",
    ):
        assert line in lines
    assert commands == ["lmp -in in.lammps"]
    assert load_ensemble(tmp_path / "deck/model.kepton")[0].size == 2


def test_a_deck_is_complete(model, tmp_path, monkeypatch):
    settings = Settings(300.0, 0.25, "npt", pressure_GPa=2.0, cell="full", every=5)
    commands = write_deck(tmp_path / "deck", *model, box(), settings, 70)
    lines = (tmp_path / "deck/in.lammps").read_text().splitlines()
    for line in (
        "boundary p p p",
        "change_box all triclinic",
        "pair_style hybrid/overlay deepmd model.000.pb model.001.pb out_file model_devi.out "
        "out_freq 5 table linear 2000",
        "pair_coeff * * deepmd H C O",
        "pair_coeff 1 3 table model.core.table H_O",
        "timestep 0.00025",
        "fix 1 all npt temp 300 300 0.1 tri 20000 20000 1",
        "run 70",
    ):
        assert line in lines
    read = ase.io.read(tmp_path / "deck/start.data", format="lammps-data")
    np.testing.assert_array_equal(read.numbers, box().numbers)
    np.testing.assert_allclose(read.get_all_distances(mic=True), box().get_all_distances(mic=True))
    assert commands == [
        "dp convert-backend model.000.dp model.000.pb",
        "dp convert-backend model.001.dp model.001.pb",
        "lmp -in in.lammps",
    ]
    told = (tmp_path / "deck/README.txt").read_text()
    assert all(command in told for command in commands)
    assert {"model.000.dp", "model.001.dp", "model.core.table"} < {
        path.name for path in (tmp_path / "deck").iterdir()
    }
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not run_deck(tmp_path / "deck", commands)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (Settings(300.0, ensemble="nve"), ["fix 1 all nve"]),
        (Settings(300.0), ["fix 1 all nve", "fix 2 all langevin 300 300 0.1 1"]),
        (Settings(300.0, thermostat="rescaling"), ["fix 2 all temp/csvr 300 300 0.1 1"]),
        (Settings(300.0, thermostat="nose-hoover"), ["fix 1 all nvt temp 300 300 0.1"]),
    ],
)
def test_thermostats_have_their_fixes(model, tmp_path, settings, expected):
    write_deck(tmp_path / "deck", *model, cluster()[:8], settings, 5)
    lines = (tmp_path / "deck/in.lammps").read_text().splitlines()
    assert set(expected) < set(lines)
    assert "boundary m m m" in lines


def test_what_lammps_cannot_run_is_told(model, tmp_path, monkeypatch):
    with pytest.raises(InputError, match="all three cell vectors"):
        write_deck(tmp_path, *model, cluster(), Settings(300.0, ensemble="npt"), 5)
    with pytest.raises(InputError, match="has Cl too"):
        write_deck(tmp_path, *model, Atoms("Cl"), Settings(300.0), 5)
    with pytest.raises(InputError, match="above 0"):
        write_deck(tmp_path, *model, cluster()[:8], Settings(300.0, friction_per_fs=0.0), 5)
    (tmp_path / "lmp").write_text("#!/bin/sh\necho 'ERROR: it cannot'; exit 1\n")
    (tmp_path / "lmp").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    with pytest.raises(InputError, match="ERROR: it cannot"):
        run_deck(tmp_path, ["lmp -in in.lammps"])
