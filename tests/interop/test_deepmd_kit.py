"""Our models in DeePMD-kit and in LAMMPS, and DeePMD-kit's models here: one function everywhere."""

from dataclasses import dataclass, replace
from pathlib import Path

import ase
import jax
import numpy as np
import pytest
from deepmd_side import RANDOM
from peer import Answers, Start, Trajectory, answer, lammps, random_models, run
from structures import cluster, liquid, small_cell

import kepton as package
from command_line import kepton
from kepton.atoms import Frames, concatenate_labels
from kepton.atoms.neighbors import neighbors
from kepton.atoms.units import ACCELERATION, BOLTZMANN
from kepton.dynamics import VelocityVerlet, initial_state, kinetic_energy, simulate
from kepton.potential import Ensemble, TrainConfig, predict
from kepton.potential.deep_potential import DeepPotentialConfig
from kepton.potential.file import save
from kepton.potential.model_deviation import HEADER, model_deviation
from kepton.potential.train import fresh, train
from kepton.principles import ASECalculator

pytestmark = pytest.mark.interop

STEPS = 10
ENERGY, FORCES, VIRIAL = 1e-11, 1e-10, 1e-9
"""Relative; eV/Å; eV: float64 through some thousand operations an atom, found to be 1e-13"""
DRIFT = 1e-11
"""Å, Å/fs: 5 fs of accelerations that differ by 0.01 FORCES, and rounding"""


SETS = {
    "periodic": [liquid(seed) for seed in (100, 101)],
    "isolated": [cluster(seed) for seed in (102, 103)],
    "small cell": [small_cell()],
}
"""Structures with the same atoms in order, by name"""


def agree(exact: Ensemble, answers: Answers) -> None:
    """Energy, forces and virial of our exact nets are those of DeePMD-kit."""
    for name, structures in SETS.items():
        ours, _ = predict(exact, Frames.from_ase(structures))
        theirs = answers[name]
        np.testing.assert_allclose(ours.energy, theirs["energy"], rtol=ENERGY, atol=0)
        np.testing.assert_allclose(ours.forces, theirs["forces"], rtol=0, atol=FORCES)
        np.testing.assert_allclose(ours.virial, theirs["virial"], rtol=0, atol=VIRIAL)
        assert np.abs(theirs["forces"]).max() > 0.1  # there is something to agree on


# ---------------------------------------------------------------- ours, there


@dataclass(frozen=True)
class Exported:
    """Two members of ours on their way: `folder` holds model.kepton, model.000.pb, model.001.pb."""

    folder: Path
    exact: Ensemble

    @property
    def first(self) -> Ensemble:
        """The first member, which moves LAMMPS's atoms."""
        members = self.exact.members
        weights = jax.tree.map(lambda leaf: leaf[:1], members.weights)
        return Ensemble(replace(members, weights=weights))


SIDES = {"one-sided": True, "two-sided": False}


@pytest.fixture(scope="module", params=SIDES.values(), ids=SIDES.keys())
def exported(request, tmp_path_factory) -> Exported:
    """Potentials trained for some steps on a liquid, converted as a user does it."""
    folder = tmp_path_factory.mktemp("exported")
    structures = [liquid(seed, stretch=0.03 + 0.002 * seed) for seed in range(20)]
    principle = ASECalculator()
    labels = [principle(Frames.from_ase([atoms])) for atoms in structures]
    data = Frames.from_ase(structures), concatenate_labels(labels)
    config = DeepPotentialConfig(
        species=(1, 6, 8), embedding=(4, 8), axis=4, fitting=(16, 16), one_sided=request.param
    )
    start = fresh("deep_potential", config, 2, [data], key=0)
    trained = train([data], TrainConfig(steps=200, batch=4), start, key=0)
    save(folder / "model.kepton", trained)
    kepton("convert", "model.kepton", "model.dp", cwd=folder, check=0)
    for name in ("model.000", "model.001"):
        run("dp", "convert-backend", f"{name}.dp", f"{name}.pb", cwd=folder)
    return Exported(folder, package.load(folder / "model.kepton", exact=True))


def test_deepmd_kit_says_of_our_model_what_we_say(exported):
    agree(exported.first, answer(exported.folder / "model.000.pb", SETS))


def test_our_model_comes_back_from_the_file(exported):
    back = package.load(exported.folder / "model.000.dp", exact=True)
    frames = Frames.from_ase(SETS["periodic"])
    there, here = predict(exported.first, frames)[0], predict(back, frames)[0]
    np.testing.assert_allclose(here.energy, there.energy, rtol=ENERGY, atol=0)
    np.testing.assert_allclose(here.forces, there.forces, rtol=0, atol=FORCES)


def begin(atoms: ase.Atoms) -> Start:
    """Atoms at 600 K."""
    rng = np.random.default_rng(0)
    speed = np.sqrt(BOLTZMANN * 600.0 * ACCELERATION / atoms.get_masses())
    return Start(atoms, speed[:, None] * rng.standard_normal((len(atoms), 3)), ACCELERATION)


def ours(potential: Ensemble, start: Start) -> Trajectory:
    """The first steps of our own velocity Verlet."""
    frames = Frames.from_ase([start.atoms])
    key = jax.random.split(jax.random.key(0), 1)
    states = [initial_state(key, potential, frames, start.velocities[None])]
    for _ in range(STEPS):
        state, info = simulate(potential, VelocityVerlet(0.5), states[-1], 1)
        assert not info.broken.any()
        states.append(state)
    return Trajectory(
        positions=np.array([s.frames.positions[0] for s in states]),
        velocities=np.array([s.velocities[0] for s in states]),
        forces=np.array([s.forces[0] for s in states]),
        potential=np.array([float(s.energy[0]) for s in states]),
        kinetic=np.array([float(kinetic_energy(s)[0]) for s in states]),
    )


@pytest.mark.parametrize("ranks", [1, 2])
def test_lammps_takes_the_same_steps_as_we_do(exported, ranks):
    start, pair = begin(liquid(104)), ("pair_style deepmd model.000.pb", "pair_coeff * * O C H")
    there = lammps(start, pair, ("O", "C", "H"), STEPS, ranks, exported.folder)
    here = ours(exported.first, start)
    for name in ("positions", "velocities", "forces"):
        a, b = getattr(here, name), getattr(there, name)
        np.testing.assert_allclose(a, b, rtol=0, atol=FORCES if name == "forces" else DRIFT)
    np.testing.assert_allclose(here.potential, there.potential, rtol=ENERGY, atol=0)
    np.testing.assert_allclose(here.kinetic, there.kinetic, rtol=ENERGY, atol=0)
    # the atoms did move, by far more than the tolerance
    assert np.abs(there.positions[-1] - there.positions[0]).max() > 0.1


def test_lammps_adds_the_core_by_the_lines_in_the_head_of_its_table(exported):
    """Two molecules pushed into each other, so that the repulsion acts."""
    atoms = liquid(105)
    h, o = 2, 4  # of the first and of the second molecule
    assert (atoms.numbers[h], atoms.numbers[o]) == (1, 8)
    towards = atoms.positions[o] - atoms.positions[h]
    atoms.positions[h] = atoms.positions[o] - 0.45 * towards / np.linalg.norm(towards)
    head = (exported.folder / "model.core.table").read_text().splitlines()
    pair = [line.removeprefix("# ") for line in head if line.startswith("# pair_")]
    there = lammps(begin(atoms), pair, ("H", "C", "O"), 0, 1, exported.folder)
    frames = Frames.from_ase([atoms])
    here, _ = predict(exported.first, frames)
    bare, _ = predict(package.load(exported.folder / "model.000.dp", exact=True), frames)
    core = np.abs(here.forces - bare.forces).max()
    assert core > 10.0
    # LAMMPS interpolates linearly in r^2: 2000 points up to 1.7 Å are 1.6e-3 Å apart at 0.45 Å,
    # where F'' < 100 F / Å^2 and V'' = -F' < 10 F / Å, so that F errs by F'' dr^2 / 8 = 3e-5 F
    # and V by 3e-6 F Å
    np.testing.assert_allclose(there.forces[0], here.forces[0], rtol=0, atol=1e-4 * core)
    np.testing.assert_allclose(there.potential, here.energy, rtol=0, atol=1e-5 * core)


def test_lammps_finds_the_deviation_of_our_members(exported):
    start, graphs = begin(liquid(106)), "model.000.pb model.001.pb"
    pair = (f"pair_style deepmd {graphs} out_file devi.out out_freq 1", "pair_coeff * * H C O")
    lammps(start, pair, ("H", "C", "O"), 0, 1, exported.folder)
    printed = (exported.folder / "devi.out").read_text().splitlines()
    assert printed[0].split() == HEADER.split()
    frames = Frames.from_ase([start.atoms])
    deviation = model_deviation(exported.exact, frames, neighbors(frames, exported.exact.cutoff))
    there = np.array(printed[-1].split()[1:], float)
    # printed with seven digits
    np.testing.assert_allclose(there, deviation[0], rtol=1e-6, atol=0)


# ---------------------------------------------------------------- theirs, here


@pytest.fixture(scope="module")
def random(tmp_path_factory) -> tuple[Path, dict[str, Answers]]:
    """A folder with DeePMD-kit's own models, and what it says of them."""
    folder = tmp_path_factory.mktemp("random")
    return folder, random_models(folder, SETS)


@pytest.mark.parametrize("kind", RANDOM)
def test_we_say_of_their_model_what_deepmd_kit_says(random, kind):
    folder, answers = random[0] / kind, random[1][kind]
    agree(package.load(folder / "model.dp", exact=True), answers)
    agree(package.load(folder / "model.yaml", exact=True), answers)
    kepton("convert", "model.dp", "model.kepton", cwd=folder, check=0)
    agree(package.load(folder / "model.kepton", exact=True), answers)
    kepton("convert", "model.kepton", "back.dp", cwd=folder, check=0)
    agree(package.load(folder / "back.dp", exact=True), answers)
