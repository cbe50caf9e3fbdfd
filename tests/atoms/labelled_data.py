"""Labelled data that the tests of this room write and read."""

import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.calculators.emt import EMT

from kepton.atoms import Frames, Label
from kepton.errors import InputError


def copper(count=3):
    """Shaken and sheared copper, with all that EMT says of it."""
    structures = []
    for seed in range(count):
        atoms = bulk("Cu", cubic=True)
        atoms.set_cell(atoms.cell.array @ [[1.0, 0.05, 0.0], [0.0, 0.97, 0.0], [0.0, 0.02, 1.01]])
        atoms.rattle(0.1, seed=seed)
        atoms.calc = EMT()
        atoms.get_stress()
        structures.append(atoms)
    return structures


def labelled(structures, seed=0, virial=False):
    """Frames of some structures with random labels."""
    frames, rng = Frames.from_ase(structures), np.random.default_rng(seed)
    b, n = frames.mask.shape
    return frames, Label(
        energy=rng.normal(size=b) - 1e3 * frames.mask.sum(axis=1),
        forces=rng.normal(size=(b, n, 3)) * frames.mask[..., None],
        virial=rng.normal(size=(b, 3, 3)) if virial else np.full((b, 3, 3), np.nan),
        engine="emt 1.0 of 3",
    )


def molecules():
    cation = molecule("H2O")
    cation.info |= {"charge": 1, "spin": 1}
    return [molecule("CH3CH2OH"), cation, molecule("H2O"), molecule("CH3CH2OH")]


def assert_same(a, b, exact=False):
    """Two labelled data sets agree to the 8 decimals of extxyz, or to the last bit."""
    tolerance = 0.0 if exact else 1e-8
    for name in ("positions", "cell"):
        difference = getattr(a[0], name) - getattr(b[0], name)
        assert np.abs(difference).max() <= tolerance, name
    for name in ("species", "pbc", "mask", "charge", "spin", "composition"):
        assert np.array_equal(getattr(a[0], name), getattr(b[0], name)), name
    assert np.array_equal(a[1].energy, b[1].energy)
    assert np.allclose(a[1].forces, b[1].forces, rtol=0.0, atol=tolerance, equal_nan=True)
    assert np.array_equal(a[1].virial, b[1].virial, equal_nan=True)


def error_of(call, *parts):
    """The message of the InputError that a call raises: one paragraph with all of the parts."""
    with pytest.raises(InputError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert str(part) in message
    return message
