"""From a `DeepPotential` to the tree of a DeePMD-kit model that is the same function.

Source: DeePMD-kit 3.2, deepmd/dpmodel; and deepmd/tf, which must understand the file too
"""

import os
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import chemical_symbols

from kepton.errors import InputError
from kepton.potential.deep_potential import DeepPotential
from kepton.potential.deepmd_kit.container import SUFFIXES, write_tree
from kepton.potential.deepmd_kit.networks import has_steps, residual, write_collection
from kepton.potential.deepmd_kit.reading import START, empty_slots_vanish

ROOM = 1.25
"""Neighbours that a written model has room for, in units of the most in its data"""


def write(path: str | os.PathLike, potential: DeepPotential) -> None:
    """Write one potential to a `.dp` or `.yaml` file, whole or not at all.

    The function is that of the nets evaluated at every neighbour (`exact`), in float64, but for the
    repulsion of the potential's core, for which the format has no place. `dp convert-backend` of
    DeePMD-kit 3.2 makes a .pb or .pth of the file, for LAMMPS.

    Raises:
        InputError: another suffix, or a potential that the format cannot hold
    """
    if Path(path).suffix.lower() not in SUFFIXES:
        raise InputError(
            f"{path}: a model of DeePMD-kit goes to a file that ends in {' or '.join(SUFFIXES)}; "
            "give such a name."
        )
    write_tree(Path(path), tree_of(potential))


def tree_of(potential: DeepPotential) -> dict[str, Any]:
    """The tree of the file, arrays in float64."""
    config, types = potential.config, len(potential.config.species)
    names = [chemical_symbols[z] for z in config.species]
    sel = _selected(potential)
    embedding = [np.asarray(m, float) for m in potential.weights["embedding"]]
    if not config.one_sided:
        # in a file the type of the central atom runs fastest, and here that of the neighbour
        turned = np.arange(types**2).reshape(types, types).T.ravel()
        embedding = [matrix[turned] for matrix in embedding]
    fitting = _fitting(potential, sum(sel))
    excluded = _excluded(potential, sel)
    width = config.embedding[-1] * config.axis
    g, f = config.activation
    steps = has_steps(embedding, "Embedding"), has_steps(fitting, "Fitting")
    net = {"precision": "float64", "trainable": True}
    descriptor = {
        "type": "se_e2_a",
        "rcut": config.cutoff_A,
        "rcut_smth": config.smooth_A,
        "sel": sel,
        "neuron": list(config.embedding),
        "axis_neuron": config.axis,
        "resnet_dt": steps[0],
        "type_one_side": config.one_sided,
        "exclude_types": excluded,
        "env_protection": 0.0,
        "set_davg_zero": "environment_mean" not in potential.statistics,
        "activation_function": g,
    } | net
    fitting_net = {
        "type": "ener",
        "neuron": list(config.fitting),
        "resnet_dt": steps[1],
        "numb_fparam": 0,
        "numb_aparam": 0,
        "activation_function": f,
    } | net
    script = {"type_map": names, "descriptor": descriptor, "fitting_net": fitting_net}
    mean, scale = _environment(potential, sum(sel))
    return {
        "software": "kepton",
        "backend": "dpmodel",
        "model": {
            "@class": "Model",
            "@version": 2,
            "type": "standard",
            "type_map": names,
            "atom_exclude_types": [],
            "pair_exclude_types": [],
            "rcond": None,
            "preset_out_bias": None,
            "@variables": {"out_bias": np.zeros((1, types, 1)), "out_std": np.ones((1, types, 1))},
            "descriptor": descriptor
            | {
                "@class": "Descriptor",
                "@version": 2,
                "type_map": names,
                "spin": None,
                "env_mat": {
                    "rcut": config.cutoff_A,
                    "rcut_smth": config.smooth_A,
                    "protection": 0.0,
                    "use_exp_switch": False,
                },
                "embeddings": write_collection(
                    embedding, "Embedding", g, 1 if config.one_sided else 2, types
                ),
                "@variables": {"davg": mean, "dstd": scale},
            },
            "fitting": fitting_net
            | {
                "@class": "Fitting",
                "@version": 4,
                "type_map": names,
                "var_name": "energy",
                "ntypes": types,
                "dim_descrpt": width,
                "dim_out": 1,
                "mixed_types": False,
                "dim_case_embd": 0,
                "default_fparam": None,
                "rcond": None,
                "tot_ener_zero": False,
                "trainable": [True] * (len(config.fitting) + 1),
                "atom_ener": [],
                "layer_name": None,
                "use_aparam_as_mask": False,
                "spin": None,
                "exclude_types": [],
                "nets": write_collection(fitting, "Fitting", f, 1, types),
                "@variables": {
                    "bias_atom_e": np.asarray(potential.statistics["bias"], float)[:, None],
                    "fparam_avg": None,
                    "fparam_inv_std": None,
                    "aparam_avg": None,
                    "aparam_inv_std": None,
                    "case_embd": None,
                },
            },
        },
        "model_def_script": script,
        "@variables": {"min_nbor_dist": np.asarray(_shortest(potential))},
    }


def _selected(potential: DeepPotential) -> list[int]:
    """Slots of each element.

    A potential without a core came from a file of DeePMD-kit, and keeps its own. Others get room
    to spare, and what this does to the normalisation is made good in `_fitting`.
    """
    most = np.asarray(potential.statistics["selected"], float)
    if "core" not in potential.statistics:
        return most.astype(int).tolist()
    return [max(4, 4 * int(np.ceil(ROOM * count / 4))) for count in most]


def _shortest(potential: DeepPotential) -> float:
    """Shortest distance in the data, Å."""
    if "core" in potential.statistics:
        return float(np.min(potential.statistics["core"])) / 0.9
    return float(potential.statistics["basis_start"]) / START


def _environment(potential: DeepPotential, slots: int) -> tuple[np.ndarray, np.ndarray]:
    types, statistics = len(potential.config.species), potential.statistics
    mean, scale = np.zeros((types, slots, 4)), np.ones((types, slots, 4))
    if "environment_mean" in statistics:
        mean[..., 0] = np.asarray(statistics["environment_mean"])[:, None]
        scale[...] = np.asarray(statistics["environment_scale"])[:, None, [0, 1, 1, 1]]
    return mean, scale


def _fitting(potential: DeepPotential, slots: int) -> list[np.ndarray]:
    """Matrices of the fitting nets for D = T T<^T of T over so many slots, and energies in eV.

    x = (D_0 - mean) / scale,   D_0 = (slots / neighbors)^2 D
    """
    config, statistics = potential.config, potential.statistics
    first, *rest = [np.array(matrix, float) for matrix in potential.weights["fitting"]]
    width = config.embedding[-1] * config.axis
    inverse = 1.0 / float(statistics["descriptor_scale"])
    factor = inverse * (slots / float(statistics["neighbors"])) ** 2
    mean = np.asarray(statistics["descriptor_mean"], float) * inverse
    changes = factor != 1.0 or mean.any()
    if changes and config.fitting and residual(width, config.fitting[0]):
        raise InputError(
            f"The fitting nets have a first layer from {width} to {config.fitting[0]} channels, "
            "whose residual cannot take the scale of the descriptor in; give [model] fitting "
            "another width."
        )
    first[:, width] -= np.einsum("sd,sdo->so", mean, first[:, :width])
    first[:, :width] *= factor
    matrices = [first, *rest]
    matrices[-1] = matrices[-1] * float(statistics["scale"])
    return matrices


def _excluded(potential: DeepPotential, sel: list[int]) -> list[list[int]]:
    """Pairs of types that do not see each other.

    Raises:
        InputError: pairs of which one alone does not see the other
    """
    species = potential.config.species
    pairs = {
        (species.index(a), species.index(b)): empty_slots_vanish(potential, a, b)
        for a, b in potential.config.excluded
        if sel[species.index(b)] > 0
    }
    if any((b, a) not in pairs and sel[a] > 0 for a, b in pairs) or not all(pairs.values()):
        raise InputError(
            "The potential has pairs of elements of which one alone does not see the other, or "
            "whose empty slots add to the energy; a file of DeePMD-kit cannot say so, so train "
            "without them."
        )
    return [list(pair) for pair in sorted(pairs) if pair[0] <= pair[1] or pair[::-1] not in pairs]
