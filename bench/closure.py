"""Learned moment closures beside classical ones, and their cost beside the kinetic solver's.

make bench-closure BENCH='--model runs/closure/model.kepton'
"""

import argparse
import time
from pathlib import Path

import jax
import numpy as np

from kepton.closure import (
    Case,
    Closure,
    InitialData,
    Kinetic,
    closed,
    kinetic,
    load_closure,
    relative_error,
)
from kepton.closure.fields import together

TIMES = (0.1, 0.2, 0.3)
KNUDSENS = (1e-3, 1e-2, 0.1, 1.0, 10.0)
FLUID = 1e-8
"""Knudsen number at which a closed system is Euler's equations"""


def drawn(kind: str, count: int, knudsen: float) -> Case:
    """Gases that no campaign has seen, all with one Knudsen number."""
    cases = together(InitialData(kinds=(kind,)).draw(count, 987654321))
    return Case.of(cases.initial, knudsen)


def momentum_alone(found, known) -> np.ndarray:
    """(b,) relative L2 error of the momentum to itself."""
    off = np.asarray(found.momentum) - np.asarray(known.momentum)
    return np.linalg.norm(off.reshape(len(off), -1), axis=1) / np.linalg.norm(
        np.asarray(known.momentum).reshape(len(off), -1), axis=1
    )


def errors(ensemble: Closure, count: int) -> None:
    order = ensemble.basis.order
    print(f"\nErrors in per cent over t = {TIMES}, mean and largest of {count} gases; 100 cells\n")
    print("| data | Kn | Euler | 5 moments, cut off |", end="")
    print(f" {order + 1} moments, cut off | learned | learned, momentum relative to itself |")
    print("|---|---|---|---|---|---|---|")
    for kind in ("waves", "riemann"):
        for knudsen in KNUDSENS:
            case = drawn(kind, count, knudsen)
            known = kinetic.solve(Kinetic(), case, TIMES).conserved
            fluid = Case.of(case.initial, FLUID)
            found = {
                "euler": closed.solve(Closure.none(4), fluid, TIMES),
                "five": closed.solve(Closure.none(4), case, TIMES),
                "cut": closed.solve(Closure.none(order), case, TIMES),
                "learned": closed.solve(ensemble.mean, case, TIMES),
            }
            off = [relative_error(one, known) for one in found.values()]
            off.append(momentum_alone(found["learned"], known))
            cells = [f"{100 * e.mean():.2f} / {100 * e.max():.2f}" for e in off]
            print(f"| {kind} | {knudsen:g} | {' | '.join(cells)} |", flush=True)


def seconds(function) -> float:
    """The shortest of three runs, after one that compiles."""
    jax.block_until_ready(function())
    spent = []
    for _ in range(3):
        start = time.perf_counter()
        jax.block_until_ready(function())
        spent.append(time.perf_counter() - start)
    return min(spent)


def cost(ensemble: Closure) -> None:
    print("\nSeconds to t = 0.3, 100 cells, Kn = 1\n")
    print("| data | gases | velocities | kinetic | closure | ratio |\n|---|---|---|---|---|---|")
    for kind in ("waves", "riemann"):
        for count in (1, 16):
            case = drawn(kind, count, 1.0)
            velocities = kinetic.solve(Kinetic(), case, [0.3]).velocities.values.shape[1]
            slow = seconds(lambda case=case: kinetic.solve(Kinetic(), case, [0.3]).parts)
            fast = seconds(lambda case=case: closed.solve(ensemble.mean, case, [0.3]))
            row = (kind, count, velocities, f"{slow:.4f}", f"{fast:.4f}", f"{slow / fast:.1f}")
            print(f"| {' | '.join(map(str, row))} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=Path("runs/closure/model.kepton"))
    parser.add_argument("--gases", type=int, default=8)
    options = parser.parse_args()
    ensemble, _ = load_closure(options.model)
    errors(ensemble, options.gases)
    cost(ensemble)


if __name__ == "__main__":
    main()
