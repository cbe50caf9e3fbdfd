"""The whole loop as a library: water at GFN2-xTB, learnt and certified."""

from pathlib import Path

import ase
from kepton.atoms import Frames
from kepton.elt import Goal, Journal, run
from kepton.execution import process_pool
from kepton.potential import ExploreConfig, PotentialProblem, Recipe
from kepton.principles import XTB


def main(directory: Path) -> None:
    """Certify water at GFN2-xTB in a directory, and print what came out."""
    water = Frames.from_ase([ase.Atoms("OHH", [[0, 0, 0], [0.76, 0.59, 0], [-0.76, 0.59, 0]])])
    brief = {"steps": 2000, "warm_steps": 1000}  # of three atoms not more is needed
    learner = Recipe.of("cluster_expansion", [water], training=brief)
    conditions = ExploreConfig(walkers=32, walk_fs=500.0, audit_fs=500.0)
    problem = PotentialProblem((water,), XTB("GFN2-xTB"), conditions, learner)
    goal = Goal(target=0.1, labels=200)
    journal = Journal(directory / "campaign.db", problem.settings)
    result = run(problem, goal, journal, lambda: process_pool(2), workers=2)
    print(result.stop.reason, result.state.labels, "labels")


if __name__ == "__main__":
    main(Path("."))
