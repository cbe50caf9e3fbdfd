"""`Architecture`: the contract of every potential, and what all of them share."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from kepton.atoms.frames import Frames, Label
from kepton.atoms.neighbors import Neighbors
from kepton.devices import of_each
from kepton.potential.derive import Answer
from kepton.potential.environment import (
    Centres,
    Environment,
    MatrixPairs,
    fingerprint,
    places_of,
    project,
)
from kepton.potential.fused import sums_of
from kepton.potential.zbl import core_repulsion

Kind = TypeVar("Kind", bound="Architecture")

MANY = 20_000
"""Force components from which more can be learnt than the smallest sizes hold"""


@dataclass(frozen=True)
class Architecture(ABC):
    """A potential: a pytree of `weights` that training moves and `statistics` that data fix.

    `weights` is a dictionary of lists of stacks of matrices (..., in, out). In an ensemble they
    have one more leading axis, and `statistics` are shared. `config` is a frozen dataclass of plain
    values with the atomic numbers known as `species` and the cutoff as `cutoff_A`; its `sized`
    gives the sizes that so many force components can teach, its `check` raises InputError where
    sizes do not fit.
    """

    weights: dict[str, Any]
    statistics: dict[str, Any]
    config: Any

    batch_atoms: ClassVar[int]
    """Atoms a step of training that suit it"""
    block_atoms: ClassVar[int] = 32_768
    """Atoms that an accelerator looks at together: 4 GB with four members of the largest kind"""
    training: ClassVar[dict[str, Any]] = {}
    """What suits it better than the defaults of TrainConfig"""

    @staticmethod
    @abstractmethod
    def prepare(config: Any, parts: Sequence[tuple[Frames, Neighbors, Label]]) -> dict[str, Any]:
        """Statistics of a data set, in parts of one shape each."""

    @staticmethod
    @abstractmethod
    def init(key: Any, config: Any, statistics: dict[str, Any]) -> "Architecture":
        """Random weights."""

    @abstractmethod
    def describe(
        self,
        frames: Frames,
        neighbors: Neighbors,
        centres: Centres | None = None,
        sums: Callable = MatrixPairs.of,
    ) -> Any:
        """All that depends on the geometry alone: a pytree, the same for all members.

        Args:    centres: atoms whose energies are meant; default: all;  sums: as of `project`
        """

    @abstractmethod
    def answer(self, described: Any, virial: bool = True) -> Answer:
        """Energy (b,) in float64, forces and virial (nan where not asked for) of a description."""

    def answers(self, frames: Frames, neighbors: Neighbors, virial: bool = True) -> Answer:
        """What all members say, where `weights` have a leading axis k: each leaf has one too.

        Atoms of large frames come in blocks, so that memory grows with the lists alone.
        """

        def part(centres):
            described = self.describe(frames, neighbors, centres, sums_of(self.dtype))
            return of_each(
                lambda weights: self.with_weights(weights).answer(described, virial), self.weights
            )

        size = block_atoms(type(self))
        if frames.positions.shape[1] <= size:
            return part(None)
        total: Any = None
        for (element, _), places in zip(frames.composition, places_of(frames)):
            blocks = _blocks(places, max(1, size // len(frames)))

            def add(total, places, element=element):
                return jax.tree.map(jnp.add, total, part(Centres(element, places))), None

            if total is None:
                shapes = jax.eval_shape(lambda at, z=element: part(Centres(z, at)), blocks[0])
                total = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
            total, _ = jax.lax.scan(add, total, blocks)
        return total

    @abstractmethod
    def roughness(self) -> Float[Array, ""]:
        """What training penalises beside the errors, eV^2/Å^2."""

    @abstractmethod
    def fitted_to(self, frames: Frames, lists: Neighbors) -> "Architecture":
        """The same model, with what holds it together far from data moved for new data."""

    @abstractmethod
    def reference(self) -> "Architecture":
        """The same model in float64, without what makes it fast at the cost of digits."""

    @property
    @abstractmethod
    def degree(self) -> int:
        """Largest degree of the harmonics in the projection."""

    @abstractmethod
    def radial(self, r: Float[Array, "..."]) -> list[Float[Array, "..."]]:
        """The radial functions of the projection."""

    @property
    def cutoff(self) -> float:
        """Å"""
        return self.config.cutoff_A

    @property
    def dtype(self):
        """Precision of the nets."""
        return jax.tree.leaves(self.weights)[0].dtype

    def with_dtype(self: Kind, dtype: Any) -> Kind:
        """The same function with nets in another precision."""
        return self.with_weights(jax.tree.map(lambda w: w.astype(dtype), self.weights))

    def with_weights(self: Kind, weights: dict[str, Any]) -> Kind:
        """Another potential of the same kind and data."""
        return replace(self, weights=weights)

    def environment(
        self,
        frames: Frames,
        neighbors: Neighbors,
        centres: Centres | None = None,
        sums: Callable = MatrixPairs.of,
    ) -> Environment:
        """The projected neighbours of atoms, with the repulsion where there is one."""
        repulsion = self.repulsion if "core" in self.statistics else None
        given = self.radial, repulsion, self.dtype, self.degree
        return project(frames, neighbors, *given, centres, sums)

    def features(self, frames: Frames, neighbors: Neighbors) -> Float[Array, "b d"]:
        """Coordinates of a frame in which near means alike, free of weights: see `fingerprint`."""
        return fingerprint(project(frames, neighbors, self.radial, None, self.dtype, self.degree))

    def repulsion(self, r: Float[Array, "..."], z_i, z_j) -> Float[Array, "..."]:
        """ZBL below the shortest distances of the data, eV."""
        return core_repulsion(self.config.species, self.statistics["core"], r, z_i, z_j)


def block_atoms(kind: type[Architecture]) -> int:
    """Atoms of a large system that are looked at together.

    On a CPU as few as are still well vectorised, elsewhere some gigabytes of them.
    """
    return 1_024 if jax.default_backend() == "cpu" else kind.block_atoms


def _blocks(places: Int[Array, "b c"], size: int) -> Int[Array, "p b s"]:
    """Places in blocks of about equal numbers, up to `size`, filled up with -1."""
    b, count = places.shape
    number = -(-count // size)
    width = -(-count // number)
    filled = jnp.pad(places, ((0, 0), (0, number * width - count)), constant_values=-1)
    return jnp.moveaxis(filled.reshape(b, number, width), 1, 0)
