"""What moves atoms: the protocol `ForceField`."""

from typing import Protocol, runtime_checkable

from jaxtyping import Array, Float

from kepton.atoms import Frames
from kepton.atoms.neighbors import Neighbors


@runtime_checkable
class ForceField(Protocol):
    """Energy and its negative gradient: an immutable JAX pytree.

    It is an argument of every compiled program and never closed over, so another one whose leaves
    have the same shapes runs without compiling again.
    """

    @property
    def cutoff(self) -> float:
        """The distance from which two atoms do not interact, Å."""
        ...

    def energy_and_forces(
        self, frames: Frames, neighbors: Neighbors
    ) -> tuple[Float[Array, "b"], Float[Array, "b n 3"]]:
        """Energy in eV and forces -dE/dx in eV/Å, in any precision."""
        ...
