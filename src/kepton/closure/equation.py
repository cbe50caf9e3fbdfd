"""A kinetic equation: what collisions do, to distributions and to moments. BGK and ES-BGK."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Array, Float

from kepton.closure.fields import fields_of
from kepton.closure.moments import Hermite, local, of_gaussian
from kepton.closure.transport import Real
from kepton.closure.velocities import Velocities, gaussian, moments
from kepton.errors import InputError


@dataclass(frozen=True)
class Kinetic:
    """BGK, or ES-BGK.

    f_t + v f_x = (G[f] - f) / Kn

    G is the Gaussian of the density and mean velocity of f with the temperatures along x and across

    lambda_x = theta / Pr + (1 - 1 / Pr) P_xx / rho,        likewise across, P the pressure tensor

    Pr = 1 is BGK, of which G is the Maxwellian. With three dimensions of velocity space f stands
    for its integrals g = int f dw and h = int w^2 / 2 f dw over the velocities w across.

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
    def settings(self) -> dict[str, Any]:
        """JSON of it."""
        return {"kind": "bgk", "dimensions": self.dimensions, "prandtl": self.prandtl}

    @property
    def name(self) -> str:
        """In words."""
        return "BGK" if self.prandtl == 1.0 else f"ES-BGK (Pr = {self.prandtl:.3g})"

    @property
    def kinds(self) -> int:
        """Of moments: those of g, or of g and h."""
        return 1 if self.dimensions == 1 else 2

    @property
    def parts(self) -> int:
        """On a grid of velocities, that stand for f."""
        return self.kinds

    @property
    def coarser(self) -> "Kinetic":
        """The equation with more of an error of discretisation in velocities across."""
        return self

    def frequency(self, density: Real) -> Real | float:  # noqa: ARG002
        """At which collisions take a flux of heat away, times Kn."""
        return 1.0

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

    def relaxed(
        self, velocities: Velocities, parts: Float[Array, "b k v n"], a: Float[Array, "b"]
    ) -> Array:
        """The solution f of f = f* + a Kn Q(f), Q the right side of the equation, f* = parts.

        What collisions keep is that of f*, and so are, by its own moments, the temperatures of G.
        """
        state, along = moments(velocities, parts)
        rho, u, theta = fields_of(state, self.dimensions)
        along, across = self.temperatures(theta, along / rho - u**2, a[:, None])
        target = gaussian(velocities, self.parts, rho, u, along, across)
        return parts + (a / (1.0 + a))[:, None, None, None] * (target - parts)

    def collided(
        self, basis: Hermite, c: Float[Array, "m p b n"], a: Float[Array, "b"]
    ) -> tuple[Array, Array]:
        """Moments c = c* + a Kn Q(c), in two parts: of a Gaussian, and the rest; c* given."""
        fields, along = local(c)
        variances = self.temperatures(fields.temperature, along, a[:, None])
        target = of_gaussian(basis, self.dimensions, fields, variances)
        return target, (c - target) / (1.0 + a[:, None])


BGK = Kinetic()
