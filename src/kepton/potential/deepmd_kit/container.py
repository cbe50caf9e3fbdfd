"""The two containers of DeePMD-kit's model files: HDF5 (`.dp`) and YAML, and a guide through them.

A `.dp` file holds the model as one JSON object, the attribute `json`; below each key `@variables`
it names datasets that hold the arrays. A `.yaml` file holds the same tree with the arrays in it.

Source: DeePMD-kit 3.2, deepmd/dpmodel/utils/serialization.py
"""

import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import yaml

from kepton.atoms.replacing import reason, write_whole
from kepton.errors import InputError

SUFFIXES = (".dp", ".yaml", ".yml")
_ARRAY = {"@class": "np.ndarray", "@is_variable": True, "@version": 1}
_REQUIRED: Any = object()


def read_tree(path: Path) -> "Part":
    """The tree of a model file.

    Raises:
        InputError: a file that is not there, damaged, or of another kind
    """
    if not path.is_file():
        raise InputError("There is no such file; give the path of a model file.")
    tree = _read_hdf5(path) if path.suffix.lower() == ".dp" else _read_yaml(path)
    if not isinstance(tree, dict) or not isinstance(tree.get("model"), dict):
        raise InputError(
            "The file holds no key 'model' with a model under it; give one of DeePMD-kit, as "
            "`dp convert-backend frozen_model.pb model.dp` writes it."
        )
    return Part("", tree)


def write_tree(path: Path, tree: dict[str, Any]) -> None:
    """Write a tree, arrays in float64 below its keys `@variables`, whole or not at all."""
    if path.suffix.lower() != ".dp":
        plain = _mapped(tree, lambda a: _ARRAY | {"dtype": "float64", "value": a.tolist()})
        dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
        write_whole(path, yaml.dump(plain, Dumper=dumper, default_flow_style=None).encode())
        return
    memory, count = io.BytesIO(), iter(range(10**9))
    with h5py.File(memory, "w") as file:
        plain = _mapped(
            tree, lambda a: file.create_dataset(f"variable_{next(count):04d}", data=a).name
        )
        file.attrs["json"] = json.dumps(plain, separators=(",", ":"))
    write_whole(path, memory.getvalue())


@dataclass(frozen=True)
class Part:
    """A dict of the tree, which names its keys in every complaint.

    Args:
        name: where it stands, keys joined by dots
        content: its keys and values
    """

    name: str
    content: dict[str, Any]

    def where(self, key: str) -> str:
        """The full name of a key."""
        return f"{self.name}.{key}".lstrip(".")

    def refuse(self, key: str, expected: str, remedy: str) -> InputError:
        """The complaint that a key holds another value than expected."""
        came = json.dumps(self.content.get(key), default=lambda value: type(value).__name__)
        came = came if len(came) < 80 else f"{came[:77]}..."
        return InputError(f"{self.where(key)} is {came}, where {expected}; {remedy}.")

    def value(self, key: str, kinds: type | tuple[type, ...], default: Any = _REQUIRED) -> Any:
        """The value of a key, of one of the types; None counts as missing."""
        found = self.content.get(key)
        if found is None and default is not _REQUIRED:
            return default
        kinds = kinds if isinstance(kinds, tuple) else (kinds,)
        right = isinstance(found, kinds) and not (isinstance(found, bool) and bool not in kinds)
        if not right or (isinstance(found, float) and not np.isfinite(found)):
            names = {int: "a whole number", float: "a finite number", str: "a name"}
            names |= {bool: "true or false", list: "a list", dict: "a part of the model"}
            expected = f"{names[kinds[-1]]} is expected"
            raise self.refuse(key, expected, "give a file as DeePMD-kit wrote it")
        return found

    def number(self, key: str, default: Any = _REQUIRED) -> float:
        """A finite number."""
        return float(self.value(key, (int, float), default))

    def list_of(self, key: str, kind: type, default: Any = _REQUIRED) -> list[Any]:
        """A list of values of one type."""
        found, kinds = self.value(key, list, default), (int, float) if kind is float else kind
        if not all(isinstance(one, kinds) and not isinstance(one, bool) for one in found):
            plural = {int: "whole numbers", str: "names", list: "lists", float: "numbers"}[kind]
            expected = f"a list of {plural} is expected"
            raise self.refuse(key, expected, "give a file as DeePMD-kit wrote it")
        return found

    def part(self, key: str) -> "Part":
        """The dict under a key."""
        return Part(self.where(key), self.value(key, dict))

    def parts(self, key: str) -> Iterator["Part"]:
        """The dicts of the list under a key."""
        for place, one in enumerate(self.value(key, list)):
            if not isinstance(one, dict):
                name, came = f"{self.where(key)}[{place}]", json.dumps(one)[:40]
                raise InputError(
                    f"{name} is {came}, where a part of the model is expected; give a file as "
                    "DeePMD-kit wrote it."
                )
            yield Part(f"{self.where(key)}[{place}]", one)

    def expect(self, key: str, allowed: Sequence[Any], remedy: str, default: Any = None) -> None:
        """Refuse any other value of a key; the default stands for a missing one."""
        found = self.content.get(key)
        found = default if found is None else found
        if not any(
            found == one and isinstance(found, bool) == isinstance(one, bool) for one in allowed
        ):
            names = " or ".join(json.dumps(one) for one in allowed)
            raise self.refuse(key, f"Kepton reads {names} alone", remedy)

    def know(self, keys: Sequence[str]) -> None:
        """Refuse keys of another name that say anything."""
        for key, found in self.content.items():
            if key not in keys and (isinstance(found, np.ndarray) or found):
                remedy = "convert the file with a version of DeePMD-kit up to 3.2"
                raise self.refuse(key, "Kepton knows no such key", remedy)

    def array(self, key: str, *shape: int, default: Any = _REQUIRED) -> Any:
        """The finite float64 array under a key of `@variables`, in a shape of as many numbers."""
        variables = self.part("@variables")
        found = variables.content.get(key)
        if isinstance(found, dict):
            found = found.get("value")
        if found is None and default is not _REQUIRED:
            return default
        try:
            array = np.asarray(found, float)
            came = f"of shape {array.shape}"
        except (TypeError, ValueError):
            array, came = np.array(np.nan), ""
        if not np.isfinite(array).all():
            came = "missing" if found is None else "not an array of finite numbers"
        elif not shape or array.size == np.prod(shape):
            return array.reshape(shape) if shape else array
        raise InputError(
            f"{variables.where(key)} is {came}, where finite numbers"
            f"{f' of shape {shape}' if shape else ''} are expected; the file is damaged, so give a "
            "complete copy."
        )


def _mapped(tree: Any, leaf: Any) -> Any:
    """The tree with another thing in the place of every array."""
    if isinstance(tree, dict):
        return {key: _mapped(value, leaf) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [_mapped(value, leaf) for value in tree]
    return leaf(tree) if isinstance(tree, np.ndarray) else tree


def _read_hdf5(path: Path) -> Any:
    try:
        with h5py.File(path, "r") as file:
            if "json" not in file.attrs:
                raise InputError(
                    "The HDF5 file has no attribute 'json', so it is no model of DeePMD-kit; give "
                    "a .dp file, as `dp convert-backend frozen_model.pb model.dp` writes it."
                )
            text: Any = file.attrs["json"]
            return _with_arrays(json.loads(text), file, path.stat().st_size)
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"The file cannot be read as HDF5 with a model of DeePMD-kit in it ({reason(error)}); "
            "give a complete .dp file."
        ) from error


def _with_arrays(tree: Any, file: h5py.File, size: int, variable: bool = False) -> Any:
    """The tree with arrays in the place of their names."""
    if isinstance(tree, dict):
        return {
            key: _with_arrays(value, file, size, variable or key == "@variables")
            for key, value in tree.items()
        }
    if isinstance(tree, list):
        return [_with_arrays(value, file, size, variable) for value in tree]
    if not variable or tree is None:
        return tree
    data = file.get(tree) if isinstance(tree, str) else None
    if (
        not isinstance(data, h5py.Dataset)
        or data.dtype.kind not in "fiu"
        or data.nbytes > 99 * size
    ):
        raise InputError(
            f"The file names a data set {tree!r} and holds no such numbers; it is damaged, so give "
            "a complete copy."
        )
    return np.asarray(data)


def _read_yaml(path: Path) -> Any:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        return yaml.load(path.read_bytes(), Loader=loader)
    except (yaml.YAMLError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise InputError(
            f"The file cannot be read as YAML ({reason(error)}); give a complete .yaml file of "
            "DeePMD-kit."
        ) from error
