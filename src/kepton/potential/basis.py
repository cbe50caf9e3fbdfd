"""How far a radial basis is from the nets it stands for, and how many functions it needs."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy.polynomial import chebyshev

from kepton.devices import jitted
from kepton.potential.deep_potential import DeepPotential, smooth
from kepton.potential.ensemble import Ensemble
from kepton.potential.radial import chebyshev_nodes, chebyshev_transform

TOLERANCE = 1e-5
"""Largest error of the slopes of a basis that stands for the nets"""
COUNTS = tuple(range(8, 129, 4))
"""Numbers of functions to choose from"""
POINTS = 1000
"""Distances at which the two are compared"""


class BasisError(NamedTuple):
    """Distance of a radial basis from the nets, relative root mean squares.

    Args:    value: of what a neighbour adds to T;  slope: of its derivative in r
    """

    value: float
    slope: float


def basis_error(model: DeepPotential) -> BasisError:
    """How far the radial basis of a model is from its nets, at the worst central element.

    sqrt( int r^2 sum (f - g)^2 dr / int r^2 sum g^2 dr ),   r from `basis_start` to the cutoff

    g is what a neighbour adds to a row of T by the nets, f by the basis; the sum is over channels,
    both kinds of rows, and the neighbours' elements. In float64.
    """
    return next(_errors(model, (model.config.basis,)))


def smallest_basis(model: DeepPotential) -> int | None:
    """The fewest radial functions whose slopes err by at most TOLERANCE; None where none of COUNTS.

    A force errs by about as large a share of its largest parts, which are some eV/Å: by less than
    0.1 meV/Å.
    """
    errors = zip(COUNTS, _errors(model, COUNTS))
    return next((count for count, error in errors if error.slope <= TOLERANCE), None)


def resolved(ensemble: Ensemble) -> Ensemble:
    """The same nets with as many radial functions as stand for those of all members, or the most.

    Never fewer than there are. An architecture without nets of the distance is returned as it is.
    """
    members = ensemble.members
    if not isinstance(members, DeepPotential):
        return ensemble
    needed = [smallest_basis(ensemble.member(i)) or COUNTS[-1] for i in range(ensemble.size)]
    config = replace(members.config, basis=max(members.config.basis, *needed))
    return Ensemble(replace(members, config=config))


def _errors(model: DeepPotential, counts: Sequence[int]) -> Iterator[BasisError]:
    """The errors of bases of so many functions."""
    model = replace(model.with_dtype(jnp.float64), exact=False)
    species, largest = model.config.species, float(model.largest)
    r = jnp.linspace(float(model.statistics["basis_start"]), model.cutoff, POINTS + 2)[1:-1]
    s, change = jax.jvp(partial(smooth, config=model.config), (r,), (jnp.ones_like(r),))
    places = [0.5 * largest * (1.0 + chebyshev_nodes(count)) for count in counts]
    tables = []
    for centre in range(len(species)):
        seen = np.array(model.seen(centre, species), int)
        found = _tables(model, np.concatenate(places), s, centre)
        tables.append([np.asarray(table)[:, seen] for table in found])
    r, s, change = (np.asarray(value)[:, None] for value in (r, s, change))
    x = 2.0 * s[:, 0] / largest - 1.0
    basis, steeper = _chebyshev_table(x, max(counts)), 2.0 / largest

    def size(value, slope):
        rows = s * value, change * (value + s * slope)
        return [float(np.sqrt(((r * row) ** 2).sum())) for row in rows]

    whole = [size(value, slope) for _, value, slope in tables]
    start = 0
    for count in counts:
        end, error = start + count, np.zeros(2)
        for (at_nodes, value, slope), sizes in zip(tables, whole):
            c = chebyshev_transform(count) @ at_nodes[..., start:end, :]
            f, d = (part[:, :count] @ c for part in basis)
            off = size(f - value, steeper * d - slope)
            error = np.maximum(error, [a / b if b else a for a, b in zip(off, sizes)])
        start = end
        yield BasisError(*error.tolist())


def _chebyshev_table(x: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """T_k(x) and T_k'(x), two (q, count)."""
    derivative = np.zeros((count, count))
    derivative[: count - 1] = chebyshev.chebder(np.eye(count))
    table = chebyshev.chebvander(x, count - 1)
    return table, table @ derivative


@partial(jitted, static_argnames="centre")
def _tables(
    model: DeepPotential, nodes: Float[Array, "n"], s: Float[Array, "q"], centre: int
) -> tuple[Array, Array, Array]:
    """Channels of both kinds of rows at nodes; at s; and their slopes there: (2, S, ..., M)."""

    def rows(s):
        return jnp.stack(model.channels(s, centre))

    return rows(nodes), *jax.jvp(rows, (s,), (jnp.ones_like(s),))
