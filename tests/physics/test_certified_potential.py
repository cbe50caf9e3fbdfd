"""A certificate against nature: dynamics driven by the principle itself, not by the potential."""

import subprocess
import sys
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import units
from ase.constraints import FixCom
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import thermalize_momenta

import kepton
from kepton.atoms import Frames
from kepton.potential import predict
from kepton.principles import XTB

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.mark.slow
def test_dynamics_of_the_principle_confirms_the_certificate(tmp_path):
    tblite = pytest.importorskip("tblite.ase", reason="needs the extra xtb")
    command = [sys.executable, "-m", "kepton.cli", "run"]
    example = EXAMPLES / "hydrogen-peroxide-xtb.toml"
    done = subprocess.run([*command, str(example), "--out", str(tmp_path / "run")], check=False)
    assert done.returncode == 0
    potential = kepton.load(tmp_path / "run" / "model.kepton")
    rng = np.random.default_rng(11)
    frames = []
    for _ in range(4):
        atoms = ase.io.read(EXAMPLES / "hydrogen-peroxide.xyz")
        atoms.calc = tblite.TBLite(method="GFN2-xTB", verbosity=0)
        atoms.set_constraint(FixCom())
        thermalize_momenta(atoms, 600.0, rng=rng)
        walk = Langevin(
            atoms,
            0.5 * units.fs,
            temperature_K=600.0,
            friction=0.01 / units.fs,
            rng=rng,
            fixcm=False,
        )
        walk.run(1000)
        for _ in range(50):
            walk.run(100)
            frames.append(atoms.copy())
    principle = XTB("GFN2-xTB")
    truth = [principle(Frames.from_ase([atoms])).forces[0] for atoms in frames]
    answer, _ = predict(potential, Frames.from_ase(frames))
    error = np.sqrt(((np.asarray(answer.forces) - truth) ** 2).mean(axis=(1, 2)))
    assert (error < 0.1).mean() >= 0.95
