"""Learned moment closures beside classical ones, and their cost beside the kinetic solver's.

make bench-closure BENCH='--campaign runs/closure'
"""

import argparse
import time
from pathlib import Path

import jax
import numpy as np

import hme
from kepton.closure import (
    Case,
    Closure,
    ClosureProblem,
    Conserved,
    Fields,
    InitialData,
    Kinetic,
    closed,
    kinetic,
    load_closure,
    relative_error,
)
from kepton.closure.fields import conserved, drift, fields_of, seen_from, together
from kepton.elt.select import Calibration, diverse

TIMES = (0.1, 0.2, 0.3)
KNUDSENS = (1e-3, 1e-2, 0.1, 1.0, 10.0)
SPLIT = 0.005
"""Time of a step of Euler's equations and of one of heat conduction"""
FLUID = 1e-8
"""Knudsen number at which a closed system is Euler's equations"""


def drawn(kind: str, count: int, knudsen: float) -> Case:
    """Gases that no campaign has seen, all with one Knudsen number."""
    cases = together(InitialData(kinds=(kind,)).draw(count, 987654321))
    return Case.of(cases.initial, knudsen)


def navier_stokes(equation: Kinetic, case: Case, times) -> Conserved:
    """Navier, Stokes and Fourier of the kinetic equation, with its own viscosity and conductivity.

    Euler's equations in turn with, by backward Euler, rho u_t = (4 mu u_x / 3)_x, mu = Pr Kn p, and
    D rho theta_t / 2 = (kappa theta_x)_x + 4 mu u_x^2 / 3, kappa = (D + 2) Kn p / 2; in one
    dimension of velocity space there is no viscosity. Boltzmann's equation has Kn / rho for Kn.
    """
    moving, now, seen = seen_from(case, drift(case)), 0.0, []
    d = equation.dimensions
    state = conserved(moving.initial, d)
    for number in range(1, round(times[-1] / SPLIT) + 1):
        fluid = Case.of(fields_of(state, d), FLUID)
        found = closed.solve(Closure.none(4, equation), fluid, [SPLIT])
        rho, u, theta = fields_of(Conserved(*(np.asarray(part)[:, 0] for part in found)), d)
        kn = np.asarray(case.knudsen)[:, None] / equation.frequency(rho)
        mu = equation.prandtl * kn * rho * theta if d == 3 else 0.0 * rho
        u = spread(rho, u, 4.0 / 3.0 * mu, 0.0)
        steeper = (np.roll(u, -1, axis=1) - u) ** 2 * 2.0 / 3.0 * case.cells**2
        steeper = (mu + np.roll(mu, -1, axis=1)) * steeper  # of the face behind a cell
        heat = 0.5 * (steeper + np.roll(steeper, 1, axis=1))
        theta = spread(0.5 * d * rho, theta, 0.5 * (d + 2) * kn * rho * theta, heat)
        state = conserved(Fields(rho, u, theta), d)
        now = number * SPLIT
        if np.isclose(now, times).any():
            seen.append(state)
    return Conserved(*(np.stack(parts, axis=1) for parts in zip(*seen)))


def spread(weight, values, coefficient, source) -> np.ndarray:
    """(b, n) after weight dq/dt = (coefficient q_x)_x + source for a time SPLIT."""
    n = values.shape[1]
    face = 0.5 * (coefficient + np.roll(coefficient, -1, axis=1)) * n**2 * SPLIT  # behind cell i
    here, ahead = np.eye(n), np.roll(np.eye(n), 1, axis=1)
    gradient = ahead - here  # of cell i and the next
    matrix = weight[:, :, None] * here + np.einsum("fi,bf,fj->bij", gradient, face, gradient)
    return np.linalg.solve(matrix, (weight * values + SPLIT * source)[..., None])[..., 0]


def momentum_alone(found, known) -> np.ndarray:
    """(b,) relative L2 error of the momentum to itself."""
    off = np.asarray(found.momentum) - np.asarray(known.momentum)
    return np.linalg.norm(off.reshape(len(off), -1), axis=1) / np.linalg.norm(
        np.asarray(known.momentum).reshape(len(off), -1), axis=1
    )


def errors(ensemble: Closure, count: int) -> None:
    order, equation = ensemble.basis.order, ensemble.equation
    cut = f"{order + 1} moments, cut off in"
    columns = {
        "Euler": lambda case: closed.solve(
            Closure.none(4, equation), Case.of(case.initial, FLUID), TIMES
        ),
        "Navier-Stokes-Fourier": lambda case: navier_stokes(equation, case, TIMES),
        "Grad's order (N = 3), cut off in one frame": lambda case: closed.solve(
            Closure.none(3, equation), case, TIMES
        ),
        f"{cut} local frames (HME)": lambda case: hme.solve(order, case, TIMES),
        f"{cut} one frame": lambda case: closed.solve(Closure.none(order, equation), case, TIMES),
        "learned": lambda case: closed.solve(ensemble.mean, case, TIMES),
    }
    if equation.dimensions == 3:
        del columns[f"{cut} local frames (HME)"]
    print(f"\nErrors in per cent over t = {TIMES}, mean and largest of {count} gases; 100 cells\n")
    print(f"| data | Kn | {' | '.join(columns)} | learned, momentum relative to itself |")
    print("|---" * (len(columns) + 3) + "|")
    for kind in ("waves", "riemann"):
        for knudsen in KNUDSENS:
            case = drawn(kind, count, knudsen)
            known = kinetic.solve(equation, case, TIMES).conserved
            found = [solve(case) for solve in columns.values()]
            off = [relative_error(one, known) for one in found]
            off.append(momentum_alone(found[-1], known))
            cells = [f"{100 * e.mean():.2f} / {100 * e.max():.2f}" for e in off]
            print(f"| {kind} | {knudsen:g} | {' | '.join(cells)} |", flush=True)


def seconds(function) -> float:
    """The shortest of the runs of a second, at least three, after one that compiles."""
    jax.block_until_ready(function())
    spent = []
    while len(spent) < 3 or sum(spent) < 1.0:
        start = time.perf_counter()
        jax.block_until_ready(function())
        spent.append(time.perf_counter() - start)
    return min(spent)


def cost(ensemble: Closure) -> None:
    print("\nSeconds to t = 0.3, 100 cells, Kn = 1\n")
    print("| data | gases | velocities | kinetic | moments | closure | ratio |")
    print("|---|---|---|---|---|---|---|")
    equation = ensemble.equation
    for kind in ("waves", "riemann"):
        for count in (1, 16):
            case = drawn(kind, count, 1.0)
            velocities = kinetic.solve(equation, case, [0.3]).velocities.values.shape[1]
            slow = seconds(lambda case=case: kinetic.solve(equation, case, [0.3]).parts)
            for closure in (ensemble.mean, Closure.fresh(8, 1, 0, equation).mean):
                fast = seconds(
                    lambda case=case, closure=closure: closed.solve(closure, case, [0.3])
                )
                row = (
                    kind,
                    count,
                    velocities,
                    f"{slow:.4f}",
                    closure.basis.order + 1,
                    f"{fast:.4f}",
                )
                print(f"| {' | '.join(map(str, row))} | {slow / fast:.1f} |", flush=True)


def labels(equation: Kinetic, order: int, draws: int, counts=(1, 2, 4, 8, 16), most=4) -> None:
    """Closures of random gases beside those of gases that the loop chooses, one by one."""
    problem = ClosureProblem(equation, InitialData(), order=order)
    audit = labelled(problem, problem.initial.draw(96, 987654321))
    random, chosen = [], []
    for draw in range(draws):
        data = labelled(problem, problem.initial.draw(counts[-1], draw))
        off = [problem.error(problem.train(data[:n], None, draw), audit).mean() for n in counts]
        random.append(off)
        models, data, seen = Closure.fresh(order, problem.members, draw, equation), [], []
        chosen.append([])
        for number in range(most):
            choice = doubtful(problem, models, data, seen, 1000 * (draw + 1) + number)
            (pair,) = labelled(problem, [choice])
            seen.append((problem.deviation(models, [choice])[0], problem.error(models, [pair])[0]))
            data.append(pair)
            models = problem.train(data, None, draw)
            chosen[-1].append(problem.error(models, audit).mean())
    before = problem.error(Closure.fresh(order, problem.members, 0, equation), audit).mean()
    print(f"\nErrors of {order + 1} moments on {len(audit)} gases, mean in per cent")
    print(f"and its deviation over {draws} draws; before any label {100 * before:.3f}\n")
    print("| labels | random | chosen |\n|---|---|---|")
    for n in sorted({*counts, *range(1, most + 1)}):
        first = told(random, counts.index(n)) if n in counts else ""
        print(f"| {n} | {first} | {told(chosen, n - 1) if n <= most else ''} |", flush=True)


def labelled(problem: ClosureProblem, cases) -> list:
    return [(case, problem.label(case)) for case in cases]


def told(errors: list[list[float]], place: int) -> str:
    column = 100 * np.array(errors)[:, place]
    return f"{column.mean():.3f} ± {column.std():.3f}"


def doubtful(problem: ClosureProblem, models: Closure, data: list, seen: list, key: int) -> Case:
    """The gas that the loop would have labelled next, were the target half a per cent."""
    known = [case for case, _ in data]
    found = problem.explore(models, known, 0.0, key)
    calibration = Calibration.fit(*np.array(seen, float).reshape(-1, 2).T)
    doubt = calibration.exceeds(found.deviation, 0.005)
    at = problem.features(models, found.samples)
    before = problem.features(models, known) if known else at[:0]
    return found.samples[diverse(at, doubt, before, 1)[0]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--campaign", type=Path, default=Path("runs/closure"))
    parser.add_argument("--gases", type=int, default=8)
    parser.add_argument("--labels", type=int, metavar="N", help="chosen and random labels, order N")
    options = parser.parse_args()
    ensemble, _ = load_closure(options.campaign / "model.kepton")
    if options.labels:
        labels(ensemble.equation, options.labels, options.gases)
        return
    errors(ensemble, options.gases)
    cost(ensemble)


if __name__ == "__main__":
    main()
