"""A molecule whose labels cost nothing, and a small ensemble trained on it."""

from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms

from kepton.atoms import Frames, concatenate
from kepton.atoms.frames import concatenate_labels
from kepton.potential import TrainConfig
from kepton.potential.deep_potential import DeepPotentialConfig
from kepton.potential.geometry import Gate, perturbed
from kepton.potential.train import fresh, train
from kepton.principles import ASECalculator

SIZES = {"basis": 12, "embedding": (4, 8), "axis": 4, "fitting": (16, 16)}
MODEL = DeepPotentialConfig((1, 6, 8), **SIZES)
TRAINING = TrainConfig(steps=400, warm_steps=100, batch=10, rate=1e-2)


def molecule():
    """Formaldehyde near the minimum of the effective medium theory (EMT) of ASE."""
    return Atoms("COH2", [[0, 0, 0], [1.25, 0, 0], [-0.6, 0.95, 0], [-0.6, -0.95, 0]])


@pytest.fixture(scope="session")
def start():
    return Frames.from_ase([molecule()])


@pytest.fixture(scope="session")
def labelled(start):
    """Thirty frames and labels: twenty to train on, ten to test on.

    They are twice as far from the start as first samples are, so that dynamics stays among them.
    """
    near = perturbed([start], 30, Gate.of([start]), seed=0)
    samples = [start.with_positions(2 * x.positions - start.positions) for x in near]
    principle = ASECalculator()
    return concatenate(samples), concatenate_labels([principle(sample) for sample in samples])


@pytest.fixture(scope="session")
def twenty(labelled):
    return labelled[0][:20], labelled[1][:20]


@pytest.fixture(scope="session")
def untrained(twenty):
    return fresh("deep_potential", MODEL, 2, [twenty], key=0)


@pytest.fixture(scope="session")
def trained(twenty, untrained):
    return train([twenty], TRAINING, untrained, key=0)


@pytest.fixture(scope="session")
def broken(trained):
    """A model whose forces are a thousand times too large, and in the wrong direction."""
    statistics = trained.members.statistics
    wrong = statistics | {"scale": -1e3 * statistics["scale"]}
    return replace(trained, members=replace(trained.members, statistics=wrong))


def rms(values):
    return float(np.sqrt(np.mean(np.asarray(values) ** 2)))
