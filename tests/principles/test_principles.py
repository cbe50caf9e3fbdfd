"""The contract of every principle: labels are derivatives of one energy, failures are data."""

import importlib.util
import json
import pickle
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from installed import needs_abinit, needs_cp2k, needs_espresso, needs_gpaw
from scipy.spatial.transform import Rotation

from kepton.atoms import Frames, Label
from kepton.elt import Failure
from kepton.errors import InputError
from kepton.principles import (
    CP2K,
    GPAW,
    PRINCIPLES,
    XTB,
    Abinit,
    ASECalculator,
    Espresso,
    Principle,
    Program,
    PySCF,
    doctor,
)
from kepton.principles.principle import answer, rigid_force

needs_tblite = pytest.mark.skipif(
    importlib.util.find_spec("tblite") is None, reason="tblite (the extra xtb) is not installed"
)

STEP = 1e-3
"""Å: central differences then err by STEP^2 / 6 E''' < 1e-4 for E''' < 600 eV/Å^3."""


@dataclass(frozen=True)
class Case:
    """How far an energy is from the converged one (noise) and the invariant one (grid), and a
    virial from the energy's slope (stress), eV."""

    principle: Principle
    atoms: Atoms
    energy_noise: float
    grid: float
    stress: float


def shaken(atoms, **info):
    atoms.rattle(0.05, seed=3)
    atoms.info.update(info)
    return atoms


def case(name, principle, atoms, energy_noise, grid, *marks, stress=1e-3):
    return pytest.param(Case(principle, atoms, energy_noise, grid, stress), id=name, marks=marks)


# PySCF converges the energy to 1e-9 hartree = 3e-8 eV, and its grids turn with no molecule: at
# level 3 ethanol feels a torque of 3e-3 eV; tblite at accuracy 0.01 converges to 1e-8 hartree.
CASES = [
    case("pyscf-rks", PySCF(basis="sto-3g"), shaken(molecule("H2O")), 3e-8, 3e-3),
    case("pyscf-uks", PySCF(basis="sto-3g"), shaken(molecule("CH3"), spin=1), 3e-8, 3e-3),
    case("pyscf-uhf", PySCF("hf", "sto-3g"), shaken(molecule("CH3"), spin=1), 3e-8, 1e-6),
    case(
        "pyscf-ecp",
        PySCF(xc="hf", density_fit=False),
        shaken(Atoms("HI", [[0, 0, 0], [0, 0, 1.6]])),
        3e-8,
        1e-6,
    ),
    case("gfn1", XTB("gfn1", 0.01), shaken(molecule("CH3OH")), 3e-7, 1e-6, needs_tblite),
    case(
        "gfn2-ion",
        XTB("gfn2", 0.01),
        shaken(molecule("OH"), charge=-1, spin=0),
        3e-7,
        1e-6,
        needs_tblite,
    ),
    case(
        "gfn2-crystal", XTB(accuracy=0.01), shaken(bulk("C", cubic=True)), 3e-7, 1e-5, needs_tblite
    ),
    case("emt-cluster", ASECalculator(), shaken(Atoms("Cu2", [[0, 0, 0], [0, 1.3, 2]])), 0, 1e-9),
    case("emt-crystal", ASECalculator(), shaken(bulk("Cu", cubic=True)), 0, 1e-9),
    # Of two atoms, converged to 2e-9 Ry. The energy is that of a fixed cutoff, the stress that of a
    # fixed number of plane waves: 0.04 eV (0.2 GPa) apart at 12 Ry, 0.001 at 20 Ry. The density's
    # grid breaks forces by 3e-4 eV/Å at 80 Ry, by 9e-5 at 160.
    case(
        "espresso",
        Espresso(accuracy="tight", cutoff_Ry=20.0, density_cutoff_Ry=160.0, k_spacing_per_A=1.5),
        shaken(bulk("Si")),
        3e-8,
        1e-5,
        needs_espresso,
    ),
    # Two atoms of helium on four k-points, converged to 1e-6 in the density: 1e-12 in the energy
    case(
        "cp2k",
        CP2K(accuracy="draft", k_spacing_per_A=1.5, cutoff_Ry=400.0),
        shaken(bulk("He", "sc", a=2.4) * (1, 1, 2)),
        1e-8,
        1e-5,
        needs_cp2k,
    ),
    # At 600 eV the virial of two atoms of silicon is 0.009 eV (0.04 GPa) from the energy's slope,
    # at 400 eV 0.03: the density's grid follows the cell. Integrals around nuclei do not turn.
    case(
        "gpaw",
        GPAW(accuracy="tight", cutoff_eV=600.0, k_spacing_per_A=2.5),
        shaken(bulk("Si")),
        1e-7,
        2e-3,
        needs_gpaw,
        stress=2e-2,
    ),
    # Plane waves come in smoothly, so the virial is that of the energy at any cutoff.
    case(
        "abinit",
        Abinit(accuracy="tight", cutoff_Ry=20.0, k_spacing_per_A=2.5),
        shaken(bulk("Si")),
        1e-8,
        1e-5,
        needs_abinit,
    ),
]
contract = pytest.mark.parametrize("case", CASES)


def label(principle, atoms) -> Label:
    result = principle(Frames.from_ase([atoms]))
    assert isinstance(result, Label), result
    return result


def energy(case, atoms):
    return float(label(case.principle, atoms).energy[0])


@contract
def test_label_is_float64_of_the_contract_shapes(case):
    case.principle.check(Frames.from_ase([case.atoms]))
    got, n = label(case.principle, case.atoms), len(case.atoms)
    assert (got.energy.shape, got.forces.shape, got.virial.shape) == ((1,), (1, n, 3), (1, 3, 3))
    assert {got.energy.dtype, got.forces.dtype, got.virial.dtype} == {np.dtype(float)}
    assert np.isfinite(got.virial).all() == case.atoms.pbc.all()
    assert np.isnan(got.virial).all() != case.atoms.pbc.all()
    assert got.engine


@contract
def test_forces_are_minus_the_derivative_of_the_energy(case):
    direction = np.random.default_rng(1).normal(size=case.atoms.positions.shape)
    direction /= np.linalg.norm(direction)
    plus, minus = case.atoms.copy(), case.atoms.copy()
    plus.positions += STEP * direction
    minus.positions -= STEP * direction
    slope = (energy(case, plus) - energy(case, minus)) / (2 * STEP)
    forces = label(case.principle, case.atoms).forces[0]
    assert np.sum(forces * direction) == pytest.approx(
        -slope, abs=1e-4 + 2 * case.energy_noise / STEP
    )


@pytest.mark.parametrize("case", [c for c in CASES if c.values[0].atoms.pbc.all()])
def test_virial_is_minus_the_derivative_by_strain(case):
    strain = np.random.default_rng(2).normal(size=(3, 3))
    strain = (strain + strain.T) / 2

    def strained(size):
        atoms = case.atoms.copy()
        atoms.set_cell(atoms.cell @ (np.eye(3) + size * strain), scale_atoms=True)
        return energy(case, atoms)

    step = 1e-4
    slope = (strained(step) - strained(-step)) / (2 * step)
    virial = label(case.principle, case.atoms).virial[0]
    # Diamond in tblite, as neighbours cross cutoffs: 2e-2 eV at a step of 1e-3, 4e-4 at 1e-4.
    noise = case.stress + 2 * case.energy_noise / step
    assert np.sum(virial * strain) == pytest.approx(-slope, abs=noise)
    np.testing.assert_allclose(virial, virial.T, atol=1e-8)


@contract
def test_energy_is_invariant_under_rotation(case):
    turn = Rotation.from_rotvec([0.3, -0.7, 1.1]).as_matrix()
    turned = case.atoms.copy()
    turned.set_positions(turned.positions @ turn)
    turned.set_cell(turned.cell @ turn)
    here, there = label(case.principle, case.atoms), label(case.principle, turned)
    assert there.energy[0] == pytest.approx(here.energy[0], abs=case.grid)
    # A grid of energy error `grid` errs in forces over lengths of a tenth of an Å.
    np.testing.assert_allclose(there.forces[0], here.forces[0] @ turn, atol=10 * case.grid + 1e-6)


@contract
def test_pickle_and_settings_round_trip(case):
    twin = pickle.loads(pickle.dumps(case.principle))
    assert twin == case.principle
    settings = json.loads(json.dumps(case.principle.settings))
    assert settings == case.principle.settings
    kind = settings.pop("kind")
    assert type(case.principle) is PRINCIPLES[kind]
    if not isinstance(case.principle, Program):  # whose settings name the content of files
        assert PRINCIPLES[kind](**settings) == case.principle


@contract
def test_label_is_deterministic_and_leaves_nothing_behind(case, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    one, two = label(case.principle, case.atoms), label(case.principle, case.atoms)
    # An engine's threads add in any order: rounding, and what its iterations make of it.
    np.testing.assert_allclose(one.forces, two.forces, rtol=0, atol=1e-9)
    assert one.energy[0] == pytest.approx(two.energy[0], rel=1e-12)
    assert not list(tmp_path.iterdir())
    assert capfd.readouterr() == ("", "")


COINCIDENT = Atoms("O2", [[0, 0, 0], [0, 0, 0]])


@pytest.mark.parametrize(
    ("principle", "atoms", "reason"),
    [
        pytest.param(PySCF(basis="sto-3g"), COINCIDENT, "The engine raised", id="pyscf"),
        pytest.param(
            PySCF(basis="sto-3g", max_cycles=2), molecule("H2O"), "did not converge", id="pyscf-scf"
        ),
        pytest.param(XTB(), COINCIDENT, "Too close", id="xtb", marks=needs_tblite),
        pytest.param(ASECalculator(), Atoms("U"), "No EMT-potential for U", id="emt-element"),
        pytest.param(
            ASECalculator("ase.calculators.lj:LennardJones"), COINCIDENT, "not finite", id="lj-nan"
        ),
    ],
)
def test_what_an_engine_does_wrong_is_a_failure(principle, atoms, reason):
    result = principle(Frames.from_ase([atoms]))
    assert isinstance(result, Failure)
    assert reason in result.reason
    assert result.seconds > 0


class Careless(EMT):
    """Writes the output of a program that did not converge, and gives numbers all the same."""

    def calculate(self, *args, **options):
        super().calculate(*args, **options)
        shutil.copy(OUTPUTS / "abinit-unconverged.abo", self.directory)


def test_a_program_behind_ase_that_did_not_converge_gives_no_label():
    principle = ASECalculator(f"{__name__}:Careless")
    result = principle(Frames.from_ase([shaken(bulk("Cu", cubic=True))]))
    assert isinstance(result, Failure)
    assert "ABINIT did not converge: nstep= 3 was not enough" in result.reason


OUTPUTS = Path(__file__).parents[1] / "atoms" / "outputs"


def test_coarse_grid_shows_as_net_torque():
    ethanol = shaken(molecule("CH3CH2OH"))
    ethanol.set_positions(ethanol.positions @ Rotation.from_rotvec([0.4, 0.9, 0.2]).as_matrix())
    result = PySCF(basis="sto-3g", grid_level=0)(Frames.from_ase([ethanol]))
    assert isinstance(result, Failure)
    assert "net force or torque" in result.reason


def test_retries_give_the_same_label_as_the_first_attempt():
    water = shaken(molecule("H2O"))
    first = label(PySCF(basis="sto-3g"), water)
    third = label(PySCF(basis="sto-3g", max_cycles=4), water)
    # Both within conv_tol of the minimum: energies differ by 3e-8 eV, forces by sqrt(conv_tol).
    assert third.energy[0] == pytest.approx(first.energy[0], abs=1e-7)
    np.testing.assert_allclose(third.forces, first.forces, atol=1e-3)


def test_rigid_force_sees_only_rigid_motions():
    rng = np.random.default_rng(0)
    x, push, spin = rng.normal(size=(7, 3)), np.array([0.0, 3e-3, 4e-3]), np.array([1, 2, 3])
    assert rigid_force(x, np.tile(push, (7, 1))) == pytest.approx(5e-3)
    turning = np.cross(spin, x - x.mean(axis=0))
    assert rigid_force(x, turning) == pytest.approx(np.linalg.norm(turning) / np.sqrt(7))
    assert rigid_force(x, turning, periodic=True) < 1e-12
    assert rigid_force(x, x - x.mean(axis=0)) < 1e-12
    line = np.outer([-1.0, 0.0, 1.0], [1, 1, 1])
    assert rigid_force(line, line) < 1e-12
    assert rigid_force(x[:1], push[None]) == pytest.approx(5e-3)


def test_more_than_one_configuration_is_a_programmers_mistake():
    frames = Frames.from_ase([molecule("H2O")] * 2)
    with pytest.raises(ValueError, match="one configuration"):
        answer(lambda _: pytest.fail("computed"), frames)


WATER, CRYSTAL = molecule("H2O"), bulk("Cu", cubic=True)


@pytest.mark.parametrize(
    ("principle", "atoms", "message"),
    [
        (PySCF(), Atoms("OH"), r"9 electrons, which is odd, but spin = 0; give spin = 1"),
        (PySCF(), Atoms("H2O", WATER.positions, info={"spin": 1}), r"even, .* give spin = 0"),
        (PySCF(), Atoms("H", info={"charge": 1}), r"no electrons: charge = 1"),
        (PySCF(), Atoms("H", info={"spin": 3}), r"between 0 and 1"),
        (PySCF(), CRYSTAL, r"periodic; .* use kind = 'xtb'"),
        (PySCF(basis="6-31g*"), Atoms("HI"), r"no functions for I; .* basis = 'def2-svp'"),
        (PySCF(basis="def2-svpp"), WATER, r"not a basis set .*nearest: def2svp"),
        (PySCF(basis="gth-szv"), WATER, r"not a basis set"),
        (PySCF(xc="pbee"), WATER, r"xc = 'pbee' is not a functional .*nearest: pbe"),
        (PySCF(xc="wb97x-d"), WATER, r"not a functional"),
        (PySCF(xc=""), WATER, r"not a functional"),
        (PySCF(xc="scanl"), WATER, r"Laplacian"),
        (PySCF(dispersion="d3b"), WATER, r"'d3b' is not known \(nearest: d3bj"),
        (PySCF(grid_level=10), WATER, r"grid_level = 10; give 0"),
        (PySCF(conv_tol=0.0), WATER, r"conv_tol = 0"),
        (PySCF(max_cycles=0), WATER, r"max_cycles = 0"),
        (XTB("gfn-2"), WATER, r"method = 'gfn-2' is not known"),
        (XTB(accuracy=0.0), WATER, r"accuracy = 0"),
        (XTB(electronic_temperature_K=-1.0), WATER, r"electronic_temperature_K = -1"),
        (XTB(), Atoms("Fm2", [[0, 0, 0], [0, 0, 3]]), r"no parameters for Fm"),
        (XTB(), Atoms("H2", cell=[5, 5, 5], pbc=[True, True, False]), r"some directions only"),
        (XTB(), Atoms("H"), r"1 electrons, which is odd"),
        (ASECalculator("ase.calculators.emt"), CRYSTAL, r"not an import path"),
        (ASECalculator("ase.calculators.emtt:EMT"), CRYSTAL, r"cannot be imported"),
        (ASECalculator("ase.calculators.emt:EMTT"), CRYSTAL, r"no 'EMTT' \(nearest: EMT\)"),
        (ASECalculator("collections:OrderedDict"), CRYSTAL, r"not an ASE calculator"),
        (ASECalculator("ase.calculators.mixing:SumCalculator", {"x": 1}), CRYSTAL, r"TypeError"),
        (ASECalculator(arguments={"x": WATER}), CRYSTAL, r"must be numbers, strings"),
    ],
)
def test_check_tells_what_is_wrong_and_what_to_do(principle, atoms, message):
    with pytest.raises(InputError, match=message):
        principle.check(Frames.from_ase([atoms]))


@pytest.mark.skipif(
    importlib.util.find_spec("pyscf.dispersion") is not None, reason="pyscf-dispersion is installed"
)
def test_missing_dispersion_package_names_the_extra():
    with pytest.raises(InputError, match=r"kepton\[dispersion\]"):
        PySCF(dispersion="d3bj").check(Frames.from_ase([WATER]))


@pytest.mark.skipif(
    importlib.util.find_spec("pyscf.dispersion") is None, reason="needs pyscf-dispersion"
)
def test_dispersion_enters_energy_and_forces():
    water, corrected = shaken(molecule("H2O")), PySCF(basis="sto-3g", dispersion="d3bj")
    corrected.check(Frames.from_ase([water]))
    assert label(corrected, water).energy[0] < label(PySCF(basis="sto-3g"), water).energy[0] - 1e-3
    with pytest.raises(InputError, match="no parameters for xc"):
        PySCF(xc="sogga", dispersion="d3bj").check(Frames.from_ase([water]))


def test_xtb_without_tblite_names_the_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "tblite.interface", None)
    assert XTB.availability()[0] is False
    with pytest.raises(InputError, match=r"pip install 'kepton\[xtb\]'"):
        XTB().check(Frames.from_ase([WATER]))


def test_doctor_speaks_of_every_kind():
    assert doctor().keys() == PRINCIPLES.keys()
    assert all(version for _, version in doctor().values())
