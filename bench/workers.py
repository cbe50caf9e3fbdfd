"""The loop on 1 to 64 workers, labels and trainings replaced by sleeps: `make bench-workers`.

The journal, the campaign and what is chosen are real; the rung is the curve of the tests. A minute
lasts 0.03 s. A label takes 10 minutes on average, lognormal; a training and an exploration take one
each, a distillation five. The ideal is the time of all labels shared out evenly, and all else.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl
import numpy as np

from kepton.elt import Goal, Journal, campaign, run

mpl.use("Agg")
import matplotlib.pyplot as plt

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "tests" / "elt"))
from analytic import Analytic  # noqa: E402

MINUTE = 0.03
"""Seconds"""
LABEL, TRAIN, EXPLORE, DISTIL = 10.0, 1.0, 1.0, 5.0
"""Minutes"""
GOAL = Goal(target=0.02)
LATE = campaign.LATE


def last(minutes: float) -> None:
    time.sleep(MINUTE * minutes)


@dataclass(frozen=True)
class Slow(Analytic):
    """The curve of the tests, with the costs of a campaign; `sigma` is of the labels' logarithm."""

    sigma: float = 0.6

    def label(self, sample):
        noise = np.random.default_rng(int(1e9 * (sample + 2.0))).standard_normal()
        last(LABEL * np.exp(self.sigma * noise - 0.5 * self.sigma**2))
        return super().label(sample)

    def train(self, data, models, key):
        last(TRAIN)
        return super().train(data, models, key)

    def explore(self, models, data, trust, key):
        last(EXPLORE)
        return super().explore(models, data, trust, key)

    def distil(self, models, former, data, key):
        last(DISTIL)
        return super().distil(models, former, data, key)

    def audit(self, models, count, key):
        last(EXPLORE)
        return super().audit(models, count, key)


class Point(NamedTuple):
    """One campaign; times in hours."""

    workers: int
    waits: bool
    seed: int
    labels: int
    late: int
    minutes: float  # that the labels of a round take, of rounds that may have late ones
    audits: float
    hours: float
    ideal: float


def measure(workers: int, waits: bool, sigma: float, seed: int) -> Point:
    """A campaign, as it is or with every round waiting for all its labels."""
    campaign.LATE = 0.0 if waits else LATE
    with tempfile.TemporaryDirectory() as folder:
        problem = Slow(sigma=sigma)
        journal = Journal(Path(folder) / "journal.db", problem.settings)
        goal = Goal(target=GOAL.target, seed=seed)
        result = run(problem, goal, journal, lambda: ThreadPoolExecutor(workers), workers)
        events = journal.events()
        chosen = sum(
            len(event.data.get("explored", ())) + len(event.data.get("typical", ()))
            for event in events
        )
        prompt, now, rounds, audits = 0, set(), [], 0.0
        for event in events:
            if event.kind == "explored":
                now = {*event.data["explored"], *event.data["typical"]}
            if event.kind == "labelled" and now:
                prompt += len(now & {outcome["key"] for outcome in event.data["outcomes"]})
                rounds.append(event.data["seconds"])
                now = set()
            elif event.kind == "labelled" and rounds:
                audits += event.data["seconds"]
        paid = sum(outcome.seconds for outcome in journal.outcomes().values())
        total = sum(result.state.seconds.values())
        serial = total - result.state.seconds["labelled"]
        hour = 60.0 * MINUTE
        return Point(
            workers,
            waits,
            seed,
            result.state.labels,
            chosen - prompt,
            float(np.mean(rounds)) / MINUTE,
            audits / hour,
            total / hour,
            (paid / workers + serial) / hour,
        )


def row(points: Sequence[Point]) -> str:
    labels, late, minutes, audits, hours, ideal = np.mean([p[3:] for p in points], axis=0)
    how = "for all" if points[0].waits else "for three quarters"
    return (
        f"| {points[0].workers} | {how} | {labels:.0f} | {late:.0f} | {minutes:.1f} | "
        f"{audits:.2f} | {hours:.2f} | {ideal:.2f} |"
    )


def plot(points: Sequence[Point], path: Path) -> None:
    figure, axis = plt.subplots(figsize=(4.6, 3.4))
    counts = sorted({point.workers for point in points})

    def mean(waits: bool, name: str) -> list[float]:
        own = [p for p in points if p.waits == waits]
        return [np.mean([getattr(p, name) for p in own if p.workers == n]) for n in counts]

    axis.loglog(counts, mean(True, "hours"), "s-", color="C1", label="rounds wait for all")
    axis.loglog(counts, mean(False, "hours"), "o-", color="C0", label="stragglers join later")
    axis.loglog(counts, mean(False, "ideal"), "--", color="0.4", label="no worker ever idle")
    hours = [2, 5, 10, 20, 40]
    axis.set_yticks(hours, [str(n) for n in hours])
    axis.set_xticks(counts, [str(n) for n in counts])
    axis.minorticks_off()
    axis.set_xlabel("workers")
    axis.set_ylabel("campaign, hours (simulated)")
    axis.grid(alpha=0.3)
    axis.legend(frameon=False)
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 4, 16, 64])
    parser.add_argument("--sigma", type=float, default=0.6)
    parser.add_argument("--seeds", type=int, default=16)
    parser.add_argument("--plot", type=Path, default=ROOT / "bench" / "workers.png")
    options = parser.parse_args()
    cases = list(product(options.workers, (True, False), range(options.seeds)))
    with ProcessPoolExecutor(options.seeds) as pool:
        futures = [pool.submit(measure, n, waits, options.sigma, s) for n, waits, s in cases]
        points = [future.result() for future in futures]
    print("| workers | a round waits | labels | late | a round's labels, min | audits, h |", end="")
    print(" all, h | ideal, h |\n|---|---|---|---|---|---|---|---|")
    for count, waits in product(options.workers, (True, False)):
        print(row([p for p in points if (p.workers, p.waits) == (count, waits)]))
    plot(points, options.plot)


if __name__ == "__main__":
    main()
