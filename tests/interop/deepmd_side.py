"""What DeePMD-kit does in the tests, in a process of its own: TensorFlow and JAX stay apart.

python deepmd_side.py answer MODEL FRAMES.npz OUT.npz   what a model says of the frames
python deepmd_side.py random FOLDER FRAMES.npz          the same of models with random weights
"""

import sys
from pathlib import Path

import numpy as np

RANDOM = {
    "one-sided": {},
    "two-sided": {"type_one_side": False},
    "one-sided, no shift of the mean": {"set_davg_zero": True},
    "exclude_types": {"set_davg_zero": True, "exclude_types": [[0, 1], [2, 2]]},
    "two-sided, exclude_types": {
        **{"type_one_side": False, "set_davg_zero": True, "exclude_types": [[0, 2]]},
    },
    "resnet_dt, gelu": {"resnet_dt": True, "activation_function": "gelu"},
    "no residual": {"neuron": [7, 11, 20], "axis_neuron": 3},
}
"""What distinguishes the descriptor of each random model"""


def write_random(folder: str, frames: str) -> None:
    """FOLDER/KIND/model.dp, model.yaml, model.pb and answer.npz of every kind."""
    from deepmd.dpmodel.utils.serialization import save_dp_model
    from deepmd.entrypoints.convert_backend import convert_backend

    for kind in RANDOM:
        here = Path(folder) / kind
        here.mkdir(parents=True)
        for suffix in (".dp", ".yaml"):
            save_dp_model(str(here / f"model{suffix}"), random_model(kind))
        convert_backend(INPUT=str(here / "model.dp"), OUTPUT=str(here / "model.pb"))
        answer(str(here / "model.pb"), frames, str(here / "answer.npz"))


def random_model(kind: str) -> dict:
    """The tree of a DeepPot-SE of three elements as DeePMD-kit makes it."""
    from deepmd.dpmodel.model.model import get_model

    descriptor = {
        **{"type": "se_e2_a", "rcut": 4.0, "rcut_smth": 1.0, "sel": [28, 20, 36]},
        **{"neuron": [6, 12, 24], "axis_neuron": 4, "type_one_side": True},
        **{"precision": "float64", "seed": 3},
        **RANDOM[kind],
    }
    fitting = {"neuron": [20, 20, 16], "resnet_dt": True, "precision": "float64", "seed": 7}
    script = {
        **{"type_map": ["O", "H", "C"], "descriptor": descriptor, "fitting_net": fitting},
    }
    model = get_model({**script, "descriptor": {**descriptor}, "fitting_net": {**fitting}})
    tree = model.serialize()
    rng = np.random.default_rng(11)
    # statistics as those of data: one mean and two scales for each central type
    held = tree["descriptor"]["@variables"]
    mean, scale = np.zeros_like(held["davg"]), np.ones_like(held["dstd"])
    for centre in range(3):
        if not descriptor.get("set_davg_zero"):
            mean[centre, :, 0] = rng.uniform(0.02, 0.09)
        scale[centre, :, 0] = rng.uniform(0.08, 0.2)
        scale[centre, :, 1:] = rng.uniform(0.06, 0.12)
    held["davg"], held["dstd"] = mean, scale
    tree["fitting"]["@variables"]["bias_atom_e"] = rng.uniform(-9, -1, (3, 1))
    for nets in (tree["descriptor"]["embeddings"], tree["fitting"]["nets"]):
        for layer in (layer for net in nets["networks"] for layer in net["layers"]):
            step = layer["@variables"]["idt"]
            if step is not None:
                layer["@variables"]["idt"] = rng.uniform(0.3, 1.2, step.shape)
    for net in tree["fitting"]["nets"]["networks"]:  # forces of some eV/Å
        net["layers"][-1]["@variables"]["w"] *= 20.0
    return {"backend": "dpmodel", "model": tree, "model_def_script": script}


def answer(model: str, frames: str, out: str) -> None:
    """Energy (b,), forces (b, n, 3) and virial (b, 3, 3) of sets of frames, by the sets' names."""
    from deepmd.infer import DeepPot

    given, potential = np.load(frames), DeepPot(model)
    names, found = potential.get_type_map(), {}
    for name in sorted({key.rpartition(".")[0] for key in given}):
        types = np.array([names.index(symbol) for symbol in given[f"{name}.symbols"]])
        positions, cells = given[f"{name}.positions"], given[f"{name}.cells"]
        count = len(positions)
        box = cells.reshape(count, 9) if cells.any() else None
        energy, forces, virial = potential.eval(positions.reshape(count, -1), box, types)[:3]
        found[f"{name}.energy"] = energy.reshape(count)
        found[f"{name}.forces"] = forces.reshape(positions.shape)
        found[f"{name}.virial"] = virial.reshape(count, 3, 3)
    np.savez(out, **found)


if __name__ == "__main__":
    {"random": write_random, "answer": answer}[sys.argv[1]](*sys.argv[2:])
