"""Configurations of molecules and what GFN2-xTB says of them: ten of each structure's own dynamics.

Dynamics of constant energy from the relaxed structure, with twice the kinetic energy of 400, 700
or 1000 K, half of which goes to the bonds within some ten femtoseconds.

python pretraining/labels.py STRUCTURES.extxyz OUT.extxyz
"""

import os
import sys
import warnings

os.environ["OMP_NUM_THREADS"] = "1"  # molecules are small; processes share them out

from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import ase
import ase.io
import numpy as np
from ase.calculators.singlepoint import SinglePointCalculator
from ase.md.velocitydistribution import (
    Stationary,
    ZeroRotation,
    thermalize_momenta,
)
from ase.md.verlet import VelocityVerlet
from ase.optimize import BFGS
from ase.units import fs
from tblite.ase import TBLite

TEMPERATURES_K = 400, 700, 1000
SETTLING, EVERY, FRAMES = 12, 20, 9
"""Steps of 1 fs before the first frame is counted, and between two; frames beside the relaxed"""
TORN = 40.0
"""eV/Å on an atom, at which a molecule falls apart and its dynamics ends"""


def frames_of(number: int, start: ase.Atoms) -> list[ase.Atoms]:
    warnings.simplefilter("ignore")
    atoms, found = start.copy(), []
    atoms.calc = TBLite(method="GFN2-xTB", verbosity=0)
    temperature = TEMPERATURES_K[number % len(TEMPERATURES_K)]

    def keep() -> None:
        frame = ase.Atoms(atoms.numbers, atoms.positions)
        frame.info = {"name": start.info["name"], "temperature_K": temperature}
        energy, forces = atoms.get_potential_energy(), atoms.get_forces()
        frame.calc = SinglePointCalculator(frame, energy=energy, forces=forces)
        found.append(frame)

    try:
        BFGS(atoms, logfile=None).run(fmax=0.05, steps=60)
        thermalize_momenta(atoms, 2 * temperature, rng=np.random.default_rng(number))
        Stationary(atoms)
        ZeroRotation(atoms)
        dynamics = VelocityVerlet(atoms, 1.0 * fs)
        keep()
        dynamics.run(SETTLING)
        for _ in range(FRAMES):
            dynamics.run(EVERY)
            if not np.abs(atoms.get_forces()).max() < TORN:
                break
            keep()
    except Exception as failure:  # an SCF that does not converge ends one molecule, not all
        print(f"{start.info['name']}: {failure}", file=sys.stderr)
    return found


def main() -> None:
    source, target = map(Path, sys.argv[1:])
    starts = ase.io.read(source, ":")
    with ProcessPoolExecutor() as pool:
        found = list(pool.map(frames_of, range(len(starts)), starts, chunksize=10))
    ase.io.write(target, [frame for frames in found for frame in frames])


if __name__ == "__main__":
    main()
