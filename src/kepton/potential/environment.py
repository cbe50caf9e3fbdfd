"""`Environment`: the neighbours of every atom, projected on radial functions, free of weights."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from kepton.atoms.frames import Frames, Real
from kepton.atoms.neighbors import Neighbors
from kepton.potential.derive import Answer


@dataclass(frozen=True)
class Pairs(ABC):
    """All neighbours of one element, and sums over them.

    Args:
        unit: r_ij / r
        length: r, Å
        degree: largest of the harmonics; static
    """

    unit: Float[Real, "b n 3 m"]
    length: Float[Real, "b n m"]
    degree: int

    @property
    @abstractmethod
    def projection(self) -> Float[Array, "b n c K"]:
        """sum_j B(r_ij) (x) Y(r_ij / r)"""

    @abstractmethod
    def pull(
        self, slope: Float[Array, "b n c k"], push: Float[Array, "b n m"] | None
    ) -> Float[Array, "b n 3 m"]:
        """dE/dr_ij from dE/dA: the chain rule of the projection.

        (q . Y + push) x + (g - x (x . g)) / r,   q = dE/dA . B',  g = grad_x (dE/dA . B Y(x))

        Args:    push: slope of a repulsion of the pair, if there is one, eV/Å
        """


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["unit", "length", "basis"],
    meta_fields=["degree"],
)
@dataclass(frozen=True)
class MatrixPairs(Pairs):
    """Sums by products of matrices, which training differentiates.

    Args:    basis: radial functions B_k(r) of all slots, then B_k'(r), 1/Å
    """

    basis: Float[Real, "b n k slots"]

    @staticmethod
    def of(vectors: Float[Array, "b n 3 m"], radial: Callable, degree: int) -> "MatrixPairs":
        """From r_ij in Å, and r -> list of K radial functions."""
        r = jnp.sqrt(_dot(vectors, vectors)[:, :, 0])
        basis = jax.jvp(lambda r: jnp.stack(radial(r), axis=2), (r,), (jnp.ones_like(r),))
        unit = vectors / r[:, :, None]
        return MatrixPairs(unit, r, degree, jnp.concatenate(basis, axis=-1))

    @property
    def projection(self) -> Float[Array, "b n c K"]:
        """As of `Pairs`."""
        basis, rows = self.basis[..., : self.length.shape[-1]], harmonics(self.unit, self.degree)
        return jnp.einsum("bnkm,bncm->bnck", basis, rows)

    def pull(
        self, slope: Float[Array, "b n c k"], push: Float[Array, "b n m"] | None
    ) -> Float[Array, "b n 3 m"]:
        """As of `Pairs`."""
        both = jnp.einsum("bnkm,bnck->bncm", self.basis, slope)
        t, q = jnp.split(both, 2, axis=-1)
        rows, turn = jax.vjp(partial(harmonics, degree=self.degree), self.unit)
        (g,) = turn(t)
        g = g / self.length[:, :, None]
        along = _dot(q, rows) - _dot(g, self.unit)
        if push is not None:
            along = along + push[:, :, None]
        return along * self.unit + g


class Centres(NamedTuple):
    """Atoms of one element, the surroundings of which are looked at, of all in their frames.

    Args:    element: atomic number;  places: in every frame, -1 where there are fewer
    """

    element: int
    places: Int[Array, "b c"]


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["pairs", "index", "places", "push", "centres"],
    meta_fields=["elements", "atoms"],
)
@dataclass(frozen=True)
class Environment:
    """What a model must know of n atoms of b frames: all of it depends on the geometry alone.

    A_i = sum_j B(r_ij) (x) Y(r_ij / r)        by element of j

    Args:
        pairs: by element of the neighbour
        index: the neighbour's place in its frame, segments in the order of `pairs`
        places: by element of the atom, its places among the n, -1 where there are fewer
        push: energy of a pair repulsion, eV, and its slope by element of the neighbour, eV/Å a pair
        centres: the places of the n atoms in their frames; None: they are all
        elements: atomic numbers of `pairs` and `places`; static
        atoms: of a frame; static
    """

    pairs: tuple[Pairs, ...]
    index: Int[Real, "b n m"]
    places: tuple[Int[Real, "b _"], ...]
    push: tuple[Float[Real, "b"], tuple[Float[Real, "b n _"], ...]] | None
    centres: Int[Real, "b n"] | None
    elements: tuple[int, ...]
    atoms: int

    @property
    def projection(self) -> Float[Array, "b n c S K"]:
        """A"""
        return jnp.stack([pairs.projection for pairs in self.pairs], axis=3)

    def own(
        self, values: Float[Array, "b n ..."], places: Int[Array, "b c"]
    ) -> Float[Array, "b c ..."]:
        """The rows of the atoms of one of `places`; any row where the place is -1."""
        return take(values, places) if self.centres is None else values

    def pull(self, slope: Float[Array, "b n c S K"]) -> Float[Array, "b n 3 m"]:
        """dE/dr_ij for every pair from dE/dA."""
        pushes = (None,) * len(self.pairs) if self.push is None else self.push[1]
        found = [
            pairs.pull(slope[:, :, :, place], push)
            for place, (pairs, push) in enumerate(zip(self.pairs, pushes))
        ]
        return jnp.concatenate(found, axis=-1)

    def answer(
        self, energy: Float[Array, "b"], slope: Float[Array, "b n c S K"], virial: bool
    ) -> Answer:
        """Energy with that of the repulsion, forces, and the virial or nan.

        Args:    energy: eV, without the repulsion;  slope: its dE/dA
        """
        pulls = self.pull(slope)
        if self.push is not None:
            energy = energy + self.push[0]
        moments = self.virial(pulls) if virial else jnp.full((len(energy), 3, 3), jnp.nan)
        return Answer(energy, self.forces(pulls), moments)

    def forces(self, pulls: Float[Array, "b n 3 m"]) -> Float[Array, "b all 3"]:
        """F_i = sum_j (dE/dr_ij - dE/dr_ji) of all atoms of the frames, eV/Å"""
        b = len(pulls)

        def gathered(parts, places):
            rows = jnp.arange(b)[:, None] * self.atoms + jnp.asarray(places).reshape(b, -1)
            total = _gathered(parts.reshape(-1, 3), rows.reshape(-1), b * self.atoms)
            return total.reshape(b, self.atoms, 3)

        own = pulls.sum(axis=-1)
        own = own if self.centres is None else gathered(own, self.centres)
        return own - gathered(jnp.moveaxis(pulls, 2, 3), self.index)

    def virial(self, pulls: Float[Array, "b n 3 m"]) -> Float[Array, "b 3 3"]:
        """W = -sum_ij r_ij (x) dE/dr_ij, made symmetric, eV"""
        vectors = [pairs.unit * pairs.length[:, :, None] for pairs in self.pairs]
        full = jnp.einsum("bncm,bndm->bcd", jnp.concatenate(vectors, axis=-1), pulls)
        return -0.5 * (full + full.mT)


QUANTUM = 2.0**-36
"""eV/Å, the unit of forces in `_in_any_order`"""


def _gathered(
    parts: Float[Array, "p 3"], rows: Int[Array, "p"], count: int
) -> Float[Array, "{count} 3"]:
    """The sum of the parts of every row, the same whenever it is made."""
    if jax.default_backend() == "cpu":
        return jax.ops.segment_sum(parts, rows, num_segments=count)
    return _in_any_order(count, parts, rows)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _in_any_order(count: int, parts: Array, rows: Array) -> Array:
    """Sums of whole numbers, which come out the same in whatever order threads add them."""
    whole = jnp.round(parts / QUANTUM).astype(jnp.int64)
    total = jax.ops.segment_sum(whole, rows, num_segments=count)
    return (QUANTUM * total).astype(parts.dtype)


@_in_any_order.defjvp
def _(count: int, values: Any, changes: Any) -> tuple[Array, Array]:
    turned = jax.ops.segment_sum(changes[0], values[1], num_segments=count)
    return _in_any_order(count, *values), turned


def with_slope(energies: Callable, projection: Float[Array, "..."]) -> tuple[Array, Array]:
    """Energies of a projection, and the slope of their sum."""

    def total(projection):
        energy = energies(projection)
        return energy.sum(), energy

    (_, energy), slope = jax.value_and_grad(total, has_aux=True)(projection)
    return energy, slope


def fingerprint(environment: Environment, functions: int = 8) -> Float[Array, "b d"]:
    """Roots of the powers of the projection, summed over the atoms of each element.

    sum_i sqrt( sum_m A_lmk^2 )        by element of i and of the neighbour, k and l

    Args:    functions: how many radial functions are looked at
    """
    a = environment.projection[..., :functions]
    ends = [degree**2 for degree in range(environment.pairs[0].degree + 2)]
    power = [(a[:, :, start:end] ** 2).sum(axis=2) for start, end in pairwise(ends)]
    root = jnp.sqrt(jnp.stack(power, axis=-1) + 1e-12)
    sums = [
        (take(root, at) * (at >= 0)[..., None, None, None]).sum(axis=1) for at in environment.places
    ]
    return jnp.stack(sums, axis=1).reshape(len(root), -1)


def places_of(frames: Frames) -> tuple[Int[Array, "b _"], ...]:
    """By element, the places of its atoms in every frame, -1 where there are fewer."""
    species = jnp.asarray(frames.species)

    def of(z, count):
        find = partial(jnp.nonzero, size=count, fill_value=-1)
        return jax.vmap(find)(species == z)[0]

    return tuple(of(z, count) for z, count in frames.composition)


def take(values: Float[Array, "b n ..."], places: Int[Array, "b c"]) -> Float[Array, "b c ..."]:
    """The rows of some atoms of every frame; any row where the place is -1."""
    return jax.vmap(lambda rows, at: rows[at])(values, places)


def project(
    frames: Frames,
    lists: Neighbors,
    radial,
    repulsion,
    dtype,
    degree: int = 1,
    centres: Centres | None = None,
    sums: Callable = MatrixPairs.of,
) -> Environment:
    """The environment of every atom, or of some.

    Args:
        degree: largest of the harmonics, up to 3
        radial: r -> list of K radial functions, zero beyond the cutoff
        repulsion: (r, z_i, z_j) -> eV of a pair, or None
        dtype: of all but the energy of the repulsion
        centres: the atoms; default: all
        sums: (vectors, radial, degree) -> `Pairs`, by which neighbours are summed over
    """
    chosen = None if centres is None else centres.places
    index, species, places = looked_at(frames, lists, centres)
    components = [x.astype(dtype) for x in lists.components(frames, chosen)]
    pairs, energy, slopes = [], 0.0, []
    for z, slot in lists.slots:
        vectors = jnp.stack([x[..., slot] for x in components], axis=2)
        pairs.append(sums(vectors, radial, degree))
        if repulsion is not None:
            r = pairs[-1].length
            own = species[:, :, None].astype(dtype)
            pair = partial(repulsion, z_i=own, z_j=jnp.asarray(float(z), dtype))
            value, change = jax.jvp(pair, (r,), (jnp.ones_like(r),))
            real = index[..., slot] >= 0
            energy = energy + 0.5 * jnp.where(real, value, 0.0).astype(jnp.float64).sum((1, 2))
            slopes.append(0.5 * jnp.where(real, change, 0.0))
    push = None if repulsion is None else (energy, tuple(slopes))
    elements, size = tuple(z for z, _ in lists.slots), frames.positions.shape[1]
    return Environment(tuple(pairs), index, places, push, chosen, elements, size)


def looked_at(
    frames: Frames, lists: Neighbors, centres: Centres | None
) -> tuple[Int[Array, "b n m"], Int[Array, "b n"], tuple[Int[Array, "b _"], ...]]:
    """Of some atoms, or all: their lists, elements, and by element their places among them."""
    if centres is None:
        return jnp.asarray(lists.index), jnp.asarray(frames.species), places_of(frames)
    index, _ = lists.of(centres.places)
    among = jnp.where(centres.places >= 0, jnp.arange(centres.places.shape[1]), -1)
    places = tuple(among if z == centres.element else among[:, :0] for z, _ in lists.slots)
    return index, jnp.full(centres.places.shape, centres.element), places


def harmonics(x: Float[Array, "b n 3 m"], degree: int) -> Float[Array, "b n c m"]:
    """Real spherical harmonics of unit vectors, those of one degree of sum of squares one.

    1;   x, y, z;   sqrt(3) xy, sqrt(3) yz, (3 z^2 - 1) / 2, ...        l = 0 ... degree

    Args:    degree: 1 to 3
    """
    return jnp.stack(row_list([x[:, :, c] for c in range(3)], degree), axis=2)


def row_list(unit: Sequence[Any], degree: int) -> list[Any]:
    """The rows of `harmonics`, of three components in arrays of any one shape."""
    x, y, z = unit
    rows = [jnp.ones_like(x), x, y, z]
    if degree > 1:
        rows += [
            3**0.5 * x * y,
            3**0.5 * y * z,
            1.5 * z * z - 0.5,
            3**0.5 * x * z,
            0.75**0.5 * (x * x - y * y),
        ]
    if degree > 2:
        rows += [
            0.625**0.5 * y * (3.0 * x * x - y * y),
            15**0.5 * x * y * z,
            0.375**0.5 * y * (5.0 * z * z - 1.0),
            0.5 * z * (5.0 * z * z - 3.0),
            0.375**0.5 * x * (5.0 * z * z - 1.0),
            3.75**0.5 * z * (x * x - y * y),
            0.625**0.5 * x * (x * x - 3.0 * y * y),
        ]
    return rows


def _dot(a: Float[Array, "b n c m"], b: Float[Array, "b n c m"]) -> Float[Array, "b n 1 m"]:
    # terms in the open: XLA's reduction over a short axis is several times slower on a CPU
    product = a * b
    total = product[:, :, :1]
    for row in range(1, product.shape[2]):
        total = total + product[:, :, row : row + 1]
    return total
