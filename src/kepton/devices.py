"""Work on many rows at once, shared out over the devices of the machine."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from kepton.machine import xla_is_known

ROWS = "rows"
EACH, ALL = PartitionSpec(ROWS), PartitionSpec()
"""How an array is laid out: each device has its rows; or all of it is on all devices"""
QUICK = {"xla_cpu_use_fusion_emitters": False} if xla_is_known() else None
"""XLA's older emitters of loops on a CPU, for `jitted`"""


def jitted(function: Callable, **options: Any) -> Callable:
    """`jax.jit` of a large program that is soon ready: it takes half as long or less to compile.

    It is as fast where most of the time goes into matrix products; loops over grids are faster by
    `jax.jit` alone (JAX 0.10.2).
    """
    return jax.jit(function, compiler_options=QUICK, **options)


def mesh(rows: int) -> Mesh:
    """As many devices as share so many rows out evenly."""
    devices = jax.devices()
    count = max(d for d in range(1, len(devices) + 1) if rows % d == 0)
    return Mesh(np.array(devices[:count]), (ROWS,))


def placed(tree: Any, rows: int) -> Any:
    """The arrays of a pytree, each of so many rows, on the devices that work on them.

    A program is compiled anew for arrays that lie elsewhere.
    """
    return jax.device_put(tree, NamedSharding(mesh(rows), EACH))


def shared_out(function: Callable, rows: int, *specs: Any) -> Callable:
    """The function with every device at work on its rows; what it returns has rows too.

    Args:    specs: EACH or ALL, or a pytree of them, for each argument
    """
    return jax.shard_map(function, mesh=mesh(rows), in_specs=specs, out_specs=EACH, check_vma=False)


def of_each(function: Callable, rows: Any) -> Any:
    """The function of every row of a pytree, stacked.

    On a CPU one row after the other, so that what is made of one stays in a core's cache (twice as
    fast for the four members of an ensemble); elsewhere all at once.
    """
    if jax.default_backend() == "cpu":
        return jax.lax.map(function, rows)
    return jax.vmap(function)(rows)
