"""Labels against error: each architecture trained on ever more random labels, for the same time.

`make bench-learner` trains on the molecules and the water of the project's shared data, tests on
their test sets, prints a table in Markdown and draws it.
"""

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl
import numpy as np

from kepton.atoms import Frames, Label, read_labelled
from kepton.potential.architectures import ARCHITECTURES
from kepton.potential.assess import assess
from kepton.potential.from_data import FOREVER
from kepton.potential.recipe import default_model
from kepton.potential.train import default_training, fresh, train

mpl.use("Agg")
import matplotlib.pyplot as plt

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data"
COUNTS = {
    "ethanol": (25, 50, 100, 200, 400),
    "acetyl_chloride": (25, 50, 100, 200, 400),
    "water": (5, 20, 32, 80),
}
TICKS = (0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.3, 0.5)
"""eV/Å"""


class Point(NamedTuple):
    """One training: errors in eV/Å (of all components; quantiles over frames) and meV an atom."""

    data: str
    labels: int
    architecture: str
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
    print(
        "| data | labels | architecture | steps | s | force RMSE, eV/Å | median | 95th | meV/atom |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for name in order.data:
        pool, test = load(name)
        for point in curve(name, pool, test, order):
            errors = " | ".join(f"{e:.4f}" for e in (point.forces, point.median, point.worst))
            head = f"| {name} | {point.labels} | {point.architecture} | {point.steps}"
            print(f"{head} | {point.seconds:.0f} | {errors} | {point.energy:.2f} |")
            points.append(point)
    draw(points, order.out)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", nargs="+", choices=COUNTS, default=list(COUNTS))
    parser.add_argument("--seconds", type=float, default=30.0, help="of one training of a molecule")
    parser.add_argument("--members", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0, help="of the choice of labels, and weights")
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "learner.png")
    return parser.parse_args()


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
    """Every architecture at every number of labels; water, being larger, has four times as long."""
    seconds = order.seconds * (4.0 if name == "water" else 1.0)
    drawn = np.random.default_rng(order.seed).permutation(len(pool[0]))
    for labels in COUNTS[name]:
        some = drawn[:labels]
        data = [(pool[0][some], pool[1][some])]
        for architecture in ARCHITECTURES:
            frames = data[0][0]
            atoms = int(np.sum(frames.mask))
            model = default_model(architecture, [frames[:1]], 3 * atoms)
            config = default_training(architecture, atoms / labels, steps=FOREVER)
            began, steps = time.monotonic(), []
            start = fresh(architecture, model, order.members, data, order.seed)
            found = train(
                data,
                config,
                start,
                order.seed,
                progress=lambda point, steps=steps: steps.append(point.step),
                seconds=seconds,
            )
            spent = time.monotonic() - began
            errors = assess(found, *test)
            frame = errors["force_rms_by_frame"]
            yield Point(
                name,
                labels,
                architecture,
                steps[-1],
                spent,
                errors["forces"]["rmse"],
                frame["50%"],
                frame["95%"],
                1e3 * errors["energy_per_atom"]["rmse"],
            )


def draw(points: Sequence[Point], path: Path) -> None:
    names = list(dict.fromkeys(point.data for point in points))
    figure, axes = plt.subplots(1, len(names), figsize=(3.6 * len(names), 3.4), squeeze=False)
    for axis, name in zip(axes[0], names):
        for architecture in ARCHITECTURES:
            own = [p for p in points if (p.data, p.architecture) == (name, architecture)]
            axis.loglog([p.labels for p in own], [p.forces for p in own], "o-", label=architecture)
        axis.set(title=name, xlabel="labels", ylabel="force RMSE, eV/Å")
        axis.set_xticks(COUNTS[name], [f"{count}" for count in COUNTS[name]])
        axis.minorticks_off()
        axis.set_yticks(TICKS, [f"{tick:g}" for tick in TICKS])
        low, high = (f(p.forces for p in points if p.data == name) for f in (min, max))
        axis.set_ylim(0.8 * low, 1.25 * high)
        axis.grid(alpha=0.3)
    axes[0, 0].legend(frameon=False)
    figure.tight_layout()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
