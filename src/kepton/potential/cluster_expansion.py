"""`ClusterExpansion`: the architecture that learns from the fewest labels."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.integrate import lebedev_rule

from kepton.atoms.frames import Frames, Label, Real
from kepton.atoms.neighbors import Neighbors
from kepton.devices import jitted
from kepton.errors import InputError
from kepton.potential.architecture import Architecture
from kepton.potential.derive import Answer
from kepton.potential.environment import (
    Centres,
    Environment,
    MatrixPairs,
    harmonics,
    project,
    with_slope,
)
from kepton.potential.nets import normal
from kepton.potential.radial import bessel
from kepton.potential.statistics import energy_bias, force_scale, shortest_and_most

FACTORS = 3
"""Functions on the sphere that are multiplied: a term joins an atom and up to so many neighbours"""
BLOCK = 36
"""Atoms whose functions on the sphere are multiplied at a time"""
SIZE = 0.3
"""Å: an atom's energy is so many times the size of the forces, times a net that begins near one"""


@dataclass(frozen=True)
class ClusterExpansionConfig:
    """Sizes of a cluster expansion.

    Args:
        species: atomic numbers it knows, in order
        cutoff_A: distance beyond which atoms do not see each other
        channels: number C of densities around an atom
        degree: largest degree l of the spherical harmonics, 1 to 3
        basis: number K of radial functions
        hidden: width of the hidden layer of the net of the invariants
    """

    species: tuple[int, ...]
    cutoff_A: float = 5.0
    channels: int = 32
    degree: int = 3
    basis: int = 8
    hidden: int = 16

    def sized(self, components: int) -> "ClusterExpansionConfig":  # noqa: ARG002
        """The same: one size serves any amount of data."""
        return self

    def check(self) -> None:
        """Raise InputError where sizes do not fit together."""
        if not 1 <= self.degree <= 3:
            raise InputError(f"[model] degree = {self.degree} is not 1, 2 or 3; give one of them.")


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["environment", "kinds"],
    meta_fields=[],
)
@dataclass(frozen=True)
class Surroundings:
    """What a cluster expansion must know of b frames.

    Args:
        environment: the neighbours, projected
        kinds: 1 at the element of the atom, 0 at the others and where there is no atom
    """

    environment: Environment
    kinds: Float[Real, "b n S"]


@partial(
    jax.tree_util.register_dataclass, data_fields=["weights", "statistics"], meta_fields=["config"]
)
@dataclass(frozen=True)
class ClusterExpansion(Architecture):
    """Energy as a sum over atoms of a net of invariant products of the densities around them.

    A_i,clm = sum_j e_{z_j},c sum_k R_l,kc B_k(r_ij) Y_lm(r_ij / r)      densities, C channels
    f_p(w) = sum_clm M_pl,c'c A_i,clm Y_lm(w),   p = 1, 2, 3              functions on the sphere
    I = (<f_1>, <f_1 f_2>, <f_1 f_2 f_3>)                                averages over the sphere
    E = sum_i b_{z_i} + a (h . r + silu(h H) . s),   h = (u_{z_i} I) W + v_{z_i}

    The averages are the invariant products of an atomic cluster expansion up to body order four,
    taken as products of functions on the sphere; a Lebedev rule integrates them exactly. An
    element has its vector e in each channel, so the products cost the same however many elements
    there are. As the densities are linear in a projection free of weights, no derivative of
    training goes through the geometry. Below `core` (just below the shortest distances in the data,
    for each pair of elements) a ZBL repulsion is switched on.

    Args:
        weights: what training moves, lists of stacks of matrices: `element` (S, C), `radial`
            (l, K, C) R, `mixing` (p, l, C, C) M; `invariant` (S, 3 C) u, (S, C) v and (3 C, C) W;
            `net` (C, 1) r, (C, hidden) H and (hidden, 1) s
        statistics: what data fix: energy `bias` (S,) and `scale` a, `density` the size of a
            component of the projection, `core` (S, S)
    Source: Drautz, Phys. Rev. B 99, 014104 (2019); Darby et al., Phys. Rev. Lett. 131, 028001
        (2023) for the elements; Luo et al., ICLR 2024, arXiv:2401.10216, for the products
    """

    weights: dict[str, list[Float[Real, "..."]]]
    statistics: dict[str, Float[Real, "..."]]
    config: ClusterExpansionConfig = field(metadata={"static": True})

    batch_atoms: ClassVar[int] = BLOCK
    training: ClassVar[dict[str, Any]] = {"steps": 8000, "warm_steps": 4000, "rate": 1.5e-2}

    @staticmethod
    def init(key, config: ClusterExpansionConfig, statistics: dict[str, Any]) -> "ClusterExpansion":
        """Random weights, scaled by fan-in."""
        c, s, degrees = config.channels, len(config.species), config.degree + 1
        keys = iter(jax.random.split(key, 9))

        def weight(*shape, inner):
            return normal(next(keys), shape) / inner**0.5

        weights = {
            "element": [weight(s, c, inner=1)],
            "radial": [weight(degrees, config.basis, c, inner=config.basis)],
            "mixing": [weight(FACTORS, degrees, c, c, inner=c)],
            "invariant": [
                weight(s, FACTORS * c, inner=1),
                weight(s, c, inner=1),
                weight(FACTORS * c, c, inner=FACTORS * c),
            ],
            "net": [
                weight(c, 1, inner=c),
                weight(c, config.hidden, inner=c),
                weight(config.hidden, 1, inner=config.hidden),
            ],
        }
        statistics = {name: jnp.asarray(value, jnp.float64) for name, value in statistics.items()}
        return ClusterExpansion(weights, statistics, config)

    @staticmethod
    def prepare(
        config: ClusterExpansionConfig, parts: Sequence[tuple[Frames, Neighbors, Label]]
    ) -> dict[str, Any]:
        """Statistics of a data set."""
        found = [
            shortest_and_most(config.species, config.cutoff_A, frames, lists)
            for frames, lists, _ in parts
        ]
        blank = ClusterExpansion({}, {}, config)
        power, atoms = 0.0, 0
        for frames, lists, _ in parts:
            density = np.asarray(blank.projection(frames, lists))[np.asarray(frames.mask)]
            power, atoms = power + float(np.sum(density**2)), atoms + len(density)
        components = atoms * config.basis * (config.degree + 1)
        return {
            "bias": energy_bias(config.species, parts),
            "scale": force_scale(parts),
            "density": (power / components + 1e-12) ** 0.5,
            "core": 0.9 * np.min([shortest for shortest, _ in found], axis=0),
        }

    @property
    def degree(self) -> int:
        """Largest degree of the harmonics in the projection."""
        return self.config.degree

    def radial(self, r: Float[Array, "..."]) -> list[Float[Array, "..."]]:
        """Bessel functions."""
        return bessel(r, self.cutoff, self.config.basis)

    def describe(
        self,
        frames: Frames,
        neighbors: Neighbors,
        centres: Centres | None = None,
        sums: Callable = MatrixPairs.of,
    ) -> Surroundings:
        """All that depends on the geometry alone."""
        species = jnp.asarray(frames.species)
        if centres is not None:
            species = jnp.where(centres.places >= 0, centres.element, 0)
        kinds = species[:, :, None] == jnp.asarray(self.config.species)
        described = self.environment(frames, neighbors, centres, sums)
        return Surroundings(described, kinds.astype(self.dtype))

    def answer(self, described: Surroundings, virial: bool = True) -> Answer:
        """Energy (float64), forces and, if asked for, virial of what `describe` returned."""
        environment = described.environment
        projection = environment.projection
        b, n, *shape = projection.shape
        atoms = projection.reshape(b * n, *shape), described.kinds.reshape(b * n, -1)

        def block(part):
            rows, kinds = part
            return with_slope(partial(self._energies, environment.elements, kinds), rows)

        energy, slope = _in_blocks(block, atoms)
        energy = energy.reshape(b, n).sum(axis=1)
        return environment.answer(energy, slope.reshape(projection.shape), virial)

    def roughness(self) -> Float[Array, ""]:
        """Nothing: the radial functions are smooth by themselves."""
        return jnp.zeros((), self.dtype)

    def fitted_to(self, frames: Frames, lists: Neighbors) -> "ClusterExpansion":
        """The same model with its repulsive core moved below the shortest distances of new data."""
        shortest, _ = shortest_and_most(self.config.species, self.cutoff, frames, lists)
        core = jnp.minimum(jnp.asarray(self.statistics["core"]), 0.9 * shortest)
        return replace(self, statistics=self.statistics | {"core": core})

    def of_elements(self, species: tuple[int, ...]) -> "ClusterExpansion":
        """The same function, which knows some of its elements alone."""
        rows = np.array([self.config.species.index(z) for z in species])
        (element,), (own, constant, weigh) = self.weights["element"], self.weights["invariant"]
        weights = self.weights | {
            "element": [element[..., rows, :]],
            "invariant": [own[..., rows, :], constant[..., rows, :], weigh],
        }
        statistics = self.statistics | {
            "bias": self.statistics["bias"][rows],
            "core": self.statistics["core"][np.ix_(rows, rows)],
        }
        return ClusterExpansion(weights, statistics, replace(self.config, species=species))

    def reference(self) -> "ClusterExpansion":
        """The same function in float64."""
        return self.with_dtype(jnp.float64)

    @jitted
    def projection(self, frames: Frames, lists: Neighbors) -> Float[Array, "b n c S K"]:
        """What the densities are linear in, of every atom, in float64."""
        return project(frames, lists, self.radial, None, jnp.float64, self.degree).projection

    def _energies(
        self, elements: tuple[int, ...], kinds: Float[Array, "a S"], rows: Float[Array, "a c s K"]
    ) -> Float[Array, "a"]:
        """Energy of each atom from its projection, without the repulsion.

        Args:    elements: of the neighbours, s of those known
        """
        (one_even, one_odd), (two_even, two_odd), (three_even, three_odd) = self._functions(
            elements, rows
        )
        even = one_even * two_even + one_odd * two_odd
        odd = one_even * two_odd + one_odd * two_even
        products = one_even, even, even * three_even + odd * three_odd
        average = jnp.asarray(_sphere(self.config.degree)[1], self.dtype)
        invariants = [jnp.tensordot(average, product, 1) for product in products]
        own, constant, weigh = self.weights["invariant"]
        h = ((kinds @ own) * jnp.concatenate(invariants, axis=-1)) @ weigh + kinds @ constant
        straight, inner, outer = self.weights["net"]
        net = (h @ straight + jax.nn.silu(h @ inner) @ outer)[:, 0]
        scale = SIZE * self.statistics["scale"]
        return scale * net.astype(jnp.float64) + kinds.astype(jnp.float64) @ self.statistics["bias"]

    def _functions(
        self, elements: tuple[int, ...], rows: Float[Array, "a c s K"]
    ) -> list[tuple[Float[Array, "g a C"], Float[Array, "g a C"]]]:
        """The even and the odd part of each factor at the points on half of the sphere."""
        config, a = self.config, len(rows)
        known = np.array([config.species.index(z) for z in elements])
        element = self.weights["element"][0][known]
        (radial,), (mixing,) = self.weights["radial"], self.weights["mixing"]
        unit = (self.statistics["density"] * (config.degree + 1) ** 0.5).astype(self.dtype)
        parities = [], []
        for degree in range(config.degree + 1):
            # (2 l + 1) rows of s K -> the channels of all factors, one matrix product
            density = (element[:, None] * radial[degree] / unit).reshape(-1, config.channels)
            matrix = jnp.moveaxis(density @ mixing[:, degree], 0, 1).reshape(len(density), -1)
            some = jnp.moveaxis(rows[:, degree**2 : (degree + 1) ** 2], 1, 0)
            mixed = some.reshape((2 * degree + 1) * a, -1) @ matrix
            parities[degree % 2].append(mixed.reshape(2 * degree + 1, a, -1))
        values = _sphere(config.degree)[0]
        even, odd = (
            jnp.split(jnp.tensordot(jnp.asarray(v, self.dtype), jnp.concatenate(m), 1), FACTORS, -1)
            for v, m in zip(values, parities)
        )
        return list(zip(even, odd))


def _in_blocks(function: Callable, rows: Any) -> Any:
    """function(rows), on a CPU BLOCK rows at a time, so that what it makes of them stays in cache.

    Args:    function: of a pytree with any number of rows, to one with as many
    """
    count = len(jax.tree.leaves(rows)[0])
    if count <= BLOCK or jax.default_backend() != "cpu":
        return function(rows)
    blocks = -(-count // BLOCK)

    def cut(leaf):
        filled = jnp.pad(leaf, [(0, blocks * BLOCK - count)] + [(0, 0)] * (leaf.ndim - 1))
        return filled.reshape(blocks, BLOCK, *leaf.shape[1:])

    found = jax.lax.map(function, jax.tree.map(cut, rows))
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:])[:count], found)


@cache
def _sphere(degree: int) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray]:
    """A rule that is exact for products of FACTORS functions of this degree.

    Its points come in opposite pairs, at which even functions agree and odd ones have opposite
    signs, so one of each pair is enough; the odd part of a product averages to nothing.

    Returns: (g, c) harmonics of mean square one of even and of odd degree, and weights (g,)
    """
    exact = FACTORS * degree + (FACTORS * degree + 1) % 2
    points, weights = lebedev_rule(exact)
    first = np.array([tuple(p) > tuple(-p) for p in np.round(points.T, 12)])
    with jax.ensure_compile_time_eval():
        values = np.asarray(harmonics(jnp.asarray(points[:, first])[None, None], degree))[0, 0]
    of = np.repeat(np.arange(degree + 1), 2 * np.arange(degree + 1) + 1)
    values = (np.sqrt(2 * of + 1)[:, None] * values).T
    halves = values[:, of % 2 == 0], values[:, of % 2 == 1]
    return halves, weights[first] / weights[first].sum()
