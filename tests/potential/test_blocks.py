"""Large frames, whose atoms are looked at in blocks, against the same frames as a whole."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase.build import molecule
from deep_potentials import PLAIN, ensemble_of, random_potential

from kepton.atoms import Frames, concatenate_labels
from kepton.atoms.neighbors import neighbors
from kepton.potential import architecture
from kepton.potential.architecture import Architecture
from kepton.potential.cluster_expansion import ClusterExpansionConfig
from kepton.potential.train import fresh
from kepton.principles import ASECalculator

ROUNDING = 1e-12
"""Largest difference over the largest value, of sums in another order in float64"""


def rattled(atoms, seed, size=0.1):
    atoms = atoms.copy()
    atoms.rattle(size, seed=seed)
    return atoms


def organic():
    """A cell of three molecules, and one with fewer atoms."""
    box = molecule("CH3OH", vacuum=2.0, pbc=True)
    return [rattled(box.repeat((3, 1, 1)), 0), rattled(box.repeat((1, 2, 1)), 1)]


def cluster_expansion():
    """Two members with random weights and statistics of a liquid."""
    structures = organic()
    labels = [ASECalculator()(Frames.from_ase([atoms])) for atoms in structures]
    data = Frames.from_ase(structures), concatenate_labels(labels)
    config = ClusterExpansionConfig(PLAIN.species, cutoff_A=3.5, channels=6, hidden=8)
    return fresh("cluster_expansion", config, 2, [data], key=0)


MODELS = {
    "deep potential": lambda: ensemble_of(*(random_potential(s, core=True) for s in range(2))),
    "its nets at every neighbour": lambda: ensemble_of(random_potential(2, core=True).reference()),
    "shift of the mean": lambda: ensemble_of(random_potential(3, environment=True)),
    "cluster expansion": cluster_expansion,
}


def asked(ensemble, frames, lists):
    """What XLA makes of the members, the kernel left out."""

    @jax.jit
    def answers(members, frames, lists):
        return Architecture.answers(members, frames, lists, True)

    return answers(ensemble.members, frames, lists)


@pytest.mark.parametrize("block", [1, 7, 17])
@pytest.mark.parametrize("name", MODELS)
def test_blocks_are_parts_of_the_whole(name, block, monkeypatch):
    ensemble = MODELS[name]().with_dtype(jnp.float64)
    frames = Frames.from_ase(organic())
    lists = neighbors(frames, ensemble.cutoff, skin=0.5)
    whole = asked(ensemble, frames, lists)
    monkeypatch.setattr(architecture, "block_atoms", lambda _: block)
    for mine, his in zip(asked(ensemble, frames, lists), whole):
        np.testing.assert_allclose(mine, his, rtol=0, atol=ROUNDING * np.abs(his).max())
    assert np.abs(whole.forces).max() > 0.1
