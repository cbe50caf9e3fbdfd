"""A user's initial data: a TOML or JSON file of one gas, and its solution as a table."""

import json
import tomllib
from pathlib import Path
from typing import Any

import numpy as np

from kepton.closure.fields import BOUNDARIES, Case, Conserved, Fields, fields_of
from kepton.errors import InputError, did_you_mean

NAMES = Fields._fields
KEYS = (*NAMES, "boundary")


def read_case(path: Path, knudsen: float) -> Case:
    """The gas in a file with `density`, `velocity` and `temperature`: lists, one value a cell.

    `boundary`, one of BOUNDARIES, is periodic where it is not given; what flows in is what the
    cells at the ends hold.

    Raises:
        InputError: no such file, one that is neither TOML nor JSON, keys that are missing or not
            known, values that are not numbers, or what `Case.of` refuses
    """
    content = _content(Path(path))
    for name in content:
        if name not in KEYS:
            raise InputError(
                f"{path} has an unknown key {name!r}{did_you_mean(name, KEYS)}; known are "
                f"{', '.join(KEYS)}."
            )
    for name in NAMES:
        if name not in content:
            raise InputError(f"{path}: {name} is missing; give a list with one value a cell.")
    try:
        fields = Fields(*(np.array(content[name], float) for name in NAMES))
    except (TypeError, ValueError) as error:
        raise InputError(f"{path}: {', '.join(NAMES)} must be lists of numbers.") from error
    boundary = content.get("boundary", BOUNDARIES[0])
    try:
        return Case.of(fields, knudsen, boundary)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _content(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise InputError(f"There is no file {path} of initial data; check the path.")
    try:
        text = path.read_text("utf-8")
        content = json.loads(text) if path.suffix.lower() == ".json" else tomllib.loads(text)
    except (json.JSONDecodeError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is neither TOML nor JSON (.json): {error}.") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: give the names {', '.join(NAMES)}, each with a list.")
    return content


def table(solution: Conserved, dimensions: int) -> str:
    """CSV of a solution (1, 1, n): x, density, velocity, temperature, momentum, energy."""
    fields = fields_of(solution, dimensions)
    cells = fields.density.shape[-1]
    columns = [(np.arange(cells) + 0.5) / cells, *fields, solution.momentum, solution.energy]
    rows = np.stack([np.asarray(column).reshape(cells) for column in columns], axis=1)
    lines = [",".join(f"{value:.17g}" for value in row) for row in rows]
    return "\n".join(["x,density,velocity,temperature,momentum,energy", *lines, ""])
