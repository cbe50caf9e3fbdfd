"""Which rung a campaign climbs, told by its settings."""

from typing import Any

from kepton.closure.publish import ClosurePublication
from kepton.potential.publish import PotentialPublication

RUNGS: dict[str, Any] = {"potential": PotentialPublication, "closure": ClosurePublication}
"""What each rung hands out, and how it speaks of it: a kind of `Publication`"""


def rung_of(settings: dict[str, Any]) -> Any:
    """The one of RUNGS of a campaign with these settings."""
    return RUNGS[settings.get("rung", "potential")]
