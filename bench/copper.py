"""Copper by EMT: labelled crystals from 300 to 1200 K, to train a model that `bench/md.py` runs.

python bench/copper.py copper.extxyz
kepton train copper.extxyz --ensemble-size 1 --cutoff-A 6 --out copper.kepton
make bench-md BENCH='--system copper --model copper.kepton'
"""

import sys

import ase
import ase.build
import ase.io
import ase.units
import numpy as np
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.md.langevin import Langevin

CRYSTALS, MOMENTS = 24, 8
"""Independent crystals, and frames of each"""
TIMESTEP, SETTLING, APART = 5.0, 60, 20
"""fs; steps before the first frame and between frames"""
STRAIN = 0.03


def main(out: str) -> None:
    rng = np.random.default_rng(0)
    frames = []
    for temperature in np.linspace(300.0, 1200.0, CRYSTALS):
        atoms = ase.build.bulk("Cu", a=3.62, cubic=True).repeat(3)
        strain = np.eye(3) + rng.uniform(-STRAIN, STRAIN, (3, 3))
        atoms.set_cell(atoms.cell @ (0.5 * (strain + strain.T)), scale_atoms=True)
        atoms.calc = EMT()
        thermal = np.sqrt(2.0 * ase.units.kB * temperature * atoms.get_masses())[:, None]
        atoms.set_momenta(thermal * rng.standard_normal((len(atoms), 3)))
        walk = Langevin(
            atoms,
            TIMESTEP * ase.units.fs,
            temperature_K=temperature,
            friction=0.02,
            fixcm=False,
            rng=rng,
        )
        for moment in range(MOMENTS):
            walk.run(APART if moment else SETTLING)
            frames.append(labelled(atoms))
        print(f"{temperature:.0f} K: {len(frames)} frames", flush=True)
    ase.io.write(out, frames)


def labelled(atoms: ase.Atoms) -> ase.Atoms:
    """A frame with its own energy, forces and stress."""
    frame = ase.Atoms(atoms.symbols, atoms.positions, cell=atoms.cell, pbc=True)
    known = {
        "energy": atoms.get_potential_energy(),
        "forces": atoms.get_forces(),
        "stress": atoms.get_stress(),
    }
    frame.calc = SinglePointCalculator(frame, **known)
    return frame


if __name__ == "__main__":
    main(sys.argv[1])
