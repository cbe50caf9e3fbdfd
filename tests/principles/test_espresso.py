"""Quantum ESPRESSO beyond the contract: meshes, files, what is kept, what is refused."""

import os
import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from installed import needs_espresso
from solids import given_up, goes_on, kept, program, reason_of, silicon

from kepton.atoms import Frames, Label
from kepton.errors import InputError
from kepton.principles import Espresso, pseudopotentials
from kepton.principles.program import workplace

COARSE = Espresso(accuracy="draft", cutoff_Ry=12.0, density_cutoff_Ry=60.0, k_spacing_per_A=1.5)
"""One or two k-points: a label of two atoms in half a second"""


UPF = """<UPF version="2.0.1">
<PP_INFO>
    Suggested minimum cutoff for wavefunctions:  {cutoff}. Ry
</PP_INFO>
<PP_HEADER element="{element}" pseudo_type="{kind}" relativistic="scalar" functional="{xc}"
  wfc_cutoff="0.0" rho_cutoff="0.0"/>
"""
OLD_UPF = """<PP_HEADER>
   0                   Version Number
  Ti                   Element
   US                  Ultrasoft pseudopotential
    T                  Nonlinear Core Correction
 SLA  PW   PBE  PBE     PBE  Exchange-Correlation functional
   12.00000000000      Z valence
   35.0  280.0         Suggested cutoff for wfc and rho
</PP_HEADER>
"""


def header(folder, name, element="Si", kind="PAW", xc="PBE", cutoff=40):
    text = UPF.format(element=element, kind=kind, xc=xc, cutoff=cutoff)
    (folder / name).write_text(text)


def test_the_best_file_of_an_element_is_chosen(tmp_path):
    header(tmp_path, "Si.a.UPF", kind="USPP")
    header(tmp_path, "Si.b.UPF")
    header(tmp_path, "Si.c.UPF", cutoff=0)
    header(tmp_path, "Si.d.UPF", xc="SLA PZ NOGX NOGC")
    header(tmp_path, "C.upf", element="C", kind="NC", xc="SLA  PW   PBX  PBC")
    (tmp_path / "Ti.uspp.F.UPF").write_text(OLD_UPF)
    (tmp_path / "README").write_text("not one")
    found = pseudopotentials.available(tmp_path, "pbe")
    assert {s: f.path.name for s, f in found.items()} == {
        "Si": "Si.b.UPF",
        "C": "C.upf",
        "Ti": "Ti.uspp.F.UPF",
    }
    assert (found["Si"].cutoff_Ry, found["Ti"].cutoff_Ry) == (40.0, 35.0)
    assert found["Ti"].density_cutoff_Ry == 280.0
    assert pseudopotentials.available(tmp_path, "lda").keys() == {"Si"}


def test_an_element_without_a_file_is_told_what_there_is(tmp_path):
    header(tmp_path, "Si.UPF", xc="PBESOL")
    with pytest.raises(
        InputError, match=r"no pseudopotential of Si for xc = 'pbe' \(there is pbesol"
    ):
        pseudopotentials.chosen(["Si"], tmp_path, "pbe")


def test_settings_name_the_content_of_files(tmp_path):
    header(tmp_path, "Si.UPF")
    one = Espresso(pseudopotentials=tmp_path).settled(silicon())
    before = one.settings
    assert before["cutoffs_Ry"] == [40.0, 160.0]
    assert Espresso(accuracy="tight", pseudopotentials=tmp_path).settled(silicon()).settings[
        "cutoffs_Ry"
    ] == [60.0, 240.0]
    header(tmp_path, "Si.UPF", cutoff=41)
    pseudopotentials.read.cache_clear()
    assert one.settings["pseudopotentials"] != before["pseudopotentials"]
    assert one.keeping(tmp_path).settings == one.settings


def mesh(atoms, spacing=0.4):
    return Espresso(k_spacing_per_A=spacing).mesh(Frames.from_ase([atoms]))


def test_the_mesh_follows_the_cell():
    assert mesh(bulk("Si", cubic=True)) == (3, 3, 3)  # 2 pi / 5.43 = 1.157 = 2.9 * 0.4
    assert mesh(bulk("Si", cubic=True) * (1, 1, 2)) == (3, 3, 2)
    squeezed = bulk("Si", a=5.2, cubic=True)
    assert mesh(squeezed) == (4, 4, 4)
    primitive = bulk("Si")  # |b| = 2 pi sqrt(3) / a = 2.004
    assert mesh(primitive) == (6, 6, 6)


def test_strained_cells_keep_the_mesh_of_their_structure():
    principle = Espresso(k_spacing_per_A=0.4)
    start = Frames.from_ase([bulk("Si", cubic=True)])
    squeezed = Frames.from_ase([bulk("Si", a=5.2, cubic=True)])
    far = Frames.from_ase([bulk("Si", a=4.8, cubic=True)])
    assert principle.mesh(squeezed) == (4, 4, 4)
    settled = principle.settled(start)
    assert settled.mesh(start) == settled.mesh(squeezed) == (3, 3, 3)
    assert settled.mesh(far) == principle.mesh(far) == (4, 4, 4)


def test_vacuum_takes_one_point():
    slab = fcc111("Al", (2, 2, 3), vacuum=6.0)
    assert mesh(slab)[2] == 1
    slab.pbc = True
    assert mesh(slab)[2] == 1
    assert min(mesh(slab)[:2]) > 1
    assert mesh(fcc111("Al", (2, 2, 3), vacuum=1.0, periodic=True))[2] > 1
    water = molecule("H2O", vacuum=5.0)
    water.pbc = True
    assert mesh(water) == (1, 1, 1)


@pytest.mark.parametrize(
    ("principle", "atoms", "message"),
    [
        (Espresso(command="pw.y"), bulk("Si"), r"program 'pw.y', which is not on the PATH"),
        (Espresso(accuracy="fine", command="true"), bulk("Si"), r"'fine' is not known"),
        (Espresso(xc="pbe0", command="true"), bulk("Si"), r"'pbe0' is not known \(nearest: pbe"),
        (Espresso(smearing_eV=-1.0, command="true"), bulk("Si"), r"smearing_eV = -1"),
        (Espresso(cutoff_Ry=0.0, command="true"), bulk("Si"), r"cutoff_Ry = 0"),
        (Espresso(pseudopotentials=Path("/no"), command="true"), bulk("Si"), r"is not a folder"),
    ],
)
def test_check_tells_what_is_wrong_and_what_to_do(principle, atoms, message):
    with pytest.raises(InputError, match=message):
        principle.check(Frames.from_ase([atoms]))


def test_a_molecule_without_a_box_is_told_to_have_one(tmp_path):
    for element in "HO":
        header(tmp_path, f"{element}.UPF", element=element)
    principle = Espresso(pseudopotentials=tmp_path, command="true")
    with pytest.raises(InputError, match=r"vacuum and pbc = T T T, or use kind = 'pyscf'"):
        principle.check(Frames.from_ase([molecule("H2O")]))
    boxed = molecule("H2O", vacuum=5.0)
    boxed.pbc = True
    principle.check(Frames.from_ase([boxed]))
    with pytest.raises(InputError, match=r"below which the density"):
        replace(principle, density_cutoff_Ry=50.0).check(Frames.from_ase([boxed]))


@needs_espresso
def test_an_ended_calculation_is_read_and_not_repeated(tmp_path):
    first, place = kept(COARSE, silicon(), tmp_path)
    assert {path.name for path in place.iterdir()} == {"pw.in", "pw.out", "lock"}
    other = replace(COARSE.keeping(tmp_path), cutoff_Ry=13.0)(silicon())
    assert len(list(tmp_path.iterdir())) == 2
    assert other.energy != first.energy


@needs_espresso
def test_a_cycle_that_does_not_converge_is_tried_again(tmp_path, monkeypatch):
    _, place = given_up(COARSE, silicon(), tmp_path, monkeypatch)
    assert len(list(place.glob("*.out"))) == 3
    betas = re.findall(r"mixing beta\s+=\s+([\d.]+)", (place / "attempt-3.out").read_text())
    assert betas == ["0.1000"]


@needs_espresso
def test_the_second_attempt_goes_on_from_the_density_of_the_first(tmp_path, monkeypatch):
    kept = tmp_path / "kept"
    place = goes_on(COARSE, silicon(), kept, monkeypatch, cycles=3)
    assert {path.name for path in place.iterdir()} == {"pw.in", "pw.out", "lock", "attempt-1.out"}
    (place / "pw.out").unlink()  # as if the second had been killed
    counted = program(tmp_path, f'echo >> {tmp_path}/runs; exec pw.x "$@"')
    replace(COARSE, command=counted).keeping(kept)(silicon())
    assert len((tmp_path / "runs").read_text()) == 2  # the second and the third, not the first


@needs_espresso
def test_a_metal_without_smearing_is_told_so():
    principle = replace(COARSE, smearing_eV=0.0)
    copper = Frames.from_ase([Atoms("Cu", cell=bulk("Cu").cell, pbc=True, info={"spin": 0})])
    assert "smearing_eV = 0.1" in reason_of(principle, copper)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("echo garbage; exit 3", "last line is 'garbage'"),
        ("printf '\\377\\376\\000'", "ended without a result"),
        ("sleep 60", "did not end within time_limit_min"),
        ("exit 0", "ended without a result"),
    ],
)
def test_a_program_that_misbehaves_is_a_failure(tmp_path, text, reason):
    header(tmp_path, "Si.UPF")
    command = program(tmp_path, text)
    principle = Espresso(pseudopotentials=tmp_path, command=command, time_limit_min=0.01)
    assert reason in reason_of(principle, silicon())


def test_a_rerun_waits_for_a_program_that_survived_its_caller(tmp_path):
    """The caller is killed; the program goes on and holds the lock until it ends."""
    source = (
        "from pathlib import Path\n"
        "from kepton.principles.program import workplace\n"
        f"with workplace(Path({str(tmp_path)!r}), 'task', 1.0) as place:\n"
        f"    place.run({program(tmp_path, 'sleep 3; echo done')!r}, [], 'out', 1.0)\n"
    )
    caller = subprocess.Popen([sys.executable, "-c", source], env=os.environ | {"PYTHONPATH": PATH})
    output = tmp_path / "task" / "out"
    while not output.exists():
        time.sleep(0.05)
    caller.kill()
    caller.wait()
    with workplace(tmp_path, "task", 1.0) as place:
        assert (place.folder / "out").read_text() == "done\n"


PATH = os.pathsep.join(sys.path)


@needs_espresso
def test_a_label_agrees_with_a_run_by_hand(tmp_path):
    """Energy and forces of the same input by ASE's own calculator."""
    from ase.calculators.espresso import Espresso as ByASE
    from ase.calculators.espresso import EspressoProfile

    (atoms,) = silicon().to_ase()
    label = COARSE(silicon())
    assert isinstance(label, Label)
    atoms.calc = ByASE(
        profile=EspressoProfile("pw.x", pseudopotentials.DEBIAN),
        directory=tmp_path,
        pseudopotentials={"Si": "Si.pbe-nl-rrkjus_psl.1.0.0.UPF"},
        input_data={
            "control": {"tprnfor": True},
            "system": {
                "ecutwfc": 12.0,
                "ecutrho": 60.0,
                "occupations": "smearing",
                "smearing": "cold",
                "degauss": 0.1 / 13.605693123,
                "nosym": True,
            },
            "electrons": {"conv_thr": 1e-9},
        },
        kpts=(2, 2, 2),
    )
    # the label's cycle ends at 2e-7 Ry, and forces err by the square root of such an energy
    assert label.energy[0] == pytest.approx(atoms.get_potential_energy(), abs=1e-5)
    np.testing.assert_allclose(label.forces[0], atoms.get_forces(), atol=2e-3)
