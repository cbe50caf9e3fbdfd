"""Free flight on finite volumes, and the steps in time that join it with collisions."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

Real = Array | np.ndarray
GAMMA = 1.0 - 0.5**0.5
"""Of ARS(2, 2, 2), and so is DELTA"""
DELTA = 1.0 - 0.5 / GAMMA
GHOSTS = 3
"""Cells beyond each end that `at_faces` needs"""
NOTHING = 1e-20
"""Square of a slope below which the weights of `at_faces` are those of smooth data"""


def at_faces(padded: Float[Array, "*b m"], swept: Array | float = 0.0) -> Array:
    """What moves to the right at each face, ends included, from averages.

    c + (1 - s) sum_r w_r p_r / sum_r w_r,  w_r = d_r (1 + (|b_0 - b_2| / b_r)^2)

    It is the average over the part s of a cell that passes the face, or, if s is 0, the value at
    the face: by the average c of the cell behind it and the parabolas through three averages, p_r,
    with a measure b_r of how smooth those are. Fifth order on smooth data, extrema included; where
    it jumps, the parabolas that do not see the jump count.

    Args:
        padded: n cells with GHOSTS more at each end
        swept: s, from 0 to 1, of a shape that multiplies values at the faces
    Returns: (*b, n + 1)
    Source:  WENO-Z, with p = 2: Borges, Carmona, Costa, Don, J. Comput. Phys. 227, 3191 (2008); d_r
             make one polynomial of fourth degree of the parabolas, as Qiu, Christlieb, J. Comput.
             Phys. 229, 1130 (2010)
    """
    faces = padded.shape[-1] - 2 * GHOSTS + 1
    a, b, c, d, e = (padded[..., i : i + faces] for i in range(5))
    bends = a - 2.0 * b + c, b - 2.0 * c + d, c - 2.0 * d + e
    slopes = a - 4.0 * b + 3.0 * c, b - d, 3.0 * c - 4.0 * d + e
    before, ahead = 3.0 * (c - b), 3.0 * (d - c)
    values = (
        before + (2.0 - swept) * bends[0],
        ahead - (1.0 + swept) * bends[1],
        ahead - (1.0 + swept) * bends[2],
    )
    rough = [
        13.0 / 12.0 * bend**2 + 0.25 * slope**2 + NOTHING for bend, slope in zip(bends, slopes)
    ]
    differ = (rough[0] - rough[2]) ** 2
    b0, b1, b2 = (r**2 for r in rough)  # by the product of which all weights are multiplied
    first = (1.0 + swept) * (2.0 + swept) * (b0 + differ) * (b1 * b2)
    second = 2.0 * (2.0 + swept) * (3.0 - swept) * (b1 + differ) * (b0 * b2)
    third = (2.0 - swept) * (3.0 - swept) * (b2 + differ) * (b0 * b1)
    mixed = first * values[0] + second * values[1] + third * values[2]
    return c + (1.0 - swept) / 6.0 * mixed / (first + second + third)


def wrapped(values: Float[Array, "*b n"]) -> Array:
    """Values of a periodic domain with GHOSTS more at each end."""
    return jnp.concatenate([values[..., -GHOSTS:], values, values[..., :GHOSTS]], axis=-1)


def translated(values: Float[Array, "b n"], cells: Float[Array, "b"]) -> Array:
    """Averages of what a periodic domain holds after it has moved to the right, sums kept.

    Args:    cells: how far, in cells; whole numbers shift the averages as they are
    """

    def one(row, distance):
        whole = jnp.round(distance)
        part = distance - whole
        ahead = jnp.where(part < 0.0, row[::-1], row)
        swept = jnp.abs(part)
        ahead = ahead - swept * jnp.diff(at_faces(wrapped(ahead), swept))
        return jnp.roll(jnp.where(part < 0.0, ahead[::-1], ahead), whole.astype(int))

    return jax.vmap(one)(values, cells)


def crossing(
    boundary: str,
    outside: Float[Array, "b c v 2"],
    velocities: Float[Real, "b v"],
    parts: Float[Array, "b c v n"],
    swept: Float[Array, "b 1 v 1"] | float = 0.0,
) -> Float[Array, "b c v m"]:
    """What crosses each of the n + 1 faces, of molecules that fly with some velocities.

    Args:
        boundary: one of BOUNDARIES
        outside: of the gas, or the wall, beyond the ends
        velocities: symmetric about 0, increasing
        parts: averages over cells of what flies with each velocity; c kinds of it, the first of
            which is mass
        swept: the part of a cell that each of them flies, over which what crosses is averaged
    """
    if boundary == "periodic":
        return _upwind(wrapped(parts), swept)
    v = jnp.asarray(velocities)[:, None, :, None]
    if boundary == "reflecting":
        mirrored = jnp.flip(parts, axis=2)
        before, after = mirrored[..., GHOSTS - 1 :: -1], mirrored[..., : -GHOSTS - 1 : -1]
    else:  # molecules leave as the gas extrapolates
        first, last = parts[..., :1], parts[..., -1:]
        slope, end = first - parts[..., 1:2], last - parts[..., -2:-1]
        away = jnp.arange(1.0, GHOSTS + 1.0)
        before, after = first + away[::-1] * slope, last + away * end
    flow = _upwind(jnp.concatenate([before, parts, after], axis=-1), swept)
    if boundary == "reflecting":
        return flow
    inwards = jnp.concatenate([v > 0.0, v < 0.0], axis=-1)
    ends = flow[..., jnp.array([0, -1])]
    if boundary == "diffusive":  # as many as arrive leave, with the wall's temperature
        mass = jnp.abs(v) * jnp.stack([ends, outside])[:, :, :1]
        arriving = jnp.where(inwards, 0.0, mass[0]).sum(axis=2, keepdims=True)
        leaving = jnp.where(inwards, mass[1], 0.0).sum(axis=2, keepdims=True)
        outside = outside * (arriving / leaving)
    ends = jnp.where(inwards, outside, ends)
    return jnp.concatenate([ends[..., :1], flow[..., 1:-1], ends[..., 1:]], axis=-1)


def _upwind(padded: Array, swept: Array | float) -> Array:
    """(b, c, v, n + 1) at the faces, the first half of velocities to the left."""
    half = padded.shape[2] // 2
    left = right = swept
    if not isinstance(swept, float | int):
        left, right = swept[:, :, :half], swept[:, :, half:]
    leftwards, rightwards = padded[:, :, :half], padded[:, :, half:]
    mirrored = at_faces(jnp.flip(leftwards, axis=-1), left)
    return jnp.concatenate([jnp.flip(mirrored, axis=-1), at_faces(rightwards, right)], axis=2)


def stepped(flight: Callable, collided: Callable, state: Array, dt: Array) -> Array:
    """The state after one step of ARS(2, 2, 2): free flight T explicit, collisions Q implicit.

    f1 = f + gamma dt (T(f) + Q(f1))
    f <- f + dt (delta T(f) + (1 - delta) T(f1) + (1 - gamma) Q(f1) + gamma Q(f))

    Second order, and a scheme of second order for the limit of infinitely many collisions too.

    Args:
        flight: T, of a state
        collided: (f*, s) -> the solution f of f = f* + s Q(f)
        dt: of a shape that multiplies states; where it is 0 the state stays
    Source: Ascher, Ruuth, Spiteri, Appl. Numer. Math. 25, 151 (1997), section 2.6
    """
    moved = flight(state)
    before = state + GAMMA * dt * moved
    middle = collided(before, GAMMA * dt)
    by_collisions = (middle - before) / GAMMA
    both = state + dt * (DELTA * moved + (1.0 - DELTA) * flight(middle))
    return collided(both + (1.0 - GAMMA) * by_collisions, GAMMA * dt)


def steps_of(duration, fastest: Float[Real, "b"], cells: int, farthest: float) -> Array:
    """(*t, b) how many equal steps a duration takes, for each case of a batch a number of its own.

    Args:
        duration: a number, or of the shape (*t, 1)
        fastest: of the molecules
        farthest: cells that these may fly in a step
    """
    return jnp.ceil(duration * fastest * cells / farthest - 1e-9).astype(int)


def step_length(duration, steps: Int[Real, "b"]) -> Float[Array, "b"]:
    """(b,) the length of each of so many steps."""
    return duration / jnp.maximum(steps, 1)


def repeated(
    step: Callable[[Array], Array],
    state: Array,
    steps: Int[Real, "b"],
    axis: int,
    most: int | None = None,
) -> Array:
    """The state after so many steps, each case of the batch having made its own number of them.

    Args:
        axis: of the state, along which the cases are
        most: no fewer than any of steps; where it is given gradients go through the loop
    """

    def one(number, state):
        running = (number < steps).reshape(-1, *[1] * (state.ndim - axis - 1))
        return jnp.where(running, step(state), state)

    return jax.lax.fori_loop(0, jnp.max(steps) if most is None else most, one, state)
