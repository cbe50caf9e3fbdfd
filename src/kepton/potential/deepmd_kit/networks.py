"""DeePMD-kit's collections of nets, from and to stacks of matrices with biases below them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from kepton.errors import InputError
from kepton.potential.deepmd_kit.container import Part
from kepton.potential.nets import ACTIVATIONS, SILUT

ALIASES = {"gelu_tf": "gelu", "none": "linear", "custom_silu": SILUT}
LAYER_KEYS = (
    *("@class", "@version", "@variables", "bias", "use_timestep", "activation_function"),
    *("resnet", "precision", "trainable"),
)
COPY = "give a complete copy of the file"


@dataclass(frozen=True)
class Layer:
    """y = t f(x W + b), plus x where the width stays and (x, x) where it doubles.

    Args:    weight: W;  bias: b;  step: t;  activation: f
    """

    weight: Float[np.ndarray, "i o"]
    bias: Float[np.ndarray, "o"]
    step: Float[np.ndarray, "o"] | None
    activation: str


def residual(inner: int, outer: int) -> bool:
    """Whether a hidden layer of these widths adds its inputs to its outputs."""
    return outer in (inner, 2 * inner)


def collection(part: Part, kind: str, dimensions: int, types: int) -> Iterator[Part]:
    """The nets of a NetworkCollection."""
    part.expect("@class", ["NetworkCollection"], COPY, default="NetworkCollection")
    part.expect("@version", [1], "convert the file with DeePMD-kit 3.2", default=1)
    part.expect("network_type", [f"{kind.lower()}_network"], COPY)
    part.expect("ndim", [dimensions], "give a file whose type_one_side and nets agree")
    part.expect("ntypes", [types], COPY)
    nets = part.value("networks", list)
    if len(nets) != types**dimensions:
        raise part.refuse("networks", f"{types**dimensions} nets are expected", COPY)
    for net in part.parts("networks"):
        versions = [1, 2] if kind == "Embedding" else [1]
        net.expect("@class", [f"{kind}Network"], COPY, default=f"{kind}Network")
        net.expect("@version", versions, "convert the file with DeePMD-kit 3.2", default=1)
        yield net


def layers_of(net: Part, width: int, last: bool = False) -> list[Layer]:
    """The layers of a net of so many inputs; where `last`, the last one is linear, of one output.

    Raises:
        InputError: shapes that do not fit, or a layer that is another function than `Layer`
    """
    layers = []
    parts = list(net.parts("layers"))
    if not parts:
        raise net.refuse("layers", "at least one layer is expected", COPY)
    for part in parts:
        final = last and part is parts[-1]
        layer = _layer(part, width)
        outer = layer.weight.shape[1]
        adds = part.value("resnet", bool, False)
        if final and (layer.activation != "linear" or outer != 1):
            raise part.refuse("activation_function", "one linear output is expected", COPY)
        if residual(width, outer) and adds == final:
            raise part.refuse(
                "resnet",
                f"a {'last' if final else 'hidden'} layer from {width} to {outer} channels has "
                f"{'no ' if final else 'a '}residual in Kepton",
                "train with other widths",
            )
        layers.append(layer)
        width = outer
    return layers


def stacked(
    nets: Sequence[Sequence[Layer]], part: Part, last: bool = False
) -> tuple[list[np.ndarray], str]:
    """One stack a layer, (nets, in + 1, out), the time step below it where any net has one.

    Returns: the stacks, and the activation of all hidden layers
    Raises:
        InputError: nets of different widths, or of several activations
    """
    widths = [[layer.weight.shape for layer in net] for net in nets]
    if any(one != widths[0] for one in widths):
        raise InputError(
            f"{part.name} has nets of different widths, where all types must have the same; train "
            "with one `neuron` for all."
        )
    functions = sorted({layer.activation for net in nets for layer in net[: len(net) - last]})
    if len(functions) > 1:
        raise InputError(
            f"{part.name} has layers with the activation functions {', '.join(functions)}, where "
            "Kepton has one for all; train with one."
        )
    stacks = []
    for layers in zip(*nets):
        rows = [[layer.weight, layer.bias[None]] for layer in layers]
        if any(layer.step is not None for layer in layers):
            for row, layer in zip(rows, layers):
                row.append(np.ones_like(row[1]) if layer.step is None else layer.step[None])
        stacks.append(np.stack([np.concatenate(row) for row in rows]))
    return stacks, functions[0] if functions else "tanh"


def write_collection(
    stacks: Sequence[np.ndarray], kind: str, activation: str, dimensions: int, types: int
) -> dict[str, Any]:
    """A NetworkCollection of stacks of matrices, in their order; where `kind` is "Fitting", the
    last layer is linear.

    Raises:
        InputError: layers that DeePMD-kit's TensorFlow back end would compute in another way
    """
    last = kind == "Fitting"
    dated = has_steps(stacks, kind)
    nets = []
    for place in range(types**dimensions):
        width, layers = 1 if not last else stacks[0].shape[1] - 1, []
        for depth, stack in enumerate(stacks):
            final = last and depth == len(stacks) - 1
            layers.append(_written(stack[place], width, activation, final, dated))
            width = stack.shape[2]
        net = {
            "@class": f"{kind}Network",
            "@version": 1 if last else 2,
            "in_dim": layers[0]["@variables"]["w"].shape[0],
            "neuron": [stack.shape[2] for stack in stacks[: len(stacks) - last]],
            "activation_function": activation,
            "resnet_dt": dated,
            "precision": "float64",
            "layers": layers,
        }
        nets.append(net | ({"out_dim": 1, "bias_out": True} if last else {"bias": True}))
    return {
        "@class": "NetworkCollection",
        "@version": 1,
        "ndim": dimensions,
        "ntypes": types,
        "network_type": f"{kind.lower()}_network",
        "networks": nets,
    }


def has_steps(stacks: Sequence[np.ndarray], kind: str) -> bool:
    """Whether any layer has a time step.

    Raises:
        InputError: layers that DeePMD-kit's TensorFlow back end would compute in another way
    """
    last, found = kind == "Fitting", False
    width = stacks[0].shape[1] - 1 if last else 1
    for depth, stack in enumerate(stacks[: len(stacks) - last]):
        outer, own = stack.shape[2], stack.shape[1] == width + 2
        if last and residual(width, outer) and (depth == 0 or outer == 2 * width):
            raise InputError(
                f"The fitting nets have a hidden layer from {width} to {outer} channels, in which "
                "DeePMD-kit's TensorFlow back end leaves the residual out, so the file would mean "
                "two things; give [model] fitting other widths, such as equal ones."
            )
        if own and not residual(width, outer) and (stack[:, -1] != 1.0).any():
            raise InputError(
                f"The {kind.lower()} nets have time steps in a layer from {width} to {outer} "
                "channels, which has no residual, where DeePMD-kit knows none; train with others."
            )
        found, width = found or own, outer
    return found


def _written(
    matrix: np.ndarray, width: int, activation: str, final: bool, dated: bool
) -> dict[str, Any]:
    outer = matrix.shape[1]
    step = None
    if dated and not final and residual(width, outer):
        step = matrix[width + 1] if len(matrix) == width + 2 else np.ones(outer)
    return {
        "@class": "Layer",
        "@version": 2,
        "bias": True,
        "use_timestep": step is not None,
        "activation_function": "none" if final else activation,
        "resnet": not final,
        "precision": "float64",
        "trainable": True,
        "@variables": {"w": matrix[:width], "b": matrix[width], "idt": step},
    }


def _layer(part: Part, width: int) -> Layer:
    """One layer of so many inputs."""
    part.expect("@class", ["Layer"], COPY, default="Layer")
    part.expect("@version", [1, 2], "convert the file with DeePMD-kit 3.2", default=1)
    part.know(LAYER_KEYS)
    part.part("@variables").know(("w", "b", "idt"))
    weight = part.array("w")
    if weight.ndim != 2 or weight.shape[0] != width or not weight.size:
        raise InputError(
            f"{part.where('@variables.w')} is of shape {weight.shape}, where ({width}, ...) is "
            f"expected; {COPY}."
        )
    outer = weight.shape[1]
    bias = part.array("b", outer, default=np.zeros(outer))
    return Layer(weight, bias, part.array("idt", outer, default=None), _activation(part))


def _activation(part: Part) -> str:
    name, _, parameter = part.value("activation_function", str, "none").lower().partition(":")
    name = ALIASES.get(name, name)
    if name == SILUT:
        try:
            return f"{SILUT}:{float(parameter or 3.0)!r}"
        except ValueError:
            name = f"{name}:{parameter}"
    if name not in ACTIVATIONS or parameter:
        known = f"{', '.join((*ACTIVATIONS, SILUT))} alone are known"
        raise part.refuse("activation_function", known, "train with one of these")
    return name
