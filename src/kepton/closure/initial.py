"""The class of initial data for which a closure is learnt: what is drawn, and how often."""

from dataclasses import dataclass

import numpy as np

from kepton.closure.fields import Case, Fields
from kepton.errors import InputError, did_you_mean

KINDS = ("waves", "riemann", "mixture")


@dataclass(frozen=True)
class InitialData:
    """Gases on a periodic domain that begin in local equilibrium.

    waves: density, velocity and temperature are each a sum of sines with random amplitudes and
    phases; riemann: one state between two random places and another beyond; mixture: half of each.
    Density and temperature lie within 1 - amplitude and 1 + amplitude, the velocity within
    -velocity and velocity; the logarithm of the Knudsen number is uniform.

    Args:
        kinds: of KINDS, each as often
        modes: waves in the domain, at most
        amplitude, velocity: see above
        knudsen: the lowest and the highest
        cells: of the domain
    """

    kinds: tuple[str, ...] = KINDS
    modes: int = 3
    amplitude: float = 0.5
    velocity: float = 0.3
    knudsen: tuple[float, float] = (1e-3, 10.0)
    cells: int = 100

    def check(self) -> None:
        """Raise InputError where nothing can be drawn."""
        for kind in self.kinds:
            if kind not in KINDS:
                raise InputError(
                    f"Initial data of the kind {kind!r} are not known{did_you_mean(kind, KINDS)}; "
                    f"there is {', '.join(KINDS)}."
                )
        low, high = self.knudsen
        if not 0.0 < low <= high:
            raise InputError(
                f"knudsen = [{low:g}, {high:g}]: give the lowest and the highest Knudsen number, "
                "in this order, both above 0."
            )
        if self.cells % 4 or self.cells < 8 * self.modes:
            raise InputError(
                f"cells = {self.cells} is not a multiple of 4 that is at least 8 times the "
                f"{self.modes} modes; give one that is."
            )

    def draw(self, count: int, key: int) -> list[Case]:
        """So many cases, independent and identically distributed."""
        return [self._one(np.random.default_rng([key, number])) for number in range(count)]

    def _one(self, rng: np.random.Generator) -> Case:
        kind = self.kinds[rng.integers(len(self.kinds))]
        shapes = {"waves": [self._waves], "riemann": [self._riemann]}
        drawn = [shape(rng) for shape in shapes.get(kind, [self._waves, self._riemann])]
        rho, u, theta = np.mean(drawn, axis=0)
        fields = Fields(1 + self.amplitude * rho, self.velocity * u, 1 + self.amplitude * theta)
        return Case.of(fields, np.exp(rng.uniform(*np.log(self.knudsen))))

    def _waves(self, rng: np.random.Generator) -> np.ndarray:
        """(3, n) within -1 and 1"""
        modes = np.arange(1, self.modes + 1)
        x = (np.arange(self.cells) + 0.5) / self.cells
        size, phase = rng.uniform(-1, 1, (3, self.modes)), rng.uniform(0, 1, (3, self.modes))
        waves = np.sin(2 * np.pi * (modes[:, None] * x + phase[..., None]))
        size /= np.abs(size).sum(axis=1, keepdims=True)
        return rng.uniform(0.3, 1.0, (3, 1)) * np.einsum("fm,fmx->fx", size, waves)

    def _riemann(self, rng: np.random.Generator) -> np.ndarray:
        """(3, n) within -1 and 1"""
        start, width = rng.integers(self.cells), rng.uniform(0.3, 0.7)
        inside = np.roll(np.arange(self.cells) < width * self.cells, start)
        states = rng.uniform(-1, 1, (2, 3, 1))
        return np.where(inside, *states)
