"""What several files of these tests begin with."""

from pathlib import Path

import pytest

from tiny_job import write_checkpoint


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that is quickly trained."""
    return write_checkpoint(tmp_path_factory.mktemp("small"))
