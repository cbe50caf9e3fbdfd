"""`Environment`: the neighbours of every atom, projected on radial functions, free of weights."""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from kepton.atoms.frames import Frames, Real
from kepton.atoms.neighbors import Neighbors


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["basis", "unit", "length"],
    meta_fields=[],
)
@dataclass(frozen=True)
class Pairs:
    """All neighbours of one element.

    Args:
        basis: radial functions B_k(r) of all slots, then B_k'(r), 1/Å
        unit: r_ij / r
        length: r, Å
    """

    basis: Float[Real, "b n k slots"]
    unit: Float[Real, "b n 3 m"]
    length: Float[Real, "b n m"]

    @property
    def rows(self) -> Float[Array, "b n 4 m"]:
        """(1, x/r, y/r, z/r)"""
        return jnp.concatenate([jnp.ones_like(self.unit[:, :, :1]), self.unit], axis=2)


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["pairs", "index", "places", "push"],
    meta_fields=["elements"],
)
@dataclass(frozen=True)
class Environment:
    """What a model must know of b frames: all of it depends on the geometry alone.

    A_i = sum_j B(r_ij) (x) (1, r_ij / r)        by element of j

    Args:
        pairs: by element of the neighbour
        index: the neighbour's place in its frame, segments in the order of `pairs`
        places: by element of the atom, its places in every frame, -1 where there are fewer
        push: (energy (b,), slope (b, n, m)) of a pair repulsion: eV, and eV/Å a pair
        elements: atomic numbers of `pairs` and `places`; static
    """

    pairs: tuple[Pairs, ...]
    index: Int[Real, "b n m"]
    places: tuple[Int[Real, "b _"], ...]
    push: tuple[Float[Real, "b"], Float[Real, "b n m"]] | None
    elements: tuple[int, ...]

    @property
    def projection(self) -> Float[Array, "b n 4 S K"]:
        """A"""
        parts = [
            jnp.einsum("bnkm,bncm->bnck", p.basis[..., : p.length.shape[-1]], p.rows)
            for p in self.pairs
        ]
        return jnp.stack(parts, axis=3)

    def pull(self, slope: Float[Array, "b n 4 S K"]) -> Float[Array, "b n 3 m"]:
        """dE/dr_ij for every pair from dE/dA: the chain rule of the projection.

        sum_c q_c u_c x + (t - x (x . t)) / r,   t = dE/dA . B,  q = dE/dA . B',  u = (1, x)
        """
        found = []
        for place, pairs in enumerate(self.pairs):
            both = jnp.einsum("bnkm,bnck->bncm", pairs.basis, slope[:, :, :, place])
            t, q = jnp.split(both, 2, axis=-1)
            t = t[:, :, 1:]
            x, inverse = pairs.unit, 1.0 / pairs.length[:, :, None]
            along = q[:, :, :1] + _dot(q[:, :, 1:] - t * inverse, x)
            found.append(along * x + t * inverse)
        total = jnp.concatenate(found, axis=-1)
        if self.push is not None:
            units = jnp.concatenate([pairs.unit for pairs in self.pairs], axis=-1)
            total = total + self.push[1][:, :, None] * units
        return total

    def forces(self, pulls: Float[Array, "b n 3 m"]) -> Float[Array, "b n 3"]:
        """F_i = sum_j (dE/dr_ij - dE/dr_ji), eV/Å"""
        b, n, _, m = pulls.shape
        rows = jnp.arange(b)[:, None] * n + jnp.asarray(self.index).reshape(b, n * m)
        flat = jnp.moveaxis(pulls, 2, 3).reshape(b * n * m, 3)
        back = jax.ops.segment_sum(flat, rows.reshape(-1), num_segments=b * n)
        return pulls.sum(axis=-1) - back.reshape(b, n, 3)

    def virial(self, pulls: Float[Array, "b n 3 m"]) -> Float[Array, "b 3 3"]:
        """W = -sum_ij r_ij (x) dE/dr_ij, made symmetric, eV"""
        vectors = [pairs.unit * pairs.length[:, :, None] for pairs in self.pairs]
        full = jnp.einsum("bncm,bndm->bcd", jnp.concatenate(vectors, axis=-1), pulls)
        return -0.5 * (full + full.mT)


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


def project(frames: Frames, lists: Neighbors, radial, repulsion, dtype) -> Environment:
    """The environment of every atom.

    Args:
        radial: r -> list of K radial functions, zero beyond the cutoff
        repulsion: (r, z_i, z_j) -> eV of a pair, or None
        dtype: of all but the energy of the repulsion
    """
    vectors = jnp.moveaxis(lists.vectors(frames).astype(dtype), -1, 2)
    pairs, energy, slopes = [], 0.0, []
    for z, slot in lists.slots:
        d = vectors[..., slot]
        r = jnp.sqrt(_dot(d, d)[:, :, 0])
        basis = jax.jvp(lambda r: jnp.stack(radial(r), axis=2), (r,), (jnp.ones_like(r),))
        pairs.append(Pairs(jnp.concatenate(basis, axis=-1), d / r[:, :, None], r))
        if repulsion is not None:
            own = jnp.asarray(frames.species)[:, :, None].astype(dtype)
            pair = partial(repulsion, z_i=own, z_j=jnp.asarray(float(z), dtype))
            value, change = jax.jvp(pair, (r,), (jnp.ones_like(r),))
            real = lists.mask[..., slot]
            energy = energy + 0.5 * jnp.where(real, value, 0.0).astype(jnp.float64).sum((1, 2))
            slopes.append(0.5 * jnp.where(real, change, 0.0))
    push = None if repulsion is None else (energy, jnp.concatenate(slopes, axis=-1))
    elements = tuple(z for z, _ in lists.slots)
    return Environment(tuple(pairs), jnp.asarray(lists.index), places_of(frames), push, elements)


def _dot(a: Float[Array, "b n 3 m"], b: Float[Array, "b n 3 m"]) -> Float[Array, "b n 1 m"]:
    # three terms in the open: XLA's reduction over a short axis is several times slower on a CPU
    product = a * b
    return product[:, :, 0:1] + product[:, :, 1:2] + product[:, :, 2:3]
