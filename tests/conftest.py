"""What several rooms' tests share."""

from pathlib import Path

import ase.io
import jax
import pytest

from command_line import CAMPAIGN, WATER, kepton

MAPPINGS = 20_000
"""Regions of memory that a process may map before its compiled programs are dropped"""


@pytest.fixture(autouse=True)
def few_programs():
    """Each compiled program maps hundreds of regions, and Linux allows a process 65,530."""
    yield
    maps = Path("/proc/self/maps")
    if maps.exists() and sum(1 for _ in maps.open()) > MAPPINGS:
        jax.clear_caches()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the development data beside the checkout."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"the development data are not at {folder}")
    return folder


@pytest.fixture(scope="session")
def workplace(tmp_path_factory) -> Path:
    """A folder with a structure, a campaign file, and the finished campaign `water`."""
    pytest.importorskip("tblite", reason="xtb campaigns need the extra xtb")
    folder = tmp_path_factory.mktemp("campaign")
    ase.io.write(folder / "water.xyz", WATER)
    (folder / "water.toml").write_text(CAMPAIGN)
    kepton("run", "water.toml", cwd=folder, check=0)
    return folder
