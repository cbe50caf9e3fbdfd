"""One small campaign, run once, that the tests of the command line look at."""

from pathlib import Path

import ase.io
import pytest
from command_line import CAMPAIGN, WATER, kepton


@pytest.fixture(scope="session")
def workplace(tmp_path_factory) -> Path:
    """A folder with a structure, a campaign file, and the finished campaign `water`."""
    pytest.importorskip("tblite", reason="xtb campaigns need the extra xtb")
    folder = tmp_path_factory.mktemp("campaign")
    ase.io.write(folder / "water.xyz", WATER)
    (folder / "water.toml").write_text(CAMPAIGN)
    kepton("run", "water.toml", cwd=folder, check=0)
    return folder
