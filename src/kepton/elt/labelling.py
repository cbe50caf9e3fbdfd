"""Labels in flight: samples go to workers, answers to the journal, whatever dies on the way."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from contextlib import closing
from typing import Any

from kepton.elt.journal import Journal, Outcome
from kepton.elt.problem import Failure, Problem
from kepton.elt.remote import LOST_ALLOWED, Pool, WorkerDied

DEATHS_ALLOWED = 2
"""How often a sample may be alone with a worker that dies before it counts as a failure."""


class Labelling:
    """Has samples of a journal labelled; what is late goes on while others use their time.

    Args:
        problem: the rung
        journal: holds the samples, and gets the answers
        executor: makes a `concurrent.futures.Executor`, anew whenever a worker has died
        workers: labels in flight at a time
        heard: is told how many labels have arrived, and of how many
    """

    def __init__(
        self,
        problem: Problem,
        journal: Journal,
        executor: Callable[[], Executor],
        workers: int,
        heard: Callable[[int, int], None],
    ):
        self.problem, self.journal = problem, journal
        self.workers, self.heard = workers, heard
        self._pool = Pool(executor)
        self._flying: dict[Future, str] = {}
        self._deaths: Counter[str] = Counter()
        self._lost: Counter[str] = Counter()

    def fetch(self, keys: Sequence[str], late: int = 0, patience: float = 0.0) -> None:
        """Have every sample labelled that is not yet, each answer recorded as it arrives.

        A worker that dies takes a pool of processes with it. The samples that were in flight are
        then tried one at a time, so that the one that kills workers is known and becomes a failure.
        Other executors lose the one sample, which is tried again.

        Args:
            keys: of the samples, with all that were late before
            late: when no more than so many are missing,
            patience: they are waited for so many seconds, and then stay in flight
        """
        known, flying = self.journal.outcomes(keys), set(self._flying.values())
        missing = [key for key in dict.fromkeys(keys) if key not in known and key not in flying]
        total, deadline = len(missing) + len(flying), None
        suspects = self._survivors() if any(map(_broke, self._flying)) else []
        while missing or suspects or self._flying:
            width = 1 if suspects else self.workers
            queue = suspects or missing
            while queue and len(self._flying) < width:
                self._submit(queue.pop(0))
            limit = None
            if not (suspects or missing) and len(self._flying) <= late:
                deadline = deadline or time.monotonic() + patience
                limit = max(0.0, deadline - time.monotonic())
            finished, _ = wait(self._flying, limit, FIRST_COMPLETED)
            if not finished:
                break
            broken = False
            for future in finished:
                if _broke(future):
                    broken = True
                    continue
                key = self._flying.pop(future)
                if isinstance(future.exception(), WorkerDied):
                    self._lost[key] += 1
                    if self._lost[key] < LOST_ALLOWED:
                        missing.append(key)
                        continue
                    reason = f"The worker that computed this label died, {LOST_ALLOWED} times."
                    self.journal.record(key, Outcome(None, reason, 0.0))
                else:
                    self.journal.record(key, self._outcome(future))
                self.heard(total - len(missing) - len(suspects) - len(self._flying), total)
            if broken:
                suspects += self._survivors()
        for future in self._flying:
            future.add_done_callback(self._arrived)

    def close(self) -> None:
        """Let go of the executor and of what is in flight; the next label makes another."""
        self._flying = {}
        self._pool.close()

    def _survivors(self) -> list[str]:
        """What was in flight in a pool that broke, without the sample that is known to break it."""
        flying = list(self._flying.values())
        self.close()
        if len(flying) > 1:
            return flying
        (key,) = flying
        self._deaths[key] += 1
        if self._deaths[key] < DEATHS_ALLOWED:
            return [key]
        reason = "The worker that computed this label died, twice."
        self.journal.record(key, Outcome(None, reason, 0.0))
        return []

    def _submit(self, key: str) -> None:
        sample = self.problem.decode(self.journal.sample(key))
        try:
            future = self._pool.submit(_timed, self.problem.label, sample)
        except BrokenExecutor as error:
            future = Future()
            future.set_exception(error)
        self._flying[future] = key

    def _arrived(self, future: Future) -> None:
        """Record a late answer at once, while nobody waits for it, from the executor's thread."""
        key = self._flying.get(future)
        if key is not None and not future.cancelled() and future.exception() is None:
            with closing(Journal(self.journal.path)) as journal:
                journal.record(key, self._outcome(future))

    def _outcome(self, future: Future) -> Outcome:
        answer, seconds = future.result()
        if isinstance(answer, Failure):
            return Outcome(None, answer.reason, seconds)
        return Outcome(self.problem.encode(answer), None, seconds)


def _broke(future: Future) -> bool:
    return future.done() and isinstance(future.exception(), BrokenExecutor)


def _timed(label: Callable, sample: Any) -> tuple[Any, float]:
    start = time.monotonic()
    return label(sample), time.monotonic() - start
