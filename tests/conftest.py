"""Fixtures for all tests."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

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
