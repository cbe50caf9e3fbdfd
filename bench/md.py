"""Molecular dynamics with one model: Kepton, its plugin and DeePMD-kit in LAMMPS.

`make bench-md` builds the environment of DeePMD-kit and runs this file; with `taskset -c 0` before
it, all stays on one core. Each run is a process of its own, one after the other. It prints what it
does and, at the end, a table in Markdown; time against size goes to a plot. Liquid water takes an
imported model; for crystals of copper `bench/copper.py` says how to make one.
"""

import argparse
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import ase
import ase.build
import ase.io
import numpy as np

from peers import call, on_cores

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared" / "data"
CELLS = {
    "water": {192: 1, 1536: 2, 12288: 4, 98304: 8, 998784: (17, 17, 18)},
    "copper": {256: 4, 2048: 8, 16384: 16, 131072: 32, 1000188: 63},
}
"""Sizes, and how often a cell of 192 and of 4 atoms is repeated for each"""
STEPS = (2000, 400, 60, 30, 10)
"""For each of the sizes"""
PEER_STEPS = (100, 20, 5)
PLUGIN_FASTER = 5
"""So many times the steps of DeePMD-kit for Kepton's plugin in LAMMPS"""
TIMESTEP = {"water": 0.5, "copper": 2.0}
TEMPERATURE, SKIN = 300.0, 1.0
"""K, Å"""
MODELS = {"water": SHARED / "deepmd_models" / "one_side" / "model.dp"}


@dataclass(frozen=True)
class Run:
    """One simulation.

    Args:
        name: whose
        wall, processor: µs an atom and step by the clock, and by the cores' own time
        memory: GB, the largest the process ever had
    """

    name: str
    atoms: int
    steps: int
    wall: float
    processor: float
    memory: float
    rebuilds: int

    @property
    def line(self) -> str:
        return (
            f"{self.name}, {self.atoms} atoms: {self.wall:.1f} µs an atom and step, "
            f"{self.processor:.1f} of a core, {self.memory:.2f} GB, "
            f"{self.steps} steps, lists made {self.rebuilds} times"
        )


def main() -> None:
    order = arguments()
    if order.one:
        print(json.dumps(asdict(kepton(order))))
        return
    sys.stdout.reconfigure(line_buffering=True)
    order.out.mkdir(parents=True, exist_ok=True)
    cores = len(os.sched_getaffinity(0))
    print(f"{cores} core(s), load {os.getloadavg()[0]:.1f} at the start; files in {order.out}")
    speed, work = sgemm(), megaflop(order.model)
    floor = 1e3 * work / speed
    print(
        f"A core's sgemm: {speed:.0f} GFLOP/s, so the nets, {work:.2f} MFLOP, take {floor:.1f} µs"
    )
    runs = [alone(order, "Kepton", order.model, size, cores) for size in order.sizes]
    if order.small:
        runs += [alone(order, "Kepton, small model", order.small, s, cores) for s in order.sizes]
    if order.peer:
        runs += peers(order)
    print(f"Load {os.getloadavg()[0]:.1f} at the end\n")
    draw(order.plot, runs, floor)
    print(table(runs, floor, cores))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--peer", type=Path, help="environment in which DeePMD-kit and LAMMPS are installed")
    add("--system", default="water", choices=CELLS)
    add("--model", type=Path, help="of one member; for water by default that of shared/data")
    add("--small", type=Path, help="a second model, for Kepton alone")
    add("--water", type=Path, default=SHARED / "water" / "data_0", help="deepmd/npy folder")
    add("--sizes", type=int, nargs="+", help="numbers of atoms; by default the four smallest")
    add("--peer-sizes", type=int, nargs="*", help="by default the two smallest, at most the third")
    add("--steps", type=int, help="of every run of Kepton")
    add("--one", action="store_true", help=argparse.SUPPRESS)
    add("--out", type=Path, default=ROOT / "runs" / "bench-md", help="work folder")
    add("--plot", type=Path)
    order = parser.parse_args()
    known = list(CELLS[order.system])
    order.model = order.model or MODELS.get(order.system)
    order.plot = order.plot or ROOT / "bench" / f"md-{order.system}.png"
    order.sizes = order.sizes or known[:4]
    order.peer_sizes = known[:2] if order.peer_sizes is None else order.peer_sizes
    if order.model is None:
        parser.error("give a --model of copper; bench/copper.py says how to make one")
    if not set(order.sizes) <= set(known) or not set(order.peer_sizes) <= set(known[:3]):
        parser.error(f"the sizes are {known}, those of peers {known[:3]}")
    for name in ("model", "small", "water", "out", "peer"):
        if getattr(order, name):
            setattr(order, name, getattr(order, name).absolute())
    return order


def atoms_of(order: argparse.Namespace, size: int) -> ase.Atoms:
    """Liquid water, the first frame of a data set, or a crystal of copper, repeated."""
    cell = copper() if order.system == "copper" else water(order.water)
    return cell.repeat(CELLS[order.system][size])


def copper() -> ase.Atoms:
    """The cubic cell at EMT's lattice constant and 300 K."""
    return ase.build.bulk("Cu", a=3.62, cubic=True)


def water(folder: Path) -> ase.Atoms:
    """The first frame of a deepmd/npy folder."""
    cell, x = (np.load(folder / "set.000" / f"{name}.npy")[0] for name in ("box", "coord"))
    names = (folder / "type_map.raw").read_text().split()
    symbols = [names[t] for t in np.loadtxt(folder / "type.raw", dtype=int)]
    return ase.Atoms(symbols, x.reshape(-1, 3), cell=cell.reshape(3, 3), pbc=True)


def megaflop(model: Path) -> float:
    """Of the products of the fitting net an atom and step, forward and back."""
    import kepton

    layers = kepton.load(model).members.weights["fitting"]
    return 4e-6 * sum(np.prod(layer.shape[-2:]) for layer in layers)


def sgemm(size: int = 1536) -> float:
    """GFLOP/s of a core, the best of some products of square matrices."""
    a = np.random.default_rng(0).random((size, size), np.float32)
    seconds = []
    for _ in range(20):
        begun = time.process_time()
        a @ a
        seconds.append(time.process_time() - begun)
    return 2e-9 * size**3 / min(seconds)


# ---------------------------------------------------------------- Kepton


def alone(order: argparse.Namespace, name: str, model: Path, size: int, cores: int) -> Run:
    """A run of Kepton in a process of its own."""
    command = [sys.executable, __file__, "--one", "--model", model, "--sizes", str(size)]
    steps = order.steps or dict(zip(CELLS[order.system], STEPS))[size]
    command += ["--system", order.system, "--water", order.water, "--steps", str(steps)]
    environment = os.environ | {"OMP_NUM_THREADS": str(cores)}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit("Kepton failed; see above.")
    run = Run(**{**json.loads(done.stdout), "name": name})
    print(run.line)
    return run


def kepton(order: argparse.Namespace) -> Run:
    """Steps of constant energy after the first ones, which compile."""
    import jax

    import kepton
    from kepton.atoms import Frames
    from kepton.dynamics import VelocityVerlet, simulate

    (size,), field = order.sizes, kepton.load(order.model)
    method = VelocityVerlet(TIMESTEP[order.system])
    frames = Frames.from_ase([atoms_of(order, size)])
    state = method.init(jax.random.split(jax.random.key(0), 1), field, frames, TEMPERATURE)
    state, _ = simulate(field, method, state, max(2, order.steps // 10), SKIN)
    jax.block_until_ready(state)
    wall, processor = time.perf_counter(), time.process_time()
    state, info = simulate(field, method, state, order.steps, SKIN)
    jax.block_until_ready(state)
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    if info.broken.any():
        sys.exit("The simulation exploded.")
    share = 1e6 / size / order.steps
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return Run("", size, order.steps, wall * share, processor * share, peak, info.rebuilds)


# ---------------------------------------------------------------- LAMMPS


def peers(order: argparse.Namespace) -> list[Run]:
    """Kepton's plugin in LAMMPS, and DeePMD-kit in float32, plain and compressed."""
    python = order.peer / "bin" / "python"
    if not python.is_file():
        sys.exit(f"There is no {python}; `make bench-md` installs DeePMD-kit.")
    environment = on_cores(1)
    environment["PATH"] = f"{order.peer / 'bin'}{os.pathsep}{os.environ['PATH']}"
    log, ours = order.out / "log", order.peer / "bin" / "kepton"
    side = str(Path(__file__).with_name("md_peer.py"))
    for name in ("model.kepton", "model.dp"):
        call(ours, ("convert", str(order.model), name), log, environment)
    call(python, (side, str(order.out / "model.dp"), str(order.out)), log, environment)
    call(ours, ("lammps", "plugin", "--out", "keptonplugin.so"), log, environment)
    load = ("plugin load ../keptonplugin.so", "pair_style kepton ../model.kepton")
    engines = {
        "Kepton in LAMMPS": ("plugin", load, PLUGIN_FASTER),
        "DeePMD-kit": ("plain", ("pair_style deepmd ../plain.pb",), 1),
        "DeePMD-kit, compressed": ("compressed", ("pair_style deepmd ../compressed.pb",), 1),
    }
    return [
        lammps(order, name, *engine, size, environment)
        for name, engine in engines.items()
        for size in order.peer_sizes
    ]


def lammps(
    order: argparse.Namespace,
    name: str,
    short: str,
    pair: Sequence[str],
    faster: int,
    size: int,
    environment: dict,
) -> Run:
    """The same dynamics in LAMMPS, on one rank."""
    folder = order.out / f"{short}-{size}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    atoms = atoms_of(order, size)
    steps = faster * dict(zip(CELLS[order.system], PEER_STEPS))[size]
    elements, timestep = sorted(set(atoms.symbols)), 1e-3 * TIMESTEP[order.system]
    ase.io.write(
        folder / "atoms.data", atoms, format="lammps-data", specorder=elements, masses=True
    )
    lines = [
        *("units metal", "atom_style atomic", "boundary p p p", "read_data atoms.data"),
        *(*pair, f"pair_coeff * * {' '.join(elements)}"),
        *(f"neighbor {SKIN} bin", f"timestep {timestep}"),
        *(f"velocity all create {TEMPERATURE} 1", "fix 1 all nve"),
        *("run 2", f"run {steps}"),
    ]
    (folder / "in.lammps").write_text("\n".join(lines) + "\n")
    with (folder / "log").open("w") as log:
        program = [order.peer / "bin" / "lmp", "-in", "in.lammps"]
        process = subprocess.Popen(program, cwd=folder, env=environment, stdout=log, stderr=log)
        _, status, used = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"LAMMPS failed; its output is in {folder / 'log'}.")
    told = (folder / "log.lammps").read_text()
    seconds = float(re.findall(r"Loop time of (\S+)", told)[-1])
    share = float(re.findall(r"(\S+)% CPU use", told)[-1]) / 100.0
    builds = int(re.findall(r"Neighbor list builds = (\d+)", told)[-1])
    wall = 1e6 * seconds / steps / size
    run = Run(name, size, steps, wall, wall * share, used.ru_maxrss / 1e6, builds)
    print(run.line)
    return run


# ---------------------------------------------------------------- what came of it


def draw(path: Path, runs: Sequence[Run], floor: float) -> None:
    """Core time, which other programs change least, against the number of atoms."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter

    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.subplots()
    for name in dict.fromkeys(run.name for run in runs):
        some = [run for run in runs if run.name == name]
        size, times = [run.atoms for run in some], [run.processor for run in some]
        axes.plot(size, times, "o-", label=name, markersize=4)
    axes.axhline(floor, color="0.4", linestyle=":", label="the nets' products alone")
    axes.set(xlabel="atoms", ylabel="core time an atom and step / µs", xscale="log", yscale="log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter(NullFormatter())
    axes.grid(which="both", color="0.92", linewidth=0.6)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=160)


def table(runs: Sequence[Run], floor: float, cores: int) -> str:
    """Markdown for RESULTS.md."""
    rows = [
        "| | atoms | µs/atom/step | core µs/atom/step | floor over that | GB | lists / steps |",
        "|---|---|---|---|---|---|---|",
    ]
    for run in runs:
        share = "" if "small" in run.name else f"{100 * floor / run.processor:.0f} %"
        times = f"{run.wall:.1f}", f"{run.processor:.1f}"
        cells = run.name, run.atoms, *times, share, f"{run.memory:.2f}"
        rows.append(f"| {' | '.join(map(str, cells))} | {run.rebuilds} / {run.steps} |")
    for size in sorted({run.atoms for run in runs}):
        here = {run.name: run for run in runs if run.atoms == size}
        if {"Kepton", "DeePMD-kit, compressed"} <= here.keys():
            ours, theirs = here["Kepton"], here["DeePMD-kit, compressed"]
            rows.append(
                f"\n{size} atoms: {theirs.wall / ours.wall:.1f} times faster than compressed "
                f"DeePMD-kit by the clock, {theirs.processor / ours.processor:.1f} by core time."
            )
    rows.append(f"\n{cores} core(s); the nets' products alone take {floor:.1f} µs of a core.")
    return "\n".join(rows)


if __name__ == "__main__":
    main()
