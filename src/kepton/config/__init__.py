"""A campaign file: TOML into typed objects, and every mistake in it told with its remedy."""

from kepton.config.closure import ClosureFile
from kepton.config.order import Order, Publication
from kepton.config.potential import CampaignFile
from kepton.config.reading import read

__all__ = ["CampaignFile", "ClosureFile", "Order", "Publication", "read"]
