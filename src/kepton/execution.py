"""Where work is done: in processes of this machine, or by workers that Parsl or MPI start."""

import importlib
import multiprocessing
import os
import runpy
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from kepton.elt.remote import WorkerDied
from kepton.errors import InputError, did_you_mean

KINDS = ("processes", "parsl", "mpi")
MODELS = "models"
"""Label of the executor of Parsl that works on models, where there is one"""


class Executors(NamedTuple):
    """What makes executors, anew whenever it is called.

    Args:
        labels: for the principle
        models: for exploration, training, distillation and audits; none: the campaign's own process
    """

    labels: Callable[[], Executor]
    models: Callable[[], Executor] | None = None


def executors(kind: str, workers: int, parsl: Path | None) -> Executors:
    """Where a campaign's work is done.

    Args:
        kind: one of KINDS
        workers: labels in flight at a time
        parsl: a Python file that defines `config`, a `parsl.Config`; none: workers of this machine
    Raises:
        InputError: another kind, a package that is not installed, a wrong file
    """
    match kind:
        case "processes":
            return Executors(lambda: process_pool(workers))
        case "parsl":
            _needs("parsl", "parsl")
            config = partial(_parsl_config, parsl, workers)
            known, kernel = [one.label for one in config().executors], _Kernel(config)
            others = [label for label in known if label != MODELS]
            if not others:
                raise InputError(
                    f"[run] parsl = '{parsl}' has no executor but {MODELS!r}, which computes no "
                    "labels; add one for them."
                )
            models = (lambda: ParslPool(kernel, [MODELS])) if MODELS in known else None
            return Executors(lambda: ParslPool(kernel, others), models)
        case "mpi":
            mpi = _needs("mpi4py.futures", "mpi")
            return Executors(lambda: mpi.MPIPoolExecutor(workers))
    raise InputError(
        f"[run] executor = {kind!r} is not known{did_you_mean(kind, KINDS)}; give one of "
        f"{', '.join(KINDS)}."
    )


def _needs(module: str, extra: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise InputError(
            f"[run] executor = {extra!r} needs a package that is not installed ({error}); run: "
            f"pip install 'kepton[{extra}]'"
        ) from error


def _parsl_config(path: Path | None, workers: int) -> Any:
    import parsl

    if path is None:
        local = parsl.HighThroughputExecutor(
            label="kepton",
            address="127.0.0.1",
            loopback_address="127.0.0.1",
            max_workers_per_node=workers,
            encrypted=True,
        )
        return parsl.Config(executors=[local])
    if not path.is_file():
        raise InputError(f"[run] parsl = '{path}': there is no such file; name a Python file.")
    try:
        config = runpy.run_path(str(path)).get("config")
    except Exception as error:
        raise InputError(
            f"[run] parsl = '{path}' cannot be run ({type(error).__name__}: {error}); correct it."
        ) from error
    if not isinstance(config, parsl.Config):
        raise InputError(
            f"[run] parsl = '{path}' defines no `config` that is a parsl.Config; see the "
            "configurations of clusters in Parsl's user guide."
        )
    return config


def process_pool(workers: int) -> ProcessPoolExecutor:
    """A pool of fresh processes that end when their parent does.

    Sets OMP_NUM_THREADS and its like to 1 in the environment that the workers inherit, where they
    are not set: one thread a worker is the fastest way to share cores.
    """
    for library in ("OMP", "OPENBLAS", "MKL"):
        os.environ.setdefault(f"{library}_NUM_THREADS", "1")
    context = multiprocessing.get_context("spawn")
    return _Pool(workers, mp_context=context, initializer=_worker, initargs=(os.getpid(),))


class _Pool(ProcessPoolExecutor):
    """Its workers leave Ctrl-C to the parent from their first moment, since they inherit that."""

    def submit(self, fn, /, *args, **kwargs):
        if threading.current_thread() is not threading.main_thread():
            return super().submit(fn, *args, **kwargs)
        handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            return super().submit(fn, *args, **kwargs)
        finally:
            signal.signal(signal.SIGINT, handler)


def _worker(parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent to answer

    def watch():
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


class _Kernel:
    """Parsl itself: started when it is first needed, and anew after it has ended.

    Args:    config: makes a `parsl.Config`
    """

    def __init__(self, config: Callable[[], Any]):
        self._config, self._running = config, None

    def running(self) -> Any:
        if self._running is None:
            self._running = self._started()
        return self._running

    def _started(self) -> Any:
        import parsl

        # Parsl starts its own programs by name, and those stand beside the interpreter
        programs = str(Path(sys.executable).parent)
        if programs not in os.environ["PATH"].split(os.pathsep):
            os.environ["PATH"] = os.pathsep.join([programs, os.environ["PATH"]])
        # JAX warns of every fork, and Parsl's are followed by exec at once
        warnings.filterwarnings("ignore", r"os\.fork\(\) was called", RuntimeWarning)
        return parsl.DataFlowKernel(self._config())

    def give_up(self, kernel: Any) -> None:
        if self._running is kernel:
            self._running = None
            threading.Thread(target=kernel.cleanup).start()

    def end(self, wait: bool) -> None:
        kernel, self._running = self._running, None
        if kernel is not None:
            if wait:
                kernel.wait_for_current_tasks()
            kernel.cleanup()


class ParslPool(Executor):
    """Workers that Parsl starts, on Slurm, PBS, Kubernetes and others, or here.

    A task whose worker or manager was lost raises `WorkerDied`. Parsl starts others; where it gives
    up, since too many of its jobs ended with an error, it is started anew.

    Args:
        kernel: shared by the pools of one configuration; all end together
        executors: labels of those of its executors that do the work
    Source:  Babuji et al., HPDC 2019, 25
    """

    def __init__(self, kernel: _Kernel, executors: Sequence[str]):
        from parsl.executors.errors import BadStateException, ExecutorError
        from parsl.executors.high_throughput.errors import ManagerLost, WorkerLost

        self._lost = (ManagerLost, WorkerLost)
        self._given_up = (BadStateException, ExecutorError)
        self._kernel = kernel
        self._executors: Any = list(executors)

    def submit(self, fn: Callable, /, *args: Any, **kwargs: Any) -> Future:
        """A future of fn(*args, **kwargs), on one of the workers."""
        from parsl.app.python import PythonApp

        kernel = self._kernel.running()
        app = PythonApp(fn, data_flow_kernel=kernel, executors=self._executors)
        future: Future = Future()

        def done(task: Future) -> None:
            error = task.exception()
            if isinstance(error, self._given_up):
                self._kernel.give_up(kernel)
            if isinstance(error, (*self._lost, *self._given_up)):
                future.set_exception(WorkerDied(str(error)))
            elif error is not None:
                future.set_exception(error)
            else:
                future.set_result(task.result())

        app(*args, **kwargs).add_done_callback(done)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End all workers; tasks that run are lost where they are not waited for."""
        self._kernel.end(wait and not cancel_futures)
