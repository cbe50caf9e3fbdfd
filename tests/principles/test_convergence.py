"""What cutoffs and meshes bring, for every engine that has them."""

import numpy as np
import pytest
from ase.build import bulk
from installed import needs_abinit, needs_cp2k, needs_espresso, needs_gpaw
from solids import silicon
from typer.testing import CliRunner

from kepton.atoms import Frames
from kepton.cli import app
from kepton.principles import CP2K, GPAW, Abinit, Espresso, convergence

COARSE = [
    pytest.param(
        Espresso(accuracy="draft", k_spacing_per_A=1.5, cutoff_Ry=15.0, density_cutoff_Ry=60.0),
        {"cutoff_Ry": 15.0, "density_cutoff_Ry": 60.0},
        1.0,
        marks=needs_espresso,
    ),
    pytest.param(
        Abinit(accuracy="draft", k_spacing_per_A=1.5, cutoff_Ry=20.0),
        {"cutoff_Ry": 20.0},
        1.0,
        marks=needs_abinit,
    ),
    pytest.param(
        CP2K(accuracy="draft", k_spacing_per_A=1.5, cutoff_Ry=150.0),
        {"cutoff_Ry": 150.0},
        0.01,  # of the density alone, the basis stays
        marks=needs_cp2k,
    ),
    pytest.param(
        GPAW(accuracy="draft", k_spacing_per_A=1.5, cutoff_eV=200.0),
        {"cutoff_eV": 200.0},
        1.0,
        marks=needs_gpaw,
    ),
]


@pytest.mark.parametrize(("principle", "cutoffs", "effect"), COARSE)
def test_convergence_is_told_against_the_finest(monkeypatch, principle, cutoffs, effect):
    monkeypatch.setattr(convergence, "CUTOFFS", (0.7, 1.0))
    monkeypatch.setattr(convergence, "SPACINGS", (2.5, 1.5, 1.4))
    steps: list[str] = []
    told = dict(convergence.converge(principle, silicon(0.0), steps.append))
    assert [step.split(":")[0] for step in steps] == [
        f"{name}, {n} of 2" for name in ("cutoff", "k-points") for n in (1, 2)
    ]
    assert [row.cutoffs for row in told["cutoff"]] == [
        {name: pytest.approx(0.7 * value) for name, value in cutoffs.items()},
        cutoffs,
    ]
    assert [row.mesh for row in told["k-points"]] == [(1, 1, 1), (2, 2, 2)]
    for rows, least in zip(told.values(), (effect, 1.0)):
        assert rows[0].force > least
        assert (rows[-1].energy, rows[-1].force, rows[-1].stress) == (0.0, 0.0, 0.0)
        assert convergence.recommended(rows, 1e3, 1e3) == rows[0]
        assert convergence.recommended(rows, 0.0, 0.0) == rows[-1]


@pytest.mark.parametrize("principle", [pytest.param(p.values[0], marks=p.marks) for p in COARSE])
def test_a_mesh_has_the_symmetry_of_the_lattice(principle):
    """An even mesh that is shifted has not that of a face-centred one: forces would be askew."""
    atoms = bulk("Si")
    atoms.positions[1, 0] += 0.05
    assert principle.mesh(Frames.from_ase([atoms])) == (2, 2, 2)
    (force,) = principle(Frames.from_ase([atoms])).forces[:, 1]
    assert abs(force[0]) > 0.1
    assert np.abs(force[1:]).max() < 0.01 * abs(force[0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--kind", "xtb"], "no cutoff and mesh of k-points"),
        (["--kind", "abinit", "--pseudopotentials", "."], "is for espresso"),
    ],
)
def test_an_engine_without_cutoffs_is_refused(arguments, message):
    result = CliRunner().invoke(app, ["principle", "converge", "Si.vasp", *arguments])
    assert message in str(result.exception)
