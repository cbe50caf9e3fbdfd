"""The architectures a potential can have, by name, under one contract."""

from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

from jaxtyping import Array, Float

from kepton.atoms.frames import Frames, Label
from kepton.atoms.neighbors import Neighbors
from kepton.potential.cluster_expansion import ClusterExpansion, ClusterExpansionConfig
from kepton.potential.deep_potential import DeepPotential, DeepPotentialConfig
from kepton.potential.derive import Answer


class Architecture(Protocol):
    """A potential: a pytree of `weights` that training moves and `statistics` that data fix.

    `weights` is a pytree of stacks of matrices (..., in, out). In an ensemble they have one more
    leading axis, and `statistics` are shared. `config` is a frozen dataclass of plain values with
    the atomic numbers known as `species` and the cutoff as `cutoff_A`; its `sized` gives the sizes
    that so many force components can teach, its `check` raises InputError where sizes do not fit.
    """

    weights: Any
    statistics: dict[str, Any]
    config: Any

    rate: ClassVar[float]
    """Peak learning rate that suits it"""
    batch_atoms: ClassVar[int]
    """Atoms a step of training that suit it"""
    rounds: ClassVar[tuple[int, int]]
    """Steps of a campaign's first training, and of each that goes on from the last"""

    @staticmethod
    def prepare(config: Any, parts: Sequence[tuple[Frames, Neighbors, Label]]) -> dict[str, Any]:
        """Statistics of a data set, in parts of one shape each."""
        ...

    @staticmethod
    def init(key: Any, config: Any, statistics: dict[str, Any]) -> "Architecture":
        """Random weights."""
        ...

    @property
    def cutoff(self) -> float:
        """Å"""
        ...

    def describe(self, frames: Frames, neighbors: Neighbors) -> Any:
        """All that depends on the geometry alone: a pytree, the same for all members."""
        ...

    def answer(self, described: Any, virial: bool = True) -> Answer:
        """Energy (b,) in float64, forces and virial (nan where not asked for) of a description."""
        ...

    def features(self, frames: Frames, neighbors: Neighbors) -> Float[Array, "b d"]:
        """Coordinates of a frame in which near means alike, free of weights."""
        ...

    def roughness(self) -> Float[Array, ""]:
        """What training penalises beside the errors, eV^2/Å^2."""
        ...

    def fitted_to(self, frames: Frames, lists: Neighbors) -> "Architecture":
        """The same model, with what holds it together far from data moved for new data."""
        ...

    def with_dtype(self, dtype: Any) -> "Architecture":
        """The same function with nets in another precision."""
        ...

    def reference(self) -> "Architecture":
        """The same model in float64, without what makes it fast at the cost of digits."""
        ...


ARCHITECTURES: dict[str, tuple[Any, Any]] = {
    "deep_potential": (DeepPotential, DeepPotentialConfig),
    "cluster_expansion": (ClusterExpansion, ClusterExpansionConfig),
}
"""name -> (class, class of its config)"""
