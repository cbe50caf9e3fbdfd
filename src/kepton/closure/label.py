"""What the kinetic equation says of a case, and by how much its discretisation is off."""

from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float

from kepton.closure.difference import relative_error
from kepton.closure.equation import Kinetic
from kepton.closure.fields import (
    Case,
    Conserved,
    conserved,
    drift,
    fields_of,
    seen_from,
)
from kepton.closure.kinetic import solve, velocities_for
from kepton.closure.velocities import equally_spaced
from kepton.errors import InputError

FEWER = 7 / 8
"""Part of the velocities with which a run is repeated, to tell the error that comes of them"""
ORDERS = (0.5, 3.0)
"""Between which the observed order of convergence is believed"""


class Label(NamedTuple):
    """Solutions of cases at some times, in the frame of `drift`.

    Args:
        conserved: (b, t, n) each
        error: (b,) of the discretisation, by `relative_error`
    """

    conserved: Conserved
    error: Float[np.ndarray, "b"]


def label(equation: Kinetic, case: Case, times) -> Label:
    """The kinetic solutions of cases, with the error that coarser runs tell of.

    e = d / (2^p - 1) + w,  2^p = d' / d

    d, d' -> the differences of the runs with n and n / 2, n / 2 and n / 4 cells;  w -> that of runs
    with n / 2 cells and all or 7 / 8 of the velocities, the latter by `Kinetic.coarser`;  all by
    `relative_error`, p within ORDERS.

    Raises:  InputError: no such equation, or cells that are not a multiple of 4
    """
    if case.cells % 4:
        raise InputError(
            f"The kinetic solver compares itself with runs of half and a quarter of the cells, and "
            f"{case.cells} is not a multiple of 4; give a number of cells that is."
        )
    grid = velocities_for(equation, seen_from(case, drift(case)), float(times[-1]))
    count = grid.values.shape[1]
    fewer = equally_spaced(0.5 * count * np.asarray(grid.width), round(FEWER * count))
    half, quarter = (merge_cells(case, equation.dimensions, merged) for merged in (2, 4))
    found, coarse, coarsest, sparse = (
        solve(some, gas, times, velocities).conserved
        for some, gas, velocities in (
            (equation, case, grid),
            (equation, half, grid),
            (equation, quarter, grid),
            (equation.coarser, half, fewer),
        )
    )
    near, far = (
        relative_error(Conserved(*(merge(part, 2) for part in fine)), rough)
        for fine, rough in ((found, coarse), (coarse, coarsest))
    )
    order = np.clip(np.log2((far + 1e-300) / (near + 1e-300)), *ORDERS)
    error = near / (2.0**order - 1.0) + relative_error(sparse, coarse)
    return Label(jax.tree.map(np.asarray, found), error)


def merge(values, count: int) -> np.ndarray:
    """(..., n) averages over cells as those over n / count cells."""
    values = np.asarray(values)
    return values.reshape(*values.shape[:-1], -1, count).mean(axis=-1)


def merge_cells(case: Case, dimensions: int, count: int) -> Case:
    """The case on a grid of n / count cells, with the same mass, momentum and energy in each."""
    kept = conserved(case.initial, dimensions)
    merged = fields_of(Conserved(*(merge(part, count) for part in kept)), dimensions)
    return Case(merged, case.knudsen, case.outside, case.boundary)
