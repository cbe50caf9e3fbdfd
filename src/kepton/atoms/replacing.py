"""Writing a file or a folder whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from kepton.errors import InputError

SYSTEM_FILES = ("type.raw", "type_map.raw", "nopbc")
"""Text files of a deepmd/npy system."""


def reason(error: Exception) -> str:
    """The first line of what an exception says, after its kind."""
    return f"{type(error).__name__}: {next(iter(str(error).strip().splitlines()), 'no message')}"


def write_whole(path: Path, data: bytes) -> None:
    """Write a file whole or not at all.

    Raises:
        OSError: it cannot be written; what was there before stays
    """
    unfinished = path.with_name(path.name + ".unfinished")
    try:
        unfinished.write_bytes(data)
        os.replace(unfinished, path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """A path on the same disk, for a file or a folder that takes the target's place at the end.

    Raises:
        InputError: the target, which a user named, cannot be written or holds other things
    """
    if target.is_dir():
        _check_replaceable(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as folder:
            new = Path(folder, target.name)
            yield new
            if target.is_dir():  # no system replaces a folder that is not empty
                os.replace(target, Path(folder, "old"))
            os.replace(new, target)
    except OSError as error:
        raise InputError(
            f"{target} cannot be written ({reason(error)}); give a path in a folder with space, "
            "where you may write."
        ) from error


def _check_replaceable(target: Path) -> None:
    """Raise InputError where a folder holds anything but deepmd/npy data."""
    for file in target.rglob("*"):
        if not (file.is_dir() or file.name in SYSTEM_FILES or file.suffix == ".npy"):
            raise InputError(
                f"{target} is a folder that holds {file.relative_to(target)}, which is no part of "
                "a deepmd/npy data set, so it is not replaced; give another name."
            )
