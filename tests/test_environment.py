"""What a record says of where it was taken."""

import subprocess
from pathlib import Path

import pytest
import torch

from vidprune import environment as module
from vidprune.environment import environment


def test_an_environment_names_what_ran() -> None:
    record = environment(torch.device("cpu"))
    assert record["torch"] == torch.__version__
    assert record["cpu_threads"] == torch.get_num_threads()
    assert record["device"] == "cpu"


def test_a_checkout_says_its_commit_and_whether_it_was_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = tmp_path / "code.py"
    code.write_text("first")
    monkeypatch.setattr(module, "__file__", str(code))

    def git(*arguments: str) -> str:
        who = ["-c", "user.name=a", "-c", "user.email=a@b"]
        command = ["git", "-C", str(tmp_path), *who, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "--quiet")
    assert "commit" not in environment(torch.device("cpu")), "it is nobody's yet"
    git("add", ".")
    assert "commit" not in environment(torch.device("cpu")), "it is in none yet"
    git("commit", "--quiet", "--message", "first")
    head = git("rev-parse", "--short", "HEAD")
    assert environment(torch.device("cpu"))["commit"] == head
    code.write_text("second")
    assert environment(torch.device("cpu"))["commit"] == f"{head} and changes"
    git("checkout", "--quiet", ".")
    assert environment(torch.device("cpu"))["commit"] == head
    (tmp_path / "new.py").write_text("imported, too")
    assert environment(torch.device("cpu"))["commit"] == f"{head} and changes"


def test_what_is_installed_has_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "__file__", str(tmp_path / "code.py"))
    assert "commit" not in environment(torch.device("cpu"))
