"""A model of DeePMD-kit in float32, plain and compressed, written by DeePMD-kit itself.

python md_peer.py MODEL.dp FOLDER
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from deepmd.dpmodel.utils.serialization import load_dp_model, save_dp_model
from deepmd.entrypoints.convert_backend import convert_backend

SHORTEST = 0.85
"""Å, below the distances of water: what a compressed table begins at"""


def main(model: Path, folder: Path) -> None:
    tree = load_dp_model(str(model))
    single(tree["model"])
    tree.setdefault("@variables", {}).setdefault("min_nbor_dist", np.array(SHORTEST))
    save_dp_model(str(folder / "plain.dp"), tree)
    convert_backend(INPUT=str(folder / "plain.dp"), OUTPUT=str(folder / "plain.pb"))
    tell_of_training(folder / "plain.pb")
    dp = Path(sys.executable).with_name("dp")
    command = [dp, "--tf", "compress", "-i", "plain.pb", "-o", "compressed.pb"]
    subprocess.run(command, cwd=folder, check=True)


def tell_of_training(model: Path) -> None:
    """What compression reads of a training beside the model, and a converted model lacks."""
    import tensorflow as tf

    graph = tf.compat.v1.GraphDef()
    graph.ParseFromString(model.read_bytes())
    (node,) = [node for node in graph.node if node.name == "train_attr/training_script"]
    script = json.loads(node.attr["value"].tensor.string_val[0])
    script["learning_rate"] = {"type": "exp", "start_lr": 1e-3, "stop_lr": 1e-8}
    node.attr["value"].tensor.string_val[0] = json.dumps(script).encode()
    model.write_bytes(graph.SerializeToString())


def single(part: dict) -> None:
    """The nets of a tree, and the precision it names, in float32."""
    for key, value in part.items():
        if key == "precision":
            part[key] = "float32"
        elif isinstance(value, dict):
            single(value)
        elif isinstance(value, list):
            for one in value:
                if isinstance(one, dict):
                    single(one)
        elif isinstance(value, np.ndarray) and key in ("w", "b", "idt"):
            part[key] = value.astype(np.float32)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
