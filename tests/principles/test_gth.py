"""Pseudopotentials from PySCF's tables: the same numbers, and the same energy as elsewhere."""

import numpy as np
import pytest
from ase.build import bulk
from installed import needs_cp2k, needs_espresso

from kepton.atoms import Frames, Label
from kepton.errors import InputError
from kepton.principles import CP2K, Espresso, gth, pseudopotentials


@pytest.mark.parametrize("xc", gth.PYSCF)
def test_numbers_are_those_that_pyscf_reads(xc):
    from pyscf.gto.basis import load_pseudo

    table = gth.tabulated(xc)
    assert len(table) > 50
    for element, entry in table.items():
        told = gth.separable(entry)
        electrons, radius, size, local, _, *projectors = load_pseudo(gth.PYSCF[xc][0], element)
        assert (told.valence, told.radius) == (sum(electrons), radius)
        assert list(told.local[:size]) == list(local)
        for (length, rows), (its_length, count, matrix) in zip(
            told.projectors, projectors, strict=True
        ):
            assert (length, len(rows)) == (its_length, count)
            for i, row in enumerate(rows):
                np.testing.assert_array_equal(row, np.asarray(matrix)[i, i:])


def test_an_element_without_projectors_has_one_that_is_zero():
    lines = gth.abinit_file(gth.tabulated("pbe")["He"], "pbe").splitlines()
    assert lines[1:] == [
        "2 2 0",
        "10 11 0 1 2001 0",
        "0.2 2 -9.12214383 1.7027077",
        "1",
        "0.2 1 0.0",
    ]


def test_cutoffs_follow_the_lengths_of_the_potential():
    found = pseudopotentials.analytical("pbe")
    assert 200 < found["O"].cutoff_Ry < 300
    assert found["Si"].cutoff_Ry < found["Cu"].cutoff_Ry < found["O"].cutoff_Ry


def test_a_folder_is_taken_as_it_is(tmp_path):
    with pytest.raises(InputError, match="no pseudopotential of Ar"):
        pseudopotentials.chosen(["Ar"], tmp_path, "pbe")
    assert pseudopotentials.chosen(["Ar"], None, "pbe")["Ar"].text


@needs_espresso
@needs_cp2k
def test_plane_waves_and_gaussians_agree_on_the_same_pseudopotential():
    """Two atoms of helium: Gaussians lie above by what the double-zeta basis lacks, 0.05 eV."""
    atoms = bulk("He", "sc", a=2.4) * (1, 1, 2)
    atoms.rattle(0.05, seed=3)
    frames = Frames.from_ase([atoms])
    waves, gaussians = (
        engine(accuracy="draft", k_spacing_per_A=1.5)(frames) for engine in (Espresso, CP2K)
    )
    assert isinstance(waves, Label), waves
    assert isinstance(gaussians, Label), gaussians
    assert 0.0 < gaussians.energy[0] - waves.energy[0] < 0.06
    np.testing.assert_allclose(gaussians.forces, waves.forces, atol=5e-3)
