"""Dense nets with residuals, as DeePMD-kit builds them: stacks of matrices, biases below them."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

SILUT = "silut"
"""The one activation with a parameter, `silut:T`"""


def silut(x: Float[Array, "..."], threshold: float) -> Float[Array, "..."]:
    """silu(x) below the threshold T, silu(T) + tanh(silu'(T) (x - T)) above."""
    sigmoid = 1.0 / (1.0 + math.exp(-threshold))
    slope = sigmoid + threshold * sigmoid * (1.0 - sigmoid)
    above = threshold * sigmoid + jnp.tanh(slope * (x - threshold))
    return jnp.where(x < threshold, jax.nn.silu(x), above)


ACTIVATIONS = {
    "tanh": jnp.tanh,
    "relu": jax.nn.relu,
    "relu6": jax.nn.relu6,
    "softplus": jax.nn.softplus,
    "sigmoid": jax.nn.sigmoid,
    "gelu": lambda x: jax.nn.gelu(x, approximate=True),
    "silu": jax.nn.silu,
    "linear": lambda x: x,
}
"""name -> function"""


def activation_of(name: str) -> Callable[[Array], Array]:
    """The function of a name in ACTIVATIONS, or of `silut:T`."""
    if name.partition(":")[0] == SILUT:
        return partial(silut, threshold=float(name.partition(":")[2] or 3.0))
    return ACTIVATIONS[name]


@partial(jax.jit, static_argnums=1, compiler_options={"xla_backend_optimization_level": 1})
def normal(key, shape: tuple[int, ...]) -> Float[Array, "..."]:
    """Standard normal numbers in float32, by a program that is compiled with little effort.

    Each shape has one, which else takes seconds to compile and serves once.
    """
    return jax.random.normal(key, shape, jnp.float32)


def random_net(key, count: int, widths: Sequence[int]) -> list[Float[Array, "count rows o"]]:
    """`count` nets, weights normal and scaled by fan-in, biases a tenth of that of one input."""
    layers = []
    for place, (inner, outer) in enumerate(pairwise(widths)):
        weight, bias = jax.random.split(jax.random.fold_in(key, place))
        matrix = normal(weight, (count, inner, outer)) / inner**0.5
        biases = 0.1 * normal(bias, (count, 1, outer))
        layers.append(jnp.concatenate([matrix, biases], axis=1))
    return layers


def hidden(
    x: Float[Array, "... i"], layers: Sequence[Float[Array, "..."]], activation: str
) -> Float[Array, "... o"]:
    """All hidden layers: y = t f(x W + b), plus x where the width stays, (x, x) where it doubles.

    Args:
        x: inputs
        layers: matrices: the rows of W, then b, then the time step t where a layer has one
        activation: f, a name that `activation_of` knows
    """
    function = activation_of(activation)
    for matrix in layers:
        width = x.shape[-1]
        y = function(x @ matrix[..., :width, :] + matrix[..., width, None, :])
        if matrix.shape[-2] == width + 2:
            y = y * matrix[..., width + 1, None, :]
        if y.shape[-1] == width:
            y = y + x
        elif y.shape[-1] == 2 * width:
            y = y + jnp.concatenate([x, x], axis=-1)
        x = y
    return x


def output(x: Float[Array, "... i"], matrix: Float[Array, "rows o"]) -> Float[Array, "... o"]:
    """The last layer: x W + b."""
    return x @ matrix[:-1] + matrix[-1]
