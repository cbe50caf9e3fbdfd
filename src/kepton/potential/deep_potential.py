"""Deep Potential (DeepPot-SE, `se_e2_a`), its embedding nets evaluated as a radial basis."""

from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ase.data import covalent_radii
from jaxtyping import Array, Float

from kepton.atoms.frames import Frames, Real
from kepton.atoms.neighbors import Neighbors, neighbors
from kepton.potential.radial import (
    chebyshev,
    chebyshev_nodes,
    chebyshev_transform,
    clamp,
    switch,
)
from kepton.potential.zbl import zbl

DESCRIPTOR_RANGE = 7.0
"""deviations of the descriptor that make one unit of a fitting net's input"""
BASIS_WIDTH = 0.2
"""Å over which distances below any in the data are clamped"""


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
    """

    species: tuple[int, ...]
    cutoff_A: float = 4.0
    smooth_A: float = 1.0
    basis: int = 24
    embedding: tuple[int, ...] = (8, 16)
    axis: int = 6
    fitting: tuple[int, ...] = (64, 64, 64)


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["weights", "statistics"],
    meta_fields=["config"],
)
@dataclass(frozen=True)
class DeepPotential:
    """Energy as a sum over atoms of a net of a smooth, symmetric descriptor of the surroundings.

    E = sum_i b_{z_i} + a net_{z_i}(D_i),   D_i = T_i T_i<^T,   T_i = (1/N) sum_j G_{z_j}(s_ij) R_ij
    R_ij = s(r) (1, x/r, y/r, z/r),   s(r) = w(r) / r,   G(s(r)) = sum_k C_k T_k(r)

    The embedding nets G are evaluated at the Chebyshev nodes only, never at a neighbour: the
    model is defined by the interpolant, in training as in use. Below `core` (just below the
    shortest distances in the data, for each pair of elements) a ZBL repulsion is switched on.

    Args:
        weights: what training moves: `embedding` and `fitting`, lists of (S, in + 1, out), the
            last row of each matrix being the bias
        statistics: what data fix: energy `bias` (S,) and `scale`, `descriptor_mean` (S, d) and
            `descriptor_scale` (), `neighbors` (), `basis_start` (), `core` (S, S)
    Source: Zhang et al., NeurIPS 2018, arXiv:1805.09003
    """

    weights: dict[str, list[Float[Real, "..."]]]
    statistics: dict[str, Float[Real, "..."]]
    config: DeepPotentialConfig = field(metadata={"static": True})

    @staticmethod
    def init(key, config: DeepPotentialConfig, statistics: dict[str, Any]) -> "DeepPotential":
        """Random weights, scaled by fan-in, as the nets of every element start."""
        count = len(config.species)

        def net(key, widths):
            keys = jax.random.split(key, len(widths) - 1)
            return [
                jnp.concatenate(
                    [
                        jax.random.normal(k, (count, i, o), jnp.float32) / np.sqrt(i),
                        0.1
                        * jax.random.normal(jax.random.fold_in(k, 1), (count, 1, o), jnp.float32),
                    ],
                    axis=1,
                )
                for k, i, o in zip(keys, widths, widths[1:])
            ]

        embedding, fitting = jax.random.split(key)
        width = config.embedding[-1] * config.axis
        weights = {
            "embedding": net(embedding, (1, *config.embedding)),
            "fitting": net(fitting, (width, *config.fitting, 1)),
        }
        weights["fitting"][-1] = 0.1 * weights["fitting"][-1]
        statistics = {name: jnp.asarray(value, jnp.float64) for name, value in statistics.items()}
        return DeepPotential(weights, statistics, config)

    @staticmethod
    def prepare(config: DeepPotentialConfig, frames: Frames, energy, forces) -> dict[str, Any]:
        """Statistics of a data set: b frames, (b,) eV, (b, n, 3) eV/Å.

        One scale serves all channels of the descriptor, far above their deviation, so that the
        nets start as nearly linear functions of it: the smoothest fit of few data.
        """
        species = np.array(config.species)
        counts = (np.asarray(frames.species)[:, :, None] == species).sum(axis=1)
        shortest = shortest_distances(config, frames)
        lists = neighbors(frames, config.cutoff_A)
        statistics = {
            "bias": np.linalg.lstsq(counts.astype(float), np.asarray(energy), rcond=None)[0],
            "scale": np.sqrt(np.mean(np.asarray(forces)[np.asarray(frames.mask)] ** 2) + 1e-6),
            "descriptor_mean": np.zeros((len(species), config.embedding[-1] * config.axis)),
            "descriptor_scale": 1.0,
            "neighbors": max(1.0, float(lists.mask.sum() / np.sum(frames.mask)) ** 0.5),
            "basis_start": 0.9 * shortest.min(),
            "core": 0.9 * shortest,
        }
        model = DeepPotential.init(jax.random.key(0), config, statistics)
        values = np.asarray(model.descriptor(model.projection(frames, lists)))
        members = [values[np.asarray(frames.species) == z] for z in species]
        statistics["descriptor_mean"] = np.stack([v.mean(axis=0) for v in members])
        spread = np.sqrt(np.mean([v.var(axis=0).mean() for v in members]))
        statistics["descriptor_scale"] = DESCRIPTOR_RANGE * float(spread) + 1e-6
        return statistics

    @property
    def cutoff(self) -> float:
        """Å"""
        return self.config.cutoff_A

    @property
    def dtype(self):
        """Precision of the nets."""
        return self.weights["fitting"][0].dtype

    def radial_coefficients(self) -> Float[Array, "S K M"]:
        """C: the embedding nets of each element as coefficients of the radial basis."""
        config, statistics = self.config, self.statistics
        start = statistics["basis_start"] + 0.5 * BASIS_WIDTH
        nodes = chebyshev_nodes(start, config.cutoff_A, config.basis)
        s = switch(nodes, config.smooth_A, config.cutoff_A) / nodes
        hidden = jnp.broadcast_to(
            s.astype(self.dtype)[None, :, None], (len(config.species), config.basis, 1)
        )
        for matrix in self.weights["embedding"]:
            hidden = _residual_layer(hidden, matrix)
        transform = jnp.asarray(chebyshev_transform(config.basis), self.dtype)
        return jnp.einsum("kq,sqm->skm", transform, hidden)

    def projection(self, frames: Frames, lists: Neighbors) -> Float[Array, "b n S K 4"]:
        """A_i = sum_j B(r_ij) (x) R_ij by element of j, (b, n, S, K, 4): free of weights."""
        config = self.config
        pairs = lists.vectors(frames).astype(self.dtype)
        x, y, z = pairs[..., 0], pairs[..., 1], pairs[..., 2]
        r = jnp.sqrt(x * x + y * y + z * z)
        start = self.statistics["basis_start"].astype(self.dtype)
        basis = chebyshev(
            clamp(r, start, BASIS_WIDTH), start + 0.5 * BASIS_WIDTH, config.cutoff_A, config.basis
        )
        s = switch(r, config.smooth_A, config.cutoff_A) / r
        rows = s[..., None] * jnp.stack([jnp.ones_like(r), x / r, y / r, z / r], axis=-1)
        kinds = jax.nn.one_hot(self._kinds(frames, lists)[1], len(config.species), dtype=self.dtype)
        weighted = kinds * lists.mask[..., None].astype(self.dtype)
        return jnp.einsum("bnms,bnmk,bnmc->bnskc", weighted, basis, rows)

    def descriptor(self, projection: Float[Array, "b n S K 4"]) -> Float[Array, "b n d"]:
        """D = T T<^T before it is scaled."""
        neighbors = self.statistics["neighbors"].astype(self.dtype)
        t = jnp.einsum("bnskc,skm->bnmc", projection, self.radial_coefficients()) / neighbors
        d = jnp.einsum("bnmc,bnac->bnma", t, t[:, :, : self.config.axis])
        return d.reshape(*d.shape[:2], -1)

    def _kinds(self, frames: Frames, lists: Neighbors):
        """Places in `species` of every atom and of every neighbour."""
        place = jnp.searchsorted(jnp.array(self.config.species), frames.species)
        return place, jax.vmap(lambda place, j: place[j])(place, lists.index)

    def energies(self, frames: Frames, neighbors: Neighbors) -> Float[Array, "b"]:
        """Energy of each frame, eV, in float64."""
        config, statistics = self.config, self.statistics
        species = jnp.asarray(frames.species)
        descriptor = self.descriptor(self.projection(frames, neighbors))
        place, _ = self._kinds(frames, neighbors)
        total = self._repulsion(frames, neighbors)
        total = total + (statistics["bias"][place] * frames.mask).sum(axis=1)
        for number, count in frames.composition:
            s = config.species.index(number)
            member = species == number
            places = partial(jnp.nonzero, size=count, fill_value=-1)
            (atoms,) = jax.vmap(places)(member)
            hidden = jnp.take_along_axis(descriptor, atoms[..., None] % species.shape[1], axis=1)
            mean = statistics["descriptor_mean"][s].astype(self.dtype)
            hidden = (hidden - mean) * (1.0 / statistics["descriptor_scale"]).astype(self.dtype)
            *layers, last = [matrix[s] for matrix in self.weights["fitting"]]
            for matrix in layers:
                hidden = _residual_layer(hidden, matrix)
            atomic = (hidden @ last[:-1] + last[-1])[..., 0].astype(jnp.float64)
            total = total + statistics["scale"] * jnp.where(atoms >= 0, atomic, 0.0).sum(axis=1)
        return total

    def _repulsion(self, frames: Frames, lists: Neighbors) -> Float[Array, "b"]:
        place, other = self._kinds(frames, lists)
        outer = self.statistics["core"][place[:, :, None], other]
        numbers = jnp.array(self.config.species, jnp.float64)
        r = jnp.linalg.norm(lists.vectors(frames), axis=-1)
        pair = zbl(r, numbers[place][:, :, None], numbers[other], 0.7 * outer, outer)
        return 0.5 * jnp.where(lists.mask, pair, 0.0).sum(axis=(1, 2))

    def features(self, frames: Frames, neighbors: Neighbors) -> Float[Array, "b d"]:
        """Powers of the projection summed over the atoms of each element, by radial function."""
        a = self.projection(frames, neighbors)
        power = jnp.stack([a[..., 0] ** 2, (a[..., 1:] ** 2).sum(axis=-1)], axis=-1)
        kinds = jax.nn.one_hot(self._kinds(frames, neighbors)[0], len(self.config.species))
        kinds = kinds * frames.mask[..., None]
        sums = jnp.einsum("bnz,bnskp->bzskp", kinds, jnp.sqrt(power[..., :8, :] + 1e-12))
        return sums.reshape(len(frames), -1)

    def roughness(self) -> Float[Array, ""]:
        """Share of the radial coefficients' power in their upper quarter."""
        coefficients = self.radial_coefficients()
        tail = coefficients[:, -(coefficients.shape[1] // 4) :]
        return (tail**2).sum() / (coefficients**2).sum()

    def fitted_to(self, frames: Frames) -> "DeepPotential":
        """The same model with its repulsive core moved below the shortest distances of new data."""
        core = np.minimum(
            np.asarray(self.statistics["core"]), 0.9 * shortest_distances(self.config, frames)
        )
        start = min(float(self.statistics["basis_start"]), float(core.min()))
        moved = {"core": jnp.asarray(core), "basis_start": jnp.asarray(start)}
        return replace(self, statistics=self.statistics | moved)

    def with_dtype(self, dtype) -> "DeepPotential":
        """The same function with nets in another precision."""
        return replace(self, weights=jax.tree.map(lambda w: w.astype(dtype), self.weights))


def _residual_layer(x: Float[Array, "... i"], matrix: Float[Array, "... i+1 o"]):
    """tanh(x W + b), plus x where the width stays, plus (x, x) where it doubles."""
    y = jnp.tanh(x @ matrix[..., :-1, :] + matrix[..., -1:, :])
    if y.shape[-1] == x.shape[-1]:
        return y + x
    if y.shape[-1] == 2 * x.shape[-1]:
        return y + jnp.concatenate([x, x], axis=-1)
    return y


def shortest_distances(config: DeepPotentialConfig, frames: Frames) -> Float[np.ndarray, "S S"]:
    """Shortest distance in the data between every two elements, Å.

    Where a pair never comes within the cutoff, 0.7 of the sum of covalent radii.
    """
    lists = neighbors(frames, config.cutoff_A)
    r = np.linalg.norm(np.asarray(lists.vectors(frames)), axis=-1)
    numbers = np.asarray(frames.species)
    others = np.take_along_axis(
        np.broadcast_to(numbers[:, None, :], (*numbers.shape, numbers.shape[1])), lists.index, 2
    )
    radii = covalent_radii[list(config.species)]
    shortest = 0.7 * (radii[:, None] + radii)
    for s, z_i in enumerate(config.species):
        for t, z_j in enumerate(config.species):
            pairs = lists.mask & (numbers[:, :, None] == z_i) & (others == z_j)
            pairs = pairs & (r < config.cutoff_A)
            if pairs.any():
                shortest[s, t] = r[pairs].min()
    return shortest
