"""Molecular dynamics of liquid water on a GPU: time, memory and neighbour lists against size.

`make bench-gpu` installs JAX's plugin for CUDA and runs this file: each size with the kernels, with
them and TF32, and by XLA alone; time against size goes to a plot. Lists are made on the device and,
up to a million atoms, on the host.
"""

import argparse
import sys
import time
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np

import kepton
from kepton.atoms import Frames
from kepton.atoms import neighbors as lists
from kepton.dynamics import VelocityVerlet, simulate
from kepton.potential import fused
from md import MODELS, ROOT, SHARED, SKIN, TEMPERATURE, TIMESTEP, megaflop, water

COPIES = {
    1_536: (2, 2, 2),
    12_288: (4, 4, 4),
    98_304: (8, 8, 8),
    998_784: (17, 17, 18),
    5_268_480: (30, 30, 31),
    20_358_144: (47, 47, 48),
}
"""Sizes, and how often a cell of 192 atoms is repeated"""
HOST = 1_000_000
"""Atoms up to which lists are made on the host too"""
WAYS = ("kernels", "kernels, TF32", "XLA alone")


@dataclass(frozen=True)
class Run:
    """One simulation: ns an atom and step, GB at most so far, seconds for lists by either way."""

    way: str
    atoms: int
    steps: int
    pace: float
    memory: float
    device: float
    host: float

    @property
    def line(self) -> str:
        cells = f"{self.pace:.1f}", f"{self.memory:.2f}", f"{self.device:.3f}", f"{self.host:.3f}"
        return f"| {self.way} | {self.atoms} | {self.steps} | {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=MODELS["water"])
    parser.add_argument("--sizes", type=int, nargs="+", default=list(COPIES), choices=COPIES)
    parser.add_argument("--ways", nargs="+", default=WAYS, choices=WAYS)
    parser.add_argument("--seconds", type=float, default=5.0, help="of every run, about")
    parser.add_argument("--plot", type=Path, default=ROOT / "bench" / "md-gpu.png")
    order = parser.parse_args()
    sys.stdout.reconfigure(line_buffering=True)
    field, device = kepton.load(order.model), jax.devices()[0]
    print(f"{device.device_kind}; nets {megaflop(order.model):.2f} MFLOP an atom and step")
    print(f"Products of matrices: {flops(False):.0f} TFLOP/s, TF32 {flops(True):.0f}")
    print("| | atoms | steps | ns/atom/step | GB | list, s | on the host, s |")
    print("|---|---|---|---|---|---|---|")
    runs = []
    for size in order.sizes:
        for way in order.ways:
            runs.append(run(field, size, way, order.seconds))
            print(runs[-1].line)
    draw(order.plot, runs)


def run(field, size: int, way: str, seconds: float) -> Run:
    """Steps of constant energy, after some that compile."""
    kernels = fused.serves
    if way == "XLA alone":
        fused.serves = lambda: False
    tf32 = jax.default_matmul_precision("tensorfloat32") if "TF32" in way else nullcontext()
    try:
        with tf32:
            jax.clear_caches()  # which way is no argument of any program
            return timed(field, size, way, seconds)
    finally:
        fused.serves = kernels


def timed(field, size: int, way: str, seconds: float) -> Run:
    frames = Frames.from_ase([water(SHARED / "water" / "data_0").repeat(COPIES[size])])
    method = VelocityVerlet(TIMESTEP["water"])
    state = method.init(jax.random.split(jax.random.key(0), 1), field, frames, TEMPERATURE)
    steps, taken = 4, 0.0
    while taken < seconds:
        # twice, and more where they were too few to time
        steps = steps if taken == 0.0 else min(50 * steps, 1 + int(1.2 * steps * seconds / taken))
        for _ in range(2):
            begun = time.perf_counter()
            state, info = simulate(field, method, state, steps, SKIN)
            jax.block_until_ready(state.forces)
            taken = time.perf_counter() - begun
            if info.broken.any():
                sys.exit("The simulation exploded.")
    peak = (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use", np.nan)
    given = state.frames, field.cutoff, SKIN, state.neighbors.segments
    device, host = listed(*given), np.nan
    if size <= HOST:
        chosen, lists._on_accelerator = lists._on_accelerator, lambda _: False
        host = listed(*given)
        lists._on_accelerator = chosen
    return Run(way, size, steps, 1e9 * taken / size / steps, 1e-9 * peak, device, host)


def listed(*given) -> float:
    """Seconds for the lists, the second time."""
    for _ in range(2):
        begun = time.perf_counter()
        jax.block_until_ready(jax.device_put(lists.neighbors(*given).index))
        taken = time.perf_counter() - begun
    return taken


def flops(tf32: bool, size: int = 8192) -> float:
    """TFLOP/s of products of square matrices in float32, the best of some."""
    side = size if jax.default_backend() == "gpu" else size // 8
    a = jax.random.normal(jax.random.key(0), (side, side), np.float32)
    with jax.default_matmul_precision("tensorfloat32") if tf32 else nullcontext():
        product = jax.jit(lambda a: a @ a).lower(a).compile()
    taken = []
    for _ in range(10):
        begun = time.perf_counter()
        jax.block_until_ready(product(a))
        taken.append(time.perf_counter() - begun)
    return 2e-12 * side**3 / min(taken)


def draw(path: Path, runs: list[Run]) -> None:
    """Time against the number of atoms."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.subplots()
    for way in dict.fromkeys(run.way for run in runs):
        some = [run for run in runs if run.way == way]
        axes.plot([r.atoms for r in some], [r.pace for r in some], "o-", label=way, markersize=4)
    axes.set(xlabel="atoms", ylabel="ns an atom and step", xscale="log", yscale="log")
    axes.grid(which="both", color="0.92", linewidth=0.6)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=160)


if __name__ == "__main__":
    main()
