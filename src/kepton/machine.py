"""What this machine has."""

import os
from importlib import metadata


def xla_is_known() -> bool:
    """Whether the options of the XLA at hand are known: one that it does not know ends it."""
    return metadata.version("jaxlib").startswith("0.10.")


def cores() -> int:
    """Cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def threads() -> int:
    """Threads that share one large system: OMP_NUM_THREADS, or the cores this process may use."""
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    return int(wanted) if wanted.isdigit() and int(wanted) else cores()
