"""The rung kinetic equation -> moment closure."""

from kepton.closure.boltzmann import Boltzmann
from kepton.closure.closure import Closure
from kepton.closure.difference import relative_error
from kepton.closure.equation import Kinetic
from kepton.closure.fields import Case, Conserved, Fields
from kepton.closure.file import load_closure
from kepton.closure.initial import InitialData
from kepton.closure.label import Label, label
from kepton.closure.rung import ClosureProblem
from kepton.closure.train import Training

__all__ = [
    "Boltzmann",
    "Case",
    "Closure",
    "ClosureProblem",
    "Conserved",
    "Fields",
    "InitialData",
    "Kinetic",
    "Label",
    "Training",
    "label",
    "load_closure",
    "relative_error",
]
