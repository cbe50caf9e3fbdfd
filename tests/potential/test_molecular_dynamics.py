"""Runs streamed to files: what they hold, and what a kill, a full disk or a wrong input does."""

import re
import resource
from contextlib import contextmanager
from dataclasses import replace

import ase.io
import jax
import numpy as np
import pytest
from ase import Atoms
from ase.units import fs
from deep_potentials import cluster, ensemble_of, random_potential
from scipy.io import netcdf_file

from kepton.atoms import Frames
from kepton.atoms.neighbors import neighbors
from kepton.errors import InputError
from kepton.potential import molecular_dynamics
from kepton.potential.ensemble import predict
from kepton.potential.molecular_dynamics import (
    COLUMNS,
    KEEP_EVERY,
    Output,
    Settings,
    check_tf32,
    drift,
    remedy,
    rounding,
    run,
)

NVT = Settings(50.0, 0.1, every=2, seed=4)
NPT = replace(NVT, ensemble="npt", thermostat="nose-hoover", cell="full", pressure_GPa=1.0)
STEPS = 2 * (2 * KEEP_EVERY + 3)


@pytest.fixture(scope="module")
def ensemble():
    return ensemble_of(*[random_potential(seed, core=True) for seed in range(2)])


@pytest.fixture
def start():
    atoms = cluster()[:8]
    atoms.rattle(0.02, seed=0)
    return atoms


@pytest.fixture
def box(start):
    """In a cell that is smaller than the cutoff and no box along x, y, z."""
    start.set_cell([[3.0, 0.1, 0.0], [0.0, 3.1, 0.3], [0.2, 0.0, 3.2]])
    start.pbc = True
    return start


def files(output):
    return [path.read_bytes() for path in (output.trajectory, output.table)]


def test_trajectories_and_the_table_agree(ensemble, box, tmp_path):
    text, binary = Output(tmp_path / "a.extxyz"), Output(tmp_path / "b.nc")
    points = list(run(ensemble, box, NPT, 9, text))
    list(run(ensemble, box, NPT, 9, binary))
    assert [point.step for point in points] == [2, 4, 6, 8, 9]
    rows = np.genfromtxt(text.table, delimiter=",", names=True)
    assert rows.dtype.names == COLUMNS
    frames = ase.io.read(text.trajectory, ":")
    with netcdf_file(binary.trajectory, mmap=False) as file:
        data = {name: variable[:].copy() for name, variable in file.variables.items()}
        assert file.variables["velocities"].scale_factor == pytest.approx(20.455)
    for k, (row, atoms) in enumerate(zip(rows, frames, strict=True)):
        assert row["time_fs"] == pytest.approx(atoms.info["step"] * 0.1)
        assert row["potential_energy_eV"] == pytest.approx(atoms.get_potential_energy())
        assert row["kinetic_energy_eV"] == pytest.approx(atoms.get_kinetic_energy(), rel=1e-4)
        assert row["temperature_K"] == pytest.approx(atoms.get_temperature() * 24 / 21, rel=1e-4)
        assert row["volume_A3"] == pytest.approx(atoms.get_volume(), rel=1e-6)
        density = atoms.get_masses().sum() / atoms.get_volume() * 1.66053907
        assert row["density_g_cm3"] == pytest.approx(density, rel=1e-6)
        assert data["time"][k] == pytest.approx(row["time_fs"] / 1000)
        np.testing.assert_allclose(data["cell_lengths"][k], atoms.cell.lengths(), atol=1e-5)
        np.testing.assert_allclose(data["cell_angles"][k], atoms.cell.angles(), atol=1e-4)
        _, turn = atoms.cell.standard_form()
        np.testing.assert_allclose(data["coordinates"][k] @ turn, atoms.positions, atol=1e-5)
        speeds = data["velocities"][k] * 20.455 / 1000 @ turn
        np.testing.assert_allclose(speeds, atoms.get_velocities() * fs, atol=1e-6)
    # the pressure is that of the volume's derivative, see tests/dynamics; here its size
    assert np.isfinite(rows["pressure_GPa"]).all()
    assert np.ptp(rows["conserved_energy_eV"]) < 1e-2


@pytest.mark.parametrize(("settings", "name"), [(NVT, "md.extxyz"), (NPT, "md.nc")])
def test_a_run_that_is_killed_goes_on_as_if_it_had_not_been(
    ensemble, box, tmp_path, settings, name
):
    whole, parts = Output(tmp_path / name), Output(tmp_path / "parts" / name)
    parts.trajectory.parent.mkdir()
    list(run(ensemble, box, settings, STEPS, whole))
    for frames, restart in ((3, False), (KEEP_EVERY + 4, True), (2, True)):
        going = run(ensemble, box, settings, STEPS, parts, restart)
        for _ in range(frames):
            next(going)
        going.close()
        with parts.trajectory.open("ab") as file, parts.table.open("ab") as table:
            file.write(b"half of a fra")  # a write that was cut short
            table.write(b"3,0.3,")
    list(run(ensemble, box, settings, STEPS, parts, restart=True))
    assert files(parts) == files(whole)
    more = list(run(ensemble, box, settings, STEPS + 4, parts, restart=True))
    assert [point.step for point in more] == [STEPS + 2, STEPS + 4]


@contextmanager
def small_disk(size):
    """Files cannot grow beyond so many bytes."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("name", ["md.extxyz", "md.nc"])
def test_a_disk_that_fills_leaves_whole_frames(ensemble, box, tmp_path, name):
    whole, full = Output(tmp_path / name), Output(tmp_path / f"full-{name}")
    list(run(ensemble, box, NVT, STEPS, whole))
    going = run(ensemble, box, NVT, STEPS, full)
    next(going)
    size = full.trajectory.stat().st_size
    room = (whole.trajectory.stat().st_size - size) // 2 + size
    with small_disk(room), pytest.raises(OSError, match="too large"):
        list(going)
    count = len(full.table.read_text().splitlines()) - 1
    assert 1 < count < STEPS // 2
    if name == "md.nc":
        with netcdf_file(full.trajectory, mmap=False) as file:
            assert len(file.variables["time"][:]) == count
    else:
        assert len(ase.io.read(full.trajectory, ":")) == count
    list(run(ensemble, box, NVT, STEPS, full, restart=True))
    assert files(full) == files(whole)


def test_a_restart_of_something_else_is_refused(ensemble, box, tmp_path):
    output = Output(tmp_path / "md.nc")
    with pytest.raises(InputError, match="to go on from"):
        next(run(ensemble, box, NVT, 4, output, restart=True))
    list(run(ensemble, box, NVT, 4, output))
    before = files(output)
    moved = box.copy()
    moved.positions[0, 0] += 0.01
    other = ensemble_of(random_potential(7, core=True), random_potential(8, core=True))
    for arguments, word in (
        ((ensemble, moved, NVT), "structure"),
        ((other, box, NVT), "model"),
        ((ensemble, box, replace(NVT, temperature_K=60.0)), "temperature_K"),
    ):
        with pytest.raises(InputError, match=word):
            next(run(*arguments, 8, output, restart=True))
    with pytest.raises(InputError, match="has made 4 steps"):
        next(run(ensemble, box, NVT, 4, output, restart=True))
    output.trajectory.write_bytes(b"")
    with pytest.raises(InputError, match="has 0 bytes"):
        next(run(ensemble, box, NVT, 8, output, restart=True))
    assert files(output)[1] == before[1]


@pytest.mark.parametrize(
    ("settings", "name", "words"),
    [
        (NVT, "md.dcd", "ends so"),
        (NVT, "nowhere/md.nc", "no folder"),
        (replace(NVT, thermostat="rescaling", friction_per_fs=0.0), "md.nc", "friction_per_fs"),
        (replace(NVT, ensemble="npt"), "md.nc", "periodic along all three"),
        (replace(NVT, thermostat="nose-hoover", temperature_K=0.0), "md.nc", "above 0 K"),
    ],
)
def test_wrong_settings_touch_no_file(ensemble, start, tmp_path, settings, name, words):
    with pytest.raises(InputError, match=words):
        next(run(ensemble, start, settings, 4, Output(tmp_path / name)))
    assert not list(tmp_path.iterdir())


def test_atoms_that_overlap_through_the_cell_are_named(ensemble, box, tmp_path):
    box.positions[5] = box.positions[2] + box.cell[0] + [0.3, 0, 0]
    with pytest.raises(InputError, match=r"O \(number 2\) and C \(number 5\).* 0\.30 Å"):
        next(run(ensemble, box, NVT, 4, Output(tmp_path / "md.nc")))
    with pytest.raises(InputError, match="has Cl too"):
        next(run(ensemble, Atoms("Cl"), NVT, 4, Output(tmp_path / "md.nc")))


def test_what_explodes_keeps_its_last_good_frame(ensemble, start, tmp_path):
    output = Output(tmp_path / "md.extxyz")
    hot = Settings(3000.0, 5.0, ensemble="nve", every=50)
    points = list(run(ensemble, start, hot, 1000, output))
    assert not points or points[-1].broken
    assert "--timestep-fs 0.5" in remedy(start, 5.0)
    assert "strained" in remedy(start, 0.5)
    assert remedy(Atoms("Au"), 9.0).endswith("2")
    if points:
        assert ase.io.read(output.trajectory, -1).info["step"] == points[-1].step


def test_drift_is_a_trend(tmp_path):
    table = tmp_path / "md.csv"
    time = np.linspace(0, 1000, 50)
    energy = -7.0 + 8.617333e-5 * 4 * 3.0 * time * 1e-6  # 3 K per atom and ns of 4 atoms
    rows = [f"{t},{e:.15g}" for t, e in zip(time, energy)]
    table.write_text("\n".join(["time_fs,conserved_energy_eV", *rows]))
    assert drift(table, 4).startswith("3 ±")


def test_tf32_is_of_gpus_and_of_our_own_engine():
    with pytest.raises(InputError, match="needs a GPU"):
        check_tf32("kepton")
    with pytest.raises(InputError, match="Kepton's own dynamics"):
        check_tf32("lammps")


def test_tf32_rounds_all_products_of_nets(ensemble, start):
    model, frames = ensemble.member(0), Frames.from_ase([start])
    lists = neighbors(frames, ensemble.cutoff)

    def precisions(settings):
        with settings.products():
            program = jax.make_jaxpr(lambda: model.answer(model.describe(frames, lists)).forces)()
        return set(re.findall(r"precision=\((.*?)\)", str(program)))

    assert precisions(NVT) == {"Precision.HIGHEST, Precision.HIGHEST"}
    assert precisions(replace(NVT, tf32=True)) == {"Precision.HIGH, Precision.HIGH"}


def test_what_rounding_costs_is_told(ensemble, start, monkeypatch):
    frames, settings = Frames.from_ase([start]), replace(NVT, tf32=True)
    assert rounding(ensemble, start, settings) == (0.0, 0.0), "a CPU rounds no product"
    here, there = (predict(ensemble.alone(k), frames)[0].forces for k in range(2))
    # stands in for a GPU: what is evaluated a second time is another model
    models = iter((ensemble.alone(0), ensemble.alone(1)))
    evaluated = molecular_dynamics.evaluate
    monkeypatch.setattr(
        molecular_dynamics, "evaluate", lambda _, *given: evaluated(next(models), *given)
    )
    mean, most = rounding(ensemble, start, settings)
    change = there - here
    assert mean == pytest.approx(np.sqrt((change**2).mean()))
    assert most == pytest.approx(np.linalg.norm(change, axis=-1).max())
