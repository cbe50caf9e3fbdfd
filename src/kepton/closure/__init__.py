"""The rung kinetic equation -> moment closure."""

from kepton.closure.fields import Case, Conserved, Fields
from kepton.closure.kinetic import Kinetic
from kepton.closure.label import Label, label, relative_error

__all__ = ["Case", "Conserved", "Fields", "Kinetic", "Label", "label", "relative_error"]
