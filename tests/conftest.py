"""Fixtures for all tests."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

if TYPE_CHECKING:
    from playwright.sync_api import Browser

# Before anything loads Triton: where there is no GPU, its kernels are tried in the interpreter.
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"

# A browser that asks nobody for anything; as root it has no sandbox.
_QUIET = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
]
SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Callable[[str], Path]:
    """Find a file of the material that lies beside the repository and is not part of it.

    Where it is not there, the test is skipped, with the name of the file as the reason; with
    CI=true it fails instead, so that nothing goes unchecked there unnoticed.
    """

    def find(name: str) -> Path:
        path = SHARED / name
        if not path.exists():
            message = f"shared material is missing: ../shared/{name}"
            if os.environ.get("CI") == "true":
                pytest.fail(message)
            pytest.skip(message)
        return path

    return find


@pytest.fixture(scope="session")
def torchcodec() -> None:
    """That torchcodec can be loaded, with FFmpeg's libraries; `make test` sees to both.

    Where it cannot, the test is skipped and says so; with CI=true it fails instead.
    """
    from vidprune.video import check_decoder

    try:
        check_decoder("torchcodec")
    except ValueError as error:
        if os.environ.get("CI") == "true":
            pytest.fail(str(error))
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def browser() -> Iterator["Browser"]:
    """A headless Chromium, the system's own.

    Where there is none, the test is skipped and says so; with CI=true it fails instead.
    """
    from playwright.sync_api import sync_playwright

    names = ("chromium", "chromium-browser", "google-chrome")
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        message = f"no browser: none of {', '.join(names)} is installed"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=_QUIET)
        yield browser
        browser.close()
