"""`Dataset`: labelled frames of any sizes, in buckets of one shape, handed out in blocks."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import jax
import numpy as np
from jaxtyping import Int

from kepton.atoms.frames import Frames, Label, concatenate, concatenate_labels
from kepton.atoms.neighbors import Neighbors, neighbors

System = tuple[Frames, Label]
"""Frames of one size and their labels"""

PADDING = 1.25
"""Frames share a bucket when the largest has at most so many times the atoms of the smallest."""
LISTS_BYTES = 3 * 2**30
"""Neighbour lists are kept where they need no more memory; else they are made for each block."""
RUNS = 20
"""Pieces of a system that are held out or not"""
SCANNED_ATOMS = 200_000
"""Atoms of the frames, drawn at random, that tell the widths of neighbour lists"""


@dataclass(eq=False)
class Bucket:
    """Frames that are padded to one shape.

    Args:
        systems: where they come from, arrays that may be mapped from disk
        cutoff: Å
        atoms: number of atoms to which frames are padded
        composition: of all frames
        virials: whether any frame has one
        segments: widths of the neighbour lists so far
        lists: of all frames, or None where they would need too much memory
    """

    systems: list[System]
    cutoff: float
    atoms: int
    composition: tuple[tuple[int, int], ...]
    virials: bool
    segments: tuple[tuple[int, int], ...] = ()
    lists: Neighbors | None = None

    @staticmethod
    def of(systems: list[System], cutoff: float) -> "Bucket":
        """A bucket of these systems, its neighbours not looked for yet."""
        largest: dict[int, int] = {}
        for frames, _ in systems:
            for z, count in frames.composition:
                largest[z] = max(largest.get(z, 0), count)
        atoms = max(frames.positions.shape[1] for frames, _ in systems)
        virials = any(bool(np.isfinite(label.virial).any()) for _, label in systems)
        return Bucket(systems, cutoff, atoms, tuple(sorted(largest.items())), virials)

    def listed(self, rng: np.random.Generator) -> "Bucket":
        """The same with its neighbour lists' widths, and with the lists where memory allows."""
        seen = rng.permutation(len(self))[: max(1, SCANNED_ATOMS // self.atoms)]
        _, lists, _ = self.batch(np.sort(seen))
        listed = replace(self, segments=lists.segments)
        size = sum(leaf.nbytes for leaf in (lists.index, lists.image)) / len(seen)
        if len(seen) < len(self) and size * len(self) < LISTS_BYTES:
            _, lists, _ = listed.batch(np.arange(len(self)))
        if len(lists.mask) < len(self):
            return listed
        return replace(self, segments=lists.segments, lists=lists)

    def __len__(self) -> int:
        return sum(len(frames) for frames, _ in self.systems)

    def batch(self, rows: Int[np.ndarray, "r"]) -> tuple[Frames, Neighbors, Label]:
        """Some frames, their neighbours and labels, in order."""
        frames, label = self._gather(rows)
        if self.lists is not None:
            return frames, self.lists[rows], label
        lists = neighbors(frames, self.cutoff, segments=self.segments)
        return frames, lists, label

    def _gather(self, rows: Int[np.ndarray, "r"]) -> System:
        starts = np.cumsum([0] + [len(frames) for frames, _ in self.systems])
        origin = np.searchsorted(starts, rows, side="right") - 1
        parts, labels, order = [], [], []
        for place in np.unique(origin):
            own = np.flatnonzero(origin == place)
            frames, label = self.systems[place]
            some = rows[own] - starts[place]
            parts.append(jax.tree.map(lambda leaf, some=some: np.asarray(leaf[some]), frames))
            labels.append(jax.tree.map(lambda leaf, some=some: np.asarray(leaf[some]), label))
            order.append(own)
        back = np.argsort(np.concatenate(order))
        frames, label = concatenate(parts, self.atoms), concatenate_labels(labels, self.atoms)
        return replace(frames[back], composition=self.composition), label[back]


@dataclass(eq=False)
class Dataset:
    """Labelled frames, the neighbours of their atoms, and the order in which training sees them.

    Args:    buckets: by size
    """

    buckets: list[Bucket]

    @staticmethod
    def of(systems: Sequence[System], cutoff: float) -> "Dataset":
        """Frames in their buckets, with their neighbours, for training."""
        rng = np.random.default_rng(0)
        grouped = Dataset.grouped(systems, cutoff)
        return Dataset([bucket.listed(rng) for bucket in grouped.buckets])

    @staticmethod
    def grouped(systems: Sequence[System], cutoff: float) -> "Dataset":
        """Frames of similar sizes share a bucket; those of other periodicity have their own."""
        groups: list[list[System]] = []
        order = sorted(systems, key=lambda s: (bool(np.any(s[0].pbc)), s[0].positions.shape[1]))
        for system in order:
            periodic, atoms = bool(np.any(system[0].pbc)), system[0].positions.shape[1]
            first = groups[-1][0][0] if groups else None
            if (
                first is not None
                and bool(np.any(first.pbc)) == periodic
                and atoms <= PADDING * first.positions.shape[1]
            ):
                groups[-1].append(system)
            else:
                groups.append([system])
        return Dataset([Bucket.of(group, cutoff) for group in groups])

    def __len__(self) -> int:
        return sum(len(bucket) for bucket in self.buckets)

    @property
    def atoms(self) -> float:
        """Mean number of atoms a frame, padding included."""
        return sum(len(b) * b.atoms for b in self.buckets) / len(self)

    def parts(self, atoms: int = SCANNED_ATOMS) -> list[tuple[Frames, Neighbors, Label]]:
        """Frames drawn at random from every bucket, about so many atoms in all."""
        rng = np.random.default_rng(1)
        share = atoms / max(1.0, len(self) * self.atoms)
        parts = []
        for bucket in self.buckets:
            count = min(len(bucket), max(1, round(share * len(bucket))))
            parts.append(bucket.batch(np.sort(rng.permutation(len(bucket))[:count])))
        return parts

    def stream(
        self, frames: int, key: int, start: int = 0
    ) -> Iterator[tuple[Bucket, Int[np.ndarray, "r"]]]:
        """Without end: a bucket, each in turn by the number of its frames, and the next of them.

        Every bucket is gone through in random order, again and again, so that each of its frames
        is seen equally often.

        Args:    frames: of one bucket at a time;  start: how many were taken of this stream before
        """
        sizes = np.array([len(bucket) for bucket in self.buckets])
        taken = np.zeros(len(sizes), int)
        for turn in itertools.count():
            place = int(np.argmax(sizes / sizes.sum() * (turn + 1) - taken))
            at = np.arange(frames) + frames * taken[place]
            taken[place] += 1
            if turn < start:
                continue
            first = at[0] // sizes[place]
            orders = [
                np.random.default_rng([key, place, int(epoch)]).permutation(sizes[place])
                for epoch in range(first, at[-1] // sizes[place] + 1)
            ]
            yield self.buckets[place], np.concatenate(orders)[at - first * sizes[place]]


def hold_out(
    systems: Sequence[System], share: float, most: int, seed: int
) -> tuple[list[System], list[System]]:
    """(the rest, about a share of the frames): runs of neighbouring frames drawn at random.

    Arrays that are mapped from disk stay there: all parts are slices.

    Args:    share: of the frames of every system;  most: frames held out in all
    """
    rng = np.random.default_rng(seed)
    total = sum(len(frames) for frames, _ in systems)
    share = min(share, most / total)
    rest, held = [], []
    for frames, label in systems:
        edges = np.unique(np.linspace(0, len(frames), RUNS + 1).round().astype(int))
        runs = list(itertools.pairwise(edges.tolist()))
        count = int(share * len(runs) + rng.random())
        drawn = set(rng.permutation(len(runs))[:count].tolist())
        for is_held, group in itertools.groupby(range(len(runs)), key=drawn.__contains__):
            places = list(group)
            some = slice(runs[places[0]][0], runs[places[-1]][1])
            (held if is_held else rest).append((frames[some], label[some]))
    return (rest, held) if rest else (list(systems), [])
