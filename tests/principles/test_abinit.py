"""ABINIT beyond the contract: what is kept, what is refused, agreement with pw.x."""

from dataclasses import replace

import pytest
from ase import Atoms
from ase.build import bulk
from installed import needs_abinit, needs_espresso
from solids import given_up, goes_on, kept, program, reason_of, silicon, size_beside_espresso

from kepton.atoms import Frames, Label
from kepton.errors import InputError
from kepton.principles import Abinit

COARSE = Abinit(accuracy="draft", cutoff_Ry=20.0, k_spacing_per_A=2.5)
"""A label of two atoms at one k-point in a second"""


def test_settings_follow_from_accuracy_and_elements():
    draft, normal = (Abinit(accuracy=a).settled(silicon()).settings for a in ("draft", "normal"))
    assert draft["cutoff_Ry"] == pytest.approx(0.7 * normal["cutoff_Ry"], abs=1e-3)
    assert draft["pseudopotentials"].keys() == {"Si"}
    assert draft["convergence"] > normal["convergence"]


@pytest.mark.parametrize(
    ("principle", "atoms", "message"),
    [
        (Abinit(command="abinitio"), bulk("Si"), r"program 'abinitio'.* apt-get install abinit"),
        (Abinit(command="true", xc="blyp"), bulk("Si"), r"'blyp' is not known.*pbe, lda"),
        (Abinit(command="true"), bulk("U", "fcc", a=5), r"no GTH pseudopotential of U"),
        (Abinit(command="true", cutoff_Ry=0.0), bulk("Si"), r"cutoff_Ry = 0"),
        (Abinit(command="true"), Atoms("Si"), r"pbc = T T T, or use kind = 'pyscf'"),
        (
            Abinit(command="true"),
            Atoms("H", cell=[3, 3, 3], pbc=True, info={"spin": 1}),
            r"smaller",
        ),
        (Abinit(command="true", smearing_eV=0.0), bulk("Si"), r"smearing_eV = 0.05"),
    ],
)
def test_check_tells_what_is_wrong_and_what_to_do(principle, atoms, message):
    with pytest.raises(InputError, match=message):
        principle.check(Frames.from_ase([atoms]))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("echo garbage; exit 3", "last line is 'garbage'"),
        ("sleep 60", "did not end within time_limit_min"),
        (
            "echo '--- !ERROR'; echo 'message: |'; echo '  too small'; echo '...'",
            "ABINIT stopped: too small",
        ),
        ("echo 'Calculation completed' > abinit.abo", "ended without a result"),
    ],
)
def test_a_program_that_misbehaves_is_a_failure(tmp_path, text, reason):
    principle = Abinit(command=program(tmp_path, text), time_limit_min=0.01)
    assert reason in reason_of(principle, silicon())


@needs_abinit
def test_an_ended_calculation_is_read_and_not_repeated(tmp_path):
    _, place = kept(COARSE, silicon(), tmp_path)
    assert {path.name for path in place.iterdir()} == {
        "abinit.abi",
        "abinit.abo",
        "abinit.log",
        "lock",
    }


@needs_abinit
def test_a_cycle_that_does_not_converge_is_no_label(tmp_path, monkeypatch):
    given_up(COARSE, silicon(), tmp_path, monkeypatch)


@needs_abinit
def test_the_second_attempt_goes_on_from_the_density_of_the_first(tmp_path, monkeypatch):
    goes_on(COARSE, silicon(), tmp_path, monkeypatch, cycles=4)


@needs_abinit
def test_unpaired_electrons_and_charge_are_told_to_the_program():
    """Aluminium's ionisation energy is 5.99 eV; in cells of 6, 8, 10 Å 5.16, 5.71, 5.87."""
    coarse = replace(COARSE, cutoff_Ry=40.0)
    atom, ion = bulk("Al", "sc", a=8.0), bulk("Al", "sc", a=8.0)
    atom.info.update(spin=1)
    ion.info.update(charge=1)
    neutral, charged = (coarse(Frames.from_ase([one])) for one in (atom, ion))
    assert isinstance(neutral, Label), neutral
    assert isinstance(charged, Label), charged
    # a cubic lattice of charges in a background that makes it neutral has -2.837 / (2 a)
    background = 2.837 / 2 * 14.3996 / 8.0
    assert charged.energy[0] + background - neutral.energy[0] == pytest.approx(5.99, abs=0.5)


@pytest.mark.slow  # a minute: six labels of silicon on 27 k-points
@needs_abinit
@needs_espresso
def test_silicon_is_as_large_as_by_another_program():
    """Pseudopotentials of two kinds differ by some 0.1 % of the lattice constant."""
    found, other = size_beside_espresso(Abinit)
    assert found == pytest.approx(other, rel=3e-3)
