"""`Group`: frames without padding, and where they came from."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import jax
import numpy as np

from kepton.atoms.frames import Frames, Label, concatenate, concatenate_labels


@dataclass(frozen=True)
class Group:
    """Frames of one number of atoms, with their labels, as they stand in one file or folder.

    Args:
        frames: b configurations; no atom is padding
        label: None where the source holds coordinates alone
        source: the file or folder, for messages
        rows: (b,) which frame of the source each of the frames is, counted from 0
        engines: names of those that the source names for some of the frames
    """

    frames: Frames
    label: Label | None
    source: Path
    rows: np.ndarray
    engines: frozenset[str] = frozenset()

    def name(self, frame: int) -> str:
        """Where a user finds a frame."""
        return f"{self.source}, frame {self.rows[frame]} (counted from 0)"


def joined(groups: Sequence[Group]) -> tuple[Frames, Label | None]:
    """One batch in float64, source by source, in the order of the frames there."""
    sources = {source: k for k, source in enumerate(dict.fromkeys(g.source for g in groups))}
    rows = np.concatenate([group.rows for group in groups])
    of_source = np.repeat([sources[g.source] for g in groups], [len(g.rows) for g in groups])
    order = np.lexsort((rows, of_source))
    frames = _in_float64(concatenate([group.frames for group in groups])[order])
    labels = [group.label for group in groups if group.label is not None]
    if not labels:
        return frames, None
    return frames, _in_float64(joined_labels(labels)[order])


def joined_labels(labels: Sequence[Label]) -> Label:
    """One batch of all labels, padded to the largest; with an engine where all have the same."""
    engines = {label.engine for label in labels}
    return replace(concatenate_labels(labels), engine=engines.pop() if len(engines) == 1 else "")


def _in_float64(batch):
    return jax.tree.map(
        lambda leaf: leaf.astype(float) if np.issubdtype(leaf.dtype, np.floating) else leaf, batch
    )
