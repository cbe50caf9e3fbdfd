"""What tests of several periodic engines share."""

import stat
from dataclasses import replace

import numpy as np
import pytest
from ase.build import bulk

from kepton.atoms import Frames, Label
from kepton.elt import Failure
from kepton.principles import Espresso


def program(folder, text):
    """A shell script that stands for an engine."""
    path = folder / "fake.sh"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def silicon(rattle=0.05):
    atoms = bulk("Si")
    atoms.rattle(rattle, seed=3)
    return Frames.from_ase([atoms])


def reason_of(principle, frames):
    """Why there is no label."""
    result = principle(frames)
    assert isinstance(result, Failure), result
    return result.reason


def kept(principle, frames, folder):
    """A calculation has ended and is read, not repeated; its label and its folder."""
    principle = principle.keeping(folder)
    first = principle(frames)
    assert isinstance(first, Label), first
    (place,) = folder.iterdir()
    again = replace(principle, command="false")(frames)
    np.testing.assert_array_equal(first.forces, again.forces)
    return first, place


def given_up(principle, frames, folder, monkeypatch, cycles=2):
    """No attempt converges in so few cycles; the reason, and the folder with all outputs."""
    monkeypatch.setattr(type(principle), "CYCLES", cycles)
    reason = reason_of(principle.keeping(folder), frames)
    assert f"did not converge in 3 times {cycles} cycles" in reason
    (place,) = folder.iterdir()
    assert [path.name for path in sorted(place.glob("attempt-*.out"))] == [
        f"attempt-{n}.out" for n in (1, 2, 3)
    ]
    return reason, place


def goes_on(principle, frames, folder, monkeypatch, cycles):
    """So few cycles suffice only from the density of as many others, and give the same label."""
    whole = principle(frames)
    monkeypatch.setattr(type(principle), "CYCLES", cycles)
    second = principle.keeping(folder)(frames)
    assert second.engine.endswith("attempt 2")
    assert second.energy[0] == pytest.approx(whole.energy[0], abs=1e-5)
    np.testing.assert_allclose(second.forces, whole.forces, atol=1e-3)
    (place,) = folder.iterdir()
    assert not any(place.glob(principle.DENSITY))
    monkeypatch.setattr(type(principle), "DENSITY", None)
    anew = principle(frames)
    assert isinstance(anew, Failure) or not anew.engine.endswith("attempt 2")
    return place


def size_beside_espresso(kind, accuracy="draft"):
    """Silicon's lattice constant by one engine and by pw.x, Å, on 27 k-points."""
    setting = {"accuracy": accuracy, "k_spacing_per_A": 0.7, "smearing_eV": 0.05}
    return lattice_constant(kind(**setting)), lattice_constant(Espresso(**setting))


def lattice_constant(principle, near=5.47):
    """Of silicon, Å: the minimum of a parabola through three energies."""

    def silicon(strain):
        return Frames.from_ase([bulk("Si", a=near * (1 + strain))])

    strains, settled = (-0.02, 0.0, 0.02), principle.settled(silicon(0.0))
    energies = [settled(silicon(strain)).energy[0] for strain in strains]
    second, first, _ = np.polyfit(strains, energies, 2)
    return near * (1 - first / (2 * second))
