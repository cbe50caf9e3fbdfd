"""Labels computed by workers that Parsl starts, which die at random; wrong configurations."""

import importlib.util
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from analytic import SMALL, Analytic, climb, essence

from kepton.elt.journal import Journal
from kepton.elt.run import run
from kepton.errors import InputError
from kepton.execution import executors

needs_parsl = pytest.mark.skipif(
    importlib.util.find_spec("parsl") is None, reason="parsl is not installed (kepton[parsl])"
)

CONFIG = """
import parsl
from parsl.providers import LocalProvider

config = parsl.Config(
    executors=[
        parsl.HighThroughputExecutor(
            address="127.0.0.1",
            loopback_address="127.0.0.1",
            encrypted=True,
            max_workers_per_node=2,
            heartbeat_period=1,
            heartbeat_threshold=3,
            provider=LocalProvider(init_blocks=1, max_blocks=1),
        )
    ],
    run_dir={run_dir!r},
    strategy_period=0.5,
    usage_tracking=0,
)
"""


def workers_of(run_dir: Path) -> list[int]:
    """Processes of the pools that Parsl started with this folder, managers before their workers."""
    found = []
    for process in Path("/proc").iterdir():
        try:
            words = (process / "cmdline").read_bytes().decode(errors="replace")
        except OSError:
            continue
        if "process_worker_pool" in words and str(run_dir) in words:
            found.append(int(process.name))
    return sorted(found)


class Killer(threading.Thread):
    """Kills a worker, or the manager of all of them, whenever some more labels were begun."""

    def __init__(self, run_dir: Path, log: Path, labels: int):
        super().__init__(daemon=True)
        self.run_dir, self.log, self.labels = run_dir, log, labels
        self.killed, self.over = 0, threading.Event()

    def run(self):
        dice, seen = random.Random(1), 0
        while not self.over.wait(0.1):
            begun = len(self.log.read_text().split()) if self.log.exists() else 0
            processes = workers_of(self.run_dir)
            if processes and begun >= seen + self.labels:
                seen = begun
                victim = dice.choice(processes)
                os.kill(victim, signal.SIGKILL)
                self.killed += 1


@needs_parsl
@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks for workers in /proc")
def test_parsl_workers_killed_at_random_change_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    whole = climb(tmp_path / "whole.db", SMALL)
    file = tmp_path / "config.py"
    file.write_text(CONFIG.format(run_dir=str(tmp_path / "parsl")))
    problem = Analytic(log=tmp_path / "log", spread=0.4)
    journal = Journal(tmp_path / "journal.db", problem.settings)
    killer = Killer(tmp_path / "parsl", problem.log, 6)
    killer.start()
    result = run(problem, SMALL, journal, executors("parsl", 2, file).labels, 2)
    killer.over.set()
    killer.join()
    assert killer.killed >= 4
    assert essence(result.state) == essence(whole.state)
    assert result.stop == whole.stop
    # every finished label is in the journal once; a killed one is begun anew
    assert len(journal.outcomes()) == result.state.labels
    begun = (tmp_path / "log").read_text().split()
    assert len(begun) - len(set(begun)) <= 2 * killer.killed
    deadline = time.monotonic() + 20.0
    while workers_of(tmp_path / "parsl") and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not workers_of(tmp_path / "parsl")


@needs_parsl
def test_without_a_file_parsl_starts_workers_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    pool = executors("parsl", 1, None).labels()
    try:
        assert pool.submit(pow, 2, 5).result(60) == 32
        with pytest.raises(ZeroDivisionError):
            pool.submit(divmod, 1, 0).result(60)
    finally:
        pool.shutdown()


TWO = """
import parsl
from parsl.providers import LocalProvider

def workers(label):
    return parsl.HighThroughputExecutor(
        label=label,
        address="127.0.0.1",
        loopback_address="127.0.0.1",
        encrypted=True,
        max_workers_per_node=1,
        provider=LocalProvider(init_blocks=1, max_blocks=1, worker_init="export ROOM=" + label),
    )

config = parsl.Config(
    executors=[workers("labels"), workers("models")], run_dir={run_dir!r}, usage_tracking=0
)
"""


@needs_parsl
def test_an_executor_of_parsl_for_models_does_that_work_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    file = tmp_path / "config.py"
    file.write_text(TWO.format(run_dir=str(tmp_path / "parsl")))
    made = executors("parsl", 1, file)
    labels, models = made.labels(), made.models()
    try:
        assert {labels.submit(os.getenv, "ROOM").result(60) for _ in range(3)} == {"labels"}
        assert {models.submit(os.getenv, "ROOM").result(60) for _ in range(3)} == {"models"}
    finally:
        models.shutdown()
    # one kernel serves both, so it has ended for both, and starts anew when it is needed
    try:
        assert labels.submit(os.getenv, "ROOM").result(60) == "labels"
    finally:
        labels.shutdown()


@needs_parsl
def test_the_example_for_slurm_is_a_configuration():
    file = Path(__file__).resolve().parents[2] / "examples" / "parsl-slurm.py"
    executors("parsl", 64, file)


@pytest.mark.skipif(
    importlib.util.find_spec("mpi4py") is None or shutil.which("mpiexec") is None,
    reason="needs mpi4py (kepton[mpi]) and an MPI with mpiexec",
)
@pytest.mark.parametrize("deadly", [(), ("-0.2", "-0.1")], ids=["whole", "a worker dies"])
def test_workers_of_mpi_change_nothing(tmp_path, deadly):
    """A worker that dies takes all of MPI's processes with it; the same command goes on."""
    open_mpi = {"ALLOW_RUN_AS_ROOT": "1", "ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    environment = os.environ | {f"OMPI_{name}": value for name, value in open_mpi.items()}
    environment |= {
        "OMPI_MCA_rmaps_base_oversubscribe": "1",
        "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    command = ["mpiexec", "-n", "3", sys.executable, "-m", "mpi4py.futures", "-m", "mpi_campaign"]

    def campaign(*arguments):
        return subprocess.run(
            [*command, tmp_path, *arguments],
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    if deadly:
        assert campaign(*deadly).returncode != 0
        assert not (tmp_path / "essence").exists()
    done = campaign()
    assert done.returncode == 0, done.stderr
    whole = climb(tmp_path / "whole.db", SMALL)
    assert (tmp_path / "essence").read_text() == essence(whole.state)
    begun = (tmp_path / "log").read_text().split()
    assert len(begun) - len(set(begun)) <= (2 if deadly else 0)


def test_processes_are_the_default():
    with executors("processes", 1, None).labels() as pool:
        assert pool.submit(pow, 2, 5).result() == 32


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("config = 3", "defines no `config`"),
        ("config = 1 / 0", "cannot be run .ZeroDivisionError"),
        (None, "there is no such file"),
        (
            "import parsl\nconfig = parsl.Config("
            "executors=[parsl.ThreadPoolExecutor(label='models')])",
            "no executor but 'models'",
        ),
    ],
)
@needs_parsl
def test_a_wrong_configuration_is_told(tmp_path, text, told):
    file = tmp_path / "config.py"
    if text is not None:
        file.write_text(text)
    with pytest.raises(InputError, match=told):
        executors("parsl", 2, file)


def test_an_unknown_executor_is_told():
    with pytest.raises(InputError, match=r"'parsel' is not known \(did you mean 'parsl'\?\)"):
        executors("parsel", 2, None)


def test_a_missing_package_names_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "mpi4py.futures", None)
    with pytest.raises(InputError, match=r"pip install 'kepton\[mpi\]'"):
        executors("mpi", 2, None)
