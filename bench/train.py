"""DeePMD-kit and Kepton trained on the same data, cores and split, one after the other.

`make bench-train` builds the environment of DeePMD-kit and runs this file. It prints what it does
and, at the end, a table in Markdown; the curves go to a plot.
"""

import argparse
import contextlib
import csv
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np

from peers import THREADS, call, on_cores

ROOT = Path(__file__).resolve().parents[1]
WATER = ROOT.parent / "shared" / "data" / "water"
TIMED_STEPS = 300
"""Steps of the short runs that tell the time of one; the first blocks are left out"""
POINTS, LOOKED = 40, 20
"""Points of DeePMD-kit's curve, and frames of the validation set looked at for each"""


@dataclass(frozen=True)
class Curve:
    """One training.

    Args:
        name: whose
        seconds, forces: wall time since the start of the command, and force error (eV/Å) at it
        wall: seconds of the whole command
        final: force error (eV/Å) and energy error (eV/atom) on the validation set
    """

    name: str
    seconds: np.ndarray
    forces: np.ndarray
    wall: float
    final: tuple[float, float]


def main() -> None:
    order = arguments()
    sys.stdout.reconfigure(line_buffering=True)
    for folder in [*order.data, *order.validate]:
        if not (folder / "type.raw").is_file():
            sys.exit(
                f"There is no deepmd/npy folder {folder}; name yours with --data and --validate "
                "(make bench-train BENCH='--data A B --validate C')."
            )
    cores = len(os.sched_getaffinity(0))
    order.out.mkdir(parents=True, exist_ok=True)
    print(f"{cores} cores, load {os.getloadavg()[0]:.1f} at the start; all files in {order.out}")

    peer = Peer(order.peer, order.data, order.validate, cores)
    step = peer.time_step(order.out / "deepmd-timing")
    count = peer.steps_within(60.0 * order.peer_minutes)
    print(
        f"DeePMD-kit: {1e3 * step:.1f} ms a step, {peer.start:.0f} s until the first. Its schedule "
        f"is given {count} steps, so that all of it fits {order.peer_minutes:g} minutes."
    )
    told = {k: kepton_step(order, k) for k in (1, 4)}
    print(
        f"Kepton: {1e3 * told[1]:.1f} ms a step with 1 member, {1e3 * told[4]:.1f} ms with 4: "
        f"{told[4] / told[1]:.2f} times as much"
    )
    theirs = peer.train(order.out / "deepmd", count)
    print(line(theirs))
    ours = []
    for minutes in sorted(order.minutes):
        ours.append(kepton_curve(order, minutes))
        print(line(ours[-1]))
    draw(order.plot, theirs, ours)
    print(f"Plot: {order.plot}\n")
    print(table(theirs, ours, count, step, told))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--peer", type=Path, required=True, help="environment in which DeePMD-kit is installed")
    water = [WATER / f"data_{k}" for k in range(3)]
    add("--data", type=Path, nargs="+", default=water, help="deepmd/npy folders to train on")
    add("--validate", type=Path, nargs="+", default=[WATER / "data_3"], help="and to test on")
    add("--minutes", type=float, nargs="+", default=[1, 5], help="one Kepton training for each")
    add("--peer-minutes", type=float, default=20, help="of DeePMD-kit's training")
    add("--out", type=Path, default=ROOT / "runs" / "bench-train", help="work folder")
    add("--plot", type=Path, default=ROOT / "bench" / "train.png")
    order = parser.parse_args()
    for name in ("data", "validate"):
        setattr(order, name, [path.resolve() for path in getattr(order, name)])
    order.out, order.peer = order.out.resolve(), order.peer.absolute()
    return order


# ---------------------------------------------------------------- DeePMD-kit


class Peer:
    """DeePMD-kit's TensorFlow back end in float32, its fastest on a CPU, with its default input."""

    def __init__(self, folder: Path, data: Sequence[Path], validate: Sequence[Path], cores: int):
        self.dp = folder / "bin" / "dp"
        if not self.dp.is_file():
            sys.exit(f"There is no {self.dp}; `make bench-train` installs DeePMD-kit.")
        self.data, self.validate = data, validate
        self.environment = on_cores(cores)
        self.step = self.start = float("nan")

    def time_step(self, folder: Path) -> float:
        """Seconds of a step, from a short run without validation."""
        begun, seconds = self._run(folder, self._input(TIMED_STEPS, TIMED_STEPS // 6, ()))
        stamps = list(_stamps(folder / "log"))
        steps, times = np.array([s for s, _ in stamps]), np.array([t for _, t in stamps])
        self.step = float(np.median(np.diff(times[1:]) / np.diff(steps[1:])))
        self.start = float(times[0] - begun)
        if not self.step < seconds:
            sys.exit(f"DeePMD-kit's log, {folder / 'log'}, tells no time of a step.")
        return self.step

    def steps_within(self, seconds: float) -> int:
        """The length of a schedule that ends in time; to look at a frame costs about a step."""
        steps = (seconds - self.start) / self.step - POINTS * LOOKED
        return max(200, int(steps / 100) * 100)

    def train(self, folder: Path, steps: int) -> Curve:
        """The whole schedule, then the test of the frozen model."""
        every = max(1, steps // POINTS)
        begun, wall = self._run(folder, self._input(steps, every, self.validate))
        stamps = dict(_stamps(folder / "log"))
        names = (folder / "lcurve.out").read_text().splitlines()[0].lstrip("# ").split()
        rows = np.loadtxt(folder / "lcurve.out", ndmin=2)
        rows = rows[[step in stamps for step in rows[:, 0].astype(int)]]
        return Curve(
            f"DeePMD-kit, {steps} steps",
            np.array([stamps[int(step)] - begun for step in rows[:, 0]]),
            rows[:, names.index("rmse_f_val")],
            wall,
            self._test(folder),
        )

    def _input(self, steps: int, every: int, validate: Sequence[Path]) -> dict:
        net = {"precision": "float32", "seed": 1}
        training = {
            "training_data": {"systems": [str(path) for path in self.data], "batch_size": "auto"},
            "numb_steps": steps,
            "seed": 1,
            "disp_file": "lcurve.out",
            "disp_freq": every,
            "save_freq": steps,
        }
        if validate:
            systems = [str(path) for path in validate]
            training["validation_data"] = {"systems": systems, "batch_size": 1, "numb_btch": LOOKED}
        return {
            "model": {
                "type_map": _elements(self.data),
                "descriptor": {
                    "type": "se_e2_a",
                    "sel": "auto",
                    "rcut": 6.0,
                    "rcut_smth": 0.5,
                    "neuron": [25, 50, 100],
                    "axis_neuron": 16,
                    "resnet_dt": False,
                    "type_one_side": True,
                }
                | net,
                "fitting_net": {"neuron": [240, 240, 240], "resnet_dt": True} | net,
            },
            # the default, 5000 of 10^6 steps at one rate, for this length
            "learning_rate": {
                "type": "exp",
                "start_lr": 1e-3,
                "stop_lr": 3.51e-8,
                "decay_steps": max(1, steps // 200),
            },
            "loss": {
                "type": "ener",
                **{"start_pref_e": 0.02, "limit_pref_e": 1, "start_pref_f": 1000},
                **{"limit_pref_f": 1, "start_pref_v": 0, "limit_pref_v": 0},
            },
            "training": training,
        }

    def _run(self, folder: Path, order: dict) -> tuple[float, float]:
        """When it began, and how many seconds it took."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        (folder / "input.json").write_text(json.dumps(order, indent=1))
        begun = time.time()
        self._call(folder, "train", "input.json")
        return begun, time.time() - begun

    def _test(self, folder: Path) -> tuple[float, float]:
        """(force error, energy error an atom) on all frames of the validation set."""
        self._call(folder, "freeze", "-o", "model.pb")
        forces, energies = [], []
        for k, path in enumerate(self.validate):
            self._call(folder, "test", "-m", "model.pb", "-s", str(path), "-d", f"test{k}")
            true, predicted = np.split(np.loadtxt(folder / f"test{k}.f.out", ndmin=2), 2, axis=1)
            forces.append((predicted - true).ravel())
            true, predicted = np.loadtxt(folder / f"test{k}.e_peratom.out", ndmin=2).T
            energies.append(predicted - true)
        return _rms(np.concatenate(forces)), _rms(np.concatenate(energies))

    def _call(self, folder: Path, *arguments: str) -> None:
        call(self.dp, ("--tf", *arguments), folder / "log", self.environment)


def _elements(data: Sequence[Path]) -> list[str]:
    names = [(path / "type_map.raw").read_text().split() for path in data]
    return list(dict.fromkeys(name for some in names for name in some))


def _stamps(log: Path) -> Iterator[tuple[int, float]]:
    """(step, time since the epoch) of the lines of a training's log."""
    pattern = re.compile(r"\[(\d+-\d+-\d+ [\d:]+),(\d+)\].*Batch +(\d+): trn")
    for row in log.read_text(errors="replace").splitlines():
        if found := pattern.match(row):
            moment = datetime.strptime(found[1], "%Y-%m-%d %H:%M:%S").timestamp()
            yield int(found[3]), moment + int(found[2]) / 1000.0


# ---------------------------------------------------------------- Kepton


def kepton(*arguments: object) -> str:
    """The command line with its own choice of threads."""
    environment = {k: v for k, v in os.environ.items() if k not in THREADS}
    done = subprocess.run(
        [sys.executable, "-m", "kepton.cli", *map(str, arguments)],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"`kepton {' '.join(map(str, arguments))}` failed; see above.")
    return done.stdout


def kepton_training(order: argparse.Namespace, name: str, *options: object) -> Path:
    """A model trained anew."""
    model = order.out / f"{name}.kepton"
    for old in order.out.glob(f"{name}.*"):
        with contextlib.suppress(IsADirectoryError):
            old.unlink()
    kepton("train", *order.data, "--out", model, *options)
    return model


def curve_of(model: Path) -> list[dict[str, str]]:
    """The rows of MODEL.csv."""
    with model.with_suffix(".csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def kepton_step(order: argparse.Namespace, members: int) -> float:
    """Seconds of a step, the median over the blocks after the first, which compile."""
    model = kepton_training(
        order,
        f"timing-{members}",
        *("--steps", TIMED_STEPS, "--ensemble-size", members, "--held-out", 0),
    )
    rows = curve_of(model)[3:]
    steps, seconds = ([float(row[key]) for row in rows] for key in ("step", "seconds"))
    return float(np.median(np.diff(seconds) / np.diff(steps)))


def kepton_curve(order: argparse.Namespace, minutes: float) -> Curve:
    """A training with defaults for so long, and its test."""
    begun = time.time()
    model = kepton_training(order, f"kepton-{minutes:g}", "--time-limit-min", minutes)
    wall = time.time() - begun
    errors = json.loads(kepton("test", model, *order.validate, "--json"))
    rows = curve_of(model)
    looks = [row for row in rows if row["held_out_force_rmse_eV_per_A"]]
    # the clock of the table starts with the optimizer; all else is counted before it
    seconds = np.array([float(row["seconds"]) for row in looks])
    seconds += wall - float(rows[-1]["seconds"])
    return Curve(
        f"Kepton, {minutes:g} min",
        seconds,
        np.array([float(row["held_out_force_rmse_eV_per_A"]) for row in looks]),
        wall,
        (errors["forces"]["rmse"], errors["energy_per_atom"]["rmse"]),
    )


# ---------------------------------------------------------------- what came of it


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(values**2)))


def line(curve: Curve) -> str:
    forces, energy = curve.final
    return (
        f"{curve.name}: {curve.wall:.0f} s; on the validation set {forces:.4f} eV/Å, "
        f"{1e3 * energy:.2f} meV/atom"
    )


def time_to(curve: Curve, error: float) -> float:
    """Seconds until the curve is at or below an error for the first time; nan where it never is."""
    below = curve.seconds[curve.forces <= error]
    return float(below[0]) if len(below) else float("nan")


def draw(path: Path, theirs: Curve, ours: Sequence[Curve]) -> None:
    """Error against wall time; a filled point is the validation set at the end of a training."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.subplots()
    colours = ["0.4", *[f"C{k}" for k in range(len(ours))]]
    for curve, colour in zip([theirs, *ours], colours):
        axes.plot(curve.seconds, curve.forces, color=colour, linewidth=1.2, label=curve.name)
        axes.plot(curve.wall, curve.final[0], "o", color=colour, markersize=5)
    axes.set(xlabel="wall time / s", ylabel="force error, rms / eV Å$^{-1}$")
    axes.set(xscale="log", yscale="log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("{x:g}")
    axes.grid(which="both", color="0.92", linewidth=0.6)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=160)


def table(
    theirs: Curve, ours: Sequence[Curve], count: int, step: float, told: dict[int, float]
) -> str:
    """Markdown for RESULTS.md."""
    target = theirs.final[0]
    rows = [
        "| training | ms a step | wall time, s | validation, eV/Å | meV/atom | its curve reaches "
        f"{target:.4f} eV/Å after, s | DeePMD-kit's wall time over that |",
        "|---|---|---|---|---|---|---|",
    ]
    for curve in (theirs, *ours):
        seconds = theirs.wall if curve is theirs else time_to(curve, target)
        reached = np.isfinite(seconds)
        cells = (
            curve.name,
            f"{1e3 * (step if curve is theirs else told[4]):.1f}",
            f"{curve.wall:.0f}",
            f"{curve.final[0]:.4f}",
            f"{1e3 * curve.final[1]:.2f}",
            f"{seconds:.0f}" if reached else "never",
            f"{theirs.wall / seconds:.1f}" if reached else "",
        )
        rows.append(f"| {' | '.join(cells)} |")
    reaching = [curve for curve in ours if curve.final[0] <= target]
    shortest = min(reaching, key=lambda curve: curve.wall, default=None)
    rows += [
        "",
        f"A step of Kepton, ms: {1e3 * told[1]:.1f} with 1 member, {1e3 * told[4]:.1f} with 4, "
        f"{told[4] / told[1]:.2f} times as much. DeePMD-kit's schedule was cut to {count} steps.",
        "Kepton's curves are of the tenth of the training frames that it holds out, DeePMD-kit's "
        f"of {LOOKED} frames of the validation set at a time; the errors at the end are of the "
        "whole validation set.",
    ]
    if shortest:
        rows.append(
            f"The shortest whole training of Kepton that ends at or below DeePMD-kit's error on "
            f"the validation set: {shortest.name}, {theirs.wall / shortest.wall:.1f} times faster."
        )
    return "\n".join(rows)


if __name__ == "__main__":
    main()
