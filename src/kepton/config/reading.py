"""A campaign file of any rung, read; each rung is told by a section that only it has."""

from pathlib import Path

from kepton.config import closure, potential
from kepton.config.order import Order
from kepton.config.sections import content_of


def read(path: Path) -> Order:
    """The order in a campaign file; paths in it are relative to the file.

    Raises:
        InputError: whatever is wrong with the file, or with what it asks for
    """
    content = content_of(path)
    rung = closure if "equation" in content else potential
    return rung.order(Path(path), content)
