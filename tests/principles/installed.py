"""Which engines that are no Python packages are on this machine."""

import importlib.util
import shutil

import pytest

from kepton.principles import cp2k, pseudopotentials

needs_espresso = pytest.mark.skipif(
    shutil.which("pw.x") is None or not pseudopotentials.DEBIAN.is_dir(),
    reason="pw.x is not installed: apt-get install quantum-espresso quantum-espresso-data",
)
needs_cp2k = pytest.mark.skipif(
    shutil.which("cp2k") is None or not cp2k.installed().is_dir(),
    reason="cp2k is not installed: apt-get install cp2k",
)
needs_gpaw = pytest.mark.skipif(
    importlib.util.find_spec("gpaw") is None, reason="gpaw (the extra gpaw) is not installed"
)
needs_abinit = pytest.mark.skipif(
    shutil.which("abinit") is None, reason="abinit is not installed: apt-get install abinit"
)
