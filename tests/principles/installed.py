"""Which engines that are no Python packages are on this machine."""

import shutil

import pytest

from kepton.principles import pseudopotentials

needs_espresso = pytest.mark.skipif(
    shutil.which("pw.x") is None or not pseudopotentials.DEBIAN.is_dir(),
    reason="pw.x is not installed: apt-get install quantum-espresso quantum-espresso-data",
)
