"""CP2K beyond the contract: basis sets, what is kept, what is refused, agreement with pw.x."""

from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from installed import needs_cp2k, needs_espresso
from solids import given_up, goes_on, kept, program, reason_of, size_beside_espresso

from kepton.atoms import Frames
from kepton.errors import InputError
from kepton.principles import CP2K

BASIS = """He {family} {family}-q2
 1
 1 0 0 2 1
 {exponent}  0.5
 0.1  0.5
"""
POTENTIAL = "#\nHe GTH-PBE-q2 GTH-PBE\n 2\n 0.2 2 -9.1 1.7\n 0\n"
HELIUM = CP2K(accuracy="draft", smearing_eV=0.0, k_spacing_per_A=3.0, cutoff_Ry=400.0)
"""A label of two atoms at one k-point in half a second"""


def helium(side=2.4):
    atoms = bulk("He", "sc", a=side) * (1, 1, 2)
    atoms.rattle(0.05, seed=3)
    return Frames.from_ase([atoms])


def data(folder, family="DZVP-MOLOPT-SR-GTH", exponent=3.0):
    (folder / "BASIS_MOLOPT").write_text(BASIS.format(family=family, exponent=exponent))
    (folder / "GTH_POTENTIALS").write_text(POTENTIAL)
    return folder


def test_settings_name_the_content_of_files(tmp_path):
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
    told = [
        CP2K(data=data(tmp_path / name, exponent=e), accuracy="draft").settled(helium()).settings
        for name, e in (("a", 3.0), ("b", 3.0), ("c", 3.5))
    ]
    assert told[0] == told[1] != told[2]
    assert [one["cutoffs_Ry"][0] for one in told] == [300.0, 300.0, 350.0]
    other = CP2K(data=tmp_path / "a").settled(helium()).settings
    assert other["convergence"] != told[0]["convergence"]


@pytest.mark.parametrize(
    ("principle", "atoms", "message"),
    [
        (CP2K(command="cp3k"), bulk("He", "sc", a=3), r"program 'cp3k'.* apt-get install cp2k"),
        (CP2K(command="true", accuracy="fine"), bulk("He", "sc", a=3), r"'fine' is not known"),
        (CP2K(command="true", xc="tpss"), bulk("He", "sc", a=3), r"one of pbe, lda, blyp"),
        (CP2K(command="true"), bulk("Ar", "fcc", a=5), r"no basis set .* of Ar for xc = 'pbe'"),
        (CP2K(command="true", basis="TZVP"), bulk("He", "sc", a=3), r"\(TZVP\).*of He"),
        (CP2K(command="true"), Atoms("He"), r"pbc = T T T, or use kind = 'pyscf'"),
        (CP2K(command="true", smearing_eV=0.0), bulk("He", "sc", a=3), r"smearing_eV = 0.05"),
    ],
)
def test_check_tells_what_is_wrong_and_what_to_do(tmp_path, principle, atoms, message):
    with pytest.raises(InputError, match=message):
        replace(principle, data=data(tmp_path)).check(Frames.from_ase([atoms]))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("echo garbage; exit 3", "last line is 'garbage'"),
        ("printf '\\377\\376\\000'", "ended without a result"),
        ("sleep 60", "did not end within time_limit_min"),
        (
            "echo ' [ABORT] *'; echo ' * x  too small *'; echo ' ****************************'",
            "x too",
        ),
    ],
)
def test_a_program_that_misbehaves_is_a_failure(tmp_path, text, reason):
    command = program(tmp_path, text)
    principle = CP2K(data=data(tmp_path), command=command, time_limit_min=0.01)
    assert reason in reason_of(principle, helium())


@needs_cp2k
def test_an_ended_calculation_is_read_and_not_repeated(tmp_path):
    _, place = kept(HELIUM, helium(), tmp_path)
    assert {path.name for path in place.iterdir()} == {"cp2k.inp", "cp2k.out", "lock"}


@needs_cp2k
def test_a_cycle_that_does_not_converge_is_no_label(tmp_path, monkeypatch):
    reason, place = given_up(HELIUM, helium(), tmp_path, monkeypatch)
    assert "a metal needs smearing_eV" in reason
    outputs = [path.read_text() for path in sorted(place.glob("attempt-*.out"))]
    assert ["- OT -" in text for text in outputs] == [True, False, False]


@needs_cp2k
def test_the_second_attempt_goes_on_from_the_density_of_the_first(tmp_path, monkeypatch):
    goes_on(replace(HELIUM, smearing_eV=0.05), helium(), tmp_path, monkeypatch, cycles=5)


@needs_cp2k
def test_orbital_transformation_and_diagonalisation_find_the_same():
    one = HELIUM(helium())
    other = replace(HELIUM, smearing_eV=0.05)(helium())  # an insulator, so the smearing is idle
    assert one.energy[0] == pytest.approx(other.energy[0], abs=1e-6)
    np.testing.assert_allclose(one.forces, other.forces, atol=1e-4)


@needs_cp2k
def test_unpaired_electrons_and_charge_are_told_to_the_program():
    """A lone ion He+ has one electron: helium's ionisation energy is 24.6 eV."""
    coarse = replace(HELIUM, cutoff_Ry=150.0)
    atoms = bulk("He", "sc", a=6.0)
    atoms.info.update(charge=1, spin=1)
    atom = bulk("He", "sc", a=6.0)
    ion, neutral = (coarse(Frames.from_ase([a])) for a in (atoms, atom))
    # a cubic lattice of charges in a background that makes it neutral has -2.837 / (2 a)
    background = 2.837 / 2 * 14.3996 / 6.0
    assert ion.energy[0] + background - neutral.energy[0] == pytest.approx(24.6, abs=1.0)


@pytest.mark.slow  # a minute: six labels of silicon on 27 k-points
@needs_cp2k
@needs_espresso
def test_silicon_is_as_large_as_in_plane_waves():
    """Pseudopotentials of one element and a basis of double-zeta size move it by some 0.1 %."""
    found, by_waves = size_beside_espresso(CP2K)
    assert found == pytest.approx(by_waves, rel=3e-3)
