"""`pair_style kepton` in LAMMPS against Kepton's own engine."""

from dataclasses import dataclass
from pathlib import Path

import ase
import ase.io
import jax
import numpy as np
import pytest
from ase.build import molecule
from liquids import EVERY, PIECE, PIECES, STEP, measured
from peer import Start, data_file, lammps, run
from structures import cluster, liquid, small_cell

import kepton as package
from command_line import kepton
from kepton.atoms import Frames, concatenate_labels
from kepton.atoms.units import ACCELERATION, BOLTZMANN
from kepton.dynamics import Langevin, VelocityVerlet, initial_state, simulate
from kepton.dynamics.state import kinetic_energy
from kepton.potential import lammps_deck, predict
from kepton.potential.deep_potential import DeepPotentialConfig
from kepton.potential.file import save, to_bytes
from kepton.potential.molecular_dynamics import Settings
from kepton.potential.train import fresh
from kepton.principles import ASECalculator

pytestmark = pytest.mark.interop

BAR = 1.6021765e6
"""bar of 1 eV/Å^3, in LAMMPS's units metal (src/update.cpp)"""
SINGLE = 2e-5
"""Largest difference over the largest value, as of kernel and XLA in tests/potential: some thousand
operations in float32, each rounded by 6e-8, on either side"""
BASIS = 1e-4
"""The same of energies of atoms by the radial basis and by the nets: `basis.TOLERANCE` is 1e-5 of
what one neighbour adds"""


@dataclass(frozen=True)
class Told:
    """What LAMMPS says of a structure: eV, eV/Å, (3, 3) eV, eV an atom, eV/Å an atom."""

    energy: float
    forces: np.ndarray
    virial: np.ndarray
    atomic: np.ndarray
    deviation: np.ndarray


@pytest.fixture(scope="module")
def plugin(tmp_path_factory) -> Path:
    """The plugin, compiled by the command that a user gives."""
    pytest.importorskip("lammps", reason="`make test-interop` installs LAMMPS")
    folder = tmp_path_factory.mktemp("plugin")
    done = kepton("lammps", "plugin", "--out", "keptonplugin.so", cwd=folder, check=0)
    assert f"plugin load {folder}/keptonplugin.so" in done.stdout
    return folder / "keptonplugin.so"


@pytest.fixture(scope="module")
def organic(tmp_path_factory) -> Path:
    """The file of three members for H, C and O, with random weights and statistics of a liquid."""
    structures = [liquid(seed) for seed in range(6)]
    principle = ASECalculator()
    labels = [principle(Frames.from_ase([atoms])) for atoms in structures]
    data = Frames.from_ase(structures), concatenate_labels(labels)
    config = DeepPotentialConfig((1, 6, 8), embedding=(4, 8), axis=4, fitting=(16, 16))
    path = tmp_path_factory.mktemp("organic") / "model.kepton"
    save(path, fresh("deep_potential", config, 3, [data], key=0))
    return path


@pytest.fixture(scope="module")
def imported(shared_data, tmp_path_factory) -> Path:
    """A model of DeePMD-kit for water, as a .kepton file."""
    folder = tmp_path_factory.mktemp("imported")
    source = shared_data / "deepmd_models/one_side/model.dp"
    kepton("convert", source, "model.kepton", cwd=folder, check=0)
    return folder / "model.kepton"


def standard(atoms: ase.Atoms) -> ase.Atoms:
    """The same structure turned so that its cell is lower triangular; an isolated one in a box."""
    turned = atoms.copy()
    if not atoms.pbc.any():
        turned.set_cell(np.diag(np.ptp(atoms.positions, axis=0) + 30.0))
        turned.center()
        return turned
    turned.set_cell(atoms.cell.standard_form()[0], scale_atoms=True)
    return turned


def close_pair() -> ase.Atoms:
    """A liquid, a hydrogen and an oxygen of two molecules so near that the core acts."""
    atoms = liquid(105)
    h, o = 2, 4
    assert (atoms.numbers[h], atoms.numbers[o]) == (1, 8)
    towards = atoms.positions[o] - atoms.positions[h]
    atoms.positions[h] = atoms.positions[o] - 0.45 * towards / np.linalg.norm(towards)
    return atoms


def water(shared_data: Path) -> ase.Atoms:
    """The first of the frames: 192 atoms in a cube."""
    from kepton.atoms.files import read_labelled

    frames, _ = read_labelled([shared_data / "water/data_0"])
    return frames[:1].to_ase()[0]


def script(plugin: Path, pair: list[str], boundary: str = "p p p") -> list[str]:
    return [
        *("units metal", "atom_style atomic", f"boundary {boundary}", "box tilt large"),
        *("read_data start.data", f"plugin load {plugin}", *pair),
    ]


def written(folder: Path, lines: list[str], atoms: ase.Atoms, types) -> None:
    start = Start(atoms, np.zeros_like(atoms.positions), ACCELERATION)
    (folder / "start.data").write_text(data_file(start, types))
    (folder / "in.lammps").write_text("\n".join(lines) + "\n")


def asked(
    plugin: Path, pair: list[str], atoms: ase.Atoms, types, folder: Path, ranks=1, more=()
) -> Told:
    """What LAMMPS says of a structure in standard form."""
    parts = [f"c_pressure[{k}]" for k in range(1, 7)]
    lines = [
        *script(plugin, pair, "p p p" if atoms.pbc.any() else "f f f"),
        *("compute atomic all pe/atom", "compute pressure all pressure NULL pair", *more),
        "fix deviation all pair 1 kepton deviation 1",
        f"thermo_style custom step pe vol {' '.join(parts)}",
        "thermo_modify format float %.17g norm no",
        "dump 1 all custom 1 once.dump id fx fy fz c_atomic f_deviation",
        *("dump_modify 1 sort id format float %.17g", "run 0"),
    ]
    written(folder, lines, atoms, types)
    table = run("mpirun", "-np", ranks, "lmp", "-in", "in.lammps", cwd=folder).splitlines()
    first = next(k for k, line in enumerate(table) if line.split()[:1] == ["Step"]) + 1
    _, energy, volume, xx, yy, zz, xy, xz, yz = map(float, table[first].split())
    virial = np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]]) * volume / BAR
    rows = [line.split() for line in (folder / "once.dump").read_text().splitlines()]
    dumped = np.array([row for row in rows[9:] if len(row) == 6], float)
    assert len(dumped) == len(atoms)
    return Told(energy, dumped[:, 1:4], virial, dumped[:, 4], dumped[:, 5])


def near(found, expected, size=None):
    size = np.abs(expected).max() if size is None else size
    np.testing.assert_allclose(found, expected, rtol=0, atol=SINGLE * size)


def agree(told: Told, model: Path, atoms: ase.Atoms) -> None:
    """LAMMPS says what the engine says; sizes are those of what is added up."""
    ensemble = package.load(model)
    label, deviation = predict(ensemble, Frames.from_ase([atoms]))
    scale = float(ensemble.members.statistics["scale"])
    near(told.energy, label.energy[0], len(atoms) * scale)
    np.testing.assert_allclose(told.atomic.sum(), told.energy, rtol=1e-12)
    near(told.forces, label.forces[0])
    near(told.virial, label.virial[0], max(np.abs(label.virial).max(), np.abs(label.forces).max()))
    near(told.deviation, deviation[0], np.abs(label.forces).max())
    assert np.abs(told.forces).max() > 0.1  # there is something to agree on
    if ensemble.size > 1:
        assert deviation.max() > 0.01


STRUCTURES = {
    "liquid": lambda: liquid(100),
    "core": close_pair,
    "small cell": small_cell,
    "cluster": lambda: cluster(102),
    "molecule in a box": lambda: molecule("CH3OH", vacuum=6.0, pbc=True),
}


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("name", STRUCTURES)
def test_lammps_says_what_the_engine_says(plugin, organic, tmp_path, name, ranks):
    """Three elements in another order, three members; cells smaller than the cutoff too."""
    atoms, types = standard(STRUCTURES[name]()), ("O", "C", "H")
    pair = [f"pair_style kepton {organic}", f"pair_coeff * * {' '.join(types)}"]
    agree(asked(plugin, pair, atoms, types, tmp_path, ranks), organic, atoms)


@pytest.mark.parametrize("ranks", [1, 2])
def test_water_by_an_imported_model(plugin, imported, shared_data, tmp_path, ranks):
    """One member, 192 atoms."""
    atoms = water(shared_data)
    pair = [f"pair_style kepton {imported}", "pair_coeff * * H O"]
    told = asked(plugin, pair, atoms, ("H", "O"), tmp_path, ranks)
    agree(told, imported, atoms)
    assert not told.deviation.any()


def test_atomic_energies_are_those_of_deepmd_kit(plugin, imported, shared_data, tmp_path):
    """Of exact nets in float64; both count the element's bias."""
    path = shared_data / "deepmd_models/one_side/reference.npz"
    with np.load(path) as reference:
        case = next(key.partition(".")[0] for key in reference if "periodic" in key)
        held = {name: reference[f"{case}.{name}"][0] for name in ("coords", "cells", "atom_energy")}
        types = reference[f"{case}.types"]
    names = ("O", "H")
    atoms = ase.Atoms(
        [names[t] for t in np.atleast_2d(types)[0]],
        held["coords"].reshape(-1, 3),
        cell=held["cells"].reshape(3, 3),
        pbc=True,
    )
    pair = [f"pair_style kepton {imported}", "pair_coeff * * O H"]
    told = asked(plugin, pair, standard(atoms), names, tmp_path)
    expected = held["atom_energy"].ravel()
    np.testing.assert_allclose(told.atomic, expected, rtol=0, atol=BASIS * np.ptp(expected))


@pytest.mark.parametrize("way", ["hybrid/overlay", "without f dot r"])
def test_other_ways_to_the_virial(plugin, organic, tmp_path, way):
    """As a part of a hybrid, and where LAMMPS wants it pair by pair."""
    atoms, types = standard(close_pair()), ("H", "C", "O")
    pair = {
        "hybrid/overlay": [
            f"pair_style hybrid/overlay kepton {organic} zero 5.0",
            *("pair_coeff * * kepton H C O", "pair_coeff * * zero"),
        ],
        "without f dot r": [
            f"pair_style kepton {organic}",
            *("pair_coeff * * H C O", "pair_modify nofdotr"),
        ],
    }[way]
    agree(asked(plugin, pair, atoms, types, tmp_path, ranks=2), organic, atoms)


def test_the_mean_of_the_members_moves_the_atoms(plugin, organic, tmp_path):
    """Ten steps on two ranks, with more neighbours in the list than are within reach."""
    rng, atoms = np.random.default_rng(0), standard(liquid(104, stretch=0.02))
    speed = np.sqrt(BOLTZMANN * 600.0 * ACCELERATION / atoms.get_masses())
    start = Start(atoms, speed[:, None] * rng.standard_normal((len(atoms), 3)), ACCELERATION)
    pair = [f"plugin load {plugin}", f"pair_style kepton {organic}", "pair_coeff * * O C H"]
    there = lammps(start, pair, ("O", "C", "H"), 10, 2, tmp_path)
    ensemble, frames = package.load(organic), Frames.from_ase([atoms])
    key = jax.random.split(jax.random.key(0), 1)
    state = initial_state(key, ensemble, frames, start.velocities[None])
    state, info = simulate(ensemble, VelocityVerlet(0.5), state, 10)
    assert not info.broken.any()
    near(there.forces[-1], np.asarray(state.forces[0]))
    moved = np.abs(there.positions[-1] - there.positions[0]).max()
    assert moved > 0.05
    np.testing.assert_allclose(
        there.positions[-1], state.frames.positions[0], rtol=0, atol=SINGLE * moved
    )


def test_energy_is_conserved(plugin, imported, shared_data, tmp_path):
    """Water for 0.1 ps at 0.25 fs, lists made anew on the way.

    Velocity Verlet conserves energy but for a ripple of (omega dt)^2 / 8 = 4e-3 of what moves in
    the fastest vibration (3700 / cm, omega dt = 0.17): of 3/2 k T an atom at 300 K, 0.04 eV.
    """
    atoms, steps = water(shared_data), 400
    lines = [
        *script(plugin, [f"pair_style kepton {imported}", "pair_coeff * * H O"]),
        *("velocity all create 300 1", "timestep 0.00025", "fix 1 all nve", "neighbor 0.3 bin"),
        *("thermo_style custom step etotal ke", "thermo 5"),
        *("thermo_modify format float %.12g norm yes", f"run {steps}"),
    ]
    written(tmp_path, lines, atoms, ("H", "O"))
    printed = run("lmp", "-in", "in.lammps", cwd=tmp_path)
    table = [line.split() for line in printed.splitlines()]
    first = next(k for k, row in enumerate(table) if row[:1] == ["Step"]) + 1
    rows = np.array(table[first : first + steps // 5 + 1], float)
    total, kinetic = rows[:, 1], rows[:, 2]
    assert "Neighbor list builds = 0" not in printed
    assert np.ptp(kinetic) > 5e-3  # eV an atom: energy does go back and forth
    assert np.ptp(total) < 4e-3 * 0.04 * 4


@pytest.mark.slow
def test_structure_and_diffusion_are_those_of_lammps(plugin, shared_data, tmp_path):
    """20 ps at the same energy, begun at the same point, by Kepton's engine and by LAMMPS.

    The two part within a picosecond, so that they are independent samples of one ensemble. A
    difference of means of 10 pieces, over its error, squared, is 18 / 16 on average (Student's t of
    18 degrees of freedom). Bins of g(r) are far from independent; twice that is allowed for their
    mean, and 4 errors for a single quantity.
    """
    data = [shared_data / f"water/data_{k}" for k in range(3)]
    order = ("--ensemble-size", "1", "--steps", "2000", "--out", "water.kepton")
    kepton("train", *data, *order, cwd=tmp_path, check=0)
    model = tmp_path / "water.kepton"
    field, frames = package.load(model), Frames.from_ase([water(shared_data)])
    key = jax.random.split(jax.random.key(1), 1)
    warm = Langevin(STEP, 0.01, 350.0)
    state, _ = simulate(field, warm, warm.init(key, field, frames), 4000)
    atoms = state.frames.to_ase()[0]
    start = Start(atoms, np.asarray(state.velocities[0]), ACCELERATION)
    pair = [f"plugin load {plugin}", f"pair_style kepton {model}", "pair_coeff * * H O"]
    there = lammps(start, pair, ("H", "O"), PIECES * PIECE * EVERY, 1, tmp_path, EVERY)

    here, kinetic = [np.asarray(state.frames.positions[0])], []
    for _ in range(PIECES * PIECE):
        state, info = simulate(field, VelocityVerlet(STEP), state, EVERY)
        assert not info.broken.any()
        here.append(np.asarray(state.frames.positions[0]))
        kinetic.append(float(kinetic_energy(state)[0]))
    positions = np.stack(here)
    assert np.abs(positions[-1] - there.positions[-1]).max() > 1.0  # they have parted

    (ours, error), (theirs, other) = (measured(x, atoms) for x in (positions, there.positions))
    far = (ours - theirs)[:-1] ** 2 / (error + other)[:-1]
    assert np.nanmean(far) < 2.25
    assert abs(ours[-1] - theirs[-1]) < 4.0 * np.sqrt(error[-1] + other[-1])
    assert 0.02 < ours[-1] < 1.0  # Å^2/ps: a liquid (water at 300 K: 0.23)
    assert ours[:-1].max() == pytest.approx(theirs[:-1].max(), rel=0.1)
    assert ours[:-1].max() > 2.0  # the first shell
    degrees = 1.5 * BOLTZMANN * (len(atoms) - 1)
    ours, theirs = np.mean(kinetic) / degrees, there.kinetic[1:].mean() / degrees
    assert ours == pytest.approx(theirs, abs=6.0)  # K; of 350, whose error is about 2 in 20 ps


def test_a_deck_runs(plugin, organic, tmp_path, monkeypatch):
    """As `kepton md --engine lammps` writes it, hot for ten steps, with the deviation told."""
    monkeypatch.setattr(lammps_deck, "PLUGIN", plugin)
    ensemble = package.load(organic)
    settings = Settings(600.0, 0.25, every=5)
    lammps_deck.write_deck(tmp_path, organic, ensemble, liquid(104), settings, 10)
    run("lmp", "-in", "in.lammps", cwd=tmp_path)
    told = np.loadtxt(tmp_path / "model_devi.out")
    label, deviation = predict(ensemble, Frames.from_ase([liquid(104)]))
    assert told[:, 0].tolist() == [0, 5, 10]
    near(told[0, 1], deviation.max(), np.abs(label.forces).max())


COMPONENTS = {
    "stress/atom": [0, 4, 8, 1, 2, 5],
    "centroid/stress/atom": [0, 4, 8, 1, 2, 5, 3, 6, 7],
}
"""Where LAMMPS's components stand in a matrix: xx, yy, zz, xy, xz, yz, and yx, zx, zy"""


def virials(by: str, lines, atoms: ase.Atoms, types, folder: Path, ranks=1) -> np.ndarray:
    """(n, 3, 3) the virial of each atom, eV; what a compute does not tell is 0."""
    places = COMPONENTS[by]
    columns = [f"c_one[{k + 1}]" for k in range(len(places))]
    lines = [
        *lines,
        f"compute one all {by} NULL pair",
        f"dump 1 all custom 1 once.dump id {' '.join(columns)}",
        *("dump_modify 1 sort id format float %.17g", "run 0"),
    ]
    written(folder, lines, atoms, types)
    run("mpirun", "-np", ranks, "lmp", "-in", "in.lammps", cwd=folder)
    rows = [line.split() for line in (folder / "once.dump").read_text().splitlines()]
    dumped = np.array([row for row in rows[9:] if len(row) == 1 + len(places)], float)
    found = np.zeros((len(atoms), 9))
    found[:, places] = -dumped[:, 1:] / BAR
    return found.reshape(-1, 3, 3)


@pytest.mark.parametrize("ranks", [1, 2])
def test_virials_of_atoms_add_up_to_the_virial(plugin, organic, tmp_path, ranks):
    atoms, types = standard(close_pair()), ("H", "C", "O")
    pair = [f"pair_style kepton {organic}", "pair_coeff * * H C O"]
    six, nine = (
        virials(by, script(plugin, pair), atoms, types, tmp_path, ranks) for by in COMPONENTS
    )
    label, _ = predict(package.load(organic), Frames.from_ase([atoms]))
    size = max(np.abs(label.virial).max(), np.abs(label.forces).max())
    near(nine.sum(axis=0), label.virial[0], size)
    symmetric = np.triu(0.5 * (nine + nine.mT))
    np.testing.assert_allclose(six, symmetric, rtol=0, atol=1e-12 * size)
    assert np.abs(nine - nine.mT).max() > 1e-3


def test_virials_of_atoms_are_those_of_deepmd_kit(plugin, imported, shared_data, tmp_path):
    """Of which the flux of heat is made: which atom has what of a pair is no convention."""
    atoms, types, by = standard(water(shared_data)), ("H", "O"), "centroid/stress/atom"
    pair = [f"pair_style kepton {imported}", "pair_coeff * * H O"]
    ours = virials(by, script(plugin, pair), atoms, types, tmp_path)
    source = shared_data / "deepmd_models/one_side/model.dp"
    run("dp", "convert-backend", source, "model.pb", cwd=tmp_path)
    pair = ["pair_style deepmd model.pb", "pair_coeff * * H O"]
    lines = [line for line in script(plugin, pair) if not line.startswith("plugin")]
    theirs = virials(by, lines, atoms, types, tmp_path)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=BASIS * np.abs(theirs).max())


MISTAKES = {
    "an element the model lacks": (
        ["pair_coeff * * H C Cl"],
        "the potential knows H C O, and no Cl",
    ),
    "too few elements": (["pair_coeff * * H C"], "an element for each of the 3 atom types"),
    "no pair_coeff": ([], "pair coeffs are not set"),
    "newton off": (["pair_coeff * * H C O", "newton off"], "give `newton on`"),
    "deviation not asked for": (
        ["pair_coeff * * H C O", "fix d all pair 1 kepton deviation 0"],
        "cannot extract property deviation",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_wrong_input_is_told(plugin, organic, tmp_path, name):
    more, told = MISTAKES[name]
    lines = script(plugin, [f"pair_style kepton {organic}"])
    if "newton off" in more:
        lines, more = ["newton off", *lines], more[:-1]
    written(tmp_path, [*lines, *more, "run 0"], standard(liquid(0)), ("H", "C", "O"))
    assert told in run("lmp", "-in", "in.lammps", cwd=tmp_path, status=1)


def test_a_file_that_cannot_be_used_is_told(plugin, organic, tmp_path):
    old, text = tmp_path / "old.kepton", tmp_path / "text.kepton"
    old.write_bytes(to_bytes(package.load(organic)))
    text.write_text("a model, perhaps?" * 10)
    for path, told in (
        (tmp_path / "none.kepton", "none.kepton cannot be read"),
        (text, "it is no model file of Kepton"),
        (old, "`kepton convert`"),
    ):
        lines = script(plugin, [f"pair_style kepton {path}"])
        written(tmp_path, lines, standard(liquid(0)), ("H", "C", "O"))
        assert told in run("lmp", "-in", "in.lammps", cwd=tmp_path, status=1)
    lines = ["units real", *script(plugin, [f"pair_style kepton {organic}"])[1:]]
    written(tmp_path, lines, standard(liquid(0)), ("H", "C", "O"))
    assert "give `units metal`" in run("lmp", "-in", "in.lammps", cwd=tmp_path, status=1)
