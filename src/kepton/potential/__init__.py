"""The rung DFT -> potential: architectures, training, exploration, files and calculator."""

from kepton.potential.ensemble import Ensemble, predict
from kepton.potential.explore import ExploreConfig
from kepton.potential.recipe import Recipe, default_model
from kepton.potential.rung import PotentialProblem
from kepton.potential.train import TrainConfig

__all__ = [
    "Ensemble",
    "ExploreConfig",
    "PotentialProblem",
    "Recipe",
    "TrainConfig",
    "default_model",
    "predict",
]
