"""The small campaign by workers of MPI, run by `python -m mpi4py.futures`: see `test_execution`."""

import sys
from pathlib import Path

from analytic import SMALL, Analytic, essence

from kepton.elt.journal import Journal
from kepton.elt.run import run
from kepton.execution import executors

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    problem = Analytic(log=folder / "log", deadly=tuple(map(float, sys.argv[2:])) or (2.0, 2.0))
    journal = Journal(folder / "journal.db", problem.settings)
    result = run(problem, SMALL, journal, executors("mpi", 2, None).labels, 2)
    (folder / "essence").write_text(essence(result.state))
