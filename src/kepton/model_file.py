"""The `.kepton` file of any rung: one safetensors file with a JSON header in its metadata."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from safetensors.numpy import load, save

from kepton.errors import InputError

FORMAT = 1


def pack(tensors: Mapping[str, np.ndarray], header: dict[str, Any]) -> bytes:
    """The file's bytes.

    Args:    tensors: contiguous arrays by name;  header: JSON
    """
    return save(dict(tensors), {"kepton": json.dumps({"format": FORMAT} | header)})


def unpack(data: bytes) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Tensors and header that `pack` wrote.

    Raises:
        InputError: a file of another format
        SafetensorError, KeyError, ValueError: bytes that are no such file
    """
    tensors, header = load(data), json.loads(metadata(data)["kepton"])
    if header["format"] != FORMAT:
        raise InputError(
            f"The model file has format {header['format']}, and this version of Kepton reads "
            f"{FORMAT}; install the version that wrote it."
        )
    return tensors, header


def metadata(data: bytes) -> dict[str, str]:
    """The metadata of a safetensors file, which its own reader passes over."""
    size = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + size])["__metadata__"]
