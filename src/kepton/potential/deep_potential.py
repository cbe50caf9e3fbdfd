"""Deep Potential (DeepPot-SE, `se_e2_a`), its embedding nets evaluated as a radial basis."""

from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from kepton.atoms.frames import Frames, Real
from kepton.atoms.neighbors import Neighbors
from kepton.potential.radial import (
    chebyshev,
    chebyshev_nodes,
    chebyshev_transform,
    clamp,
    switch,
)
from kepton.potential.zbl import zbl

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
    cutoff_A: float = 5.0
    smooth_A: float = 1.0
    basis: int = 24
    embedding: tuple[int, ...] = (8, 16, 32)
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
            `descriptor_scale` (), `neighbors` (), `s_scale` (), `basis_start` (), `core` (S, S)
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
                        0.1 * jax.random.normal(jax.random.fold_in(k, 1), (count, 1, o), jnp.float32),
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
        s = switch(nodes, config.smooth_A, config.cutoff_A) / nodes * statistics["s_scale"]
        hidden = jnp.broadcast_to(
            s.astype(self.dtype)[None, :, None], (len(config.species), config.basis, 1)
        )
        for matrix in self.weights["embedding"]:
            hidden = _residual_layer(hidden, matrix)
        transform = jnp.asarray(chebyshev_transform(config.basis), self.dtype)
        return jnp.einsum("kq,sqm->skm", transform, hidden)

    def projection(self, frames: Frames, pairs: Float[Array, "b n m 3"], species_index, real):
        """A_i = sum_j B(r_ij) (x) R_ij by element of j, (b, n, S, K, 4): free of weights."""
        config = self.config
        pairs = pairs.astype(self.dtype)
        x, y, z = pairs[..., 0], pairs[..., 1], pairs[..., 2]
        r = jnp.sqrt(x * x + y * y + z * z)
        start = self.statistics["basis_start"].astype(self.dtype)
        basis = chebyshev(
            clamp(r, start, BASIS_WIDTH), start + 0.5 * BASIS_WIDTH, config.cutoff_A, config.basis
        )
        s = switch(r, config.smooth_A, config.cutoff_A) / r
        rows = s[..., None] * jnp.stack([jnp.ones_like(r), x / r, y / r, z / r], axis=-1)
        kinds = jax.nn.one_hot(species_index, len(config.species), dtype=self.dtype)
        weighted = kinds * real[..., None].astype(self.dtype)
        return jnp.einsum("bnms,bnmk,bnmc->bnskc", weighted, basis, rows)

    def descriptor(self, projection: Float[Array, "b n S K 4"]) -> Float[Array, "b n d"]:
        """D = T T<^T before it is scaled."""
        neighbors = self.statistics["neighbors"].astype(self.dtype)
        t = jnp.einsum("bnskc,skm->bnmc", projection, self.radial_coefficients()) / neighbors
        d = jnp.einsum("bnmc,bnac->bnma", t, t[:, :, : self.config.axis])
        return d.reshape(*d.shape[:2], -1)

    def energies(self, frames: Frames, neighbors: Neighbors) -> Float[Array, "b"]:
        """Energy of each frame, eV, in float64."""
        config, statistics = self.config, self.statistics
        species = jnp.asarray(frames.species)
        place = jnp.searchsorted(jnp.array(config.species), species)
        neighbor_place = jax.vmap(lambda place, j: place[j])(place, neighbors.index)
        vectors = neighbors.vectors(frames)
        descriptor = self.descriptor(
            self.projection(frames, vectors, neighbor_place, neighbors.mask)
        )
        total = self._repulsion(species, place, neighbor_place, vectors, neighbors.mask)
        total = total + (statistics["bias"][place] * frames.mask).sum(axis=1)
        for number, count in frames.composition:
            s = config.species.index(number)
            member = species == number
            atoms = jax.vmap(lambda member: jnp.nonzero(member, size=count, fill_value=-1)[0])(
                member
            )
            hidden = jnp.take_along_axis(descriptor, atoms[..., None] % species.shape[1], axis=1)
            mean = statistics["descriptor_mean"][s].astype(self.dtype)
            hidden = (hidden - mean) * (1.0 / statistics["descriptor_scale"]).astype(self.dtype)
            *layers, last = [matrix[s] for matrix in self.weights["fitting"]]
            for matrix in layers:
                hidden = _residual_layer(hidden, matrix)
            atomic = (hidden @ last[:-1] + last[-1])[..., 0].astype(jnp.float64)
            total = total + statistics["scale"] * jnp.where(atoms >= 0, atomic, 0.0).sum(axis=1)
        return total

    def _repulsion(self, species, place, neighbor_place, vectors, mask):
        outer = self.statistics["core"][place[:, :, None], neighbor_place]
        r = jnp.linalg.norm(vectors, axis=-1)
        z_i = species[:, :, None].astype(jnp.float64)
        z_j = jnp.array(self.config.species, jnp.float64)[neighbor_place]
        pair = jnp.where(mask, zbl(r, jnp.maximum(z_i, 1.0), z_j, 0.7 * outer, outer), 0.0)
        return 0.5 * pair.sum(axis=(1, 2))

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
