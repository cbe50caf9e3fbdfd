"""`Recipe`: how an ensemble of potentials is made, with what follows from the system by itself."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from kepton.atoms.frames import Frames
from kepton.errors import InputError
from kepton.potential.architectures import architecture_of
from kepton.potential.dataset import System
from kepton.potential.ensemble import Ensemble
from kepton.potential.pretrained import FINE, adapted, read_pretrained
from kepton.potential.train import Point, TrainConfig, default_training, fresh, train

MEMBERS = 4
LONGER = 1.5
"""So many times as long are the trainings of a runner as those of its learner"""
STRESSES = 5.0
"""So many times as much count virials, which a learner gives without noise"""


@dataclass(frozen=True)
class Recipe:
    """How an ensemble is made.

    Args:
        architecture: name in ARCHITECTURES
        model: sizes, an instance of the architecture's config
        training: from random weights, and from trained ones
        members: of the ensemble
        pretrained: a model file whose members it begins with; None: with random weights
    """

    architecture: str
    model: Any
    training: TrainConfig
    members: int = MEMBERS
    pretrained: Path | None = None

    @staticmethod
    def of(
        architecture: str,
        structures: Sequence[Frames],
        sizes: Mapping[str, Any] | None = None,
        training: Mapping[str, Any] | None = None,
        members: int = MEMBERS,
        pretrained: Path | None = None,
        data: Sequence[System] = (),
    ) -> "Recipe":
        """The recipe that suits some structures, with sizes and training where they are chosen.

        Args:
            sizes: of members with random weights; pretrained ones have their own
            data: where it is known beforehand; how much it can teach decides sizes, and the mean
                size of its frames the batch
        Raises:
            InputError: no such architecture, sizes that it does not have, or that do not fit; a
                pretrained model that cannot begin it
        """
        chosen = dict(training or {})
        atoms = max(frames.positions.shape[1] for frames in structures)
        components = sum(3 * int(np.sum(frames.mask)) for frames, _ in data)
        if data:
            atoms = components / 3 / sum(len(frames) for frames, _ in data)
        if pretrained is None:
            model = default_model(architecture, structures, components, **(sizes or {}))
        else:
            known = read_pretrained(pretrained, architecture, elements(structures), members)
            model, chosen = known.members.config, {"rate": FINE} | chosen
        config = default_training(architecture, atoms, **chosen)
        return Recipe(architecture, model, config, members, pretrained)

    def taught(
        self,
        architecture: str,
        structures: Sequence[Frames],
        sizes: Mapping[str, Any] | None = None,
    ) -> "Recipe":
        """The recipe of a runner that learns from this one: longer, and more of virials.

        Raises:
            InputError: as `of`
        """
        own = self.training
        training = {
            "energy_weight": own.energy_weight,
            "virial_weight": STRESSES * own.virial_weight,
            "smoothness": own.smoothness,
            "steps": int(LONGER * own.steps),
            "warm_steps": int(LONGER * own.warm_steps),
        }
        return Recipe.of(architecture, structures, sizes, training, self.members)

    def fresh(self, data: Sequence[System], key: int) -> Ensemble:
        """Members to begin with: pretrained, or with random weights, and statistics of the data."""
        if self.pretrained is None:
            return fresh(self.architecture, self.model, self.members, data, key)
        known = read_pretrained(
            self.pretrained, self.architecture, self.model.species, self.members
        )
        return adapted(known, data)

    def train(
        self,
        data: Sequence[System],
        former: Ensemble | None,
        key: int,
        progress: Callable[[Point], None] | None = None,
    ) -> Ensemble:
        """The former members trained on; where there are none, those to begin with.

        Raises:
            InputError: as `kepton.potential.train.train`
        """
        start = former or self.fresh(data, key)
        warm = former is not None or self.pretrained is not None
        return train(data, self.training, start, key, warm, progress)

    @property
    def settings(self) -> dict[str, Any]:
        """JSON of all of it."""
        told = {
            "architecture": self.architecture,
            "model": asdict(self.model),
            "training": asdict(self.training),
            "members": self.members,
        }
        if self.pretrained is None:
            return told
        return told | {"pretrained": sha256(self.pretrained.read_bytes()).hexdigest()}


def sizes_of(architecture: str) -> list[str]:
    """Names of the sizes that an architecture has.

    Raises:
        InputError: no such architecture
    """
    _, kind = architecture_of(architecture)
    return [field.name for field in fields(kind) if field.name != "species"]


def default_model(
    architecture: str, structures: Sequence[Frames], components: int = 0, **chosen: Any
) -> Any:
    """An architecture's config with sizes that follow from the structures, where not chosen.

    The cutoff of isolated structures is 1.25 times their largest extent, within 4 and 5 Å; that of
    periodic ones is 6 Å.

    Args:    components: number of force components in the data, where they are known beforehand
    Raises:  InputError: sizes that the architecture does not have, or that do not fit together
    """
    _, kind = architecture_of(architecture)
    sizes = sizes_of(architecture)
    for name in chosen:
        if name not in sizes:
            raise InputError(
                f"[model] {name} is not a size of {architecture}; it has {', '.join(sizes)}."
            )
    if any(np.any(frames.pbc) for frames in structures):
        cutoff = 6.0
    else:
        extent = max(_extent(frames) for frames in structures)
        cutoff = float(np.clip(round(1.25 * extent, 1), 4.0, 5.0))
    model = replace(kind(species=elements(structures), cutoff_A=cutoff).sized(components), **chosen)
    model.check()
    return model


def elements(structures: Sequence[Frames]) -> tuple[int, ...]:
    """Atomic numbers of all, in order."""
    return tuple(sorted({z for frames in structures for z, _ in frames.composition}))


def _extent(frames: Frames) -> float:
    x = np.asarray(frames.positions)[0][np.asarray(frames.mask)[0]]
    return float(np.linalg.norm(x[:, None] - x[None], axis=-1).max())
