"""Deep Potentials with random weights, and in plain NumPy what a tree of DeePMD-kit means."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from kepton.potential.deep_potential import DeepPotential, DeepPotentialConfig
from kepton.potential.ensemble import Ensemble

SPECIES = (1, 6, 8)
PLAIN = DeepPotentialConfig(SPECIES, 3.5, 1.0, 16, (4, 8), 3, (10, 10))


def random_potential(seed=0, steps=False, environment=False, core=False, config=PLAIN):
    """A potential in float64, as training leaves it, or as a file of DeePMD-kit holds it."""
    rng, count = np.random.default_rng(seed), len(config.species)
    width = config.embedding[-1] * config.axis
    statistics = {
        "bias": rng.uniform(-9, -1, count),
        "scale": 1.0,
        "descriptor_mean": np.zeros((count, width)),
        "descriptor_scale": 1.0,
        "neighbors": 24.0,
        "selected": np.array([12.0, 8.0, 4.0])[:count],
        "basis_start": 0.8,
    }
    if environment:
        statistics |= {
            "environment_mean": rng.uniform(0.02, 0.1, count),
            "environment_scale": rng.uniform(0.1, 0.3, (count, 2)),
        }
    if core:
        statistics |= {
            "scale": 1.7,
            "descriptor_mean": rng.normal(size=(count, width)),
            "descriptor_scale": 2.3,
            "neighbors": 3.3,
            "core": 0.8 + 0.1 * np.add.outer(np.arange(count), np.arange(count)),
        }
    potential = DeepPotential.init(jax.random.key(seed), config, statistics)
    potential = potential.with_dtype(jnp.float64)
    return with_steps(potential, rng) if steps else potential


def with_steps(potential, rng):
    """The potential with time steps in all hidden layers that have a residual."""

    def dated(stacks, width, last):
        new = []
        for stack in stacks[: len(stacks) - last]:
            rows = [stack]
            if stack.shape[2] in (width, 2 * width):
                rows.append(rng.uniform(0.3, 1.2, (len(stack), 1, stack.shape[2])))
            new.append(jnp.concatenate(rows, axis=1))
            width = stack.shape[2]
        return new + stacks[len(stacks) - last :]

    weights = potential.weights
    width = weights["fitting"][0].shape[1] - 1
    new = {
        "embedding": dated(weights["embedding"], 1, 0),
        "fitting": dated(weights["fitting"], width, 1),
    }
    return replace(potential, weights=new)


def ensemble_of(*potentials):
    """Members with the statistics of the first."""
    weights = jax.tree.map(lambda *leaves: jnp.stack(leaves), *[p.weights for p in potentials])
    return Ensemble(replace(potentials[0], weights=weights))


def cluster():
    """Nine atoms of three elements, one of them out of sight of all others."""
    rng = np.random.default_rng(3)
    positions = 1.3 * np.array(list(np.ndindex(2, 2, 2))) + 0.15 * rng.standard_normal((8, 3))
    return Atoms("HCOHHCOHO", np.concatenate([positions, [[30.0, 0, 0]]]))


# ---------------------------------------------------------------- DeePMD-kit in NumPy


def silu(x):
    return x / (1 + np.exp(-x))


def silut(x, threshold=0.5):
    sigmoid = 1 / (1 + np.exp(-threshold))
    slope = sigmoid + threshold * sigmoid * (1 - sigmoid)
    return np.where(x < threshold, silu(x), np.tanh(slope * (x - threshold)) + silu(threshold))


FUNCTIONS = {
    "tanh": np.tanh,
    "relu": lambda x: np.maximum(x, 0),
    "relu6": lambda x: np.clip(x, 0, 6),
    "softplus": lambda x: np.log1p(np.exp(x)),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "gelu_tf": lambda x: 0.5 * x * (1 + np.tanh((2 / np.pi) ** 0.5 * (x + 0.044715 * x**3))),
    "silu": silu,
    "silut:0.5": silut,
    "none": lambda x: x,
}


def net(layers, x):
    """A net of the tree, its residuals by shape."""
    for layer in layers:
        held = layer["@variables"]
        y = x @ held["w"] + (0.0 if held["b"] is None else held["b"])
        y = FUNCTIONS[layer["activation_function"]](y)
        y = y if held["idt"] is None else y * held["idt"]
        if layer["resnet"] and y.shape[-1] == x.shape[-1]:
            y = y + x
        elif layer["resnet"] and y.shape[-1] == 2 * x.shape[-1]:
            y = y + np.concatenate([x, x], axis=-1)
        x = y
    return x


def energy_of(tree, atoms):
    """Energy of an isolated structure, eV, every slot of every atom in the open."""
    model = tree["model"]
    descriptor, fitting = model["descriptor"], model["fitting"]
    names, sel = model["type_map"], descriptor["sel"]
    embeddings = descriptor["embeddings"]["networks"]
    types = [names.index(chemical_symbols[z]) for z in atoms.numbers]
    unseen = {tuple(pair) for pair in descriptor["exclude_types"]}
    dropped = {tuple(pair) for pair in model["pair_exclude_types"]}
    total = 0.0
    for i, a in enumerate(types):
        if a in model["atom_exclude_types"]:
            continue
        rows, nets = [], []
        for b, slots in enumerate(sel):
            d = np.array([atoms.positions[j] - atoms.positions[i] for j, t in enumerate(types)
                          if t == b and j != i]).reshape(-1, 3)  # fmt: skip
            r = np.linalg.norm(d, axis=1)
            near = [k for k in np.argsort(r) if r[k] < descriptor["rcut"]][:slots]
            d, r = d[near], r[near]
            if {(a, b), (b, a)} & dropped:
                d, r = d[:0], r[:0]
            smooth, cutoff = descriptor["rcut_smth"], descriptor["rcut"]
            u = np.clip((r - smooth) / (cutoff - smooth), 0, 1)
            s = (1 + u**3 * (-10 + 15 * u - 6 * u**2)) / r
            row = np.zeros((slots, 4))
            row[: len(r)] = s[:, None] * np.concatenate([np.ones((len(r), 1)), d / r[:, None]], 1)
            start = sum(sel[:b])
            held = descriptor["@variables"]
            row = (row - held["davg"][a, start : start + slots]) / held["dstd"][
                a, start : start + slots
            ]
            if {(a, b), (b, a)} & unseen:
                row[: len(r)] = 0.0
            place = b if descriptor["type_one_side"] else a + b * len(sel)
            rows.append(row)
            nets.append(net(embeddings[place]["layers"], row[:, :1]))
        t = np.concatenate(nets).T @ np.concatenate(rows) / sum(sel)
        x = (t @ t[: descriptor["axis_neuron"]].T).ravel()
        held = fitting["@variables"]
        extra = []
        if fitting["numb_fparam"]:
            value = np.array(fitting["default_fparam"])
            extra.append((value - held["fparam_avg"]) * held["fparam_inv_std"])
        if fitting.get("dim_case_embd"):
            extra.append(held["case_embd"])
        layers = fitting["nets"]["networks"][a]["layers"]
        energy = net(layers, np.concatenate([x, *extra]))[0]
        if any(e is not None for e in fitting["atom_ener"]) and fitting["atom_ener"][a] is not None:
            energy -= net(layers, np.concatenate([0 * x, *extra]))[0]
        total += energy + held["bias_atom_e"][a, 0] + model["@variables"]["out_bias"][0, a, 0]
    return total
