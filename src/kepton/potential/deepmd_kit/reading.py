"""From the tree of a DeePMD-kit model to a `DeepPotential` that is the same function.

Source: DeePMD-kit 3.2, deepmd/dpmodel: what its numpy back end computes is what a file means
"""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ase.data import atomic_numbers, covalent_radii

from kepton.errors import InputError
from kepton.potential.basis import smallest_basis
from kepton.potential.deep_potential import DeepPotential, DeepPotentialConfig
from kepton.potential.deepmd_kit.container import Part, read_tree
from kepton.potential.deepmd_kit.networks import Layer, collection, layers_of, stacked
from kepton.potential.ensemble import Ensemble
from kepton.potential.nets import hidden, output

START = 0.9
"""Where the radial basis starts, in units of the shortest distance that a file tells of"""
NEAREST = 0.8
"""The same where it tells of none, in units of 1 Å and of the sum of two covalent radii"""
MODEL = "give a model of one descriptor se_e2_a with one fitting net of energies"
MODEL_KEYS = (
    *("@class", "@version", "@variables", "type", "type_map", "descriptor", "fitting"),
    *("atom_exclude_types", "pair_exclude_types", "rcond", "preset_out_bias"),
)
DESCRIPTOR_KEYS = (
    *("@class", "@version", "@variables", "type", "rcut", "rcut_smth", "sel", "neuron"),
    *("axis_neuron", "resnet_dt", "trainable", "type_one_side", "exclude_types"),
    *("env_protection", "set_davg_zero", "activation_function", "precision", "spin", "env_mat"),
    *("embeddings", "type_map", "compress"),
)
FITTING_KEYS = (
    *("@class", "@version", "@variables", "type", "var_name", "dim_out", "ntypes"),
    *("dim_descrpt", "neuron", "resnet_dt", "activation_function", "mixed_types"),
    *("numb_fparam", "numb_aparam", "default_fparam", "dim_case_embd", "use_aparam_as_mask"),
    *("atom_ener", "exclude_types", "rcond", "trainable", "tot_ener_zero", "layer_name"),
    *("spin", "precision", "nets", "type_map"),
)


def read(path: str | os.PathLike) -> Ensemble:
    """The potential in a `.dp` or `.yaml` file: one member, in float64.

    The nets evaluated at every neighbour (`exact`) are what DeePMD-kit computes. The number of
    radial functions follows from an error bound, `basis.TOLERANCE`; it is 0 where none suffices.
    Neighbour lists have no cap: where an atom has more neighbours than `sel`, DeePMD-kit passes
    over the farthest and Kepton does not.

    Raises:
        InputError: a file that is damaged, or a model that Kepton cannot represent
    """
    path = Path(path)
    try:
        potential = _potential(read_tree(path))
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    weights = jax.tree.map(lambda matrix: matrix[None], potential.weights)
    return Ensemble(potential.with_weights(weights))


def _potential(tree: Part) -> DeepPotential:
    model = tree.part("model")
    if "model_dict" in model.content:
        names = ", ".join(map(str, model.value("model_dict", dict)))
        raise InputError(
            f"model.model_dict holds several models ({names}), where one is expected; freeze one "
            "branch (`dp --pt freeze --head NAME`) and convert that."
        )
    model.expect("type", ["standard"], MODEL)
    model.expect("@class", ["Model"], MODEL, default="Model")
    model.expect("@version", [2], "convert the file with DeePMD-kit 3", default=2)
    model.know(MODEL_KEYS)
    descriptor, fitting = model.part("descriptor"), model.part("fitting")
    numbers = _numbers(model)
    # from here on everything is by place in the type map; at the end it is put in our order
    sel, mean, scale = _environment(descriptor, numbers)
    embedding, g = _embedding(descriptor, len(numbers))
    axis = descriptor.value("axis_neuron", int, 8)
    if not 1 <= axis <= embedding[-1].shape[2]:
        channels = f"from 1 to {embedding[-1].shape[2]} channels are there"
        raise descriptor.refuse("axis_neuron", channels, "give a complete copy of the file")
    width = embedding[-1].shape[2] * axis
    nets, bias, f = _fitting(model, fitting, numbers, width)
    excluded = _pairs(descriptor, "exclude_types", len(numbers))
    excluded |= _pairs(model, "pair_exclude_types", len(numbers))
    order = np.argsort(numbers)
    pairs = [a * len(order) + b for a in order for b in order]
    one_sided = descriptor.value("type_one_side", bool, True)
    unseen = excluded | {(a, b) for a in range(len(sel)) for b in range(len(sel)) if sel[b] == 0}
    config = DeepPotentialConfig(
        species=tuple(int(numbers[a]) for a in order),
        cutoff_A=descriptor.number("rcut"),
        smooth_A=descriptor.number("rcut_smth"),
        basis=0,
        embedding=tuple(m.shape[2] for m in embedding),
        axis=axis,
        fitting=tuple(m.shape[2] for m in nets[:-1]),
        one_sided=one_sided,
        activation=(g, f),
        excluded=tuple(sorted((int(numbers[a]), int(numbers[b])) for a, b in unseen)),
    )
    statistics = {
        "bias": bias[order],
        "scale": 1.0,
        "descriptor_mean": np.zeros((len(order), width)),
        "descriptor_scale": 1.0,
        "neighbors": float(sum(sel)),
        "selected": np.asarray(sel, float)[order],
        "basis_start": _start(tree, config),
    }
    if mean.any() or (scale != 1.0).any():
        statistics |= {"environment_mean": mean[order], "environment_scale": scale[order]}
    weights = {
        "embedding": [m[order if one_sided else np.array(pairs)] for m in embedding],
        "fitting": [m[order] for m in nets],
    }
    potential = DeepPotential(
        jax.tree.map(jnp.asarray, weights),
        {name: jnp.asarray(value, jnp.float64) for name, value in statistics.items()},
        config,
    )
    for a, b in excluded:
        if not empty_slots_vanish(potential, int(numbers[a]), int(numbers[b])):
            key = "descriptor.exclude_types or model.pair_exclude_types"
            raise InputError(
                f"{key} holds {[a, b]}, whose empty slots, shifted by davg, add to the energy, in "
                "which the back ends of DeePMD-kit differ; train with set_davg_zero = true."
            )
    return replace(potential, config=replace(config, basis=smallest_basis(potential) or 0))


def empty_slots_vanish(potential: DeepPotential, z: int, other: int) -> bool:
    """Whether empty slots of an element add nothing to T, exactly: their G or the mean is 0."""
    species = potential.config.species
    others = tuple((z, one) for one in species if one != other)
    alone = replace(potential, config=replace(potential.config, excluded=others))
    return not np.asarray(alone.empty_slots(species.index(z))).any()


def _numbers(model: Part) -> np.ndarray:
    """Atomic numbers in the order of the file."""
    names = model.list_of("type_map", str)
    strange = [name for name in names if name not in atomic_numbers or name == "X"]
    if strange or len(set(names)) < len(names) or not names:
        wrong = f"{', '.join(strange)} is no element" if strange else "elements stand twice"
        wrong = wrong if names else "it is empty"
        raise InputError(
            f"model.type_map is {names}, where every type must be one element and {wrong}; rename "
            "the types (`dp change-bias`, or type_map of the training input) or train without them."
        )
    return np.array([atomic_numbers[name] for name in names])


def _start(tree: Part, config: DeepPotentialConfig) -> float:
    """Where the radial basis starts, Å."""
    held = tree.content.get("@variables")
    shortest = NEAREST * min(1.0, 2.0 * covalent_radii[list(config.species)].min())
    for told in (tree.content, held if isinstance(held, dict) else {}):
        value = told.get("min_nbor_dist")
        value = value.get("value") if isinstance(value, dict) else value
        try:
            found = START * float(np.asarray(value, float).item())
        except (TypeError, ValueError):
            continue
        if 0.0 < found < config.cutoff_A:
            shortest = found
    # the basis goes on for 0.2 Å below its start
    return float(np.clip(shortest, 0.3, max(0.3, 0.5 * config.cutoff_A)))


# ---------------------------------------------------------------- descriptor


def _environment(descriptor: Part, numbers: np.ndarray) -> tuple[list[int], Any, Any]:
    """sel, and by type of the central atom the mean (S,) and scales (S, 2) of R."""
    descriptor.expect("type", ["se_e2_a", "se_a"], MODEL)
    descriptor.expect("@class", ["Descriptor"], MODEL, default="Descriptor")
    descriptor.expect("@version", [1, 2, 3], "convert the file with DeePMD-kit 3.2", default=1)
    descriptor.expect("spin", [None], "give a model without spin")
    descriptor.expect("env_protection", [0.0], "train without env_protection", default=0.0)
    descriptor.expect("compress", [None], "give the file as it was before `dp compress`")
    descriptor.know(DESCRIPTOR_KEYS)
    cutoff, smooth = descriptor.number("rcut"), descriptor.number("rcut_smth")
    if not 0.0 <= smooth < cutoff:
        raise descriptor.refuse("rcut_smth", f"at least 0 and below rcut = {cutoff} is expected",
                                "give a complete copy of the file")  # fmt: skip
    if descriptor.content.get("env_mat") is not None:
        matrix, again = descriptor.part("env_mat"), "give a file as DeePMD-kit wrote it"
        matrix.expect("rcut", [cutoff], again, default=cutoff)
        matrix.expect("rcut_smth", [smooth], again, default=smooth)
        matrix.expect("protection", [0.0], again, default=0.0)
        matrix.expect("use_exp_switch", [False], again, default=False)
    sel = descriptor.list_of("sel", int)
    if len(sel) != len(numbers) or min(sel) < 0 or sum(sel) < 1:
        expected = f"{len(numbers)} numbers of neighbours, one a type, are expected"
        raise descriptor.refuse("sel", expected, "give a complete copy of the file")
    shape = (len(sel), sum(sel), 4)
    mean, scale = descriptor.array("davg", *shape), descriptor.array("dstd", *shape)
    even = (mean == mean[:, :1]).all() and (scale == scale[:, :1]).all()
    if not even or mean[..., 1:].any() or (scale[..., 1:] != scale[..., 1:2]).any():
        raise InputError(
            "descriptor.@variables.davg or dstd differ between the slots of a central type, or "
            "between x, y and z, or the mean of these is not 0, which DeePMD-kit's statistics "
            "never give; correct the arrays, or train with set_davg_zero = true."
        )
    if (scale <= 0.0).any():
        raise InputError(
            "descriptor.@variables.dstd has values that are not above 0; give a complete copy of "
            "the file."
        )
    return sel, mean[:, 0, 0], scale[:, 0, :2]


def _pairs(part: Part, key: str, types: int) -> set[tuple[int, int]]:
    """Ordered pairs of types, either way round."""
    pairs = part.list_of(key, list, [])
    for pair in pairs:
        whole = all(isinstance(a, int) and not isinstance(a, bool) for a in pair)
        if len(pair) != 2 or not whole or not all(0 <= a < types for a in pair):
            expected = f"pairs of types from 0 to {types - 1} are expected"
            raise part.refuse(key, expected, "give a complete copy of the file")
    return {(a, b) for a, b in pairs} | {(b, a) for a, b in pairs}


def _embedding(descriptor: Part, types: int) -> tuple[list[np.ndarray], str]:
    """Stacks of matrices (S, in + 1, out), (S^2, ...) where two-sided, and the activation."""
    one_sided = descriptor.value("type_one_side", bool, True)
    nets = collection(descriptor.part("embeddings"), "Embedding", 1 if one_sided else 2, types)
    stacks, activation = stacked([layers_of(net, 1) for net in nets], descriptor)
    if one_sided:
        return stacks, activation
    # in a file the type of the central atom runs fastest, and here that of the neighbour
    turned = np.arange(types**2).reshape(types, types).T.ravel()
    return [stack[turned] for stack in stacks], activation


# ---------------------------------------------------------------- fitting


def _fitting(
    model: Part, fitting: Part, numbers: np.ndarray, width: int
) -> tuple[list[np.ndarray], np.ndarray, str]:
    """Stacks of matrices (S, in + 1, out), energy bias (S,), and the activation."""
    types = len(numbers)
    fitting.expect("type", ["ener", "invar"], MODEL)
    fitting.expect("@class", ["Fitting"], MODEL, default="Fitting")
    fitting.expect("@version", [1, 2, 3, 4], "convert the file with DeePMD-kit 3.2", default=1)
    fitting.expect("var_name", ["energy"], MODEL, default="energy")
    fitting.expect("dim_out", [1], MODEL, default=1)
    fitting.expect("mixed_types", [False], "train with one fitting net a type", default=False)
    fitting.expect("numb_aparam", [0], "train without atomic parameters", default=0)
    fitting.expect("use_aparam_as_mask", [False], "train without it", default=False)
    fitting.expect("tot_ener_zero", [False], "train without it", default=False)
    fitting.expect("spin", [None], "give a model without spin")
    fitting.expect("dim_descrpt", [width], "give a complete copy of the file", default=width)
    fitting.know(FITTING_KEYS)
    if any(name is not None for name in fitting.value("layer_name", list, [])):
        raise fitting.refuse("layer_name", "nets that share no layers are expected", MODEL)
    constant = _constant_inputs(fitting)
    nets = [
        _folded(net, layers_of(net, width + len(constant), last=True), constant)
        for net in collection(fitting.part("nets"), "Fitting", 1, types)
    ]
    stacks, activation = stacked(nets, fitting, last=True)
    bias = fitting.array("bias_atom_e", types)
    if "@variables" in model.content:
        bias = bias + model.array("out_bias", types, default=np.zeros(types))
    removed = fitting.value("atom_ener", list, [])
    if any(energy is not None for energy in removed):
        if len(removed) != types:
            expected = f"{types} energies or nulls, one a type, are expected"
            raise fitting.refuse("atom_ener", expected, "write null for the types without one")
        for place in [place for place, energy in enumerate(removed) if energy is not None]:
            *layers, last = [jnp.asarray(stack[place]) for stack in stacks]
            empty = output(hidden(jnp.zeros((1, width)), layers, activation), last)
            bias[place] -= float(empty[0, 0])
    silent = model.list_of("atom_exclude_types", int, [])
    if any(not 0 <= place < types for place in silent):
        expected = f"types from 0 to {types - 1} are expected"
        raise model.refuse("atom_exclude_types", expected, "give a complete copy of the file")
    stacks[-1][silent], bias[silent] = 0.0, 0.0
    return stacks, bias, activation


def _constant_inputs(fitting: Part) -> np.ndarray:
    """Inputs of the fitting net that are no descriptor, where they never change."""
    frame, case = fitting.value("numb_fparam", int, 0), fitting.value("dim_case_embd", int, 0)
    inputs = []
    if frame:
        values = fitting.list_of("default_fparam", float, [])
        if len(values) != frame:
            expected = f"{frame} values are expected, since numb_fparam is {frame}"
            remedy = "train with default_fparam, or without parameters of the frame"
            raise fitting.refuse("default_fparam", expected, remedy)
        mean = fitting.array("fparam_avg", frame, default=np.zeros(frame))
        inputs.append((values - mean) * fitting.array("fparam_inv_std", frame, default=1.0))
    if case:
        inputs.append(fitting.array("case_embd", case))
    return np.concatenate(inputs) if inputs else np.zeros(0)


def _folded(net: Part, layers: list[Layer], constant: np.ndarray) -> list[Layer]:
    """The net with constant inputs in its first bias, and the output's time step in its weights."""
    *first, last = layers
    factor = np.ones(1) if last.step is None else last.step
    last = replace(last, weight=last.weight * factor, bias=last.bias * factor, step=None)
    layers = [*first, last]
    if len(constant):
        opening = layers[0]
        wide, out = opening.weight.shape
        descriptor = wide - len(constant)
        if {out, out / 2} & {wide, descriptor} and first:
            raise InputError(
                f"{net.name}.layers[0] has a residual that parameters of the frame enter, which "
                "Kepton cannot fold into its bias; train with another width of this layer."
            )
        bias = opening.bias + constant @ opening.weight[descriptor:]
        layers[0] = replace(opening, weight=opening.weight[:descriptor], bias=bias)
    return layers
