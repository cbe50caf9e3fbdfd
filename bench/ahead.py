"""Molecular dynamics compiled ahead of time for an H200 that need not be here.

`make bench-ahead` installs JAX's plugin for CUDA, which compiles without a GPU, and runs this file.
It says how much memory the program of many steps of liquid water takes, how many bytes an atom and
step go through memory, and how many registers the kernels take. Nothing is executed, so no time is
measured; on a GPU, XLA chooses among implementations of matrix products by trying them.
"""

import argparse
import math
import re
import subprocess
import sys
import tempfile
from contextlib import nullcontext
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding

import kepton
from kepton.atoms import Frames
from kepton.devices import ALL, EACH, ROWS
from kepton.dynamics import VelocityVerlet
from kepton.potential import fused
from md import MODELS, SHARED, TEMPERATURE, TIMESTEP, water

H200 = """
gpu_device_info {
  threads_per_block_limit: 1024  threads_per_warp: 32
  shared_memory_per_block: 49152  shared_memory_per_core: 233472
  shared_memory_per_block_optin: 232448  threads_per_core_limit: 2048
  core_count: 132  fpus_per_core: 128  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535  block_dim_limit_z: 65535
  memory_bandwidth: 4800000000000  l2_cache_size: 52428800  clock_rate_ghz: 1.98
  device_memory_size: 151397597184  cuda_compute_capability { major: 9 }
  registers_per_core_limit: 65536  registers_per_block_limit: 65536
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 10 }
device_description_str: "NVIDIA H200 141GB HBM3e"
"""
"""After xla/backends/gpu/target_config/specs/h200.txtpb of openxla/xla"""
ATOMS, WIDTHS = 192, (112, 56)
"""Of the cell that is repeated, and neighbours H and O of an atom within cutoff and skin"""
TRAFFIC = 196_608
"""Atoms, those of an element in one block, of the program in which bytes are counted"""
BYTES = {"f64": 8, "s64": 8, "f32": 4, "s32": 4, "u32": 4, "s16": 2, "pred": 1, "s8": 1}
NOTHING = {"parameter", "get-tuple-element", "tuple", "constant", "bitcast", "while", "conditional"}
"""Instructions that move nothing, or whose computations are counted themselves"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[100_000, 1_000_000, 20_000_000])
    parser.add_argument("--model", type=Path, default=MODELS["water"])
    parser.add_argument("--plain", action="store_true", help="without kernels, XLA alone")
    parser.add_argument("--tf32", action="store_true")
    order = parser.parse_args()
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_enable_compilation_cache", False)  # nothing is dumped of what is kept
    prepared = prepare(order.model)
    topology = topologies.get_topology_desc("h200", "cuda", target_config=H200, topology="1x1x1")
    jax.devices = lambda *_: list(topology.devices)
    jax.default_backend = lambda: "gpu"
    fused.serves = lambda: not order.plain
    print("| atoms | lists and state, GB | temporaries, GB | bytes an atom |\n|---|---|---|---|")
    for size in order.sizes:
        memory = compiled(*prepared, size, topology, order.tf32).memory_analysis()
        given = memory.argument_size_in_bytes + memory.output_size_in_bytes
        rest = memory.temp_size_in_bytes
        print(f"| {size} | {1e-9 * given:.2f} | {1e-9 * rest:.2f} | {(given + rest) / size:.0f} |")
    with tempfile.TemporaryDirectory(prefix="kepton-ahead-") as folder:
        dump = {"xla_dump_to": folder}
        program = compiled(*prepared, TRAFFIC, topology, order.tf32, dump).as_text()
        print(f"\n{1e-3 * moved(program) / TRAFFIC:.0f} kB an atom and step go through memory.")
        for registers, spilled in sorted(kernels(Path(folder))):
            print(f"A kernel takes {registers} registers a thread and spills {spilled} bytes.")


def prepare(model: Path):
    """Potential, method and a state of the cell that is repeated."""
    field, method = kepton.load(model), VelocityVerlet(TIMESTEP["water"])
    frames = Frames.from_ase([water(SHARED / "water" / "data_0")])
    key = jax.random.split(jax.random.key(0), 1)
    return field, method, method.init(key, field, frames, TEMPERATURE)


def compiled(field, method, state, size: int, topology, tf32: bool, options: dict | None = None):
    """The program of many steps of so many atoms."""
    mesh = Mesh(np.array(topology.devices), (ROWS,))
    own, n = sum(width for _, width in state.neighbors.segments), size // ATOMS * ATOMS
    lengths = {ATOMS: n, own: sum(WIDTHS)}

    def shape(leaf, spec=EACH):
        long = spec == EACH
        axes = tuple(lengths.get(axis, axis) if long else axis for axis in leaf.shape)
        known = jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        dtype = leaf.dtype if known else jax.dtypes.canonicalize_dtype(leaf.dtype)
        return jax.ShapeDtypeStruct(axes, dtype, sharding=NamedSharding(mesh, spec))

    large = jax.tree.map(shape, state)
    composition = tuple((z, count * n // ATOMS) for z, count in large.frames.composition)
    segments = tuple((z, width) for (z, _), width in zip(large.neighbors.segments, WIDTHS))
    large = replace(
        large,
        frames=replace(large.frames, composition=composition),
        neighbors=replace(large.neighbors, segments=segments),
    )
    potential = jax.tree.map(lambda leaf: shape(leaf, ALL), field)
    steps = shape(jnp.ones(1, int))
    run = import_module("kepton.dynamics.simulate")._run
    with jax.default_matmul_precision("tensorfloat32") if tf32 else nullcontext():
        return run.lower(potential, method, large, steps).compile(options)


def moved(program: str) -> float:
    """Bytes that the instructions of one step read and write, gathers as if they read all."""
    computations, name = {}, None
    for line in program.splitlines():
        if head := re.match(r"(?:ENTRY )?%?([\w.\-]+) \(.*\{$", line):
            name = head[1]
            computations[name] = []
        elif name and " = " in line:
            computations[name].append(line)
    called = r"(?:body|true_computation|false_computation)=%?([\w.\-]+)"
    branches = r"branch_computations=\{([^}]*)\}"
    wanted = set(re.findall(called, program))
    for names in re.findall(branches, program):
        wanted |= {one.strip(" %") for one in names.split(",")}
    total = 0
    for name in wanted:
        sizes = {}
        for line in computations[name]:
            pattern = r"\s*(?:ROOT )?%?([\w.\-]+) = (\(.*?\)|\S+) ([\w\-]+)\((.*?)\)"
            if (found := re.match(pattern, line)) is None:
                continue
            own, kind, operation, operands = found.groups()
            sizes[own] = size_of(kind)
            if operation not in NOTHING:
                read = sum(sizes.get(one.strip(" %"), 0) for one in operands.split(","))
                total += sizes[own] + read
    return total


def size_of(kind: str) -> int:
    """Bytes of an array, or of a tuple of arrays."""
    arrays = re.findall(r"(\w+)\[([\d,]*)\]", kind)
    return sum(BYTES.get(d, 0) * math.prod(int(n) for n in s.split(",") if n) for d, s in arrays)


def kernels(dump: Path) -> set[tuple[int, int]]:
    """Registers and spilled bytes of our kernels in what XLA wrote down."""
    import nvidia

    (assembler,) = (p for root in nvidia.__path__ for p in Path(root).rglob("bin/ptxas"))
    told = set()
    for file in sorted(dump.glob("*.ptx")):
        for name in re.findall(r"\.entry (kernel\w*)\(", file.read_text()):
            command = [assembler, "-arch=sm_90a", "-v", file, "-o", dump / "out"]
            said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
            mine = said[said.index(f"'{name}'") :]
            spilled = int(re.search(r"(\d+) bytes spill stores", mine)[1])
            told.add((int(re.search(r"Used (\d+) registers", mine)[1]), spilled))
    return told


if __name__ == "__main__":
    if not SHARED.is_dir():
        sys.exit(f"There is no {SHARED} with the water model and structure.")
    main()
