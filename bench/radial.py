"""How many radial functions of a kind stand for the embedding nets of a model.

Each kind interpolates the nets G as functions of r, of s(r), or of 1/r, from the shortest distance
to the cutoff. Printed is the least number of functions with which the slopes of s(r) G are within
`basis.TOLERANCE` of the nets' own, as in `basis.basis_error`, and the error with 24 of them.
"""

import argparse
from bisect import bisect_left
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.interpolate import make_interp_spline

import kepton  # noqa: F401  sets up JAX
from kepton.potential.basis import TOLERANCE
from kepton.potential.deep_potential import DeepPotential, smooth
from kepton.potential.file import read_model

MODELS = Path(__file__).resolve().parents[2] / "shared" / "data" / "deepmd_models"
COUNTS = range(8, 257, 4)
POINTS = 1000


class Variable(NamedTuple):
    """What the functions are polynomials in.

    Args:    of: r -> u;  to_s: u -> s
    """

    of: Callable
    to_s: Callable


def variables(model: DeepPotential) -> dict[str, Variable]:
    s = partial(smooth, config=model.config)
    return {
        "r": Variable(lambda r: r, s),
        "1/r": Variable(lambda r: 1.0 / r, lambda u: s(1.0 / u)),
        "s": Variable(s, lambda u: u),
    }


def chebyshev(low: float, high: float, count: int, net: Callable, u: np.ndarray):
    """Values and slopes at u of the interpolant at the zeros of T_count."""
    nodes = np.cos(np.pi * (np.arange(count) + 0.5) / count)
    places = 0.5 * (low + high) + 0.5 * (high - low) * nodes
    table = np.polynomial.chebyshev.chebvander(nodes, count - 1)
    c = np.linalg.solve(table, net(places))
    x = (2.0 * u - low - high) / (high - low)
    value = np.polynomial.chebyshev.chebval(x, c).T
    slope = np.polynomial.chebyshev.chebval(x, np.polynomial.chebyshev.chebder(c)).T
    return value, slope * 2.0 / (high - low)


def spline(degree: int):
    """B-splines of one degree on even knots, interpolating at the means of their knots."""

    def fit(low: float, high: float, count: int, net: Callable, u: np.ndarray):
        inner = np.linspace(low, high, count - degree + 1)
        knots = np.concatenate([[low] * degree, inner, [high] * degree])
        nodes = np.array([knots[k + 1 : k + degree + 1].mean() for k in range(count)])
        nodes = nodes.clip(low, high)
        found = make_interp_spline(nodes, net(nodes), degree, knots)
        return found(u), found.derivative()(u)

    return fit


KINDS = {"Chebyshev": chebyshev, "cubic B-splines": spline(3), "quintic B-splines": spline(5)}


def slope_error(model: DeepPotential, kind: Callable, variable: Variable, count: int) -> float:
    """Relative root mean square error of d(s G)/dr, at the worst central element."""
    ends = np.array([float(model.statistics["basis_start"]), model.cutoff])
    low, high = sorted(np.asarray(variable.of(ends)).tolist())
    r = np.linspace(*ends, POINTS + 2)[1:-1]
    s, fall = with_slope(variables(model)["s"].of, r)
    u, steep = with_slope(variable.of, r)
    worst = 0.0
    for centre in range(len(model.config.species)):

        def net(s, centre=centre):
            rows = jnp.stack(model.channels(s, centre))
            return jnp.moveaxis(rows, 2, 0).reshape(len(s), -1)

        value, slope = with_slope(net, s[:, 0])
        true = fall * (value + s * slope)
        value, slope = kind(
            low, high, count, lambda u, net=net: np.asarray(net(variable.to_s(u))), u[:, 0]
        )
        off = fall * value + s * slope * steep - true
        weight = r[:, None]
        error = np.sqrt(((weight * off) ** 2).sum() / ((weight * true) ** 2).sum())
        worst = max(worst, float(error))
    return worst


def with_slope(function: Callable, at: np.ndarray) -> list[np.ndarray]:
    """A function and its derivative, as columns."""
    found = jax.jvp(function, (jnp.asarray(at),), (jnp.ones(len(at)),))
    return [np.asarray(part).reshape(len(at), -1) for part in found]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", type=Path, nargs="*", default=sorted(MODELS.glob("*/*.dp")))
    models = parser.parse_args().models
    names = " | ".join(f"{path.parent.name}/{path.name}" for path in models)
    print(f"| functions | of | {names} |\n|---|---|{'---|' * len(models)}")
    members = [read_model(path)[0].member(0).with_dtype(jnp.float64) for path in models]
    for kind_name, kind in KINDS.items():
        for name in ("r", "1/r", "s"):
            cells = []
            for model in members:
                variable = variables(model)[name]
                error = partial(slope_error, model, kind, variable)
                first = bisect_left(COUNTS, True, key=lambda n, f=error: f(n) <= TOLERANCE)
                told = COUNTS[first] if first < len(COUNTS) else f"> {COUNTS[-1]}"
                cells.append(f"{told} ({error(24):.0e})")
            print(f"| {kind_name} | {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
