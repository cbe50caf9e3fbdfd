"""`Fields` and `Case`: what is known of a gas before it is solved for, and after.

Everything is dimensionless: lengths are in units of the domain and the gas constant is 1, so the
pressure is density x temperature.
"""

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from kepton.closure.transport import Real, translated
from kepton.errors import InputError, did_you_mean

BOUNDARIES = ("periodic", "reflecting", "inflow", "diffusive")
"""What the ends of the domain may be"""
FEWEST_CELLS = 4


class Fields(NamedTuple):
    """A gas as its averages over cells tell it."""

    density: Float[Real, "*b n"]
    velocity: Float[Real, "*b n"]
    temperature: Float[Real, "*b n"]


class Conserved(NamedTuple):
    """What collisions keep, averaged over cells."""

    density: Float[Real, "*b n"]
    momentum: Float[Real, "*b n"]
    energy: Float[Real, "*b n"]


def conserved(fields: Fields, dimensions: int) -> Conserved:
    """Density, momentum and energy.

    m = rho u,  E = (rho u^2 + D rho theta) / 2        D -> dimensions, of velocity space
    """
    rho, u, theta = fields
    return Conserved(rho, rho * u, 0.5 * rho * (u**2 + dimensions * theta))


def fields_of(state: Conserved, dimensions: int) -> Fields:
    """The inverse of `conserved`."""
    rho, momentum, energy = state
    u = momentum / rho
    return Fields(rho, u, (2.0 * energy / rho - u**2) / dimensions)


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["initial", "knudsen", "outside"],
    meta_fields=["boundary"],
)
@dataclass(frozen=True)
class Case:
    """Gases that begin in local equilibrium; `Case.of` checks them.

    Args:
        initial: (b, n) each, averages over the n equal cells of the domain [0, 1]
        knudsen: (b,), the collision frequency is 1 / knudsen
        outside: (b, 2) each, beyond the left and the right end: the gas that flows in, or the wall
            that gives molecules its temperature
        boundary: one of BOUNDARIES, the same at both ends
    """

    initial: Fields
    knudsen: Float[Real, "b"]
    outside: Fields
    boundary: str = "periodic"

    @staticmethod
    def of(
        initial: Fields, knudsen, boundary: str = "periodic", outside: Fields | None = None
    ) -> "Case":
        """One case or several, as float64; outside is, where not given, what the end cells hold.

        Args:    initial: (n,) or (b, n);  knudsen: a number or (b,);  outside: (2,) or (b, 2)
        Raises:  InputError: shapes that do not fit, no such boundary, or a density, temperature or
                 Knudsen number that is not positive
        """
        if boundary not in BOUNDARIES:
            raise InputError(
                f"The boundary {boundary!r} is not known{did_you_mean(boundary, BOUNDARIES)}; "
                f"there is {', '.join(BOUNDARIES)}."
            )
        given = [np.atleast_2d(np.asarray(part, float)) for part in initial]
        if len({part.shape for part in given}) > 1 or given[0].shape[1] < FEWEST_CELLS:
            shapes = ", ".join(str(np.shape(part)) for part in initial)
            raise InputError(
                "Density, velocity and temperature must have one value a cell each, the same "
                f"number of cells and at least {FEWEST_CELLS}; their shapes are {shapes}."
            )
        start = Fields(*given)
        rows = len(start.density)
        ends = outside or Fields(*(part[:, [0, -1]] for part in start))
        ends = Fields(*(np.broadcast_to(np.asarray(part, float), (rows, 2)) for part in ends))
        numbers = np.broadcast_to(np.asarray(knudsen, float), (rows,))
        for name, values in (
            ("density", start.density),
            ("temperature", start.temperature),
            ("density outside", ends.density),
            ("temperature outside", ends.temperature),
            ("Knudsen number", numbers),
        ):
            if not (np.isfinite(values).all() and (values > 0.0).all()):
                raise InputError(
                    f"The {name} must be positive and finite everywhere; the smallest value is "
                    f"{np.min(values):g}."
                )
        for values in (start.velocity, ends.velocity):
            if not np.isfinite(values).all():
                raise InputError("The velocity must be finite everywhere.")
        return Case(start, numbers, ends, boundary)

    def __len__(self) -> int:
        return len(self.knudsen)

    def __getitem__(self, rows) -> "Case":
        """Some of the cases; `rows` keeps the leading axis: a slice, a list or a mask."""
        return jax.tree.map(lambda leaf: leaf[rows], self)

    @property
    def cells(self) -> int:
        """n"""
        return self.initial.density.shape[-1]


def together(cases: list[Case]) -> Case:
    """Several cases, of equal cells and boundary, as one."""
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *cases)


def drift(case: Case) -> Real:
    """(b,) velocity of the frame in which the gas is solved for.

    sum m / sum rho where the domain is periodic, so that a moving gas is the gas at rest seen from
    elsewhere, to rounding; 0 where something stands at the ends.
    """
    if case.boundary != "periodic":
        return jnp.zeros(len(case))
    rho, u, _ = case.initial
    return (rho * u).sum(axis=-1) / rho.sum(axis=-1)


def seen_from(case: Case, velocity: Float[Real, "b"]) -> Case:
    """The case in a frame that moves."""

    def moved(fields: Fields) -> Fields:
        return fields._replace(velocity=fields.velocity - velocity[:, None])

    return Case(moved(case.initial), case.knudsen, moved(case.outside), case.boundary)


@partial(jax.jit, static_argnums=3)
def in_the_domain(state: Conserved, times, velocity: Float[Real, "b"], cells: int) -> Conserved:
    """Solutions in the frame of the domain, of those in a frame that moves, (b, t, n) each.

    Cells that have moved are laid over those of the domain, totals kept to rounding.

    Args:    velocity: of the frame, in which the domain is periodic where it is not 0
    """
    way = cells * jnp.asarray(velocity)[:, None] * jnp.asarray(times)
    laid = jax.vmap(translated, in_axes=1, out_axes=1)
    rho, momentum, energy = (laid(jnp.asarray(part), way) for part in state)
    u = velocity[:, None, None]
    return Conserved(rho, momentum + u * rho, energy + u * momentum + 0.5 * u**2 * rho)
