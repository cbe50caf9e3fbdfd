"""The architectures a potential can have, by name, under one contract."""

from typing import Any, Protocol

from jaxtyping import Array, Float

from kepton.atoms.frames import Frames
from kepton.atoms.neighbors import Neighbors
from kepton.potential.deep_potential import DeepPotential, DeepPotentialConfig


class Architecture(Protocol):
    """A potential: a pytree of `weights` that training moves and `statistics` that data fix.

    `weights` is a pytree of stacks of matrices (..., in, out). In an ensemble they have one more
    leading axis, and `statistics` are shared. `config` is a frozen dataclass of plain values with
    the atomic numbers known as `species`.
    """

    weights: Any
    statistics: dict[str, Any]
    config: Any

    @staticmethod
    def prepare(config: Any, frames: Frames, energy: Any, forces: Any) -> dict[str, Any]:
        """Statistics of a data set: b frames, (b,) eV, (b, n, 3) eV/Å."""
        ...

    @staticmethod
    def init(key: Any, config: Any, statistics: dict[str, Any]) -> "Architecture":
        """Random weights."""
        ...

    @property
    def cutoff(self) -> float:
        """Å"""
        ...

    def energies(self, frames: Frames, neighbors: Neighbors) -> Float[Array, "b"]:
        """(b,) eV, float64; differentiable in positions and cell."""
        ...

    def features(self, frames: Frames, neighbors: Neighbors) -> Float[Array, "b d"]:
        """Coordinates of a frame in which near means alike, free of weights."""
        ...

    def roughness(self) -> Float[Array, ""]:
        """What training penalises beside the errors, dimensionless."""
        ...


ARCHITECTURES: dict[str, tuple[Any, Any]] = {
    "deep_potential": (DeepPotential, DeepPotentialConfig),
}
"""name -> (class, class of its config)"""
