"""Everything shown in the README, the docs and the examples runs."""

import re
import runpy
import shlex
import sys
from pathlib import Path

import pytest

from vidprune import cli
from vidprune.cli import parser
from vidprune.commands.demo import CLIP_SEED
from vidprune.demo.clips import write_clips

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# What needs data or weights that cannot be had here is parsed, not run.
OUT_OF_REACH = ("checkpoint.pth", "kinetics400")


def blocks(page, language):
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


def commands():
    for page in PAGES:
        for block in blocks(page, "console"):
            yield from (line.removeprefix("$ ") for line in block.splitlines())


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    folder = tmp_path_factory.mktemp("docs")
    write_clips(folder / "demo-output" / "clips", per_class=1, seed=CLIP_SEED)
    return folder


@pytest.fixture
def in_workplace(workplace, monkeypatch):
    monkeypatch.chdir(workplace)
    return workplace


# In the order of the pages: what one command leaves, a later one may take up.
@pytest.mark.parametrize("command", list(dict.fromkeys(commands())))
def test_commands_run(command, in_workplace, capsys):
    words = shlex.split(command)
    if words[0] == "torchrun":
        words = words[words.index("-m") + 1 :]
    assert words[0] == "vidprune"
    if any(name in command for name in OUT_OF_REACH):
        parser().parse_args(words[1:])
    else:
        expanded = [str(p) for word in words[1:] for p in (sorted(Path().glob(word)) or [word])]
        assert cli.main(expanded) == 0
        assert capsys.readouterr().out


# After the commands, whose files they may read.
@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=str)
def test_python_blocks_run(page, in_workplace):
    for block in blocks(page, "python"):
        exec(compile(block, str(page), "exec"), {})


@pytest.mark.parametrize("example", sorted((ROOT / "examples").glob("*.py")), ids=lambda p: p.name)
def test_examples_run(example, in_workplace, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [example.name, "demo-output/clips/growing/000.mp4"])
    runpy.run_path(str(example), run_name="__main__")
    assert "predicted:" in capsys.readouterr().out


def test_every_command_and_option_of_the_readme_exists(in_workplace, capsys):
    """The table for those who come from the release names options that are there."""
    with pytest.raises(SystemExit):
        cli.main(["evaluate", "--help"])
    known = capsys.readouterr().out
    table = ROOT.joinpath("README.md").read_text().split("## Coming from the STA release")[1]
    ours = re.findall(r"^\|[^|]*\|([^|]*)\|", table, re.MULTILINE)[2:]
    named = {option for cell in ours for option in re.findall(r"--[a-z][a-z-]+", cell)}
    assert named
    assert all(option in known for option in named)


def test_tables_match_their_records():
    tables = runpy.run_path(str(ROOT / "benchmarks" / "tables.py"))
    for path, new in tables["texts"]().items():
        assert path.read_text(encoding="utf-8") == new, f"{path}: run python benchmarks/tables.py"


def test_every_table_stands_on_some_page():
    tables = runpy.run_path(str(ROOT / "benchmarks" / "tables.py"))
    text = "".join(page.read_text(encoding="utf-8") for page in tables["PAGES"])
    assert not [name for name in tables["TABLES"] if f"<!-- table: {name} -->" not in text]
