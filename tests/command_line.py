"""The command line as a user runs it, and the campaign file of the tests."""

import subprocess
import sys

from ase import Atoms

WATER = Atoms("OHH", [[0.0, 0.0, 0.0], [0.76, 0.59, 0.0], [-0.76, 0.59, 0.0]])

CAMPAIGN = """
[system]
structure = "water.xyz"
[principle]
kind = "xtb"
method = "gfn1"
[target]
force_error = 0.2
confidence = 0.8
coverage = 0.8
[budget]
labels = 80
[explore]
temperature_K = 400
walkers = 8
walk_fs = 100
audit_fs = 100
[run]
seed_labels = 16
[model]
ensemble_size = 2
channels = 8
basis = 12
embedding = [4, 8]
axis = 4
fitting = [16, 16]
[train]
steps = 400
warm_steps = 200
"""


def kepton(*arguments, cwd, check=None):
    """Run the command line as a user does; no traceback may ever be seen."""
    done = subprocess.run(
        [sys.executable, "-m", "kepton.cli", *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert "Traceback" not in done.stderr, done.stderr
    if check is not None:
        assert done.returncode == check, done.stdout + done.stderr
    return done
