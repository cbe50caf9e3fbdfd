"""The ELT loop: exploration, labeling, training. It knows no physics."""

from kepton.elt.campaign import Campaign, Goal, State, Stop
from kepton.elt.journal import Journal
from kepton.elt.problem import Exploration, Failure, Problem
from kepton.elt.run import Observer, Result, replay, run

__all__ = [
    "Campaign",
    "Exploration",
    "Failure",
    "Goal",
    "Journal",
    "Observer",
    "Problem",
    "Result",
    "State",
    "Stop",
    "replay",
    "run",
]
