"""Deep Potential (DeepPot-SE, `se_e2_a`), its embedding nets evaluated as a radial basis."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from kepton.atoms.frames import Frames, Label, Real
from kepton.atoms.neighbors import Neighbors
from kepton.devices import jitted
from kepton.errors import InputError
from kepton.potential.architecture import MANY, Architecture
from kepton.potential.derive import Answer, derive
from kepton.potential.environment import (
    Centres,
    Environment,
    MatrixPairs,
    looked_at,
    project,
    take,
    with_slope,
)
from kepton.potential.nets import hidden, output, random_net
from kepton.potential.radial import (
    chebyshev,
    chebyshev_nodes,
    chebyshev_transform,
    clamp,
    switch,
)
from kepton.potential.statistics import energy_bias, force_scale, shortest_and_most

DESCRIPTOR_RANGE, DESCRIPTOR_SIZE = 7.0, 3.0
"""so many deviations of the descriptor, and its size so many times, make one unit of the input of a
fitting net"""
PARTS = 0.5
"""eV/Å, of what a neighbour adds to a force, at least"""
BASIS_WIDTH = 0.2
"""Å below `basis_start` over which distances are clamped"""


@dataclass(frozen=True)
class DeepPotentialConfig:
    """Sizes of a Deep Potential.

    Args:
        species: atomic numbers it knows, in order
        cutoff_A: distance beyond which atoms do not see each other
        smooth_A: distance from which the cutoff's switch falls
        basis: number of radial functions
        embedding: widths of the embedding net; the last is the number M of channels
        axis: number of channels of the second factor of the descriptor
        fitting: widths of the hidden layers of the fitting net
        one_sided: an embedding net a neighbour's element; else one a pair of elements
        activation: of the embedding nets and of the fitting nets
        excluded: (atom, neighbour), atomic numbers of pairs that the descriptor does not see
    """

    species: tuple[int, ...]
    cutoff_A: float = 4.0
    smooth_A: float = 1.0
    basis: int = 16
    embedding: tuple[int, ...] = (8, 16)
    axis: int = 6
    fitting: tuple[int, ...] = (64, 64, 64)
    one_sided: bool = True
    activation: tuple[str, str] = ("tanh", "tanh")
    excluded: tuple[tuple[int, int], ...] = ()

    def sized(self, components: int) -> "DeepPotentialConfig":
        """With the channels that so many force components can teach."""
        return replace(self, embedding=(8, 16, 32), axis=8) if components > MANY else self

    def check(self) -> None:
        """Raise InputError where sizes do not fit together."""
        if self.smooth_A >= self.cutoff_A:
            raise InputError(
                f"[model] smooth_A = {self.smooth_A:g} is not below cutoff_A = {self.cutoff_A:g}: "
                "the cutoff's switch falls from the first to the second; give a smaller smooth_A."
            )
        if self.axis > self.embedding[-1]:
            raise InputError(
                f"[model] axis = {self.axis} is more than the {self.embedding[-1]} channels of "
                "the embedding net; give an axis up to the last of embedding."
            )


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["weights", "statistics"],
    meta_fields=["config", "exact"],
)
@dataclass(frozen=True)
class DeepPotential(Architecture):
    """Energy as a sum over atoms of a net of a smooth, symmetric descriptor of the surroundings.

    E = sum_i b_{z_i} + a net_{z_i}(D_i),   D_i = T_i T_i<^T,   T_i = (1/N) sum_j G_{z_j}(s_ij) R_ij
    R_ij = s(r) (1, x/r, y/r, z/r),   s(r) = w(r) / r,   G(s) = sum_k C_k T_k(2 s / s_max - 1)

    The embedding nets G are functions of s alone, so they are evaluated at the Chebyshev nodes in
    s, never at a neighbour: the interpolant is the model, in training as in use, and `exact` tells
    how far it is from the nets themselves. Below `core` (just below the shortest distances in the
    data, for each pair of elements) a ZBL repulsion is switched on.

    Models of DeePMD-kit shift and scale R by `environment_mean` and `environment_scale` of the
    central atom's element, and fill T up with empty neighbours at s = 0:

    R_ij = ((s - m) / c_0, s x / (c_1 r), ...),   G = G((s - m) / c_0),   j = 1 ... sel

    Args:
        weights: what training moves: `embedding` and `fitting`, lists of (S, in + 1, out), the
            last row of each matrix being the bias; two-sided embeddings (S^2, in + 1, out), the
            element of the central atom first
        statistics: what data fix: energy `bias` (S,) and `scale`, `descriptor_mean` (S, d) and
            `descriptor_scale` (), `neighbors` (), `basis_start` (), `selected` (S,) the largest
            number of neighbours; `core` (S, S) and, both (S, 2) or (S,), `environment_mean`,
            `environment_scale` where the model has them
        exact: evaluate the nets at every neighbour
    Source: Zhang et al., NeurIPS 2018, arXiv:1805.09003
    """

    weights: dict[str, list[Float[Real, "..."]]]
    statistics: dict[str, Float[Real, "..."]]
    config: DeepPotentialConfig = field(metadata={"static": True})
    exact: bool = field(default=False, metadata={"static": True})

    batch_atoms: ClassVar[int] = 160
    block_atoms: ClassVar[int] = 131_072

    @staticmethod
    def init(key, config: DeepPotentialConfig, statistics: dict[str, Any]) -> "DeepPotential":
        """Random weights, scaled by fan-in, as the nets of every element start."""
        count = len(config.species)
        embedding, fitting = jax.random.split(key)
        width = config.embedding[-1] * config.axis
        nets = count if config.one_sided else count**2
        weights = {
            "embedding": random_net(embedding, nets, (1, *config.embedding)),
            "fitting": random_net(fitting, count, (width, *config.fitting, 1)),
        }
        weights["fitting"][-1] = 0.1 * weights["fitting"][-1]
        statistics = {name: jnp.asarray(value, jnp.float64) for name, value in statistics.items()}
        return DeepPotential(weights, statistics, config)

    @staticmethod
    def prepare(
        config: DeepPotentialConfig, parts: Sequence[tuple[Frames, Neighbors, Label]]
    ) -> dict[str, Any]:
        """Statistics of a data set.

        One scale serves all channels of the descriptor, far above their deviation, so that the
        nets start as nearly linear functions of it: the smoothest fit of few data. It is above
        their size too, since the descriptor moves by its size while the embedding nets learn,
        and the atoms of a cold crystal hardly move it at all.
        """
        species = config.species
        found = [
            shortest_and_most(species, config.cutoff_A, frames, lists) for frames, lists, _ in parts
        ]
        shortest = np.min([one[0] for one in found], axis=0)
        pairs = sum(float(np.sum(lists.mask)) for _, lists, _ in parts)
        atoms = sum(float(np.sum(frames.mask)) for frames, _, _ in parts)
        statistics = {
            "bias": energy_bias(species, parts),
            "scale": force_scale(parts),
            "descriptor_mean": np.zeros((len(species), config.embedding[-1] * config.axis)),
            "descriptor_scale": 1.0,
            "neighbors": max(1.0, (pairs / atoms) ** 0.5),
            "selected": np.max([one[1] for one in found], axis=0),
            "basis_start": 0.95 * shortest.min(),
            "core": 0.9 * shortest,
        }
        model = DeepPotential.init(jax.random.key(0), config, statistics)
        values: dict[int, list[np.ndarray]] = {}
        for frames, lists, _ in parts:
            for z, value in model.descriptors(frames, lists).items():
                count = (np.asarray(frames.species) == z).sum(axis=1)
                real = np.arange(value.shape[1]) < count[:, None]
                values.setdefault(z, []).append(np.asarray(value)[real])
        joined = {z: np.concatenate(value) for z, value in values.items()}
        for z, value in joined.items():
            statistics["descriptor_mean"][species.index(z)] = value.mean(axis=0)
        spread = np.sqrt(np.mean([value.var(axis=0).mean() for value in joined.values()]))
        size = np.sqrt(np.mean([np.mean(value**2) for value in joined.values()]))
        scale = DESCRIPTOR_RANGE * spread + DESCRIPTOR_SIZE * size
        return statistics | {"descriptor_scale": float(scale) + 1e-9}

    @property
    def degree(self) -> int:
        """Largest degree of the harmonics in the projection."""
        return 1

    def radial(self, r: Float[Array, "..."]) -> list[Float[Array, "..."]]:
        """B_k(r) = s(r) T_k(2 s / s_max - 1), s clamped below the shortest distances."""
        config = self.config
        lowest = self.statistics["basis_start"].astype(r.dtype) - BASIS_WIDTH
        inner = smooth(clamp(r, lowest, BASIS_WIDTH), config)
        x = 2.0 * inner / self.largest.astype(r.dtype) - 1.0
        s = smooth(r, config)
        return [s * t for t in chebyshev(x, config.basis)]

    def describe(
        self,
        frames: Frames,
        neighbors: Neighbors,
        centres: Centres | None = None,
        sums: Callable = MatrixPairs.of,
    ) -> Any:
        """All that depends on the geometry alone."""
        if self.exact:
            return frames, neighbors, centres
        return self.environment(frames, neighbors, centres, sums)

    def answers(self, frames: Frames, neighbors: Neighbors, virial: bool = True) -> Answer:
        """What all members say, where `weights` have a leading axis: by the kernel if it can."""
        from kepton.potential import compiled

        if compiled.serves(self):
            return compiled.answers(self, frames, neighbors, virial)
        return super().answers(frames, neighbors, virial)

    def answer(self, described: Any, virial: bool = True) -> Answer:
        """Energy (float64), forces and, if asked for, virial of what `describe` returned."""
        if self.exact:
            frames, neighbors, centres = described
            return derive(partial(self._exact_energies, centres=centres), frames, neighbors)
        environment: Environment = described
        energies = partial(self._energies, environment=environment)
        return environment.answer(*with_slope(energies, environment.projection), virial)

    def roughness(self) -> Float[Array, ""]:
        """Mean square error of the forces by the radial basis, as the nets at twice the nodes tell.

        f^2 sum_{k >= K} (k C_k)^2 / sum_k (k C_k)^2

        f is the size of the parts that a force is the sum of: the scale of the forces, or PARTS
        where they nearly cancel, as in a cold crystal.
        """
        count = self.config.basis
        c = jnp.stack([c for s in range(self._sides) for c in self.coefficients(s, 2 * count)])
        power = ((jnp.arange(2 * count, dtype=self.dtype)[:, None] * c) ** 2).sum((0, 1, 3))
        size = jnp.maximum(self.statistics["scale"], PARTS).astype(self.dtype)
        return size**2 * power[count:].sum() / power.sum()

    def fitted_to(self, frames: Frames, lists: Neighbors) -> "DeepPotential":
        """The same model with its repulsive core moved below the shortest distances of new data."""
        shortest, selected = shortest_and_most(self.config.species, self.cutoff, frames, lists)
        start = min(float(self.statistics["basis_start"]), 0.95 * float(shortest.min()))
        moved = {
            "core": np.minimum(np.asarray(self.statistics["core"]), 0.9 * shortest),
            "basis_start": start,
            "selected": np.maximum(np.asarray(self.statistics["selected"]), selected),
        }
        moved = {name: jnp.asarray(value, jnp.float64) for name, value in moved.items()}
        return replace(self, statistics=self.statistics | moved)

    def reference(self) -> "DeepPotential":
        """The nets evaluated at every neighbour, in float64."""
        return replace(self.with_dtype(jnp.float64), exact=True)

    @jitted
    def descriptors(self, frames: Frames, lists: Neighbors) -> dict[int, Float[Array, "b c d"]]:
        """D of every atom before it is scaled, by atomic number, in the order of their places."""
        environment = project(frames, lists, self.radial, None, self.dtype)
        projection = environment.projection
        found = {}
        for z, places in zip(environment.elements, environment.places):
            centre = self.config.species.index(z)
            own = take(projection, places)
            t = self._moments(
                own.reshape(-1, *own.shape[2:]),
                self.coefficients(centre),
                centre,
                environment.elements,
            )
            found[z] = self._descriptor(t).reshape(*places.shape, -1)
        return found

    @property
    def _sides(self) -> int:
        """Number of different sets of radial coefficients."""
        plain = self.config.one_sided and "environment_mean" not in self.statistics
        return 1 if plain else len(self.config.species)

    @property
    def largest(self) -> Float[Array, ""]:
        """s_max: s where distances are clamped, 1/Å."""
        return smooth(self.statistics["basis_start"] - 0.5 * BASIS_WIDTH, self.config)

    def _normal(self, centre: int) -> tuple[Any, Any, Any]:
        """(m, c_0, c_1) of the central atom's element."""
        if "environment_mean" not in self.statistics:
            return 0.0, 1.0, 1.0
        mean = self.statistics["environment_mean"][centre].astype(self.dtype)
        scale = self.statistics["environment_scale"][centre].astype(self.dtype)
        return mean, scale[0], scale[1]

    def _embedding(self, x: Float[Array, "q"], centre: int, other: Any) -> Array:
        """G of one central element, of one neighbour's (q, M) or of all (S, q, M)."""
        count = len(self.config.species)
        layers = self.weights["embedding"]
        if not self.config.one_sided:
            layers = [matrix[centre * count : (centre + 1) * count] for matrix in layers]
        return hidden(x[..., None], [m[other] for m in layers], self.config.activation[0])

    def channels(self, s: Float[Array, "q"], centre: int) -> tuple[Array, Array]:
        """What stands in T beside s, for the constant row of R and for the three that turn.

        A row less what it is without a neighbour, over s:  G(x) / c_1,  and with x_0 = x at s = 0
        (G(x) - (m / c_0) (G(x) - G(x_0)) / (x - x_0)) / c_0

        Args:    s: 1/Å;  centre: place of the central atom's element
        Returns: two (S, q, M), by element of the neighbour
        """
        mean, scale, scale_1 = self._normal(centre)
        x = ((s - mean) / scale).astype(self.dtype)
        net = partial(self._embedding, centre=centre, other=slice(None))
        g = net(x)
        if "environment_mean" not in self.statistics:
            return g, g
        quotient = _difference_quotient(net, x, (s / scale).astype(self.dtype))
        return (g - mean / scale * quotient) / scale, g / scale_1

    def coefficients(
        self, centre: int, count: int | None = None
    ) -> tuple[Float[Array, "S K M"], Float[Array, "S K M"]]:
        """C_k of both kinds of rows, by element of the neighbour, by the nets at so many nodes."""
        count = count or self.config.basis
        s = 0.5 * self.largest * (1.0 + chebyshev_nodes(count))
        transform = jnp.asarray(chebyshev_transform(count), self.dtype)
        constant, turning = self.channels(s, centre)
        turned = jnp.einsum("kq,sqm->skm", transform, turning)
        if constant is turning:
            return turned, turned
        return jnp.einsum("kq,sqm->skm", transform, constant), turned

    def seen(self, centre: int, elements: tuple[int, ...]) -> list[int]:
        """Places in `elements` of those that an element's atoms see."""
        z = self.config.species[centre]
        return [k for k, other in enumerate(elements) if (z, other) not in self.config.excluded]

    def _moments(
        self,
        projection: Float[Array, "a 4 E K"],
        coefficients: tuple[Float[Array, "S K M"], Float[Array, "S K M"]],
        centre: int,
        elements: tuple[int, ...],
    ) -> Float[Array, "a 4 M"]:
        """T of atoms of one element, from the radial basis."""
        seen = self.seen(centre, elements)
        rows = np.array([self.config.species.index(elements[k]) for k in seen], int)
        a = projection if len(seen) == len(elements) else projection[:, :, np.array(seen, int)]
        constant, turning = (c[rows] for c in coefficients)
        if constant is turning or self._sides == 1:
            t = jnp.einsum("acsk,skm->acm", a, turning)
        else:
            first = jnp.einsum("acsk,skm->acm", a[:, :1], constant)
            t = jnp.concatenate([first, jnp.einsum("acsk,skm->acm", a[:, 1:], turning)], axis=1)
        return (t + self.empty_slots(centre)) / self.statistics["neighbors"].astype(self.dtype)

    def empty_slots(self, centre: int) -> Any:
        """What T holds when all slots are empty: sum_j G(x_0) (-m / c_0, 0, 0, 0)."""
        if "environment_mean" not in self.statistics:
            return 0.0
        mean, scale, _ = self._normal(centre)
        seen = np.array(self.seen(centre, self.config.species), int)
        net = self._embedding(-mean[None] / scale, centre, seen)[:, 0]
        slots = self.statistics["selected"][seen].astype(self.dtype)
        row = (-mean / scale) * jnp.einsum("s,sm->m", slots, net)
        return jnp.zeros((4, len(row)), self.dtype).at[0].set(row)

    def _descriptor(self, t: Float[Array, "a 4 M"]) -> Float[Array, "a d"]:
        """D = T T<^T"""
        # four terms in the open: XLA's products of so small matrices are slower on a CPU
        parts = [t[:, c, :, None] * t[:, c, None, : self.config.axis] for c in range(4)]
        return (parts[0] + parts[1] + parts[2] + parts[3]).reshape(len(t), -1)

    def _atomic(self, t: Float[Array, "a 4 M"], centre: int) -> Float[Array, "a"]:
        """Energies of atoms of one element, eV, without their bias."""
        statistics = self.statistics
        mean = statistics["descriptor_mean"][centre].astype(self.dtype)
        inverse = (1.0 / statistics["descriptor_scale"]).astype(self.dtype)
        x = (self._descriptor(t) - mean) * inverse
        *layers, last = [matrix[centre] for matrix in self.weights["fitting"]]
        net = output(hidden(x, layers, self.config.activation[1]), last)[:, 0]
        return statistics["scale"] * net.astype(jnp.float64)

    def _sum(self, moments: Any, frames_of: tuple[Any, ...], elements: tuple[int, ...]) -> Array:
        """(b,) energies from T of the atoms of each element, and their places."""
        total: Any = 0.0
        for z, places in zip(elements, frames_of):
            if places.shape[1] == 0:  # the atoms are all of another element
                continue
            centre = self.config.species.index(z)
            atomic = self._atomic(moments(z, places), centre).reshape(places.shape)
            atomic = atomic + self.statistics["bias"][centre]
            total = total + jnp.where(places >= 0, atomic, 0.0).sum(axis=1)
        return total

    def _energies(
        self, projection: Float[Array, "b n 4 S K"], environment: Environment
    ) -> Float[Array, "b"]:
        """Energy of each frame from A, without the repulsion."""
        elements = environment.elements
        shared = self.coefficients(0) if self._sides == 1 else None

        def moments(z, places):
            centre = self.config.species.index(z)
            own = environment.own(projection, places)
            own = own.reshape(-1, *own.shape[2:])
            return self._moments(own, shared or self.coefficients(centre), centre, elements)

        return self._sum(moments, environment.places, elements)

    def _exact_energies(
        self, frames: Frames, lists: Neighbors, centres: Centres | None
    ) -> Float[Array, "b"]:
        """Energy of each frame, or of some atoms, the nets evaluated at every neighbour."""
        elements = tuple(z for z, _ in lists.slots)
        chosen = None if centres is None else centres.places
        index, species, places = looked_at(frames, lists, centres)
        apart = lists.vectors(frames, chosen)
        vectors = apart.astype(self.dtype)

        def moments(z, places):
            centre = self.config.species.index(z)
            mean, scale, scale_1 = self._normal(centre)
            own = take(vectors, places)
            own = own.reshape(-1, *own.shape[2:])
            t = jnp.zeros((len(own), 4, self.config.embedding[-1])) + self.empty_slots(centre)
            for k in self.seen(centre, elements):
                other, slot = lists.slots[k]
                d = own[:, slot]
                r = jnp.linalg.norm(d, axis=-1)
                s = smooth(r, self.config)
                place = self.config.species.index(other)
                net = partial(self._embedding, centre=centre, other=place)
                x, empty = (s - mean) / scale, jnp.asarray(-mean / scale, self.dtype)[None]
                g = net(x.ravel()).reshape(*x.shape, -1)
                first = g * x[..., None] - net(empty) * empty
                turning = jnp.einsum("am,ami->aim", s / r / scale_1, d)
                rest = jnp.einsum("aim,ame->aie", turning, g)
                t = t + jnp.concatenate([first.sum(axis=1, keepdims=True), rest], axis=1)
            return t / self.statistics["neighbors"]

        total = self._sum(moments, places, elements)
        if "core" not in self.statistics:
            return total
        r = jnp.linalg.norm(apart, axis=-1)
        for z, slot in lists.slots:
            own = species[:, :, None].astype(float)
            pair = self.repulsion(r[..., slot], own, jnp.asarray(float(z)))
            total = total + 0.5 * jnp.where(index[..., slot] >= 0, pair, 0.0).sum(axis=(1, 2))
        return total


def smooth(r: Any, config: DeepPotentialConfig) -> Any:
    """s(r) = w(r) / r, 1/Å"""
    return switch(r, config.smooth_A, config.cutoff_A) / r


def _difference_quotient(net, x: Float[Array, "q"], step: Float[Array, "q"]) -> Array:
    """(G(x) - G(x - step)) / step, by quadrature of G' where the step is short."""
    points, weights = np.polynomial.legendre.leggauss(4)
    mean: Any = 0.0
    for point, weight in zip((0.5 + 0.5 * points).tolist(), (0.5 * weights).tolist()):
        slope = jax.jvp(net, (x - point * step,), (jnp.ones_like(x),))[1]
        mean = mean + weight * slope
    short = jnp.abs(step)[:, None] < 0.3
    safe = jnp.where(short, 1.0, step[:, None])
    return jnp.where(short, mean, (net(x) - net(x - step)) / safe)
