"""The ELT loop: exploration, labeling, training. It knows no physics."""

from kepton.elt.problem import Exploration, Failure, Problem

__all__ = ["Exploration", "Failure", "Problem"]
