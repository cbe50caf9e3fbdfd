"""Initial data of the tests, and what is known of them without a solver."""

import numpy as np
from scipy.optimize import brentq

from kepton.closure.fields import Case, Fields

KNUDSENS = (1e-3, 1e-2, 0.1, 1.0, 10.0)


def middles(cells):
    return (np.arange(cells) + 0.5) / cells


def smooth(cells=64, knudsen=0.1, mean=0.1, amplitude=0.3):
    """Two modes that are nowhere symmetric."""
    x = 2 * np.pi * middles(cells)
    return Case.of(
        Fields(
            1 + amplitude * np.sin(x),
            mean + 0.5 * amplitude * np.sin(2 * x + 1.0),
            1 + amplitude * np.cos(x + 0.2),
        ),
        knudsen,
    )


def tube(cells, knudsen, left=(1.0, 0.0, 1.0), right=(0.125, 0.0, 0.8), boundary="inflow"):
    """A Riemann problem of (density, velocity, temperature); Sod's by default."""
    x = middles(cells)
    return Case.of(
        Fields(*(np.where(x < 0.5, a, b) for a, b in zip(left, right))), knudsen, boundary
    )


def boosted(case, velocity):
    initial = case.initial._replace(velocity=case.initial.velocity + velocity)
    return Case.of(initial, case.knudsen, case.boundary)


def reflected(case):
    rho, u, theta = (part[:, ::-1] for part in case.initial)
    return Case.of(Fields(rho, -u, theta), case.knudsen, case.boundary)


def riemann(left, right, gamma, speeds):
    """Density, velocity and pressure of Euler's equations at some x / t.

    Toro, Riemann Solvers and Numerical Methods for Fluid Dynamics (2009), chapter 4.
    """
    (rho_l, u_l, p_l), (rho_r, u_r, p_r) = left, right
    sound_l, sound_r = np.sqrt(gamma * p_l / rho_l), np.sqrt(gamma * p_r / rho_r)

    def jump(p, rho, pressure, sound):
        if p > pressure:
            squared = 2 / ((gamma + 1) * rho) / (p + (gamma - 1) / (gamma + 1) * pressure)
            return (p - pressure) * np.sqrt(squared)
        return 2 * sound / (gamma - 1) * ((p / pressure) ** ((gamma - 1) / 2 / gamma) - 1)

    def both(p):
        return jump(p, rho_l, p_l, sound_l) + jump(p, rho_r, p_r, sound_r) + u_r - u_l

    p = brentq(both, 1e-8, 10 * max(p_l, p_r), xtol=1e-14)
    u = 0.5 * (u_l + u_r + jump(p, rho_r, p_r, sound_r) - jump(p, rho_l, p_l, sound_l))

    def one(speed):
        rho, v, pressure, sound, side = (
            (rho_l, u_l, p_l, sound_l, 1) if speed < u else (rho_r, u_r, p_r, sound_r, -1)
        )
        s, v, middle, ratio = side * speed, side * v, side * u, p / pressure
        if p > pressure:
            if s < v - sound * np.sqrt((gamma + 1) / 2 / gamma * ratio + (gamma - 1) / 2 / gamma):
                return rho, side * v, pressure
            share = (gamma - 1) / (gamma + 1)
            return rho * (ratio + share) / (ratio * share + 1), u, p
        if s < v - sound:
            return rho, side * v, pressure
        if s > middle - sound * ratio ** ((gamma - 1) / 2 / gamma):
            return rho * ratio ** (1 / gamma), u, p
        inside = 2 / (gamma + 1) * (sound + (gamma - 1) / 2 * (v - s))
        v = 2 / (gamma + 1) * (sound + (gamma - 1) / 2 * v + s)
        return (
            rho * (inside / sound) ** (2 / (gamma - 1)),
            side * v,
            pressure * (inside / sound) ** (2 * gamma / (gamma - 1)),
        )

    return np.array([one(speed) for speed in speeds]).T
