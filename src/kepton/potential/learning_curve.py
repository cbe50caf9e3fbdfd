"""The learning curve of a training: a table as CSV, and a picture of it."""

import csv
import io
import math
from pathlib import Path

import numpy as np

from kepton.atoms.replacing import write_whole
from kepton.potential.train import Point

COLUMNS = [
    "step",
    "seconds",
    "learning_rate",
    "training_loss_eV_per_A",
    "held_out_force_rmse_eV_per_A",
    "held_out_energy_rmse_meV_per_atom",
]
ROWS = 2000
"""Most rows of the table: of longer trainings every second, fourth, ... block is kept"""


class LearningCurve:
    """Collects the points of a training; those at which frames held out were looked at are kept.

    Args:
        path: of the CSV file; the picture stands beside it as PNG
        resumed: go on from the table that stands there
    """

    def __init__(self, path: Path, resumed: bool = False):
        self.path = path
        self.points = _read(path) if resumed and path.is_file() else []
        self._stride, self._seen = 1, 0

    def add(self, point: Point) -> None:
        """One more block of steps, in place of what a retreat or a resumption made undone."""
        while self.points and self.points[-1].step >= point.step:
            self.points.pop()
        self._seen += 1
        if math.isfinite(point.forces) or self._seen % self._stride == 0:
            self.points.append(point)
        if len(self.points) > ROWS:
            self._stride *= 2
            self.points = [p for i, p in enumerate(self.points) if i % 2 or math.isfinite(p.forces)]

    def write(self) -> None:
        """The table."""
        text = io.StringIO(newline="")
        writer = csv.writer(text)
        writer.writerow(COLUMNS)
        for p in self.points:
            looked = [_number(p.forces, 1.0), _number(p.energy, 1e3)]
            row = [p.step, f"{p.seconds:.2f}", f"{p.rate:.4g}", f"{p.error:.5f}", *looked]
            writer.writerow(row)
        write_whole(self.path, text.getvalue().encode())

    def draw(self) -> None:
        """The picture."""
        from matplotlib.figure import Figure

        seconds = np.array([p.seconds for p in self.points])
        error = np.array([p.error for p in self.points])
        figure = Figure(figsize=(6.4, 4.0), layout="constrained")
        axes = figure.subplots()
        axes.plot(seconds, error, color="0.75", linewidth=0.8, label="training loss, square root")
        looks = [p for p in self.points if math.isfinite(p.forces)]
        if looks:
            axes.plot(
                [p.seconds for p in looks],
                [p.forces for p in looks],
                "o-",
                color="tab:blue",
                markersize=3.5,
                label="forces held out, rms",
            )
        axes.set(xlabel="wall time / s", ylabel="error / eV Å$^{-1}$", yscale="log")
        axes.set_xlim(left=0.0)
        axes.grid(which="both", color="0.92", linewidth=0.6)
        axes.legend(frameon=False)
        figure.savefig(self.path.with_suffix(".png"), dpi=160)


def _number(value: float, scale: float) -> str:
    return f"{scale * value:.5g}" if math.isfinite(value) else ""


def _read(path: Path) -> list[Point]:
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    if not rows or rows[0] != COLUMNS:
        return []
    points = []
    for step, *rest in rows[1:]:
        seconds, rate, error, forces, energy = (float(value or "nan") for value in rest)
        points.append(Point(int(step), math.nan, seconds, rate, error, forces, 1e-3 * energy))
    return points
