"""What moves atoms: the protocol `ForceField`."""

from typing import Protocol, runtime_checkable

from kepton.atoms import Frames, Label
from kepton.atoms.neighbors import Neighbors


@runtime_checkable
class ForceField(Protocol):
    """Energy and its negative gradients: an immutable JAX pytree.

    It is an argument of every compiled program and never closed over, so another one whose leaves
    have the same shapes runs without compiling again.
    """

    @property
    def cutoff(self) -> float:
        """The distance from which two atoms do not interact, Å."""
        ...

    def answer(self, frames: Frames, neighbors: Neighbors, virial: bool) -> Label:
        """Energy, forces and, where asked for, virial (anything elsewhere), in any precision."""
        ...
