"""MACE-torch in an environment of its own: one training on labelled frames, and its test."""

import os
import re
import shutil
import sys
import time
from datetime import datetime
from pathlib import Path

import ase.io
import numpy as np

from kepton.atoms import Frames, Label
from peers import call

SETTINGS = (
    *("--model", "MACE", "--num_channels", "32", "--max_L", "1", "--r_max", "5.0"),
    *("--scaling", "rms_forces_scaling", "--E0s", "average", "--valid_fraction", "0.1"),
    *("--batch_size", "5", "--lr", "0.01", "--amsgrad", "--ema", "--swa"),
    *("--default_dtype", "float32", "--device", "cpu", "--seed", "1"),
)
"""Two layers, correlation 3 and the second stage from three quarters on are MACE's defaults"""
TIMED_EPOCHS = 4
"""Of the short run that tells the time of one"""


class Mace:
    """MACE-torch, trained for as many epochs as a time allows.

    Args:
        environment: in which it is installed
        seconds: that a training may take, start included
        folder: for its files
    """

    def __init__(self, environment: Path, seconds: float, folder: Path):
        self.programs, self.seconds, self.folder = environment / "bin", seconds, folder
        if not (self.programs / "mace_run_train").is_file():
            sys.exit(f"There is no MACE-torch in {environment}; `make bench-learner` installs it.")
        # its own files of weights and statistics are pickles, which torch refuses by default
        self.variables = os.environ | {"TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1"}
        self.variables["OMP_NUM_THREADS"] = str(len(os.sched_getaffinity(0)))

    def learn(
        self, name: str, data: tuple[Frames, Label], test: tuple[Frames, Label]
    ) -> tuple[int, float, np.ndarray, np.ndarray]:
        """Epochs, seconds of the whole command, and what it says of the test frames.

        Returns: also energies (b,) eV and forces (b, n, 3) eV/Å
        """
        folder = self.folder / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        _write(folder / "train.extxyz", *data)
        _write(folder / "test.extxyz", *test)
        epochs = self._epochs(folder)
        seconds = self._train(folder, f"{name}-{epochs}", epochs)
        model = next(folder.glob(f"{name}-{epochs}_stagetwo.model"))
        self._call(
            folder / "log",
            *("mace_eval_configs", "--configs", "test.extxyz", "--model", model.name),
            *("--output", "told.extxyz", "--device", "cpu", "--default_dtype", "float32"),
        )
        told = ase.io.read(folder / "told.extxyz", ":")
        energies = np.array([atoms.info["MACE_energy"] for atoms in told])
        return epochs, seconds, energies, np.array([a.arrays["MACE_forces"] for a in told])

    def _epochs(self, folder: Path) -> int:
        """The length of a training that ends in time."""
        seconds = self._train(folder, "timing", TIMED_EPOCHS)
        pattern = re.compile(r"(\d+-\d+-\d+ \d+:\d+:[\d.]+) INFO: Epoch (\d+):")
        rows = pattern.findall((folder / "timing.log").read_text())
        moments = [datetime.fromisoformat(moment).timestamp() for moment, _ in rows]
        epoch = float(np.median(np.diff(moments)))
        return max(TIMED_EPOCHS, int((self.seconds - seconds) / epoch) + TIMED_EPOCHS)

    def _train(self, folder: Path, name: str, epochs: int) -> float:
        begun = time.monotonic()
        self._call(
            folder / f"{name}.log",
            *("mace_run_train", "--name", name, "--train_file", "train.extxyz", *SETTINGS),
            *("--max_num_epochs", str(epochs)),
        )
        return time.monotonic() - begun

    def _call(self, log: Path, program: str, *arguments: str) -> None:
        call(self.programs / program, arguments, log, self.variables)


def _write(path: Path, frames: Frames, label: Label) -> None:
    configurations = frames.to_ase()
    for atoms, energy, forces in zip(configurations, label.energy, label.forces):
        atoms.info["REF_energy"] = float(energy)
        atoms.arrays["REF_forces"] = np.asarray(forces)[: len(atoms)]
    ase.io.write(path, configurations)
