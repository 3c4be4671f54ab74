"""The arrows go one way: who may import whom, and what importing costs."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import vidprune

PACKAGE = Path(vidprune.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
# Where tokens lie, and whether a compiler looks on.
VOCABULARY = ("vidprune.layout", "vidprune.compiling")
PARTS = ("reducers", "backbones", "video")


def dotted(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(path: Path) -> set[str]:
    """Every module that a file imports, wherever in it, by absolute name."""
    package = path.relative_to(PACKAGE.parent).parent.parts
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            stem = ".".join([*above, *filter(None, [node.module])])
            names |= {stem} | {f"{stem}.{alias.name}" for alias in node.names}
    return names


def inside(name: str, module: str) -> bool:
    return name == module or name.startswith(f"{module}.")


def breaches(part: str, allowed: tuple[str, ...]) -> list[str]:
    return [
        f"{dotted(path)} imports {name}"
        for path in (PACKAGE / part).rglob("*.py")
        for name in imported(path)
        if inside(name, "vidprune") and not any(inside(name, each) for each in allowed)
        if name not in ("vidprune", "vidprune.layout")
    ]


@pytest.mark.parametrize("part", PARTS)
def test_reducers_backbones_and_video_know_the_shared_vocabulary_and_themselves(part: str) -> None:
    assert breaches(part, (*VOCABULARY, f"vidprune.{part}")) == []


def test_reducers_need_torch_and_the_standard_library_alone() -> None:
    """And their kernels Triton, which nothing else loads."""
    allowed = {"torch", "vidprune", *sys.stdlib_module_names}
    strangers = {
        f"{dotted(path)} imports {name}"
        for path in (PACKAGE / "reducers").rglob("*.py")
        for name in imported(path)
        if name.partition(".")[0] not in allowed
        and not (inside(name, "triton") and path.name.startswith("triton_"))
    }
    assert strangers == set()


@pytest.mark.parametrize("name", VOCABULARY)
def test_the_vocabulary_imports_nothing_of_ours(name: str) -> None:
    path = PACKAGE.parent / f"{name.replace('.', '/')}.py"
    assert not [each for each in imported(path) if inside(each, "vidprune")]


def importers(module: str) -> set[str]:
    return {
        dotted(path)
        for path in MODULES
        if not inside(dotted(path), module)
        if any(inside(name, module) for name in imported(path))
    }


def test_the_command_line_comes_last() -> None:
    assert importers("vidprune.cli") <= {"vidprune.__main__"}


@pytest.mark.parametrize(
    ("part", "later"),
    [
        ("insight", ("drawing", "app", "commands", "cli")),
        ("drawing", ("app", "commands", "cli")),
        ("app", ("commands", "cli")),
        ("training", ("insight", "drawing", "app", "commands", "cli")),
        ("corpus", ("insight", "drawing", "app", "training", "commands", "cli")),
    ],
)
def test_what_is_seen_is_told_before_it_is_drawn_and_shown_and_training_knows_none_of_it(
    part: str, later: tuple[str, ...]
) -> None:
    wrong = [
        f"{dotted(path)} imports {name}"
        for path in (PACKAGE / part).rglob("*.py")
        for name in imported(path)
        if any(inside(name, f"vidprune.{each}") for each in later)
    ]
    assert wrong == []


def test_the_page_is_served_by_the_command_line_alone() -> None:
    assert all(inside(name, "vidprune.cli") for name in importers("vidprune.app"))


def test_commands_are_used_by_the_command_line_alone() -> None:
    assert all(inside(name, "vidprune.cli") for name in importers("vidprune.commands"))


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_a_module_is_short_prints_nothing_and_parses_no_arguments(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 400
    if inside(dotted(path), "vidprune.cli"):
        return
    assert not {"argparse", "click", "typer"} & imported(path)
    calls = [node.func for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
    assert "print" not in {call.id for call in calls if isinstance(call, ast.Name)}


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_nothing_is_named_utils(path: Path) -> None:
    assert not {"utils", "helpers", "common"} & set(path.relative_to(PACKAGE).with_suffix("").parts)


def in_a_fresh_process(code: str) -> str:
    command = [
        sys.executable,
        "-c",
        f"import sys; sys.path.insert(0, {str(PACKAGE.parent)!r}); {code}",
    ]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_importing_the_package_loads_neither_transformers_nor_torch() -> None:
    loaded = in_a_fresh_process(
        "import vidprune; print([m for m in ('torch', 'transformers', 'av') if m in sys.modules])"
    )
    assert loaded == "[]"


def test_the_reducers_work_without_transformers_and_without_cuda() -> None:
    answer = in_a_fresh_process(
        "import vidprune; vidprune.STA(r=8); import torch; "
        "print('transformers' in sys.modules, torch.cuda.is_initialized())"
    )
    assert answer == "False False"


@pytest.mark.parametrize("name", vidprune.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(vidprune, name).__name__ in (name, "parse")


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'vidprune' has no attribute 'Best'"):
        vidprune.Best  # noqa: B018
