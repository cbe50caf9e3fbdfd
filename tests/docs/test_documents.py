"""The README, the examples and the links in the documents hold."""

import re
import runpy
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from typer.main import get_command

from kepton import config
from kepton.cli import app
from kepton.closure import Closure
from kepton.closure.file import to_bytes
from kepton.config import CampaignFile, ClosureFile

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text("utf-8")


CAMPAIGNS = pytest.mark.parametrize(
    "example", sorted((ROOT / "examples").glob("*.toml")), ids=lambda path: path.name
)


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.S)


def test_the_campaign_file_of_the_readme_is_valid():
    (text,) = blocks("toml")
    CampaignFile(**tomllib.loads(text))


def test_every_key_and_section_is_in_the_readme():
    for name, field in CampaignFile.model_fields.items():
        assert f"[{name}]" in README
        for key in getattr(field.annotation, "model_fields", {}):
            assert f"`{key}" in README or f"{key} =" in README, f"[{name}] {key}"


def test_every_key_of_closures_is_in_their_tutorial():
    tutorial = (ROOT / "docs/tutorials/closure.md").read_text("utf-8")
    (text,) = re.findall(r"```toml\n(.*?)```", tutorial, re.S)
    ClosureFile(**tomllib.loads(text))
    for name, field in ClosureFile.model_fields.items():
        assert f"`[{name}]`" in tutorial
        for key in field.annotation.model_fields:
            assert f"`{key}" in tutorial, f"[{name}] {key}"


def test_the_python_of_the_tutorial_of_closures_runs(tmp_path, monkeypatch):
    tutorial = (ROOT / "docs/tutorials/closure.md").read_text("utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", tutorial, re.S)
    (tmp_path / "runs/closure").mkdir(parents=True)
    file = tmp_path / "runs/closure/model.kepton"
    file.write_bytes(to_bytes(Closure.fresh(6, 2, 0), {}))
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "closure.md", "exec"), {})


def test_every_command_is_in_the_readme():
    told = subprocess.run(
        [sys.executable, "-m", "kepton.cli", "--help"], capture_output=True, text=True, check=True
    ).stdout
    commands = re.findall(r"^│ (\w+) +[A-Z]", told, re.M)
    assert {"run", "status", "md"} <= set(commands)
    for command in commands:
        assert f"kepton {command}" in README


def test_the_python_of_the_readme_runs(workplace):
    (code,) = blocks("python")
    code = code.replace("runs/methanol/model.kepton", str(workplace / "water/model.kepton"))
    code = code.replace('"CH3OH"', '"H2O"')
    exec(compile(code, "README.md", "exec"), {})


@pytest.mark.parametrize("page", [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))])
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text("utf-8")):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize(
    "page", sorted((ROOT / "docs" / "how-to").glob("*.md")), ids=lambda path: path.name
)
def test_the_commands_and_the_python_of_the_how_tos_are_accepted(page):
    """Every line `kepton ...` of a block `sh` has a command and options that exist."""
    text = page.read_text("utf-8")
    lines = [
        line for code in re.findall(r"```sh\n(.*?)```", text, re.S) for line in code.split("\n")
    ]
    commands = [line.split() for line in lines if line.startswith("kepton ")]
    assert commands
    for _, name, *words in commands:
        get_command(app).commands[name].make_context(name, words)
    for code in re.findall(r"```python\n(.*?)```", text, re.S):
        compile(code, page.name, "exec")


def skip_without_engine(example):
    text = example.read_text()
    if 'kind = "xtb"' in text:
        pytest.importorskip("tblite", reason="needs the extra xtb")
    if 'kind = "espresso"' in text and shutil.which("pw.x") is None:
        pytest.skip("pw.x is not installed: apt-get install quantum-espresso quantum-espresso-data")


@CAMPAIGNS
def test_example_campaigns_are_accepted(example):
    skip_without_engine(example)
    config.read(example)


@pytest.mark.slow
@CAMPAIGNS
def test_example_campaigns_are_certified(example, tmp_path):
    skip_without_engine(example)
    done = subprocess.run(
        [sys.executable, "-m", "kepton.cli", "run", str(example), "--out", str(tmp_path / "run")],
        check=False,
    )
    assert done.returncode == 0


def test_the_library_example_certifies(tmp_path, capsys):
    pytest.importorskip("tblite", reason="needs the extra xtb")
    runpy.run_path(str(ROOT / "examples" / "library.py"))["main"](tmp_path)
    assert "The audit passed." in capsys.readouterr().out
