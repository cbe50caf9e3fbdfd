"""GPAW beyond the contract: setups, what is kept, what is refused, agreement with pw.x."""

import importlib.util
from dataclasses import replace

import pytest
from ase import Atoms
from ase.build import bulk
from installed import needs_espresso, needs_gpaw
from solids import given_up, kept, program, reason_of, silicon, size_beside_espresso

from kepton.atoms import Frames
from kepton.errors import InputError
from kepton.principles import GPAW
from kepton.principles import gpaw as engine

COARSE = GPAW(accuracy="draft", cutoff_eV=200.0, k_spacing_per_A=2.5)
"""A label of two atoms at one k-point in a second"""


@pytest.fixture
def setups(tmp_path, monkeypatch):
    """Files with the names of GPAW's, of silicon alone."""
    (tmp_path / "Si.PBE.gz").write_bytes(b"one")
    (tmp_path / "Si.dzp.basis.gz").write_bytes(b"")
    monkeypatch.setattr(engine, "setups", lambda: [tmp_path])
    return tmp_path


def test_settings_name_the_content_of_setups(setups):
    one = GPAW().settled(silicon())
    before = one.settings
    assert before["cutoff_eV"] == 450.0
    assert before == one.keeping(setups).settings
    (setups / "Si.PBE.gz").write_bytes(b"another")
    engine._digest.cache_clear()
    assert one.settings["setups"] != before["setups"]


@pytest.mark.parametrize(
    ("principle", "atoms", "message"),
    [
        (GPAW(command="pyhton"), bulk("Si"), r"program 'pyhton'.*'kepton\[gpaw\]"),
        (GPAW(command="true", xc="pbee"), bulk("Si"), r"'pbee' is not known \(nearest: pbe"),
        (GPAW(command="true", xc="lda"), bulk("Si"), r"no setup of Si for xc = 'lda'"),
        (GPAW(command="true"), bulk("Cu", cubic=True), r"of Cu for xc = 'pbe', only of Si"),
        (GPAW(command="true", cutoff_eV=-1.0), bulk("Si"), r"cutoff_eV = -1"),
        (GPAW(command="true"), Atoms("Si"), r"pbc = T T T, or use kind = 'pyscf'"),
    ],
)
@pytest.mark.usefixtures("setups")
def test_check_tells_what_is_wrong_and_what_to_do(principle, atoms, message):
    with pytest.raises(InputError, match=message):
        principle.check(Frames.from_ase([atoms]))


@pytest.mark.usefixtures("setups")
def test_without_the_package_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert GPAW.availability()[0] is False
    with pytest.raises(InputError, match=r"pip install 'kepton\[gpaw\]'"):
        GPAW().check(silicon())


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("echo garbage; exit 3", "last line is 'garbage'"),
        ("sleep 60", "did not end within time_limit_min"),
        ("echo 'STOPPED: \"KeyError: 1\"'", "GPAW stopped: KeyError: 1"),
    ],
)
@pytest.mark.usefixtures("setups")
def test_a_program_that_misbehaves_is_a_failure(tmp_path, text, reason):
    principle = GPAW(command=program(tmp_path, text), time_limit_min=0.01)
    assert reason in reason_of(principle, silicon())


@needs_gpaw
def test_an_ended_calculation_is_read_and_not_repeated(tmp_path):
    kept(COARSE, silicon(), tmp_path)


@needs_gpaw
def test_a_cycle_that_does_not_converge_is_no_label(tmp_path, monkeypatch):
    given_up(COARSE, silicon(), tmp_path, monkeypatch)


@needs_gpaw
def test_a_metal_without_smearing_is_told_so():
    metal = bulk("Al") * (2, 1, 1)
    principle = replace(COARSE, smearing_eV=0.0, k_spacing_per_A=1.5)
    assert "smearing_eV = 0.1" in reason_of(principle, Frames.from_ase([metal]))


@pytest.mark.slow  # half a minute: six labels of silicon on 27 k-points
@needs_gpaw
@needs_espresso
def test_silicon_is_as_large_as_by_another_program():
    """Projector-augmented waves of two programs differ by some 0.1 % of the lattice constant."""
    found, other = size_beside_espresso(GPAW, "normal")
    assert found == pytest.approx(other, rel=2e-3)
