"""Frames, the one data type for atoms; units, files, neighbour lists."""

from kepton.atoms.frames import Frames, Label, concatenate, concatenate_labels

__all__ = ["Frames", "Label", "concatenate", "concatenate_labels"]
