"""Outputs of programs: what did not converge is no label.

The files in `outputs` were written by Quantum ESPRESSO 6.7, CP2K 2023.1 and ABINIT 9.6; those of
other programs are made of the lines by which they are judged, as their manuals and users show them.
"""

from pathlib import Path

import ase.io
import numpy as np
import pytest

from kepton.atoms import cp2k
from kepton.atoms.files import convert, read_labelled, read_structures
from kepton.atoms.outputs import judgement
from kepton.atoms.units import BOHR, GIGAPASCAL, HARTREE
from kepton.errors import InputError, LeftOut

OUTPUTS = Path(__file__).parent / "outputs"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("espresso-stopped.out", "convergence NOT achieved after 3 iterations"),
        ("espresso-lax.out", "estimated scf accuracy 0.00010795 Ry where 1e-08"),
        ("cp2k-unconverged.out", "SCF run NOT converged"),
        ("abinit-unconverged.abo", "nstep= 3 was not enough SCF cycles"),
    ],
)
def test_an_unconverged_calculation_is_refused_with_its_reason(name, reason):
    with pytest.raises(InputError, match=r"1 of 1 calculations of .* did not converge") as told:
        read_labelled(OUTPUTS / name)
    assert reason in str(told.value)


@pytest.mark.parametrize("name", ["espresso-lax.out", "cp2k-unconverged.out"])
def test_the_structure_of_an_unconverged_calculation_may_be_used(name):
    assert len(read_structures(OUTPUTS / name)) == 1


@pytest.mark.parametrize(
    "name", ["espresso-converged.out", "cp2k-converged.out", "abinit-converged.abo"]
)
def test_a_converged_calculation_is_a_label(name):
    frames, label = read_labelled(OUTPUTS / name)
    assert len(frames) == 1
    assert all(np.isfinite(part).all() for part in (label.energy, label.forces, label.virial))
    # crystals and molecules near equilibrium: a net force would be a frame wrongly read
    assert np.abs(label.forces[0].sum(axis=0)).max() < 0.6


def test_frames_of_a_trajectory_are_left_out_and_counted():
    path = OUTPUTS / "espresso-md-lax.out"
    with pytest.warns(LeftOut, match=r"1 of 5 calculations .* 8\.8e-09 Ry where 1e-09"):
        frames, label = read_labelled(path)
    whole = ase.io.read(path, index=":", format="espresso-out")
    assert len(frames) == 4
    np.testing.assert_allclose(label.energy, [a.get_potential_energy() for a in whole[1:]])


def test_convert_leaves_them_out_too(tmp_path):
    with pytest.warns(LeftOut):
        convert(OUTPUTS / "espresso-md-lax.out", tmp_path / "data.extxyz")
    assert len(ase.io.read(tmp_path / "data.extxyz", ":")) == 4


def test_cp2k_is_read_as_it_prints():
    (atoms,) = cp2k.read(OUTPUTS / "cp2k-converged.out")
    assert atoms.get_chemical_formula() == "H2O"
    np.testing.assert_allclose(atoms.cell.lengths(), 5.0)
    assert atoms.get_potential_energy() == pytest.approx(-17.131833109493193 * HARTREE)
    np.testing.assert_allclose(
        atoms.get_forces()[1] / (HARTREE / BOHR), [0.06507919, 0.04142126, -0.00019380]
    )
    # GPa, positive under compression; ASE's stress is positive under tension
    np.testing.assert_allclose(
        -atoms.get_stress() / GIGAPASCAL,
        [5.40921582521, 2.79483258579, -0.254189813792, 0.177791089054, -0.244829181491]
        + [1.04447371331],
    )


NEW_CP2K = """ CP2K| version string:                                          CP2K version 2025.1
 CELL| Vector a [angstrom]:       5.000     0.000     0.000    |a| =       5.000
 CELL| Vector b [angstrom]:       0.000     5.000     0.000    |b| =       5.000
 CELL| Vector c [angstrom]:       0.000     0.000     5.000    |c| =       5.000
 MODULE QUICKSTEP: ATOMIC COORDINATES IN ANGSTROM

   Atom Kind Element         X             Y             Z       Z(eff)     Mass
      1    1 H     1      0.000000      0.000000      0.000000   1.0000   1.0079
      2    1 H     1      0.760000      0.000000      0.000000   1.0000   1.0079

 ENERGY| Total FORCE_EVAL ( QS ) energy [hartree]            -1.164190264587725

 FORCES| Atomic forces [hartree/bohr]
 FORCES|    Atom     x               y               z              |f|
 FORCES|       1  1.0000000E-02   0.00000000E+00  0.00000000E+00    1.00000E-02
 FORCES|       2 -1.0000000E-02   0.00000000E+00  0.00000000E+00    1.00000E-02
"""


def test_newer_cp2k_is_read_too(tmp_path):
    path = tmp_path / "cp2k.out"
    path.write_text(NEW_CP2K)
    (atoms,) = cp2k.read(path)
    np.testing.assert_allclose(atoms.get_forces()[:, 0] / (HARTREE / BOHR), [0.01, -0.01])
    path.write_text(NEW_CP2K + "\n" + NEW_CP2K[NEW_CP2K.index(" ENERGY") :])
    with pytest.raises(InputError, match=r"2 energies but the coordinates of 1 .* dpdata"):
        read_labelled(path)


VASP = """ vasp.6.3.0 20Jan22 (build) complex
   NELM   =      3;   NELMIN=  2; NELMDL= -5     # of ELM steps
   EDIFF  = 0.1E-03   stopping-criterion for ELM
"""


def _outcar(*changes):
    cycles = "".join(
        f"---- Iteration      1({n:4d})  ----\n  total energy-change (2. order) :{c: .7E}  (0.0)\n"
        for n, c in enumerate(changes, 1)
    )
    return (
        f"{cycles}---- aborting loop because EDIFF is reached ----\n"
        "  FREE ENERGIE OF THE ION-ELECTRON SYSTEM (eV)\n"
    )


def _vasprun(*energies):
    steps = "".join(
        f'<scstep><energy><i name="e_fr_energy"> {e} </i></energy></scstep>\n' for e in energies
    ).replace("><", ">\n<")
    return f"<calculation>\n{steps}</calculation>\n"


VASPRUN = """<modeling>
 <generator> <i name="program" type="string">vasp </i> </generator>
 <i type="int" name="NELM">     3</i> <!-- -->
 <i name="EDIFF">      0.00010000</i>
"""


@pytest.mark.parametrize(
    ("text", "program", "defects"),
    [
        (VASP + _outcar(1, -1e-5) + _outcar(1, 1, -1e-2), "VASP", [False, True]),
        (VASP + _outcar(1, 1, 2e-2) + _outcar(1, 1, -1e-5), "VASP", [True, False]),
        (VASPRUN + _vasprun(-1, -2, -2.5) + _vasprun(-2.5, -2.50001), "VASP", [True, False]),
        (VASPRUN + _vasprun(-1, -2, -2.00001), "VASP", [False]),
        (
            " Invoking FHI-aims ...\n ** Self-consistency cycle not converged.\n"
            "  | Total energy of the DFT / Hartree-Fock s.c.f. calculation : -1 eV\n",
            "FHI-aims",
            [True],
        ),
        (
            "   * O   R   C   A *\n SCF NOT CONVERGED AFTER 5 CYCLES\n"
            "FINAL SINGLE POINT ENERGY  -76.1  (SCF not fully converged!)\n",
            "ORCA",
            [True],
        ),
        (
            " Entering Gaussian System\n >>>>>>>>>> Convergence criterion not met.\n"
            " SCF Done:  E(RB3LYP) = -1.0 A.U. after  129 cycles\n"
            " SCF Done:  E(RB3LYP) = -1.0 A.U. after  12 cycles\n",
            "Gaussian",
            [True, False],
        ),
        ("  ___ ___ ___ _ _ _\nDid not converge!\nFree energy:   -1.0\n", "GPAW", [True]),
    ],
)
def test_each_cycle_is_judged_by_what_its_program_says(tmp_path, text, program, defects):
    path = tmp_path / "output"
    path.write_text(text)
    found = judgement(path)
    assert found is not None
    assert found.output.program == program
    assert [bool(defect) for defect in found.defects] == defects
    assert not found.unfinished


def test_other_files_are_not_judged(tmp_path):
    path = tmp_path / "water.xyz"
    path.write_text("1\n\nO 0 0 0\n")
    assert judgement(path) is None
