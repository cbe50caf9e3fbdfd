"""Work that another process does: what may become of it, and a rung's work on models done there."""

from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor
from typing import Any

from kepton.elt.problem import Problem
from kepton.errors import InputError

LOST_ALLOWED = 5
"""How often the worker of a piece of work may die, by chance, before it is given up"""


class WorkerDied(Exception):
    """The worker that did one piece of work died, and the executor goes on with others."""


class Modelling:
    """Has the problem work on models, by an executor where there is one, else here.

    Args:
        problem: the rung
        executor: makes a `concurrent.futures.Executor`
    """

    def __init__(self, problem: Problem, executor: Callable[[], Executor] | None):
        self.problem, self.executor = problem, executor
        self._pool: Executor | None = None

    def __call__(self, work: str, *args: Any) -> Any:
        """What the problem's method of this name returns.

        Raises:
            InputError: workers died LOST_ALLOWED times
        """
        if self.executor is None:
            return _work(self.problem, work, *args)
        for _ in range(LOST_ALLOWED):
            self._pool = self._pool or self.executor()
            try:
                return self._pool.submit(_work, self.problem, work, *args).result()
            except (WorkerDied, BrokenExecutor) as error:
                reason = error
                if isinstance(error, BrokenExecutor):
                    self.close()
        raise InputError(
            f"The workers for models died {LOST_ALLOWED} times at the same work ({work}: "
            f"{reason}). Give them more time or memory and run the same command again."
        )

    def close(self) -> None:
        """Let go of the executor."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
        self._pool = None


def _work(problem: Problem, work: str, *args: Any) -> Any:
    return getattr(problem, work)(*args)
