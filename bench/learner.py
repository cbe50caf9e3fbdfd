"""Labels against error: models trained on ever more random labels, on the same cores.

`make bench-learner` builds an environment with MACE-torch, trains on the molecules and the water of
the project's shared data, tests on their test sets, prints a table in Markdown and draws it.
"""

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl
import numpy as np

from kepton.atoms import Frames, Label, read_labelled, split
from kepton.potential import ExploreConfig, Recipe
from kepton.potential.distil import distil
from kepton.potential.ensemble import Ensemble, predict
from kepton.potential.from_data import FOREVER
from kepton.potential.geometry import Gate
from kepton.potential.pretrained import ORGANIC
from kepton.potential.train import train
from mace_peer import Mace

mpl.use("Agg")
import matplotlib.pyplot as plt

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data"
COUNTS = {
    "ethanol": (25, 50, 100, 200, 400),
    "acetyl_chloride": (25, 50, 100, 200, 400),
    "water": (5, 20, 32, 80),
}
LONGER = {"water": 4.0}
"""So many times as long are the trainings on larger systems"""
WALKS = {"water": ExploreConfig(temperature_K=(300.0, 330.0), walkers=4)}
"""Of a distillation; of molecules they are those of a campaign"""
LEARNER, PRETRAINED = "cluster_expansion", "pretrained"
MODELS = ("deep_potential", LEARNER, PRETRAINED, "runner", "mace")
"""The learner from random weights; pretrained, as campaigns of molecules begin; its runner"""
TICKS = (0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.3, 0.5)
"""eV/Å"""


class Point(NamedTuple):
    """One training: errors in eV/Å (of all components; quantiles over frames) and meV an atom.

    Steps are those of the optimizer, or what they are counted in: trainings of a runner, epochs of
    MACE.
    """

    data: str
    labels: int
    model: str
    steps: int
    seconds: float
    forces: float
    median: float
    worst: float
    energy: float


def main() -> None:
    order = arguments()
    if not DATA.is_dir():
        sys.exit(f"There is no folder {DATA} with the project's shared data, which this measures.")
    sys.stdout.reconfigure(line_buffering=True)
    points = []
    print("| data | labels | model | steps | s | force RMSE, eV/Å | median | 95th | meV/atom |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name in order.data:
        pool, test = load(name)
        for point in curve(name, pool, test, order):
            errors = " | ".join(f"{e:.4f}" for e in (point.forces, point.median, point.worst))
            head = f"| {name} | {point.labels} | {point.model} | {point.steps}"
            print(f"{head} | {point.seconds:.0f} | {errors} | {point.energy:.2f} |")
            points.append(point)
    draw(points, order.out)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--data", nargs="+", choices=COUNTS, default=list(COUNTS))
    add("--labels", nargs="+", type=int, help="how many, if not 25 to 400 (water: 5 to 80)")
    add("--models", nargs="+", choices=MODELS, default=list(MODELS))
    add("--peer", type=Path, help="environment in which MACE-torch is installed")
    add("--seconds", type=float, default=30.0, help="of one training of a molecule")
    add("--peer-seconds", type=float, default=300.0, help="of one of MACE")
    add("--members", type=int, default=4)
    add("--seed", type=int, default=0, help="of the choice of labels, and weights")
    add("--work", type=Path, default=ROOT / "runs" / "bench-learner", help="MACE's files")
    add("--out", type=Path, default=ROOT / "bench" / "learner.png")
    order = parser.parse_args()
    if "mace" in order.models and order.peer is None:
        parser.error("--models mace needs --peer; or leave it out with --models deep_potential ...")
    return order


def load(name: str) -> tuple[tuple[Frames, Label], tuple[Frames, Label]]:
    """The pool to draw labels from, and the test set."""
    if name == "water":
        parts = [[DATA / "water" / f"data_{k}" for k in range(3)], [DATA / "water" / "data_3"]]
    else:
        parts = [[DATA / "molecules" / f"{name}_{part}.extxyz"] for part in ("pool", "test")]
    pool, test = (read_labelled(paths) for paths in parts)
    return pool, test


def curve(
    name: str, pool: tuple[Frames, Label], test: tuple[Frames, Label], order: argparse.Namespace
) -> Iterator[Point]:
    """Every model at every number of labels."""
    drawn = np.random.default_rng(order.seed).permutation(len(pool[0]))
    longer = LONGER.get(name, 1.0)
    for labels in order.labels or COUNTS[name]:
        some = drawn[:labels]
        data = pool[0][some], pool[1][some]
        learner = None
        for model in order.models:
            if model == "mace":
                peer = Mace(order.peer.absolute(), longer * order.peer_seconds, order.work)
                steps, seconds, *told = peer.learn(f"{name}-{labels}", data, test)
            else:
                if model == "runner" and learner is None:
                    learner, _ = learn(LEARNER, data, longer * order.seconds, order)
                begun = time.monotonic()
                if model == "runner":
                    found, steps = run(name, learner, data, order)
                else:
                    found, steps = learn(model, data, longer * order.seconds, order)
                seconds = time.monotonic() - begun
                learner = found if model == LEARNER else learner
                answer = predict(found, test[0])[0]
                told = [np.asarray(answer.energy), np.asarray(answer.forces)]
            yield Point(name, labels, model, steps, seconds, *errors(*told, *test))


def learn(
    model: str, data: tuple[Frames, Label], seconds: float, order: argparse.Namespace
) -> tuple[Ensemble, int]:
    """An ensemble trained for so long, and its steps."""
    steps, forever = [], {"steps": FOREVER, "warm_steps": FOREVER}
    name, pretrained = (LEARNER, ORGANIC) if model == PRETRAINED else (model, None)
    recipe = Recipe.of(name, [data[0][:1]], None, forever, order.members, pretrained, [data])
    found = train(
        [data],
        recipe.training,
        recipe.fresh([data], order.seed),
        order.seed,
        warm=pretrained is not None,
        progress=lambda point: steps.append(point.step),
        seconds=seconds,
    )
    return found, steps[-1]


def run(
    name: str, learner: Ensemble, data: tuple[Frames, Label], order: argparse.Namespace
) -> tuple[Ensemble, int]:
    """The runner distilled from a learner as at the end of a campaign, and its trainings."""
    known = split(data[0])
    starts = known[:1]
    recipe = Recipe.of(LEARNER, starts, members=order.members).taught("deep_potential", starts)
    walks = WALKS.get(name, ExploreConfig()).suited(starts)
    runner, info = distil(learner, recipe, starts, known, Gate.of(starts), walks, order.seed)
    return runner, info["rounds"]


def errors(
    energies: np.ndarray, forces: np.ndarray, frames: Frames, label: Label
) -> tuple[float, float, float, float]:
    """As in `Point`: of all components, median and 95th percentile over frames; meV an atom."""
    off = ((forces - label.forces) ** 2).mean(axis=(1, 2))
    by_frame = np.sqrt(off)
    atoms = np.asarray(frames.mask).sum(axis=1)
    energy = 1e3 * float(np.sqrt(np.mean(((energies - label.energy) / atoms) ** 2)))
    median, worst = np.quantile(by_frame, (0.5, 0.95)).tolist()
    return float(np.sqrt(off.mean())), median, worst, energy


def draw(points: Sequence[Point], path: Path) -> None:
    names = list(dict.fromkeys(point.data for point in points))
    figure, axes = plt.subplots(1, len(names), figsize=(3.6 * len(names), 3.4), squeeze=False)
    for axis, name in zip(axes[0], names):
        own = [point for point in points if point.data == name]
        for model in dict.fromkeys(point.model for point in own):
            some = [point for point in own if point.model == model]
            axis.loglog([p.labels for p in some], [p.forces for p in some], "o-", label=model)
        counts = sorted({point.labels for point in own})
        axis.set(title=name, xlabel="labels", ylabel="force RMSE, eV/Å")
        axis.set_xticks(counts, [f"{count}" for count in counts])
        axis.minorticks_off()
        axis.set_yticks(TICKS, [f"{tick:g}" for tick in TICKS])
        low, high = (f(p.forces for p in own) for f in (min, max))
        axis.set_ylim(0.8 * low, 1.25 * high)
        axis.grid(alpha=0.3)
    axes[0, 0].legend(frameon=False)
    figure.tight_layout()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
