"""The kinetic equation: BGK and ES-BGK in one dimension of space, on a grid of velocities."""

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from kepton.closure.fields import Case, Conserved, Fields, drift, fields_of, seen_from
from kepton.closure.transport import Real, crossing, repeated, step_length, stepped, steps_of
from kepton.errors import InputError

REACH = 6.0
"""Thermal speeds that the grid of velocities reaches beyond the mean velocities"""
COARSEST = 0.7
"""Widest spacing of velocities, in thermal speeds: sums are integrals to exp(-2 (pi / 0.7)^2)"""
MEMORY = 5.0
"""Collision times after which what molecules remember of the start is gone"""
UNSEEN = 2e-3
"""Part of the initial data, in the root mean square, that free flight need not resolve"""
COURANT = 0.45
"""Cells that the fastest molecules fly in a step"""
COUNTS = (32, 40, 48, 64, 80, 96, 128, 160, 192, 256, 320, 384, 512, 640, 768, 1024)
"""Numbers of velocities, few so that few programs are compiled"""


@dataclass(frozen=True)
class Kinetic:
    """The equation.

    f_t + v f_x = (G[f] - f) / Kn

    G is the Gaussian of the density and mean velocity of f with the temperatures along x and across

    lambda_x = theta / Pr + (1 - 1 / Pr) P_xx / rho,        likewise across, P the pressure tensor

    Pr = 1 is BGK, of which G is the Maxwellian. With three dimensions of velocity space f stands
    for its integrals g = int f dv_y dv_z and h = int (v_y^2 + v_z^2) f dv_y dv_z.

    Args:    dimensions: of velocity space, 1 or 3;  prandtl: Pr, 1 where there is one dimension
    Source:  Bhatnagar, Gross, Krook, Phys. Rev. 94, 511 (1954); Holway, Phys. Fluids 9, 1658
             (1966); Chu, Phys. Fluids 8, 12 (1965)
    """

    dimensions: int = 1
    prandtl: float = 1.0

    def check(self) -> None:
        """Raise InputError where there is no such equation."""
        if self.dimensions not in (1, 3):
            raise InputError(
                f"Velocity space has 1 or 3 dimensions, and {self.dimensions} are asked for."
            )
        lowest = 1.0 if self.dimensions == 1 else 2.0 / 3.0
        highest = 1.0 if self.dimensions == 1 else np.inf
        if not lowest <= self.prandtl <= highest:
            raise InputError(
                f"A Prandtl number of {self.prandtl:g} is out of range: in three dimensions of "
                "velocity space it is at least 2/3, in one it is 1."
            )

    @property
    def kinds(self) -> int:
        """Distributions that stand for f: g, or g and h."""
        return 1 if self.dimensions == 1 else 2

    def temperatures(self, theta: Real, along: Real, a: Real) -> tuple[Real, Real]:
        """lambda along x and across, of G[f] where f = f* + a (G[f] - f).

        Args:    theta, along: theta and P_xx / rho of f*
        """
        if self.prandtl == 1.0:
            return theta, theta
        rate = a / self.prandtl
        relaxed = (along + rate * theta) / (1.0 + rate)  # P_xx / rho of f, by the same equation
        along = theta / self.prandtl + (1.0 - 1.0 / self.prandtl) * relaxed
        return along, 0.5 * (3.0 * theta - along)

    @property
    def settings(self) -> dict[str, int | float]:
        """JSON of it."""
        return {"dimensions": self.dimensions, "prandtl": self.prandtl}


BGK = Kinetic()


class Velocities(NamedTuple):
    """Equally spaced velocities, symmetric about 0, a row a case.

    Args:    values: (b, v);  width: (b,), of the spacing
    """

    values: Float[Array | np.ndarray, "b v"]
    width: Float[Array | np.ndarray, "b"]


class Distribution(NamedTuple):
    """Solutions at some times, seen from the frame of `drift`, which moves with the cells.

    Args:    parts: (b, t, c, v, n), g dv alone or g dv and h dv
    """

    parts: Array
    velocities: Velocities

    @property
    def conserved(self) -> Conserved:
        """(b, t, n) each."""
        return _conserved(self.velocities, self.parts)


def velocities_for(case: Case, time: float) -> Velocities:
    """A grid of velocities that resolves the solutions up to a time.

    It reaches REACH thermal speeds beyond all velocities, the temperature being the highest plus
    what meeting streams can add, the square of half the velocities' range. A wave exp(ikx) of the
    initial data is seen again, falsely, when k t = 2 pi / dv; so dv is such that what the initial
    data hold of waves for which this is within REACH / sqrt(theta) of k t is at most UNSEEN, or
    that these are shorter than two cells.
    """
    _, u, theta = (np.concatenate(pair, axis=-1) for pair in zip(case.initial, case.outside))
    half_range = 0.5 * (u.max(axis=1) - u.min(axis=1))
    hottest = theta.max(axis=1) + half_range**2
    coldest = np.sqrt(theta.min(axis=1))
    reach = np.abs(u).max(axis=1) + REACH * np.sqrt(hottest)
    flight = np.minimum(time, MEMORY * np.asarray(case.knudsen)) + 1e-300
    spacing = np.minimum(
        COARSEST * coldest, 2.0 * np.pi / (_finest_wave(case) * flight + REACH / coldest)
    )
    needed = int(np.ceil(2.0 * reach / spacing).max())
    count = next((count for count in COUNTS if count >= needed), COUNTS[-1])
    return equally_spaced(reach, count)


def equally_spaced(reach: np.ndarray, count: int) -> Velocities:
    """So many velocities from -reach to reach, each in the middle of its share."""
    width = 2.0 * reach / count
    return Velocities((np.arange(count) - 0.5 * (count - 1)) * width[:, None], width)


def _finest_wave(case: Case) -> np.ndarray:
    """(b,) the wavenumber beyond which the initial data hold less than UNSEEN."""
    fields = np.stack(case.initial, axis=1)
    scale = np.stack([fields[:, 0], np.sqrt(fields[:, 2]), fields[:, 2]], axis=1).mean(axis=-1)
    if case.boundary != "periodic":  # a periodic continuation without a jump
        fields = np.concatenate([fields, fields[..., ::-1]], axis=-1)
    cells = fields.shape[-1]
    power = np.abs(np.fft.rfft(fields / scale[..., None], axis=-1) / cells) ** 2
    power[..., 1:] *= 2.0
    beyond = np.sqrt(power[..., ::-1].cumsum(axis=-1)[..., ::-1].max(axis=1))
    first = (beyond > UNSEEN).sum(axis=-1)
    length = cells / case.cells
    return 2.0 * np.pi / length * np.minimum(first, cells // 2)


def gaussian(velocities: Velocities, density, mean, temperature) -> Array:
    """The Gaussian's share of each velocity, with its density, mean and variance to rounding.

    M (a + b c + d c^2) dv,  M = rho exp(-c^2 / 2) / sqrt(2 pi lambda),  c = (v - u) / sqrt(lambda)

    a, b, d are 1, 0, 0 but for what the sum over velocities lacks of the integral. They are found
    in two corrections, by the inverse that the integrals would have: what is lacking, r, is then
    of the order r^4.

    Args:    density, mean, temperature: rho, u, lambda, (b, n) each
    Returns: (b, v, n)
    Source:  the aim is that of Mieussens, J. Comput. Phys. 162, 429 (2000)
    """
    root = jnp.sqrt(temperature)[:, None, :]
    c = (velocities.values[:, :, None] - mean[:, None, :]) / root
    shape = jnp.exp(-0.5 * c**2) * (velocities.width[:, None, None] / root / np.sqrt(2.0 * np.pi))
    for _ in range(2):
        lack0, lack1, lack2 = (
            whole - (shape * c**k).sum(axis=1, keepdims=True) for k, whole in enumerate((1, 0, 1))
        )
        shape = shape * (
            1.0 + 0.5 * (3.0 * lack0 - lack2) + lack1 * c + 0.5 * (lack2 - lack0) * c**2
        )
    return shape * density[:, None, :]


def moments(velocities: Velocities, parts: Float[Array, "b c v n"]) -> tuple[Conserved, Array]:
    """What collisions keep, and twice the energy of motion along x, int v^2 f, (b, n)."""
    g, v = parts[:, 0], velocities.values[:, :, None]
    along = (v**2 * g).sum(axis=1)
    across = parts[:, 1:].sum(axis=(1, 2))
    return Conserved(g.sum(axis=1), (v * g).sum(axis=1), 0.5 * (along + across)), along


@jax.jit
def _conserved(velocities: Velocities, parts: Float[Array, "b t c v n"]) -> Conserved:
    found, _ = jax.vmap(moments, (None, 1), 1)(velocities, parts)
    return found


def _relaxed(equation: Kinetic, velocities: Velocities, parts: Array, a: Array) -> Array:
    """The solution f of f = f* + a (G[f] - f), in which a = (b,), f* = parts.

    What collisions keep is that of f*, and so are, by its own moments, the temperatures of G.
    """
    state, along = moments(velocities, parts)
    rho, u, theta = fields_of(state, equation.dimensions)
    along, across = equation.temperatures(theta, along / rho - u**2, a[:, None])
    target = _of_gaussian(equation, velocities, rho, u, along, across)
    return parts + (a / (1.0 + a))[:, None, None, None] * (target - parts)


def _equilibrium(equation: Kinetic, velocities: Velocities, fields: Fields) -> Array:
    """(b, c, v, n) Maxwellians."""
    return _of_gaussian(equation, velocities, *fields, fields.temperature)


def _of_gaussian(equation: Kinetic, velocities: Velocities, rho, u, along, across) -> Array:
    """(b, c, v, n) of the Gaussian with some temperatures along x and across."""
    g = gaussian(velocities, rho, u, along)[:, None]
    if equation.dimensions == 1:
        return g
    return jnp.concatenate([g, 2.0 * across[:, None, None] * g], axis=1)


def solve(equation: Kinetic, case: Case, times, velocities: Velocities | None = None):
    """Distributions at increasing times, in the frame of `drift`.

    Second order in time and, where smooth, fifth in space and more than any in velocity; mass,
    momentum and energy are kept to rounding; as Kn -> 0 the scheme becomes one for Euler's
    equations.

    Args:    velocities: by default `velocities_for`
    Raises:  InputError: no such equation
    """
    equation.check()
    moving = seen_from(case, drift(case))
    grid = velocities or velocities_for(moving, float(times[-1]))
    durations = np.diff(np.asarray(times, float), prepend=0.0)
    return Distribution(_solved(equation, moving, grid, durations), grid)


@partial(jax.jit, static_argnums=0)
def _solved(equation: Kinetic, case: Case, grid: Velocities, durations: Float[Array, "t"]) -> Array:
    """(b, t, c, v, n) distributions after each of the durations, one after the other."""
    outside = _equilibrium(equation, grid, case.outside)
    fastest, v = grid.values[:, -1], grid.values[:, None, :, None]

    def flight(parts):
        flow = v * crossing(case.boundary, outside, grid.values, parts)
        return -case.cells * jnp.diff(flow, axis=-1)

    def collided(parts, scale):
        return _relaxed(equation, grid, parts, scale[:, 0, 0, 0] / case.knudsen)

    def until(parts, duration):
        steps = steps_of(duration, fastest, case.cells, COURANT)
        dt = step_length(duration, steps)[:, None, None, None]
        parts = repeated(lambda parts: stepped(flight, collided, parts, dt), parts, steps, 0)
        return parts, parts

    begun = _equilibrium(equation, grid, case.initial)
    _, found = jax.lax.scan(until, begun, durations)
    return jnp.moveaxis(found, 0, 1)
