"""The architectures a potential can have, by name."""

from typing import Any

from kepton.errors import InputError, did_you_mean
from kepton.potential.cluster_expansion import ClusterExpansion, ClusterExpansionConfig
from kepton.potential.deep_potential import DeepPotential, DeepPotentialConfig

ARCHITECTURES: dict[str, tuple[Any, Any]] = {
    "deep_potential": (DeepPotential, DeepPotentialConfig),
    "cluster_expansion": (ClusterExpansion, ClusterExpansionConfig),
}
"""name -> (class, class of its config)"""


def architecture_of(name: str) -> tuple[Any, Any]:
    """(class, class of its config) of a name.

    Raises:
        InputError: no such architecture
    """
    if name not in ARCHITECTURES:
        raise InputError(
            f"[model] architecture = {name!r} is not known{did_you_mean(name, ARCHITECTURES)}; "
            f"there is {', '.join(ARCHITECTURES)}."
        )
    return ARCHITECTURES[name]
