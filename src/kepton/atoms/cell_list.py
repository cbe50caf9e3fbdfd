"""Neighbour lists of one large periodic system, made where its atoms are."""

import itertools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from kepton.atoms.frames import Frames, Real
from kepton.atoms.images import IMAGES, check_images, packed
from kepton.devices import jitted

CANDIDATES = 2**25
"""Pairs that are looked at together: 0.2 GB on a GPU, where all but who is near is fused"""
OCCUPANCY = 8
"""Atoms in a bin on average, at least: smaller bins would hold little but padding"""

Triple = tuple[int, int, int]


class Sorted(NamedTuple):
    """Atoms in the order of element and bin.

    Args:
        home: the cell in which each atom was, in cell vectors
        bin: the bin of each atom
        place: of each atom in the order
        order: the atom at each place
        positions: of the atom at each place, moved home, Å
        first: the place where each bin of each element begins, and where the last one ends
    """

    home: Int[Array, "1 n 3"]
    bin: Int[Array, "n"]
    place: Int[Array, "n"]
    order: Int[Array, "n"]
    positions: Float[Array, "3 n"]
    first: Int[Array, "bins"]


def cell_list(frames: Frames, reach: float) -> Callable[[list[int]], tuple[Real, Real, Real, Real]]:
    """A search for the neighbours of all atoms among those of the bins around them.

    Only the cell, the fullest bin and the most neighbours of each element come to the host.

    Args:
        frames: one configuration, periodic along all cell vectors, without padding
        reach: up to where neighbours are listed, Å
    Returns: slots of each element -> index, image, home with as many neighbours as fit; the most
             found
    Raises:
        InputError: a cell vector so short that an image cannot be packed
    """
    cell = np.asarray(frames.cell, float)[0]
    counts, around = _bins(cell, reach, frames.positions.shape[1])
    check_images(max(around) > IMAGES)
    elements = tuple(z for z, _ in frames.composition)
    atoms, fullest = _sort(frames.positions, frames.species, cell, elements, counts)
    # rounded up, so that it changes rarely: each is a program to compile
    capacity = tuple(8 * max(1, -(-count // 8)) for count in np.asarray(fullest).tolist())
    others = int(np.prod(2 * np.array(around) + 1)) * max(capacity)
    block = min(len(atoms.order), max(1, CANDIDATES // others))

    def listed(widths):
        static = counts, around, capacity, tuple(widths), block
        index, image, most = _list(atoms, cell, reach, *static)
        return index, image, atoms.home, np.asarray(most)

    return listed


def _bins(cell: np.ndarray, reach: float, atoms: int) -> tuple[Triple, Triple]:
    """How many bins there are along each cell vector, and how many to either side are in reach."""
    height = 1 / np.linalg.norm(np.linalg.inv(cell), axis=0)
    reach = reach * (1 + 1e-9)
    wanted = np.maximum(1.0, height / reach)
    while wanted.prod() > max(1.0, atoms / OCCUPANCY):
        wanted[wanted.argmax()] = max(1.0, 0.9 * wanted.max())
    counts = np.floor(wanted)
    around = np.ceil(reach * counts / height)
    return tuple(counts.astype(int).tolist()), tuple(around.astype(int).tolist())


def _sorted(positions, species, cell, elements: tuple[int, ...], counts: Triple):
    """The atoms in order, and how many are in the fullest bin of each element."""
    scaled = positions[0] @ jnp.linalg.inv(cell)
    home = jnp.floor(scaled).astype(jnp.int32)
    size, bins = np.array(counts, np.int32), int(np.prod(counts))
    along = jnp.clip(((scaled - home) * size).astype(jnp.int32), 0, size - 1)
    number = _number(along, counts)
    key = jnp.searchsorted(np.array(elements), species[0]).astype(jnp.int32) * bins + number
    atoms = jnp.arange(len(key), dtype=jnp.int32)
    key, order = jax.lax.sort((key, atoms), num_keys=1, is_stable=True)
    place = jnp.zeros_like(order).at[order].set(atoms, unique_indices=True)
    first = jnp.searchsorted(key, jnp.arange(len(elements) * bins + 1, dtype=jnp.int32))
    fullest = jnp.diff(first).reshape(len(elements), bins).max(axis=1)
    moved = (positions[0] - home @ cell)[order].T
    return Sorted(home[None], number, place, order, moved, first), fullest


_sort = jitted(_sorted, static_argnames=("elements", "counts"))


def _number(along: Int[Real, "... 3"], counts: Triple) -> Int[Real, "..."]:
    """The number of the bin that stands so far along each cell vector."""
    return (along[..., 0] * counts[1] + along[..., 1]) * counts[2] + along[..., 2]


def _listed(
    atoms: Sorted,
    cell: Float[Real, "3 3"],
    reach: float | Float[Array, ""],
    counts: Triple,
    around: Triple,
    capacity: tuple[int, ...],
    widths: tuple[int, ...],
    size: int,
):
    """Index and image with as many neighbours as fit, and the most found, by blocks of a size."""
    n, bins, along = len(atoms.order), int(np.prod(counts)), np.array(counts, np.int32)
    steps = np.array(list(itertools.product(*(range(-r, r + 1) for r in around))), np.int32)

    def block(k, lists):
        # the last block begins early enough to be whole
        begin = jnp.minimum(k * size, n - size)
        own, place = (
            jax.lax.dynamic_slice_in_dim(part, begin, size) for part in (atoms.bin, atoms.place)
        )
        there = jnp.stack(jnp.unravel_index(own, counts), axis=-1)[:, None] + steps
        image = there // along
        other = _number(there - image * along, counts)
        shift = image @ cell - atoms.positions[:, place].T[:, None]
        image, found = packed(image), []
        for element, (room, width) in enumerate(zip(capacity, widths)):
            box = element * bins + other
            first, end = atoms.first[box], atoms.first[box + 1]
            at = first[..., None] + jnp.arange(room, dtype=jnp.int32)
            apart = [x[at] + shift[..., c, None] for c, x in enumerate(atoms.positions)]
            itself = (at == place[:, None, None]) & (image == 0)[..., None]
            near = (sum(x * x for x in apart) < reach**2) & (at < end[..., None]) & ~itself
            slot, count = _first_true(near.reshape(size, -1), width)
            step = slot // room
            index = atoms.order[jnp.take_along_axis(first, step, axis=1) + slot % room]
            away = jnp.take_along_axis(image, step, axis=1)
            found.append((jnp.where(slot < 0, -1, index), jnp.where(slot < 0, 0, away), count))
        *parts, count = zip(*found)
        rows = [jnp.concatenate(part, axis=1)[None] for part in parts]
        *whole, most = lists
        whole = [
            jax.lax.dynamic_update_slice(all_rows, some, (0, begin, 0))
            for all_rows, some in zip(whole, rows)
        ]
        return *whole, jnp.maximum(most, jnp.stack(count))

    lists = (
        jnp.zeros((1, n, sum(widths)), jnp.int32),
        jnp.zeros((1, n, sum(widths)), jnp.int16),
        jnp.zeros(len(widths), jnp.int32),
    )
    return jax.lax.fori_loop(0, -(-n // size), block, lists)


_list = jitted(_listed, static_argnames=("counts", "around", "capacity", "widths", "size"))


def _first_true(mask: Bool[Array, "n m"], width: int) -> tuple[Int[Array, "n w"], Int[Array, ""]]:
    """Where the first so many of each row are true, -1 beyond; and the most that are."""
    column = jnp.arange(mask.shape[1], dtype=jnp.int32)
    rank = jnp.cumsum(mask, axis=1, dtype=jnp.int32)
    # where false, beyond all slots, each at a place of its own
    slot = jnp.where(mask, rank - 1, mask.shape[1] + column)
    rows = jnp.arange(len(mask), dtype=jnp.int32)[:, None]
    slots = jnp.full((len(mask), width), -1, jnp.int32)
    slots = slots.at[rows, slot].set(column, mode="drop", unique_indices=True)
    return slots, rank[:, -1].max()
