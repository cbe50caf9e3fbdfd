"""Periodic images: how many cell vectors away a neighbour stands, as one number."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int

from kepton.atoms.frames import Real
from kepton.errors import InputError

IMAGES = 15
"""Cell vectors along which a neighbour may be away, as many as `packed` holds"""


def packed(image: Int[Real, "... 3"]) -> Int[Real, "..."]:
    """An image of at most IMAGES cell vectors either way as one number, 0 for none."""
    return (image @ np.array([1024, 32, 1])).astype(np.int16)


def unpacked(image: Int[Real, "..."]) -> Int[Real, "... 3"]:
    """The inverse of `packed`."""
    array = jnp if isinstance(image, jax.Array) else np
    rest, digits = image.astype(np.int32), []
    for _ in range(3):
        digits.append(((rest + 16) & 31) - 16)
        rest = (rest - digits[-1]) >> 5
    return array.stack(digits[::-1], axis=-1)


def check_images(far: bool) -> None:
    """Raise InputError where a neighbour stands more than IMAGES cell vectors away."""
    if far:
        raise InputError(
            f"A cell vector is so short that neighbours stand more than {IMAGES} cells away; "
            "check the cell (Å), or repeat it."
        )
