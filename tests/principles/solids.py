"""What tests of several periodic engines share."""

import stat

import numpy as np
from ase.build import bulk

from kepton.atoms import Frames


def program(folder, text):
    """A shell script that stands for an engine."""
    path = folder / "fake.sh"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def lattice_constant(principle, near=5.47):
    """Of silicon, Å: the minimum of a parabola through three energies."""

    def silicon(strain):
        return Frames.from_ase([bulk("Si", a=near * (1 + strain))])

    strains, settled = (-0.02, 0.0, 0.02), principle.settled(silicon(0.0))
    energies = [settled(silicon(strain)).energy[0] for strain in strains]
    second, first, _ = np.polyfit(strains, energies, 2)
    return near * (1 - first / (2 * second))
