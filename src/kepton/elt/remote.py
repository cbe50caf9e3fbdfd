"""Work that another process does: what may become of it, and a rung's work on models done there."""

from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor, Future
from typing import Any

from kepton.elt.problem import Problem
from kepton.errors import InputError

LOST_ALLOWED = 5
"""How often the worker of a piece of work may die, by chance, before it is given up"""


class WorkerDied(Exception):
    """The worker that did one piece of work died, and the executor goes on with others."""


class Pool:
    """An executor that is made when it is first needed, and anew after it was let go.

    Args:    executor: makes a `concurrent.futures.Executor`
    """

    def __init__(self, executor: Callable[[], Executor]):
        self._executor = executor
        self._made: Executor | None = None

    def submit(self, function: Callable, *args: Any) -> Future:
        """A future of function(*args)."""
        self._made = self._made or self._executor()
        return self._made.submit(function, *args)

    def close(self) -> None:
        """Let go of the executor and of what is in flight."""
        if self._made is not None:
            self._made.shutdown(wait=False, cancel_futures=True)
        self._made = None


class Modelling:
    """Has the problem work on models, by an executor where there is one, else here.

    Args:
        problem: the rung
        executor: makes a `concurrent.futures.Executor`
    """

    def __init__(self, problem: Problem, executor: Callable[[], Executor] | None):
        self.problem = problem
        self._pool = Pool(executor) if executor else None

    def __call__(self, work: str, *args: Any) -> Any:
        """What the problem's method of this name returns.

        Raises:
            InputError: workers died LOST_ALLOWED times
        """
        if self._pool is None:
            return _work(self.problem, work, *args)
        for _ in range(LOST_ALLOWED):
            try:
                return self._pool.submit(_work, self.problem, work, *args).result()
            except (WorkerDied, BrokenExecutor) as error:
                reason = error
                if isinstance(error, BrokenExecutor):
                    self._pool.close()
        raise InputError(
            f"The workers for models died {LOST_ALLOWED} times at the same work ({work}: "
            f"{reason}). Give them more time or memory and run the same command again."
        )

    def close(self) -> None:
        """Let go of the executor."""
        if self._pool is not None:
            self._pool.close()


def _work(problem: Problem, work: str, *args: Any) -> Any:
    return getattr(problem, work)(*args)
